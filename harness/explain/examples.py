"""Queries to look at: some that all methods of a board answer, some that none does, some on which they disagree.

Read from the files that the store keeps of the first run of every row; the same store gives the same queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness.board.cells import label
from harness.board.standings import Board, Standing
from harness.config.cards import MethodCard
from harness.evaluation.queries import QueryRanks, queries
from harness.evaluation.ranks import DIRECTIONS, Direction, Ints, sides
from harness.evaluation.records import TrialRankings
from harness.tracking import artifacts
from harness.tracking.artifacts import Read

FIRST = 5  # shown of a ranking; a query is answered with a match among them
SAMPLE = 12  # queries of a direction
SEED = 0
ALL, SOME, NONE = "answered by all", "methods disagree", "answered by none"
GROUPS = (SOME, ALL, NONE)  # the most telling first


@dataclass(frozen=True)
class ExampleRun:
    name: str
    seed: int
    is_trained: bool
    pairs: Ints  # (P, 2)
    rankings: TrialRankings
    queries: Mapping[Direction, QueryRanks]

    @property
    def images(self) -> Sequence[str]:
        return self.rankings.image_ids

    @property
    def captions(self) -> Sequence[str]:
        return self.rankings.captions

    def is_alike(self, other: ExampleRun) -> bool:
        mine, others = ((run.images, run.captions, run.pairs.tolist()) for run in (self, other))
        return mine == others and all(
            np.array_equal(getattr(self.queries[direction], name), getattr(other.queries[direction], name))
            for direction in DIRECTIONS
            for name in ("numbers", "folds")
        )


class Example(NamedTuple):
    number: int  # of the image or caption, in the split
    score: float
    is_match: bool


class Answer(NamedTuple):
    rank: int  # of the best match
    top: tuple[Example, ...]


class Query(NamedTuple):
    number: int  # in the split
    group: str
    matches: tuple[int, ...]  # in the split
    answers: tuple[Answer, ...]  # in the order of the runs


class Sample(NamedTuple):
    queries: tuple[Query, ...]
    counts: Mapping[str, int]  # of all queries, by group


@dataclass(frozen=True)
class Examples:
    board: Board
    runs: tuple[ExampleRun, ...]
    left_out: tuple[str, ...]  # a line for each row without rankings
    directions: Mapping[Direction, Sample]


def examples_of(board: Board, methods: Mapping[str, MethodCard], read: Read) -> Examples | None:
    """The examples of a board; None where the store has no rankings of any ranked row."""
    rows = [(row, run_of(row, methods, read)) for row in board.ranked]
    runs = [run for _, run in rows if run]
    alike = [run for run in runs if run.is_alike(runs[0])]
    if not alike:
        return None
    left_out = [f"{label(row)}: its rankings are not in the store" for row, run in rows if run is None]
    left_out += [f"{run.name}: has answered other queries" for run in runs if run not in alike]
    directions = {direction: sample(alike, direction) for direction in DIRECTIONS}
    return Examples(board, tuple(alike), tuple(left_out), directions)


def run_of(row: Standing, methods: Mapping[str, MethodCard], read: Read) -> ExampleRun | None:
    """The first run of a row; None where the store has lost or damaged what it found."""
    first = row.run_ids[0]
    ranks, rankings = artifacts.ranks(read, first), artifacts.rankings(read, first, scores=True)
    if ranks is None or rankings is None:
        return None
    by_direction = {direction: queries(ranks, direction) for direction in DIRECTIONS}
    run = ExampleRun(label(row), row.seeds[0], is_trained(row, methods), ranks.pairs, rankings, by_direction)
    return run if is_whole(run) else None


def is_trained(row: Standing, methods: Mapping[str, MethodCard]) -> bool:
    """Whether a row's method learns anything: one that does not says nothing of how hard a query is."""
    card = methods.get(row.method)
    return card is None or card.trainable


def is_whole(run: ExampleRun) -> bool:
    sizes = len(run.images), len(run.captions)
    whole = bool((run.pairs >= 0).all() and (run.pairs < sizes).all())
    for direction, size in zip(DIRECTIONS, sizes[::-1], strict=True):
        results = run.rankings.top[direction].results
        whole = whole and len(results) == len(run.queries[direction].numbers) and bool((results < size).all())
    return whole


def sample(runs: Sequence[ExampleRun], direction: Direction) -> Sample:
    groups = grouped(runs, direction)
    counts = {group: int((groups == place).sum()) for place, group in enumerate(GROUPS)}
    return Sample(tuple(query(runs, direction, row, GROUPS[groups[row]]) for row in sampled(groups)), counts)


def grouped(runs: Sequence[ExampleRun], direction: Direction) -> Ints:
    """The place in GROUPS of every query, (Q,); methods that learn nothing have no say unless there are no others."""
    judges = [run for run in runs if run.is_trained] or runs
    answered = np.array([run.queries[direction].ranks <= FIRST for run in judges])
    every, some = answered.all(axis=0), answered.any(axis=0)
    names = np.where(every, GROUPS.index(ALL), np.where(some, GROUPS.index(SOME), GROUPS.index(NONE)))
    return names.astype(np.int64)


def sampled(groups: Ints, size: int = SAMPLE, seed: int = SEED) -> list[int]:
    """As many queries of each group, drawn by lot; where one is too small, the others have more of them."""
    order = np.random.default_rng(seed).permutation(len(groups))
    turns = {int(row): turn for group in range(len(GROUPS)) for turn, row in enumerate(order[groups[order] == group])}
    sample = sorted(turns, key=lambda row: (turns[row], groups[row]))[:size]
    return sorted(sample, key=lambda row: (groups[row], turns[row]))


def query(runs: Sequence[ExampleRun], direction: Direction, row: int, group: str) -> Query:
    number = int(runs[0].queries[direction].numbers[row])
    numbers, positives = sides(runs[0].pairs, direction)
    matches = tuple(positives[numbers == number].tolist())
    return Query(number, group, matches, tuple(answer(run, direction, row, matches) for run in runs))


def answer(run: ExampleRun, direction: Direction, row: int, matches: Sequence[int]) -> Answer:
    top = run.rankings.top[direction]
    places = zip(top.results[row, :FIRST].tolist(), top.scores[row, :FIRST].tolist(), strict=True)
    examples = tuple(Example(number, score, number in matches) for number, score in places if number >= 0)
    return Answer(int(run.queries[direction].ranks[row]), examples)
