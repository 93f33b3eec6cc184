"""Hubness: whether a few items of the gallery stand among the first of far too many queries.

N_k of an item is the number of queries that have it among their first k. Its skewness over all items of the gallery,
E[(N_k - mean)^3] / sd^3, is the measure of Radovanović, Nanopoulos and Ivanović, "Hubs in Space: Popular Nearest
Neighbors in High-Dimensional Data", JMLR 11 (2010), section 3, which also calls items with N_k = 0 antihubs. Computed
from the stored heads of rankings alone; a fold is a gallery, and numbers are means over folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.ranks import DIRECTIONS, Direction, Ints, sides
from harness.evaluation.records import TopResults, TrialRankings, TrialRanks, is_of

K = 10  # of N_k


@dataclass(frozen=True)
class Hubness:
    """How the first places of one direction are spread over the gallery."""

    first: float  # percent of queries that the most returned item stands first for
    item: str  # that item: a caption, or the id of an image; its number where no names are stored
    times: int  # how often it stands first
    expected: float  # percent, if every item stood first equally often
    skew: float  # of N_k over the gallery; 0 where all are equal
    k: int  # 10, or fewer where the gallery or what is stored is smaller
    absent: float  # percent of items that are among the first k of no query
    tied: float  # percent of queries whose first two items have equal scores: the order of the split put one first

    def as_json(self) -> dict[str, Any]:
        """The numbers by name."""
        return asdict(self)


def hubness(ranks: TrialRanks, rankings: TrialRankings) -> dict[Direction, Hubness] | None:
    """The hubness of both directions; None where ranks and rankings are not of the same gallery."""
    if not is_of(rankings, ranks):
        return None
    return {direction: _of_direction(direction, ranks, rankings) for direction in DIRECTIONS}


def _of_direction(direction: Direction, ranks: TrialRanks, rankings: TrialRankings) -> Hubness:
    top, (_, names) = rankings.top[direction], rankings.names(direction)
    _, items = sides(ranks.pairs, direction)
    counts, first = [], np.zeros(1 + int(max(items.max(), top.results.max())), dtype=np.int64)
    k = min(K, int((top.results >= 0).sum(axis=1).min()))  # the same in all folds, whose means are taken
    for fold in np.unique(top.folds):
        gallery, heads = np.unique(items[ranks.folds == fold]), top.results[top.folds == fold]
        counts.append(_FoldCounts(occurrences(heads, gallery, 1), occurrences(heads, gallery, k), len(heads)))
        np.add.at(first, heads[:, 0], 1)
    most = int(first.argmax())
    return Hubness(
        first=_mean(100 * fold.first.max() / fold.queries for fold in counts),
        item=names[most] if most < len(names) else str(most),
        times=int(first[most]),
        expected=_mean(100 / len(fold.first) for fold in counts),
        skew=_mean(skewness(fold.among) for fold in counts),
        k=k,
        absent=_mean(100 * (fold.among == 0).mean() for fold in counts),
        tied=_mean([100 * _tied(top)]),
    )


@dataclass(frozen=True)
class _FoldCounts:
    first: Ints  # (G,) how often each item of the gallery stands first
    among: Ints  # (G,) N_k
    queries: int


def occurrences(heads: Ints, gallery: Ints, k: int) -> Ints:
    """(G,) N_k: how many queries have each item of a gallery among their first k of (Q, L)."""
    places = np.searchsorted(gallery, heads[:, :k].ravel())
    return np.bincount(places, minlength=len(gallery)).astype(np.int64)


def skewness(counts: NDArray[Any]) -> float:
    """The third standardized moment; 0 where all counts are equal."""
    apart = counts - counts.mean()
    variance = float((apart**2).mean())
    return float((apart**3).mean()) / variance**1.5 if variance > 0 else 0.0


def mean_hubness(runs: Sequence[Mapping[Direction, Hubness]]) -> dict[Direction, Hubness]:
    """The means over a row's runs; the item is that of the first run."""
    return {direction: _mean_of([run[direction] for run in runs]) for direction in DIRECTIONS}


def _mean_of(several: Sequence[Hubness]) -> Hubness:
    names = ("first", "expected", "skew", "absent", "tied")
    means = {name: _mean([getattr(one, name) for one in several]) for name in names}
    return Hubness(item=several[0].item, times=several[0].times, k=min(one.k for one in several), **means)


def _tied(top: TopResults) -> float:
    """The share of queries whose first two items have the same score; nan where scores were not read."""
    if np.isnan(top.scores).all():
        return float("nan")
    if top.results.shape[1] < 2:
        return 0.0
    return float(((top.scores[:, 0] == top.scores[:, 1]) & (top.results[:, 1] >= 0)).mean())


def _mean(values: Any) -> float:
    return float(np.mean([*values]))
