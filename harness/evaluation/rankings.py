"""What every query of a run was answered: the arrays of ranks.npz and rankings.npz as rankings, best first, with ids.

A ranking here is pessimistic as ranks are: each positive stands at its rank, so that cutting it at K gives our R@K.
The head that rankings.npz keeps has equal scores in order of their number; negatives fill the places in that order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.ranks import Ints
from harness.evaluation.records import IMAGE_IDS, texts

Arrays = Mapping[str, NDArray[Any]]
WAYS = ("i2t", "t2i")
OF_RANKS = {"pairs", "fold", *(f"{way}_{name}" for way in WAYS for name in ("rank", "tied"))}
OF_RANKINGS = {f"{way}_{name}" for way in WAYS for name in ("query", "fold", "found", "score")}


class Heads(NamedTuple):
    """The first places of every ranking of one direction: Q queries, L places; numbers are the split's."""

    fold: Ints  # (Q,)
    query: Ints  # (Q,)
    found: Ints  # (Q, L) best first, -1 where nothing is known to stand
    score: NDArray[np.float32]  # (Q, L) nan there
    positive: NDArray[np.bool_]  # (Q, L)


class Asked(NamedTuple):
    """The queries of one direction and how they were answered."""

    fold: Ints  # (Q,)
    query: Ints  # (Q,)
    ranks: list[NDArray[np.int32]]  # of all positives of each query, smallest first
    tied: NDArray[np.bool_]  # (Q,) its best positive ties with a negative


class Names(NamedTuple):
    """Ids by number, without blanks, so that they fit into any form."""

    images: NDArray[np.object_]
    captions: NDArray[np.object_]

    def of(self, way: str) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        """Those of the queries of a direction, and those of what they find."""
        return (self.images, self.captions) if way == "i2t" else (self.captions, self.images)


@dataclass(frozen=True)
class Run:
    """A finished trial with the arrays that the store has of it."""

    key: str
    method: str
    recipe: str
    seed: int
    dataset: str
    protocol: str
    data: str  # what its queries are, shortly: runs that share it answered the same ones
    ranks: Arrays  # at least OF_RANKS
    rankings: Arrays  # at least OF_RANKINGS; empty where the store has none

    @cached_property
    def names(self) -> Names:
        """Ids of its images and captions."""
        return names_of(self.ranks, self.rankings)

    @property
    def folds(self) -> int:
        """Galleries that its queries met."""
        return 1 + int(self.ranks["fold"].max())


def sides(pairs: Ints, way: str) -> tuple[Ints, Ints]:
    """Of pairs (P, 2) the queries and the positives of a direction."""
    return (pairs[:, 0], pairs[:, 1]) if way == "i2t" else (pairs[:, 1], pairs[:, 0])


def heads_of(way: str, ranks: Arrays, rankings: Arrays) -> Heads:
    """The rankings of one direction, from the arrays of ranks.npz and rankings.npz."""
    fold, query = (rankings[f"{way}_{name}"].astype(np.int64) for name in ("fold", "query"))
    found, score = rankings[f"{way}_found"].astype(np.int64), rankings[f"{way}_score"].astype(np.float32)
    asked, wanted = sides(ranks["pairs"].astype(np.int64), way)
    row = rows_of(ranks["fold"].astype(np.int64), asked, fold, query)
    size = 1 + max(int(found.max()), int(wanted.max()))
    is_right = (found >= 0) & np.isin(codes(found, size), row * size + wanted)
    placed, scores = np.full(found.shape, -1), np.full(found.shape, np.nan, dtype=np.float32)
    rank = ranks[f"{way}_rank"].astype(np.int64)
    near = rank <= found.shape[1]
    at = row[near], rank[near] - 1
    placed[at] = wanted[near]
    scores[at] = known(found, score, row[near], wanted[near], size)
    positive = placed >= 0
    fill(placed, scores, found, score, (found >= 0) & ~is_right)
    return Heads(fold, query, placed, scores, positive)


