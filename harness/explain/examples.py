"""Queries to look at: some that all methods of a board answer, some that none does, some on which they disagree.

What was found is read from the files that the store keeps of the first run of every row. Pure: the same store gives
the same queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.board.cells import label
from harness.board.standings import Board, Standing
from harness.config.cards import MethodCard
from harness.evaluation.queries import WAYS, Queries, queries
from harness.evaluation.records import CAPTIONS, IMAGE_IDS, RANKINGS, RANKS, arrays, texts
from harness.tracking.artifacts import Read

FIRST = 5  # shown of a ranking; a query is answered with a match among them
SAMPLE = 12  # queries of a direction
SEED = 0
ALL, SOME, NONE = "answered by all", "methods disagree", "answered by none"
GROUPS = (SOME, ALL, NONE)  # the most telling first


class Heads(NamedTuple):
    """What the queries of one direction found first, one row a query and fold, in the order of their answers."""

    found: NDArray[np.int64]  # (Q, K) as the split numbers them, -1 where the gallery is smaller
    scores: NDArray[np.float32]  # (Q, K)


@dataclass(frozen=True)
class Run:
    """The first run of a ranked row, with what it found."""

    name: str
    seed: int
    is_trained: bool
    pairs: NDArray[np.int64]  # (P, 2)
    images: Sequence[str]  # ids
    captions: Sequence[str]
    answers: Mapping[str, Queries]  # by direction
    heads: Mapping[str, Heads]

    def is_alike(self, other: Run) -> bool:
        """Whether both have answered the same queries."""
        mine, others = ((run.images, run.captions, run.pairs.tolist()) for run in (self, other))
        return mine == others and all(
            np.array_equal(getattr(self.answers[way], name), getattr(other.answers[way], name))
            for way in WAYS
            for name in ("numbers", "folds")
        )


class Found(NamedTuple):
    """One place of a ranking."""

    number: int  # of the image or caption, in the split
    score: float
    is_match: bool


class Line(NamedTuple):
    """What one method made of a query."""

    rank: int  # of the best match
    found: tuple[Found, ...]


class Query(NamedTuple):
    """One query, and what every run made of it."""

    number: int  # in the split
    group: str
    matches: tuple[int, ...]  # in the split
    lines: tuple[Line, ...]  # in the order of the runs


class Direction(NamedTuple):
    """The sampled queries of one direction, and how many of each group there are in all."""

    queries: tuple[Query, ...]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Examples:
    """Sampled queries of a board."""

    board: Board
    runs: tuple[Run, ...]
    left_out: tuple[str, ...]  # a line for each row without rankings
    directions: Mapping[str, Direction]


def examples_of(board: Board, methods: Mapping[str, MethodCard], read: Read) -> Examples | None:
    """The examples of a board; None where the store has no rankings of any ranked row."""
    found = [(row, run_of(row, methods, read)) for row in board.ranked]
    runs = [run for _, run in found if run]
    alike = [run for run in runs if run.is_alike(runs[0])]
    if not alike:
        return None
    left_out = [f"{label(row)}: its rankings are not in the store" for row, run in found if run is None]
    left_out += [f"{run.name}: has answered other queries" for run in runs if run not in alike]
    directions = {way: direction(alike, way) for way in WAYS}
    return Examples(board, tuple(alike), tuple(left_out), directions)


def run_of(row: Standing, methods: Mapping[str, MethodCard], read: Read) -> Run | None:
    """The first run of a row; None where the store has lost or damaged what it found."""
    ranks, rankings = (arrays(read(row.runs[0], name)) for name in (RANKS, RANKINGS))
    if ranks is None or rankings is None:
        return None
    try:
        images, captions = (texts(rankings, name) for name in (IMAGE_IDS, CAPTIONS))
        asked = {way: queries(ranks, way) for way in WAYS}
        found = {way: heads(rankings, way) for way in WAYS}
        pairs = ranks["pairs"].astype(np.int64)
    except (KeyError, ValueError, IndexError):
        return None
    run = Run(label(row), row.seeds[0], is_trained(row, methods), pairs, images, captions, asked, found)
    return run if is_whole(run) else None


def is_trained(row: Standing, methods: Mapping[str, MethodCard]) -> bool:
    """Whether a row's method learns anything: one that does not says nothing of how hard a query is."""
    card = methods.get(row.method)
    return card is None or card.trainable


def heads(rankings: Mapping[str, NDArray[Any]], way: str) -> Heads:
    """What the queries of one direction found first; KeyError where an array is missing."""
    order = np.lexsort((rankings[f"{way}_query"], rankings[f"{way}_fold"]))
    found = rankings[f"{way}_found"][order, :FIRST].astype(np.int64)
    return Heads(found, rankings[f"{way}_score"][order, :FIRST])


def is_whole(run: Run) -> bool:
    """Whether the arrays of a run fit together and to its texts."""
    sizes = len(run.images), len(run.captions)
    whole = bool((run.pairs >= 0).all() and (run.pairs < sizes).all())
    for way, size in zip(WAYS, sizes[::-1], strict=True):
        found, scores = run.heads[way]
        whole = whole and found.shape == scores.shape and len(found) == len(run.answers[way].numbers)
        whole = whole and bool((found < size).all())
    return whole


def direction(runs: Sequence[Run], way: str) -> Direction:
    """The sampled queries of one direction."""
    groups = grouped(runs, way)
    counts = {group: int((groups == place).sum()) for place, group in enumerate(GROUPS)}
    chosen = tuple(query(runs, way, row, GROUPS[groups[row]]) for row in sampled(groups))
    return Direction(chosen, counts)


def grouped(runs: Sequence[Run], way: str) -> NDArray[np.int64]:
    """The place in GROUPS of every query, (Q,); methods that learn nothing have no say unless there are no others."""
    judges = [run for run in runs if run.is_trained] or runs
    answered = np.array([run.answers[way].ranks <= FIRST for run in judges])
    every, some = answered.all(axis=0), answered.any(axis=0)
    names = np.where(every, GROUPS.index(ALL), np.where(some, GROUPS.index(SOME), GROUPS.index(NONE)))
    return names.astype(np.int64)


def sampled(groups: NDArray[np.int64], size: int = SAMPLE, seed: int = SEED) -> list[int]:
    """As many queries of each group, drawn by lot; where one is too small, the others have more of them."""
    order = np.random.default_rng(seed).permutation(len(groups))
    turns = {int(row): turn for group in range(len(GROUPS)) for turn, row in enumerate(order[groups[order] == group])}
    chosen = sorted(turns, key=lambda row: (turns[row], groups[row]))[:size]
    return sorted(chosen, key=lambda row: (groups[row], turns[row]))


def query(runs: Sequence[Run], way: str, row: int, group: str) -> Query:
    """One query with what each run made of it."""
    own = WAYS.index(way)
    asked, pairs = runs[0].answers[way], runs[0].pairs
    number = int(asked.numbers[row])
    matches = tuple(pairs[pairs[:, own] == number, 1 - own].tolist())
    return Query(number, group, matches, tuple(line(run, way, row, matches) for run in runs))


def line(run: Run, way: str, row: int, matches: Sequence[int]) -> Line:
    """What one run made of a query."""
    pairs = zip(run.heads[way].found[row].tolist(), run.heads[way].scores[row].tolist(), strict=True)
    found = tuple(Found(number, score, number in matches) for number, score in pairs if number >= 0)
    return Line(int(run.answers[way].ranks[row]), found)
