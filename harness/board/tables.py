"""Where every trial of a board stands, in words: a grid of methods and seeds. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import NamedTuple

from harness.board.cells import label, tenths
from harness.board.standings import SECTIONS, Board, Standing, Trial, is_done, mean
from harness.evaluation.queries import WAYS
from harness.trial.results import RECALLS, State

ABSENT = "–"  # a seed that nobody has asked for
COLUMN = re.compile(r"(?:(?P<of>[a-z][a-z0-9_]*)\.)?(?P<measure>(?P<way>i2t|t2i)_(?P<kind>[a-z0-9_]+)|rsum)")
OTHERS = ("settings", "training", "env", "gallery", "search")  # what stands before a dot and is no set of positives
SHOWN = {*RECALLS, "rsum", "i2t_tied", "t2i_tied"}  # elsewhere on the board
ORDER = ("r1", "r5", "r10", "median_rank", "mean_rank", "r_precision", "map_r", "ndcg", "tied")
WORDS = {"median_rank": "median rank", "mean_rank": "mean rank", "map_r": "mAP@R", "r_precision": "R-precision"}
WORDS |= {"ndcg": "nDCG", "tied": "ties %"}
UNNAMED = ""
Lists = Mapping[int, Mapping[str, float]]
NONE: Lists = {}


def grid(board: Board) -> list[list[str]]:
    """A header with the seeds, then a line a row of the board; empty where every trial is ranked."""
    if not (board.incomplete or board.stale or board.limited):
        return []
    rows = [(section, row) for section in SECTIONS for row in getattr(board, section)]
    seeds = sorted({trial["seed"] for _, row in rows for trial in row.trials})
    lines = [[label(row), *cells(board, section, row, seeds)] for section, row in rows]
    return [["method", *(f"seed {seed}" for seed in seeds)], *lines]


def cells(board: Board, section: str, row: Standing, seeds: list[int]) -> list[str]:
    """The state of each seed of a row."""
    trials = {trial["seed"]: trial for trial in row.trials}
    return [told(board, section, trials[seed]) if seed in trials else ABSENT for seed in seeds]


def told(board: Board, section: str, trial: Trial) -> str:
    """The state of one trial; a result that is not ranked says why."""
    if not is_done(trial):
        return state(trial)
    if section == "limited":
        return f"limited to {trial['limit']}"
    return f"stale {aged(board, trial)}" if section == "stale" else "done"


def state(trial: Trial) -> str:
    """The state of a trial without a result."""
    match trial["state"]:
        case State.WAITING:
            return "not run"
        case State.FAILED:
            return f"failed: {trial['failure'] or 'no reason in the store'}"
        case State.DONE:
            return "no rsum"
    return str(trial["state"])


def aged(board: Board, trial: Trial) -> str:
    """What has changed since a trial."""
    if trial["data_fingerprint"] != board.data:
        return "data"
    return "protocol" if trial["protocol_version"] != board.version else "source"


class Measures(NamedTuple):
    """A table of measures, one line a ranked row."""

    of: str  # the named set of positives; empty: the split's own pairs
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def more_measures(board: Board, lists: Lists = NONE) -> list[Measures]:
    """A table for each set of positives that any ranked row has more measures of, the split's own first.

    `lists` has by a row's place what its ranks say, for runs that were made before they measured it themselves.
    """
    rows = [all_measures(row, lists.get(place, {})) for place, row in enumerate(board.ranked)]
    sets: dict[str, list[str]] = {}
    for name in sorted({name for row in rows for name in row}, key=place_of):
        if (of := set_of(name)) is not None:
            sets.setdefault(of, []).append(name)
    return [table(board, rows, of, sets[of]) for of in sorted(sets)]


def all_measures(row: Standing, lists: Mapping[str, float]) -> dict[str, float]:
    """Every measure of a row by its column, the mean over its seeds; none that a seed lacks."""
    names = {name for trial in row.trials for name in trial if name in SHOWN or set_of(name) is not None}
    found = dict(lists) | {name: value for name in names if not isnan(value := measured(row, name))}
    return dict(sorted(found.items()))


def table(board: Board, rows: Sequence[Mapping[str, float]], of: str, names: list[str]) -> Measures:
    """The table of one set of positives."""
    each = zip(board.ranked, rows, strict=True)
    cells = [(label(row), *(shown(name, found.get(name, nan)) for name in names)) for row, found in each]
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


def place_of(name: str) -> tuple[int, int, str]:
    """Sorts columns: i2t before t2i, rsum last, what is asked most often first."""
    found = COLUMN.fullmatch(name)
    if not found or not found["kind"]:
        return len(WAYS), 0, name
    return WAYS.index(found["way"]), ORDER.index(found["kind"]) if found["kind"] in ORDER else len(ORDER), name
