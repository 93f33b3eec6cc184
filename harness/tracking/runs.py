"""Runs of the tracking store, read back typed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

from harness.config.registry import choices
from harness.tracking.columns import final_metrics, finite, message_of
from harness.trial.external import is_external, recipe_of
from harness.trial.results import State, TrialResult, TrialSpec, Verification

SHORTEST = 6  # characters by which a run may be named


@dataclass(frozen=True)
class Run:
    """A trial as the tracking store has it, or one that a campaign expects and that never began."""

    spec: TrialSpec
    state: State
    run_id: str = ""  # of MLflow; empty for a trial that never began
    result: TrialResult | None = None  # None unless it has ended in this state
    started: int | None = None  # ms
    ended: int | None = None  # ms
    campaign: str = ""  # that it was run in
    metrics: Mapping[str, float] = field(default_factory=dict)  # the last value of each, those of epochs too
    verification: Verification | None = None  # what came of making its result again; None: nobody did

    @cached_property
    def key(self) -> str:
        """The key of its spec."""
        return self.spec.key

    @cached_property
    def recipe(self) -> str:
        """The recipe that repetitions over seeds share."""
        return recipe_of(self.spec)

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Every finite measure and cost of the result, by the names that the store has for them."""
        return finite(final_metrics(self.result)) if self.result else {}

    @cached_property
    def choices(self) -> dict[str, str]:
        """Settings and recipe as `-s` takes them."""
        return choices(self.spec.settings, self.spec.training)

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.spec.label

    @property
    def short_name(self) -> str:
        """Method, seed and the start of the key."""
        return f"{self.spec.method}/s{self.spec.seed} {self.key[:SHORTEST]}"

    @property
    def last_epoch(self) -> int:
        """The number of the last epoch that the store has of it."""
        return int(self.metrics.get("epoch", 0))

    @property
    def is_done(self) -> bool:
        """Whether it has a result to be ranked."""
        return self.state is State.DONE and "rsum" in self.numbers

    @property
    def is_verified(self) -> bool:
        """Whether its result was made again and came back."""
        return self.verification is not None and self.verification.is_verified

    @property
    def environment(self) -> Mapping[str, str]:
        """Machine and versions; empty before it has ended."""
        return self.result.environment if self.result else {}

    @property
    def failure(self) -> str:
        """The class of its failure; empty where it has not failed."""
        return self.result.failure.value if self.result and self.result.failure else ""

    @property
    def message(self) -> str:
        """What its result says to people, on one line."""
        return message_of(self.result) if self.result else ""


def place(run: Run) -> tuple[str, str, str, str, int, str]:
    """Sorts runs: boards together, then recipes, then seeds."""
    spec = run.spec
    return spec.dataset, spec.protocol, spec.method, run.recipe, spec.seed, run.key


def grouped(runs: Sequence[Run], key: Callable[[Run], Any]) -> list[list[Run]]:
    """Runs that share a key, in the key's order."""
    return [list(part) for _, part in groupby(sorted(runs, key=key), key=key)]


def replaced(runs: Iterable[Run]) -> dict[str, str]:
    """The external runs whose model and seed were scored from another file since: their sources by their keys."""
    files = [run for run in runs if is_external(run.spec.method)]
    seeds = grouped(files, lambda run: (run.recipe, run.spec.seed))
    return {run.key: run.spec.source for seed in seeds for run in seed if run is not latest(seed)}


def latest(runs: Iterable[Run]) -> Run:
    """The run that ended last, of those with a result where there is one."""
    return max(runs, key=lambda run: (run.is_done, run.ended or 0, run.key))
