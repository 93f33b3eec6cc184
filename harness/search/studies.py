"""What a study is without its library: its design and identity, its trials, the cells of a grid."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

from harness.config.sections import Scalar, Search, Tunable
from harness.config.toml import literal
from harness.errors import ConfigError, UsageError, first_line
from harness.search.space import PREFIX, described, ends, ordered

NEEDS = {"gp": ("scipy", "torch"), "cmaes": ("cmaes",)}  # packages that a sampler imports
STEPS = 5  # values of a range in a grid
ALL_INTS = 10  # a range of so many whole numbers has all of them in a grid
MOST_CELLS = 100_000
SPACE = "space of "  # how the identity of a study names a range
Outcome = Literal["complete", "pruned", "failed"]


class Proposal(NamedTuple):
    number: int
    values: dict[str, Scalar]


@dataclass
class Running:
    """A trial that is not over: Optuna's handle of it, its values, and the epochs that it has reported."""

    trial: Any
    values: dict[str, Scalar]
    epochs: set[int]
    judged: int = 0  # the last epoch after which the pruner let it go on


class Ended(NamedTuple):
    """A trial that is over; a pruned one has the last value that was reported, a failed one none."""

    number: int
    state: Outcome
    values: dict[str, Scalar]
    objective: tuple[float, ...]
    notes: dict[str, Any]


@dataclass(frozen=True)
class StudyDesign:
    search: Search
    space: Mapping[str, Tunable]
    epochs: int  # of every trial
    points: Sequence[Mapping[str, Scalar]] = ()  # values to try first
    frozen: Mapping[str, str] = field(default_factory=dict)  # what else decides results, by name

    @property
    def identity(self) -> dict[str, str]:
        """What decides the trials of a study, by name, as flat text; its budget does not."""
        search = self.search
        learns = search.sampler in ("tpe", "gp", "cmaes")
        sampler = {"seed": search.seed, **({"startup": search.startup} if learns else {})}
        pruner = {"min_epochs": search.min_epochs, **({"startup": search.startup} if search.pruner == "median" else {})}
        return {
            **{f"{SPACE}{key}": text for key, text in described(self.space).items()},
            "objective": ", ".join(search.objective),
            "sampler": f"{search.sampler}, {_text(sampler)}",
            "pruner": f"{search.pruner}, {_text(pruner)}" if search.pruner != "none" else "none",
            "epochs of a trial": str(self.epochs),
            "points": "; ".join(map(_text, self.points)) or "none",
            "optuna": version("optuna").rpartition(".")[0],  # what a sampler draws changes between releases
            **self.frozen,
        }

    @property
    def trials(self) -> int:
        """The most trials that there can be: of a grid no more than its cells and what else is tried first."""
        if self.search.sampler != "grid":
            return self.search.trials
        grid = grid_of(self.space)
        points = {tuple(point.items()): point for point in self.points}.values()
        beside = [point for point in points if not all(point.get(key) in values for key, values in grid.items())]
        return min(self.search.trials, math.prod(map(len, grid.values())) + len(beside))

    @property
    def bounds(self) -> dict[str, float]:
        """The epochs and seconds after which no trial begins; 0 is no bound."""
        return {"epochs": self.search.epochs, "seconds": self.search.seconds}

    def check(self, name: str, begun: Mapping[str, str]) -> None:
        """UsageError where the study of this name was begun with another design.

        An earlier harness did not write down what the keys with a condition are where it does not hold.
        """
        conditional = {named(key) for key, tunable in self.space.items() if tunable.when}
        unknown = conditional - begun.keys()
        if begun != {name: text for name, text in self.identity.items() if name not in unknown}:
            raise UsageError(difference(name, begun, self.identity))


class Grid:
    """The cells of a grid that no trial has had, in an order of the seed; of an empty space the one empty cell.

    Not Optuna's GridSampler: it takes a trial's number for its cell, tries the cell of a queued point again, and its
    last `tell` raises outside of `optimize`.
    """

    def __init__(self, space: Mapping[str, Tunable], seed: int) -> None:
        self._cells: dict[tuple[Scalar | None, ...], dict[str, Scalar]] = {
            tuple(cell.values()): cell for cell in cells_of(space, seed)
        }
        self._keys = ordered(space)

    def next(self) -> dict[str, Scalar] | None:
        return next(iter(self._cells.values()), None)

    def take(self, *trials: Mapping[str, Scalar]) -> None:
        """Strike out the cells of trials by their values, whatever becomes of them."""
        for values in trials:
            self._cells.pop(tuple(values.get(key) for key in self._keys), None)


def check_sampler(name: str, space: Mapping[str, Tunable], search: Search) -> None:
    """ConfigError for a space that the sampler cannot search, UsageError where a package that it needs is missing."""
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


@contextmanager
def sampler_errors(name: str, sampler: str, over: type[Exception]) -> Iterator[None]:
    """UsageError where a sampler fails over the trials that it has seen; errors of the file go on as they are.

    over: what is raised where another program has ended the trial.
    """
    try:
        yield
    except (OSError, KeyError, json.JSONDecodeError, over):
        raise
    except Exception as error:
        raise UsageError(
            f"{name}: the sampler {sampler} cannot propose a trial ({type(error).__name__}: {first_line(error)}); "
            "take another [search] sampler, under another name (--campaign): finished trials are not run again"
        ) from error


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


def named(key: str) -> str:
    """The name by which a spec is described of a key of a space."""
    return key if key.startswith(PREFIX) else f"settings.{key}"


def difference(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    keys = [key for key in dict.fromkeys([*new, *old]) if old.get(key) != new.get(key)]
    lines = [f"  {key}: {old.get(key, 'none')} -> {new.get(key, 'none')}" for key in keys]
    head = f"the search {name} was begun with other values (then -> now):"
    return "\n".join([head, *lines, "Go back to the old values, or search under another name (--campaign)."])


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
    if log:
        return math.exp(_between(math.log(low), math.log(high), share, log=False))
    return low * (1 - share) + high * share


def _text(facts: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{key} = {literal(value)}" for key, value in facts.items())
