"""What single queries came to, over the runs of a row: R@K for every K, and those that are hardest.

From the arrays of ranks.npz and of rankings.npz (docs/reference/protocols.md). NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.measures import list_measures
from harness.evaluation.ranks import Way
from harness.evaluation.records import CAPTIONS, IMAGE_IDS, texts

Arrays = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LONGEST = 100  # K of R@K
WAYS = ("i2t", "t2i")
MANY = 10  # hard queries of a direction
NO_TIES = np.zeros(0, dtype=np.bool_)  # which lists do not ask for


class Queries(NamedTuple):
    """The queries of one direction in one run, one entry a query and fold, in order of these."""

    folds: Ints  # (Q,) from 0
    numbers: Ints  # (Q,) as the split has them
    ranks: Ints  # (Q,) of the best positive


class Hard(NamedTuple):
    """A query whose match stands far down."""

    query: str  # a caption, or an image's id
    rank: float  # of the best match, the mean over seeds
    match: str
    found: str  # what came first with the first seed; empty where the store does not say


@dataclass(frozen=True)
class Hardest:
    """The hardest queries of a row, the hardest first."""

    i2t: tuple[Hard, ...]
    t2i: tuple[Hard, ...]
    is_told: bool  # whether the store has the captions, the ids and what was found first


class Heads(NamedTuple):
    """What the queries of one direction found first."""

    first: Ints  # (Q,) as the split numbers it
    names: Sequence[str]  # of the split's queries
    gallery: Sequence[str]  # names of what is found


def queries(arrays: Arrays, way: str) -> Queries:
    """The queries of one direction from the arrays of ranks.npz; KeyError where one is missing."""
    pairs, folds = arrays["pairs"].astype(np.int64), arrays["fold"].astype(np.int64)
    asked = pairs[:, WAYS.index(way)]
    order = np.argsort(folds * (asked.max() + 1) + asked, kind="stable")
    starts = _starts(folds[order], asked[order])
    best = np.minimum.reduceat(arrays[f"{way}_rank"][order].astype(np.int64), starts)
    return Queries(folds[order][starts], asked[order][starts], best)


def matches(arrays: Arrays, way: str) -> Ints:
    """(Q,) the best positive of each query of `queries`, the first of equals, as the split numbers it."""
    own = WAYS.index(way)
    pairs, folds = arrays["pairs"].astype(np.int64), arrays["fold"].astype(np.int64)
    order = np.lexsort((arrays[f"{way}_rank"], pairs[:, own], folds))
    found: Ints = pairs[order, 1 - own][_starts(folds[order], pairs[order, own])]
    return found


def _starts(folds: Ints, asked: Ints) -> Ints:
    """Where each query of each fold begins."""
    return np.flatnonzero(np.r_[True, (np.diff(asked) != 0) | (np.diff(folds) != 0)])


def profile(one: Queries, longest: int = LONGEST) -> Floats:
    """(longest,) R@1 to R@longest in percent, the mean over folds."""
    _, folds = np.unique(one.folds, return_inverse=True)
    places = folds * (longest + 1) + np.minimum(one.ranks - 1, longest)
    size = (folds.max() + 1) * (longest + 1)
    counts = np.bincount(places, minlength=size).reshape(-1, longest + 1)
    found = 100 * counts[:, :longest].cumsum(axis=1) / counts.sum(axis=1, keepdims=True)
    mean: Floats = found.mean(axis=0)
    return mean


def lists(arrays: Arrays) -> dict[str, float]:
    """mAP@R, R-precision and nDCG of one run from its ranks, the mean over folds; KeyError as above."""
    pairs, folds = arrays["pairs"].astype(np.int64), arrays["fold"]
    each = []
    for fold in np.unique(folds):
        own = folds == fold
        ways = [Way(pairs[own, side], arrays[f"{way}_rank"][own], NO_TIES) for side, way in enumerate(WAYS)]
        each.append(list_measures(*ways))
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}


def hardest(runs: Sequence[Mapping[str, Queries]], first: Arrays, rankings: Arrays | None) -> Hardest:
    """The queries with the worst mean rank over a row's runs, all of the same queries.

    `first` are the arrays of ranks.npz of its first run, `rankings` those of rankings.npz, None where it has none.
    """
    told = {way: heads(rankings, way, runs[0][way]) if rankings is not None else None for way in WAYS}
    told = told if all(told.values()) else dict.fromkeys(WAYS)
    i2t, t2i = (tuple(_hard([run[way] for run in runs], matches(first, way), way, told[way])) for way in WAYS)
    return Hardest(i2t, t2i, all(told.values()))


def heads(rankings: Arrays, way: str, asked: Queries) -> Heads | None:
    """What each query found first; None where the arrays of rankings.npz do not say it, or say it of other queries."""
    try:
        names = [texts(rankings, name) for name in (IMAGE_IDS, CAPTIONS)]
        numbers, folds, found = (rankings[f"{way}_{name}"] for name in ("query", "fold", "found"))
        order = np.lexsort((numbers, folds))
        numbers, folds, first = numbers[order], folds[order], found[order, 0]
    except (KeyError, ValueError, IndexError):
        return None
    own, others = names if way == "i2t" else names[::-1]
    same = np.array_equal(numbers, asked.numbers) and np.array_equal(folds, asked.folds)
    return Heads(first, own, others) if same and numbers.max() < len(own) and first.max() < len(others) else None


def _hard(runs: Sequence[Queries], found: Ints, way: str, told: Heads | None) -> list[Hard]:
    kinds = ("image", "caption") if way == "i2t" else ("caption", "image")
    ranks = np.mean([run.ranks for run in runs], axis=0)
    hard = []
    for place in np.argsort(-ranks, kind="stable")[:MANY]:
        number, match, rank = int(runs[0].numbers[place]), int(found[place]), float(ranks[place])
        if told is None:
            hard.append(Hard(f"{kinds[0]} {number}", rank, f"{kinds[1]} {match}", ""))
        else:
            hard.append(Hard(told.names[number], rank, told.gallery[match], told.gallery[told.first[place]]))
    return hard
