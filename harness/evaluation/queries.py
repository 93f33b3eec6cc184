"""Single queries over the runs of a row: by image, R@K for every K, and the hardest of them. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.measures import CUTOFFS, list_measures, means
from harness.evaluation.ranks import DIRECTIONS, DirectedRanks, Direction, Ints, group, sides
from harness.evaluation.records import TrialRankings, TrialRanks

Floats = NDArray[np.float64]
LONGEST = 100  # K of R@K
MANY = 10  # hard queries of a direction
NO_TIES = np.zeros(0, dtype=np.bool_)  # which list measures do not need


class QueryRanks(NamedTuple):
    folds: Ints  # (Q,) from 0
    numbers: Ints  # (Q,) as the split has them
    ranks: Ints  # (Q,) of the best positive


class Hits(NamedTuple):
    """The queries that one run has answered, by image: the image itself, and its captions with it."""

    folds: Ints  # (N,) from 0
    queries: Floats  # (N, 2) the image itself, its captions
    answered: Floats  # (N, 2, 3) queries with a match among the first 1, 5, 10: the image itself, its captions


class HardQuery(NamedTuple):
    query: str  # a caption, or an image's id
    rank: float  # of the best match, the mean over seeds
    match: str
    first: str  # what came first with the first seed; empty where the store does not say


@dataclass(frozen=True)
class Hardest:
    i2t: tuple[HardQuery, ...]
    t2i: tuple[HardQuery, ...]
    is_named: bool  # whether the store has the captions, the ids and what came first


def queries(ranks: TrialRanks, direction: Direction) -> QueryRanks:
    numbers, _ = sides(ranks.pairs, direction)
    groups = group(ranks.folds, numbers)
    best = groups.smallest(ranks.ranks[direction]).astype(np.int64)
    return QueryRanks(ranks.folds[groups.first], numbers[groups.first], best)


def matches(ranks: TrialRanks, direction: Direction) -> Ints:
    """(Q,) the best positive of each query of `queries`, the first of equals, as the split numbers it."""
    numbers, positives = sides(ranks.pairs, direction)
    return positives[group(ranks.folds, numbers, by=ranks.ranks[direction]).first]


def hits_of(ranks: TrialRanks) -> Hits:
    """The hits of a trial. A caption is a query of each fold that has it, and counts with its first image there."""
    images, first, of_image = np.unique(ranks.pairs[:, 0], return_index=True, return_inverse=True)
    captions = group(ranks.folds, ranks.pairs[:, 1])
    owner = of_image[captions.first]
    queries = np.stack([np.ones(len(images)), np.bincount(owner, minlength=len(images))], axis=1)
    answered = np.zeros((len(images), 2, len(CUTOFFS)))
    i2t, t2i = group(ranks.pairs[:, 0]).smallest(ranks.ranks["i2t"]), captions.smallest(ranks.ranks["t2i"])
    for column, k in enumerate(CUTOFFS):
        answered[:, 0, column] = i2t <= k
        answered[:, 1, column] = np.bincount(owner, weights=t2i <= k, minlength=len(images))
    return Hits(np.unique(ranks.folds[first], return_inverse=True)[1], queries, answered)


def recalls(hits: Hits) -> Floats:
    """(2, 3) R@1, R@5, R@10 of both directions in percent, the mean of the folds."""
    total: Floats = shares(hits).sum(axis=0)
    return total


def shares(hits: Hits) -> Floats:
    """(N, 2, 3) what each image adds to each recall, in percent."""
    folds = np.eye(hits.folds.max() + 1)[hits.folds]
    queries = folds @ (folds.T @ hits.queries)  # in the image's fold
    share: Floats = 100 * hits.answered / queries[:, :, None] / folds.shape[1]
    return share


def same_queries(first: Sequence[Hits], second: Sequence[Hits]) -> bool:
    one = first[0]
    parts = ((hits.folds, one.folds, hits.queries, one.queries) for hits in (*first, *second))
    return all(np.array_equal(a, b) and np.array_equal(c, d) for a, b, c, d in parts)


def profile(queries: QueryRanks, longest: int = LONGEST) -> Floats:
    """(longest,) R@1 to R@longest in percent, the mean over folds."""
    _, folds = np.unique(queries.folds, return_inverse=True)
    places = folds * (longest + 1) + np.minimum(queries.ranks - 1, longest)
    size = (folds.max() + 1) * (longest + 1)
    counts = np.bincount(places, minlength=size).reshape(-1, longest + 1)
    shares = 100 * counts[:, :longest].cumsum(axis=1) / counts.sum(axis=1, keepdims=True)
    mean: Floats = shares.mean(axis=0)
    return mean


def lists(ranks: TrialRanks) -> dict[str, float]:
    each = []
    for fold in np.unique(ranks.folds):
        own = ranks.folds == fold
        i2t, t2i = (
            DirectedRanks(sides(ranks.pairs[own], direction)[0], ranks.ranks[direction][own], NO_TIES)
            for direction in DIRECTIONS
        )
        each.append(list_measures(i2t, t2i))
    return means(each)


def hardest(
    runs: Sequence[Mapping[Direction, QueryRanks]], first: TrialRanks, rankings: TrialRankings | None
) -> Hardest:
    """The queries with the worst mean rank over a row's runs, all of which have the same queries.

    `first` and `rankings` are of the first run; rankings of other queries are as good as none.
    """
    if rankings and not all(_fits(rankings, direction, runs[0][direction]) for direction in DIRECTIONS):
        rankings = None
    i2t, t2i = (
        tuple(_hard([run[direction] for run in runs], matches(first, direction), direction, rankings))
        for direction in DIRECTIONS
    )
    return Hardest(i2t, t2i, is_named=rankings is not None)


def _fits(rankings: TrialRankings, direction: Direction, queries: QueryRanks) -> bool:
    top = rankings.top[direction]
    own, others = rankings.names(direction)
    same = np.array_equal(top.queries, queries.numbers) and np.array_equal(top.folds, queries.folds)
    return same and top.queries.max() < len(own) and top.results[:, 0].max() < len(others)


def _hard(
    runs: Sequence[QueryRanks], matches: Ints, direction: Direction, rankings: TrialRankings | None
) -> list[HardQuery]:
    kinds = ("image", "caption") if direction == "i2t" else ("caption", "image")
    ranks = np.mean([run.ranks for run in runs], axis=0)
    hard = []
    for place in np.argsort(-ranks, kind="stable")[:MANY]:
        number, match, rank = int(runs[0].numbers[place]), int(matches[place]), float(ranks[place])
        if rankings is None:
            hard.append(HardQuery(f"{kinds[0]} {number}", rank, f"{kinds[1]} {match}", ""))
        else:
            own, others = rankings.names(direction)
            first = others[rankings.top[direction].results[place, 0]]
            hard.append(HardQuery(own[number], rank, others[match], first))
    return hard
