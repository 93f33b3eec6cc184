"""A search without training: the results of its trials are made up, and written as a worker writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.campaign.inputs import PlanInputs
from harness.config.project import Config, load
from harness.config.registry import Registry, discover
from harness.config.selection import Selection
from harness.search.campaign import SearchTrials
from harness.search.plan import SearchPlan, search_plans
from harness.trial.folder import write_epochs, write_result, write_spec
from harness.trial.results import Assignment, EpochReport, Failure, State, TrialResult

NAME, EPOCHS = "night", 2
BOTH = '[search.space.vsepp]\nmargin = { type = "categorical", choices = [0.1, 0.2] }\n'


def settle(project: Path, search: str, space: str = BOTH, more: str = "") -> None:
    """Write the search into the project's harness.toml."""
    with (project / "harness.toml").open("a") as file:
        file.write(f"\n{more}\n[search]\n{search}\n{space}")


def configured(*overrides: str) -> tuple[Config, Registry]:
    config = load(None, overrides, {})
    return config, discover(config, ())


def plans_of(*overrides: str, method: str = "vsepp") -> list[SearchPlan]:
    config, registry = configured(*overrides)
    return search_plans(config, registry, Selection(methods=(method,)), PlanInputs(config, registry, None))


def opened(
    *overrides: str, method: str = "vsepp", retry: frozenset[Failure] = frozenset(), name: str = NAME
) -> SearchTrials:
    """The search of the project in the working folder, as a command that is given again has it."""
    return SearchTrials(configured(*overrides)[0], name, plans_of(*overrides, method=method), retry)


def drive(work: SearchTrials, outcome: Callable[[Assignment], TrialResult], most: int = 99) -> list[Assignment]:
    """Take trials one by one to their end; those that were handed out, the driver being killed after so many."""
    taken = []
    for trial in work.assignments():
        taken.append(trial)
        work.ended(outcome(trial))
        if len(taken) == most:
            break
    return taken


def trained(trial: Assignment, seconds: float = 10.0) -> None:
    """Its epochs, as a worker leaves them that is lost after the last one."""
    write_spec(trial.folder, trial.spec)
    each = {"key": trial.spec.key, "epochs": EPOCHS, "seconds": seconds / EPOCHS}
    write_epochs(trial.folder, [EpochReport(epoch=epoch, val={"rsum": 1.0}, **each) for epoch in (1, 2)])


def result_of(trial: Assignment, rsum: float = 100.0, seconds: float = 10.0, **other: Any) -> TrialResult:
    """The result of a trial, with its folder: done, if nothing else is said."""
    trained(trial, seconds)
    measures = {} if "state" in other else {"rsum": rsum}
    facts = {"state": State.DONE, "epochs": EPOCHS, "measures": measures, "cost": {"seconds": seconds}}
    result = TrialResult(spec=trial.spec, **{**facts, **other})
    write_result(trial.folder, result)
    return result


def failure_of(trial: Assignment, failure: Failure = Failure.NONFINITE) -> TrialResult:
    return result_of(trial, state=State.FAILED, failure=failure, cost={})