def codes(found: Ints, size: int) -> Ints:
    """One number for every row and what it has found, (Q, L)."""
    return np.arange(len(found))[:, None] * size + found


def rows_of(folds: Ints, queries: Ints, fold: Ints, query: Ints) -> Ints:
    """The row of each of some queries (P,) among all (Q,), which stand in order of fold and number."""
    size = 1 + int(query.max())
    return np.searchsorted(fold * size + query, folds * size + queries)


def known(found: Ints, score: NDArray[np.float32], row: Ints, wanted: Ints, size: int) -> NDArray[np.float32]:
    """The scores of positives (P,) in the heads; of one that equals pushed out, the head's last."""
    place = found[row] == wanted[:, None]
    inside: NDArray[np.float32] = score[row, np.where(place.any(axis=1), place.argmax(axis=1), -1)]
    return inside


def fill(placed: Ints, scores: NDArray[np.float32], found: Ints, score: NDArray[np.float32], negative: Any) -> None:
    """Put the negatives of each row into its free places, in their order."""
    free = placed < 0
    places = np.argsort(~free, axis=1, kind="stable")  # the free ones first
    row, column = np.nonzero(negative)
    turn = (np.cumsum(negative, axis=1) - 1)[row, column]
    fits = turn < free.sum(axis=1)[row]
    row, column, turn = row[fits], column[fits], turn[fits]
    at = row, places[row, turn]
    placed[at], scores[at] = found[row, column], score[row, column]


def asked_of(way: str, ranks: Arrays) -> Asked:
    """The queries of one direction in order of fold and number, from the arrays of ranks.npz."""
    queries, _ = sides(ranks["pairs"].astype(np.int64), way)
    fold, rank = ranks["fold"].astype(np.int64), ranks[f"{way}_rank"].astype(np.int32)
    order = np.lexsort((rank, queries, fold))
    fold, queries, rank, tied = fold[order], queries[order], rank[order], ranks[f"{way}_tied"][order]
    first = np.flatnonzero(np.r_[True, (np.diff(queries) != 0) | (np.diff(fold) != 0)])
    return Asked(fold[first], queries[first], np.split(rank, first[1:]), tied[first])


def names_of(ranks: Arrays, rankings: Arrays) -> Names:
    """Ids of images as the dataset has them, of captions IMAGE#K: the K-th caption of its first image, from 0.

    Blanks and marks are written as in a URL. Images are told by their numbers where the ids are not kept or not unique.
    """
    pairs = ranks["pairs"].astype(np.int64)
    count = 1 + int(pairs[:, 0].max())
    ids = texts(rankings, IMAGE_IDS) if IMAGE_IDS in rankings else []
    known = all(ids) and len(set(ids)) == len(ids) >= count
    images = [quote(one, safe="/") for one in ids] if known else [str(number) for number in range(count)]
    return Names(np.array(images, dtype=object), np.array(caption_names(pairs, images), dtype=object))


def caption_names(pairs: Ints, images: Sequence[str]) -> list[str]:
    """IMAGE#K for every caption, by the first pair that it is in."""
    captions, first = np.unique(pairs[:, 1], return_index=True)
    names = [""] * (1 + int(captions.max()))
    taken = dict.fromkeys(range(len(images)), 0)
    for caption, image in zip(captions.tolist(), pairs[first, 0].tolist(), strict=True):
        names[caption] = f"{images[image]}#{taken[image]}"
        taken[image] += 1
    return names


def falling(heads: Heads) -> NDArray[np.float32]:
    """The scores (Q, L) of rankings, lowered where they must be so that each is below the one before it.

    By the smallest step that float32 has, which is what TREC's tools read scores as: they sort by score alone.
    """
    scores = heads.score.copy()
    for place in range(1, scores.shape[1]):
        below = np.nextafter(scores[:, place - 1], np.float32(-np.inf))
        scores[:, place] = np.fmin(scores[:, place], below)
    return scores
