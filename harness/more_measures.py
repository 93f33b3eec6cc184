"""Measures beyond the six recalls, as tables: of the split's own pairs, and of named sets of positives. Pure."""

from __future__ import annotations

import re
from math import isnan, nan
from typing import NamedTuple

from harness.board import Board, Standing, mean
from harness.queries import WAYS
from harness.report import label, tenths
from harness.results import RECALLS

COLUMN = re.compile(r"(?:(?P<of>[a-z][a-z0-9_]*)\.)?(?P<measure>(?P<way>i2t|t2i)_(?P<kind>[a-z0-9_]+)|rsum)")
OTHERS = ("settings", "training", "env", "gallery", "search")  # what stands before a dot and is no set of positives
SHOWN = {*RECALLS, "rsum", "i2t_tied", "t2i_tied"}  # elsewhere on the board
ORDER = ("r1", "r5", "r10", "median_rank", "mean_rank", "r_precision", "map_r", "ndcg", "tied")
WORDS = {"median_rank": "median rank", "mean_rank": "mean rank", "map_r": "mAP@R", "r_precision": "R-precision"}
WORDS |= {"ndcg": "nDCG", "tied": "ties %"}
UNNAMED = ""


class Measures(NamedTuple):
    """A table of measures, one line a ranked row."""

    of: str  # the named set of positives; empty: the split's own pairs
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def more_measures(board: Board) -> list[Measures]:
    """A table for each set of positives that any ranked row has more measures of, the split's own first."""
    names = {name for row in board.ranked for trial in row.trials for name, value in trial.items() if value is not None}
    sets: dict[str, list[str]] = {}
    for name in sorted(names, key=place):
        if (of := set_of(name)) is not None and any(not isnan(measured(row, name)) for row in board.ranked):
            sets.setdefault(of, []).append(name)
    return [table(board, of, sets[of]) for of in sorted(sets)]


def all_measures(row: Standing) -> dict[str, float]:
    """Every measure of a row by its column, the mean over its seeds; nan where a seed lacks it."""
    names = {name for trial in row.trials for name in trial if name in SHOWN or set_of(name) is not None}
    found = {name: measured(row, name) for name in sorted(names)}
    return {name: value for name, value in found.items() if not isnan(value)}


def table(board: Board, of: str, names: list[str]) -> Measures:
    """The table of one set of positives."""
    cells = [(label(row), *(shown(name, measured(row, name)) for name in names)) for row in board.ranked]
    return Measures(of, ("method", *map(heading, names)), tuple(cells))


def set_of(name: str) -> str | None:
    """The set of positives that a column measures; None for a column that is no further measure."""
    found = COLUMN.fullmatch(name)
    if not found or name in SHOWN:
        return None
    of = found["of"] or UNNAMED
    return None if of in OTHERS or of.startswith(("val_", "best_val_")) else of


def measured(row: Standing, name: str) -> float:
    """The mean over a row's seeds; nan where one lacks it."""
    values = [trial.get(name) for trial in row.trials]
    return mean(values) if all(isinstance(value, int | float) for value in values) else nan


def heading(name: str) -> str:
    """A column in words: the direction, and the measure as papers write it."""
    found = COLUMN.fullmatch(name)
    if not found or not found["kind"]:
        return "rsum"
    kind = found["kind"]
    recall = re.fullmatch(r"r(\d+)", kind)
    return f"{found['way']} {f'R@{recall[1]}' if recall else WORDS.get(kind, kind.replace('_', ' '))}"


def shown(name: str, value: float) -> str:
    """A measure as a cell: a rank of thousands without its tenth."""
    return f"{value:,.0f}" if name.endswith("_rank") and value >= 1000 else tenths(value)


def place(name: str) -> tuple[int, int, str]:
    """Sorts columns: i2t before t2i, rsum last, what is asked most often first."""
    found = COLUMN.fullmatch(name)
    if not found or not found["kind"]:
        return len(WAYS), 0, name
    return WAYS.index(found["way"]), ORDER.index(found["kind"]) if found["kind"] in ORDER else len(ORDER), name
