"""How sure a board can be: what the ranks of its rows' runs say, where the tracking store still has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import TYPE_CHECKING, NamedTuple

from harness.board import Board, boards_of
from harness.cards import MethodCard
from harness.stats import Difference, Hits, differences, intervals, letters, same_queries

if TYPE_CHECKING:
    import pandas

Load = Callable[[str], Hits | None]  # of a run, by its id in the store


@dataclass(frozen=True)
class Evidence:
    """Of the ranked rows of a board, by their place from 0; a row whose ranks are gone has none."""

    intervals: Mapping[int, tuple[float, float]] = field(default_factory=dict)  # of rsum, 95 %
    letters: Mapping[int, str] = field(default_factory=dict)  # rows that share one are not told apart
    differences: Sequence[Difference] = ()
    lost: frozenset[int] = frozenset()  # rows that the store has no ranks of

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


def assessed(frame: pandas.DataFrame, methods: Mapping[str, MethodCard], load: Load) -> list[Assessed]:
    """The boards of a frame with what the ranks of their runs say."""
    return [Assessed(board, evidence(board, load)) for board in boards_of(frame, methods)]


def evidence(board: Board, load: Load) -> Evidence:
    """Intervals of a board's ranked rows, and which of them are told apart."""
    runs = {place: [load(run) for run in row.runs] for place, row in enumerate(board.ranked)}
    whole = comparable({place: [hits for hits in row if hits] for place, row in runs.items() if row and all(row)})
    lost = frozenset(runs.keys() - whole.keys())
    if not whole:
        return Evidence(lost=lost)
    places, rows = [*whole], [*whole.values()]
    ends = {place: (float(low), float(high)) for place, (low, high) in zip(places, intervals(rows), strict=True)}
    found = differences(rows)
    named = dict(zip(places, letters(len(rows), found), strict=True))
    apart = [one._replace(first=places[one.first], second=places[one.second]) for one in found]
    return Evidence(ends, named, apart, lost)


def comparable(rows: Mapping[int, Sequence[Hits]]) -> dict[int, Sequence[Hits]]:
    """The rows that have answered the same queries as most: ranks of another origin count as lost."""
    groups = [{n: row for n, row in rows.items() if same_queries(one, row)} for one in rows.values()]
    return max(groups, key=len, default={})
