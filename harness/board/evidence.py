"""How sure a board can be: what the ranks of its rows' runs say, where the tracking store still has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.board.standings import Board, Standing, boards_of
from harness.config.cards import MethodCard
from harness.evaluation.queries import WAYS, Floats, Hardest, Queries, hardest, lists, profile, queries
from harness.evaluation.statistics import Difference, Hits, all_intervals, differences, hits_of, letters
from harness.tracking import artifacts
from harness.tracking.artifacts import Read, ranks
from harness.tracking.result_store import ResultStore

if TYPE_CHECKING:
    import pandas

LISTED = "i2t_map_r"  # a measure of whole lists, which runs of earlier versions lack
Load = Callable[[str], Hits | None]  # of a run, by its id in the store
Ends = tuple[float, float]


class Curve(NamedTuple):
    """The learning curve of one run."""

    seed: int
    points: tuple[tuple[int, float], ...]  # epoch, val rsum


@dataclass(frozen=True)
class Evidence:
    """Of the ranked rows of a board, by their place from 0; a row whose ranks are gone has none."""

    intervals: Mapping[int, Ends] = field(default_factory=dict)  # of rsum, 95 %
    letters: Mapping[int, str] = field(default_factory=dict)  # rows that share one are not told apart
    differences: Sequence[Difference] = ()
    lost: frozenset[int] = frozenset()  # rows that the store has no ranks of
    recalls: Mapping[int, tuple[Ends, ...]] = field(default_factory=dict)  # of the six, as RECALLS names them, 95 %
    profiles: Mapping[int, Floats] = field(default_factory=dict)  # (2, 100) i2t and t2i R@1 to R@100, mean over seeds
    lists: Mapping[int, Mapping[str, float]] = field(default_factory=dict)  # mAP@R and its like, where runs lack them
    hardest: Mapping[int, Hardest] = field(default_factory=dict)
    curves: Mapping[int, tuple[Curve, ...]] = field(default_factory=dict)  # rows all of whose epochs are there

    @property
    def is_testable(self) -> bool:
        """Whether any two rows could have been told apart: some row has several seeds."""
        return any(not isnan(difference.p) for difference in self.differences)

    @property
    def least(self) -> float:
        """No smaller difference of rsum could have been told apart on this board; nan where none could."""
        return min((found.least for found in self.differences if not isnan(found.least)), default=float("nan"))


class Assessed(NamedTuple):
    """A board, and how sure it can be."""

    board: Board
    evidence: Evidence


class Ranked(NamedTuple):
    """What the ranks of a row's runs say, each file read once."""

    hits: Sequence[Hits]  # of each run
    profile: Floats
    lists: Mapping[str, float]
    hardest: Hardest | None  # None where the runs have not answered the same queries


def assessed(frame: pandas.DataFrame, methods: Mapping[str, MethodCard], read: Read) -> list[Assessed]:
    """The boards of a frame with what the files of their runs say."""
    return [Assessed(board, evidence(board, read)) for board in boards_of(frame, methods)]


def evidence(board: Board, read: Read) -> Evidence:
    """Intervals of a board's ranked rows, which of them are told apart, and what their runs have kept."""
    runs = {place: said for place, row in enumerate(board.ranked) if (said := ranked(row, read))}
    whole = comparable({place: row.hits for place, row in runs.items()})
    lost = frozenset({*range(len(board.ranked))} - whole.keys())
    curves = {place: found for place in range(len(board.ranked)) if (found := curves_of(board, place, read))}
    if not whole:
        return Evidence(lost=lost, curves=curves)
    places, rows = [*whole], [*whole.values()]
    bounds = [[(float(low), float(high)) for low, high in row] for row in all_intervals(rows)]
    apart = differences(rows)
    return Evidence(
        intervals={place: ends[-1] for place, ends in zip(places, bounds, strict=True)},
        letters=dict(zip(places, letters(len(rows), apart), strict=True)),
        differences=[one._replace(first=places[one.first], second=places[one.second]) for one in apart],
        lost=lost,
        recalls={place: tuple(ends[:-1]) for place, ends in zip(places, bounds, strict=True)},
        profiles={place: runs[place].profile for place in places},
        lists={place: runs[place].lists for place in places},
        hardest={place: hard for place in places if (hard := runs[place].hardest)},
        curves=curves,
    )


def comparable(rows: Mapping[int, Sequence[Hits]]) -> dict[int, Sequence[Hits]]:
    """The rows that have answered the same queries as most: ranks of another origin count as lost."""
    groups: dict[tuple[bytes, bytes], dict[int, Sequence[Hits]]] = {}
    for place, row in rows.items():
        asked = {(hits.folds.tobytes(), hits.queries.tobytes()) for hits in row}
        if len(asked) == 1:
            groups.setdefault(asked.pop(), {})[place] = row
    return max(groups.values(), key=len, default={})


def ranked(row: Standing, read: Read) -> Ranked | None:
    """What the ranks of a row's runs say; None where those of any run are gone or damaged."""
    runs, measured = row.runs, all(trial.get(LISTED) is not None for trial in row.trials)
    hits: list[Hits] = []
    found: list[Mapping[str, Queries]] = []
    whole: list[Mapping[str, float]] = []
    arrays = artifacts.ranks(read, runs[0]) or {}
    try:
        for place, run in enumerate(runs):
            own = arrays if place == 0 else artifacts.ranks(read, run) or {}
            hits.append(hits_of(own))
            found.append({way: queries(own, way) for way in WAYS})
            whole += [] if measured else [lists(own)]
    except KeyError:
        return None
    shares = np.mean([[profile(run[way]) for way in WAYS] for run in found], axis=0)
    alike = all(np.array_equal(run[way].numbers, found[0][way].numbers) for run in found for way in WAYS)
    means = {name: float(np.mean([one[name] for one in whole])) for name in (whole[0] if whole else ())}
    return Ranked(hits, shares, means, hardest(found, arrays, artifacts.rankings(read, runs[0])) if alike else None)


def curves_of(board: Board, place: int, read: Read) -> tuple[Curve, ...]:
    """The learning curves of a ranked row; none where those of any run are gone, or nothing was trained."""
    row = board.ranked[place]
    found = []
    for seed, run in zip(row.seeds, row.runs, strict=True):
        epochs = [one for one in artifacts.epochs(read, run) if one.epoch and "rsum" in one.val]
        found.append(Curve(seed, tuple((one.epoch, one.val["rsum"]) for one in epochs)))
    common = set.intersection(*({epoch for epoch, _ in curve.points} for curve in found))
    return tuple(found) if common else ()


def hits(store: ResultStore, run_id: str) -> Hits | None:
    """What a run has found, from the ranks that the store has of it; None where they are gone or damaged."""
    arrays = ranks(store.artifact, run_id)
    try:
        return hits_of(arrays) if arrays else None
    except KeyError:
        return None
