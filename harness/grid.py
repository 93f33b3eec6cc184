"""Where every trial of a board stands, in words: a grid of methods and seeds. Pure."""

from __future__ import annotations

from harness.board import SECTIONS, Board, Standing, Trial, is_done
from harness.report import label
from harness.trial.results import State

ABSENT = "–"  # a seed that nobody has asked for


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
