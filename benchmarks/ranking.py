"""Ranking by counting against the field's textbook argsort of every row, on a full COCO 5K score matrix.

    python benchmarks/ranking.py [--images 5000] [--runs 5]

Both get the same random float32 scores, five captions per image, one thread. Times are medians; the least and largest
run stand behind. The best ranks of both are compared: they may differ only where scores tie.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.evaluation.ranks import best_ranks, check_finite, directed, rank


def textbook_i2t(scores: np.ndarray, captions_each: int = 5) -> np.ndarray:
    """Best rank of each image's captions: sort the row, find them."""
    ranks = np.empty(len(scores), dtype=np.int64)
    for image, row in enumerate(scores):
        order = np.argsort(row)[::-1]
        own = range(captions_each * image, captions_each * (image + 1))
        ranks[image] = min(np.where(order == caption)[0][0] for caption in own) + 1
    return ranks


def textbook_t2i(scores: np.ndarray, captions_each: int = 5) -> np.ndarray:
    """Rank of each caption's image: sort the row of the transposed copy, find it."""
    rows = np.ascontiguousarray(scores.T)
    ranks = np.empty(len(rows), dtype=np.int64)
    for caption, row in enumerate(rows):
        ranks[caption] = np.where(np.argsort(row)[::-1] == caption // captions_each)[0][0] + 1
    return ranks


def timed(call: Callable[[], Any], runs: int) -> tuple[list[float], Any]:
    """Seconds of every run, and the last answer."""
    seconds, answer = [], None
    for _ in range(runs):
        start = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - start)
    return seconds, answer


def line(name: str, seconds: list[float], reference: float | None = None) -> str:
    """One row of the table."""
    median = statistics.median(seconds)
    ratio = f"{reference / median:8.1f} x" if reference else ""
    return f"{name:34} {median:8.3f} s   {min(seconds):.3f} … {max(seconds):.3f}  {ratio}"


def main() -> None:
    """Time both, compare the answers, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    scores = np.random.default_rng(0).standard_normal((args.images, 5 * args.images), dtype=np.float32)
    pairs = np.stack([np.repeat(np.arange(args.images), 5), np.arange(5 * args.images)], axis=1)

    textbook_runs = max(1, args.runs // 2)
    row_seconds, by_rows = timed(lambda: textbook_i2t(scores), textbook_runs)
    column_seconds, by_columns = timed(lambda: textbook_t2i(scores), textbook_runs)
    textbook = [sum(both) for both in zip(row_seconds, column_seconds, strict=True)]
    counting, ranks = timed(lambda: rank(scores, pairs), args.runs)
    reading, _ = timed(lambda: check_finite(scores), args.runs)
    reference = statistics.median(textbook)

    print(f"{args.images} images x {5 * args.images} captions, float32, {scores.nbytes / 2**20:.0f} MB of scores")
    print(line("textbook argsort, i2t", row_seconds))
    print(line("textbook argsort, t2i", column_seconds))
    print(line("textbook argsort, both", textbook, reference))
    print(line("counting, both, ties and checks", counting, reference))
    print(line("  of it: finite check (one reading)", reading, reference))

    ours = map(best_ranks, directed(ranks))
    differences = [int((a != b).sum()) for a, b in zip(ours, (by_rows, by_columns), strict=True)]
    print(f"queries whose best rank differs (a tie, which sorting breaks by chance): i2t, t2i = {differences}")


if __name__ == "__main__":
    main()
