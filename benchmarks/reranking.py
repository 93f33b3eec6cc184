"""Two stages against one: a fragment method on the first k of an embedding method, and on every pair.

    python benchmarks/reranking.py [--method bssan] [--images 1000] [--k 128] [--dim 1024] [--runs 1] [--threads 1]

Encodings are random unit vectors, 36 regions per image and five captions per image of about the length of COCO's words;
the first stage's are one vector each. So what is timed is what a reranking does from encoded sets: scores of all pairs
by one product, the first k of every query, the second stage's scores of their pairs, and the order of both. The plain
row is the second stage's method on every pair. Both run in turn in one process; times are medians. The table is written
to reports/measurements/reranking.md. One thread, as a trial has: where others take a CPU, two wait for each other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

import methods
from harness.config.cards import MethodCard, read_card
from harness.config.registry import load_class
from harness.data.content import pairs_of
from harness.data.regions import PaddedArray, offsets
from harness.data.split import Split
from harness.data.tokens import Tokens
from harness.evaluation.protocols import Fold
from harness.evaluation.scoring import score_split
from harness.executors.placement import this_machine
from harness.files import write_atomic
from harness.method import Encoded, Inputs, Method
from harness.reranking.order import ordered, proposed
from harness.reranking.order import pairs_of as pairs_to_score
from harness.reranking.pairs import score_pairs

MEASUREMENTS = Path(__file__).parents[1] / "reports" / "measurements"
REGIONS, EACH, WORDS = 36, 5, 500
HEAD = """# Rerankings

Written by `python benchmarks/reranking.py`, which says how it measures, with {threads} of {cpus} CPUs, which
{load} processes wanted when it began. *First stage*: scores of all pairs from one vector each, and the first k of every
query. *Second stage*: the fragment method's scores of those pairs alone, and the order of both; a pair costs more there
than among all pairs, since what images and captions bring to a score is computed for each shortlist instead of once.

| method | gallery | k | pairs scored | of all | first stage | second stage | every pair by it | faster | per pair |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""


def ready_made(name: str, dim: int) -> Method:
    """A method whose regions and words are encoded already: regions of `dim` numbers, words a row of a table."""
    card = read_card(MethodCard, Path(methods.__path__[0]) / f"{name}.toml")
    kind = load_class(card)

    class ReadyMade(kind):  # type: ignore[misc,valid-type]
        def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
            return Encoded(torch.nn.functional.normalize(regions, dim=-1), mask)

        def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
            return Encoded(words[tokens] * mask[..., None], mask)

    torch.manual_seed(0)
    words = torch.nn.functional.normalize(torch.randn(WORDS, dim), dim=-1)
    method: Method = ReadyMade(kind.Settings(**{**card.defaults, "dim": dim}), Inputs(dim, WORDS))
    return method


def split_of(images: int, dim: int) -> Split:
    rng = np.random.default_rng(0)
    lengths = rng.normal(12.5, 2.4, EACH * images).round().clip(7, 30).astype(int)
    return Split(
        images=PaddedArray(rng.standard_normal((images, REGIONS, dim), dtype=np.float32), np.arange(images)),
        captions=("",) * EACH * images,
        pairs=pairs_of([EACH] * images),
        image_ids=tuple(map(str, range(images))),
        name="test",
        tokens=Tokens(rng.integers(4, WORDS, lengths.sum()), offsets(lengths)),
    )


def vectors(images: int, dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the first stage encodes: of the images, and of their captions."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((images, dim), dtype=np.float32), rng.standard_normal(
        (EACH * images, dim), dtype=np.float32
    )


def two_stages(method: Method, split: Split, k: int, first: tuple[Any, Any]) -> tuple[float, float, int]:
    """Seconds of both stages, and how many pairs the second scored."""
    images, captions = len(split.images), len(split.captions)
    folds = [Fold(np.arange(images), np.arange(captions), np.arange(captions), split.pairs)]
    start = time.perf_counter()
    scores = first[0] @ first[1].T
    shortlists = proposed(scores, folds, k)
    pairs = pairs_to_score(folds, shortlists, scores.shape)
    middle = time.perf_counter()
    second = score_pairs(method, split, torch.device("cpu"), pairs)
    between = time.perf_counter()
    ordered(scores, second.scores, folds, shortlists)
    return middle - start, second.seconds + time.perf_counter() - between, second.number


def row(method: Method, name: str, split: Split, args: argparse.Namespace) -> str:
    """A line of the table."""
    first, number = vectors(len(split.images), args.dim), 0
    seconds: dict[str, list[float]] = {"first": [], "second": [], "every": []}
    total = len(split.images) * len(split.captions)
    for _ in range(args.runs):
        one, two, number = two_stages(method, split, args.k, first)
        every = total / score_split(method, split, torch.device("cpu")).cost["score_pairs_per_second"]
        for stage, taken in zip(seconds.values(), (one, two, every), strict=True):
            stage.append(taken)
    median = {stage: statistics.median(taken) for stage, taken in seconds.items()}
    both = median["first"] + median["second"]
    per_pair = (median["second"] / number) / (median["every"] / total)
    cells = (
        f"{name}, {REGIONS} regions, D {args.dim}",
        f"{len(split.images):,} x {len(split.captions):,}",
        *(f"{args.k}", f"{number:,}", f"{number / total:.1%}"),
        *(f"{median[stage]:.3g} s" for stage in seconds),
        *(f"{median['every'] / both:.1f} x", f"{per_pair:.2f} x"),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="bssan")
    parser.add_argument("--images", default="1000", help="sizes of galleries, with commas")
    parser.add_argument("--k", type=int, default=128)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine, load, rows = this_machine(), Path("/proc/loadavg").read_text().split()[0], []
    method = ready_made(args.method, args.dim)
    for images in map(int, args.images.split(",")):
        rows.append(row(method, args.method, split_of(images, args.dim), args))
        Console(width=200, highlight=False).print(rows[-1])
    head = HEAD.format(threads=args.threads, cpus=f"{machine.cpus:g}", load=load)
    write_atomic(MEASUREMENTS / "reranking.md", head + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
