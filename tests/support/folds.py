"""Cards and score matrices of folds, and slow measures that are checked against."""

from __future__ import annotations

import ir_measures
import numpy as np

from harness.config.cards import ProtocolCard


def five_each(images: int) -> np.ndarray:
    return np.stack([np.repeat(np.arange(images), 5), np.arange(5 * images)], axis=1)


def card(images: int, captions: int, folds: int = 1) -> ProtocolCard:
    return ProtocolCard(name="small", version=2, folds=folds, images=images, captions=captions)


def make_case(rng: np.random.Generator, images: int, captions: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores on a grid of `levels` values; every image and caption has a pair, and there are some more."""
    scores = (rng.integers(0, levels, (images, captions)) / 8).astype(rng.choice(["float32", "float64"]))
    cover = {(i, int(rng.integers(captions))) for i in range(images)}
    cover |= {(int(rng.integers(images)), c) for c in range(captions)}
    cover |= {(int(rng.integers(images)), int(rng.integers(captions))) for _ in range(captions)}
    return scores, rng.permutation(np.array(sorted(cover)))


def pytrec_eval(table: np.ndarray, positive: np.ndarray, wanted: list, pessimistic: bool = True) -> dict[str, float]:
    """Measures of pytrec_eval through ir-measures, in percent, queries in rows.

    trec_eval orders documents of one score by their name, the larger one first. So names decide its ties: with
    `pessimistic` a query's negatives are named after its positives in the alphabet, and every tie goes against it.
    """
    first, last = ("a", "z") if pessimistic else ("z", "a")
    names = [[f"{first if true else last}{item:04}" for item, true in enumerate(row)] for row in positive]
    qrels = {
        f"q{q}": {name: 1 for name, true in zip(names[q], row, strict=True) if true} for q, row in enumerate(positive)
    }
    run = {f"q{q}": dict(zip(names[q], row.tolist(), strict=True)) for q, row in enumerate(table)}
    values = ir_measures.pytrec_eval.calc_aggregate(wanted, qrels, run)
    return {str(measure): 100 * values[measure] for measure in wanted}


def success(table: np.ndarray, positive: np.ndarray, pessimistic: bool = True) -> dict[int, float]:
    """Success@K in percent."""
    values = pytrec_eval(table, positive, [ir_measures.Success @ k for k in (1, 5, 10)], pessimistic)
    return {k: values[f"Success@{k}"] for k in (1, 5, 10)}


def slow_map_r(table: np.ndarray, positive: np.ndarray) -> float:
    """mAP@R in percent by the textbook: of the first R places the precision so far where they hold a positive."""
    each = []
    for scores, mask in zip(table, positive, strict=True):
        order = sorted(range(len(scores)), key=lambda item: (-scores[item], bool(mask[item])))
        size = int(mask.sum())
        hits = [bool(mask[item]) for item in order[:size]]
        each.append(sum(sum(hits[: k + 1]) / (k + 1) for k in range(size) if hits[k]) / size)
    return 100 * float(np.mean(each))
