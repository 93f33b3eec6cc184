"""What a study is without its library: trials, identity, cells of a grid, what fits its sampler, what ails its file."""

from __future__ import annotations

import importlib.util
import itertools
import math
import random
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.config.sections import Scalar, Search, Tunable
from harness.config.toml import literal
from harness.errors import ConfigError, UsageError
from harness.search.space import described, ends, ordered

NEEDS = {"gp": ("scipy", "torch"), "cmaes": ("cmaes",)}  # packages that a sampler imports
STEPS = 5  # values of a range in a grid
ALL_INTS = 10  # a range of so many whole numbers has all of them in a grid
MOST_CELLS = 100_000
BUSY_SECONDS = 5.0  # to wait for another program that writes to the file; optuna makes a trial in five attempts
ANEW = "move it away, and its searches begin anew; finished trials are kept in their folders"
ADVICE = {  # by words of what sqlite says
    "locked": "another program holds it: stop that one, or wait for it",
    "unable to open": "make its folder writable",
    "readonly": "make the file and its folder writable",
    "is full": "free space on its disk",
    "malformed": ANEW,
    "not a database": ANEW,
}
Outcome = Literal["complete", "pruned", "failed"]


class Proposal(NamedTuple):
    """A trial to run: its number in the study, and the searched values."""

    number: int
    values: dict[str, Scalar]


class Ended(NamedTuple):
    """A trial that is over; a pruned one has the last value that was reported, a failed one none."""

    number: int
    state: Outcome
    values: dict[str, Scalar]
    objective: tuple[float, ...]
    notes: dict[str, Any]


def check_sampler(name: str, space: Mapping[str, Tunable], search: Search) -> None:
    """Whether the sampler of [search] can search this space; left alone it would draw blindly, or crash.

    Raises ConfigError where it cannot, and UsageError where a package that it needs is not installed.
    """
    where = f"{name}: [search] sampler = {search.sampler}"
    missing = [package for package in NEEDS.get(search.sampler, ()) if importlib.util.find_spec(package) is None]
    if missing:
        raise UsageError(f"{where} needs what is not installed: pip install {' '.join(missing)}")
    if search.sampler in ("grid", "gp", "cmaes") and any(tunable.when for tunable in space.values()):
        raise ConfigError(f"{where} knows no conditions (`when`): take tpe or random, or search without them")
    if search.sampler == "cmaes" and space:
        _check_cmaes(where, space, search)
    if search.sampler == "grid":
        grid_of(space)


def grid_of(space: Mapping[str, Tunable]) -> dict[str, list[Scalar]]:
    """The values of a grid: choices; whole numbers all, or five where they are many; five of a range of floats.

    Raises ConfigError for conditions, which a grid cannot have, and for more cells than anybody would search.
    """
    for key, tunable in space.items():
        if tunable.when:
            raise ConfigError(f"{key} has a condition (`when`), and a grid has none: take the sampler tpe or random")
    grid = {key: _steps(space[key]) for key in ordered(space)}
    cells = math.prod(len(values) for values in grid.values())
    if cells > MOST_CELLS:
        raise ConfigError(f"a grid over {', '.join(grid)} has {cells} cells, more than {MOST_CELLS}: give fewer values")
    return grid


def cells_of(space: Mapping[str, Tunable], seed: int) -> list[dict[str, Scalar]]:
    """All cells of the grid, shuffled so that a small budget sees all of it; of an empty space the one empty cell."""
    grid = grid_of(space)
    cells = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    random.Random(seed).shuffle(cells)
    return cells


def identity(
    search: Search, space: Mapping[str, Tunable], epochs: int, points: Sequence[Mapping[str, Scalar]]
) -> dict[str, str]:
    """What decides the trials of a study, by name, as flat text; its budget does not."""
    learns = search.sampler in ("tpe", "gp", "cmaes")
    sampler = {"seed": search.seed, **({"startup": search.startup} if learns else {})}
    pruner = {"min_epochs": search.min_epochs, **({"startup": search.startup} if search.pruner == "median" else {})}
    return {
        **{f"space of {key}": text for key, text in described(space).items()},
        "objective": ", ".join(search.objective),
        "sampler": f"{search.sampler}, {_told(sampler)}",
        "pruner": f"{search.pruner}, {_told(pruner)}" if search.pruner != "none" else "none",
        "epochs of a trial": str(epochs),
        "points": "; ".join(map(_told, points)) or "none",
    }


def difference(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """What a study was begun with and what is asked of it now, line by line."""
    keys = [key for key in dict.fromkeys([*new, *old]) if old.get(key) != new.get(key)]
    lines = [f"  {key}: {old.get(key, 'none')} -> {new.get(key, 'none')}" for key in keys]
    head = f"the search {name} was begun with other values (then -> now):"
    return "\n".join([head, *lines, "Choose another name with --campaign, or go back to the old values."])


def connect(file: Path) -> sqlite3.Connection:
    """To a file of studies."""
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS, check_same_thread=False)
    connection.execute("PRAGMA synchronous=NORMAL")  # with WAL a killed driver loses nothing; writes take half as long
    return connection


def trouble(error: BaseException) -> str:
    """What sqlite says, below what other libraries make of it, and what to do."""
    while not isinstance(error, sqlite3.Error) and error.__cause__ is not None:
        error = error.__cause__
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    advice = (advice for words, advice in ADVICE.items() if words in reason)
    return f"{reason}; {next(advice, 'see that its disk works')}"


def _check_cmaes(where: str, space: Mapping[str, Tunable], search: Search) -> None:
    """ConfigError for what optuna's CMA-ES would draw at random (choices) or crash over (one range, objectives)."""
    choices = [key for key, tunable in space.items() if len(tunable.choices) > 1]
    ranges = [key for key, tunable in space.items() if not tunable.choices]
    if choices or len(ranges) < 2 or len(search.objective) > 1:
        raise ConfigError(
            f"{where} needs two or more ranges of numbers, no choices and one objective; here are "
            f"the ranges {', '.join(ranges) or 'none'}, the choices {', '.join(choices) or 'none'} and "
            f"the objectives {', '.join(search.objective)}: take tpe or gp"
        )


def _steps(tunable: Tunable) -> list[Scalar]:
    """The values of one range in a grid."""
    if tunable.choices:
        return list(tunable.choices)
    low, high = ends(tunable)
    if tunable.type == "int" and high - low < ALL_INTS:
        return list(range(int(low), int(high) + 1))
    inner = [_between(low, high, step / (STEPS - 1), tunable.log) for step in range(1, STEPS - 1)]
    inner = [min(max(value, low), high) for value in inner]  # rounding may lead out of a narrow range
    steps = [low, *(round(value) if tunable.type == "int" else value for value in inner), high]
    return list(dict.fromkeys(steps))  # a range may hold fewer numbers than steps


def _between(low: float, high: float, share: float, log: bool) -> float:
    """A number that lies a share of the way from low to high."""
    if log:
        return math.exp(_between(math.log(low), math.log(high), share, log=False))
    return low * (1 - share) + high * share


def _told(facts: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{key} = {literal(value)}" for key, value in facts.items())
