"""Run a trial of the store again from its spec: what has changed since, and whether the result is the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path

import numpy as np

from harness.campaign.driver import only_driver
from harness.campaign.plan import assignment, check_writable
from harness.campaign.recorder import View
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.selection import member_names
from harness.config.sources import source_hash
from harness.config.transfer import without_words
from harness.errors import DataError, UsageError
from harness.evaluation.statistics import run_noise
from harness.executors.executor import InProcess
from harness.files import write_own
from harness.layouts.opening import fingerprint
from harness.tracking.naming import known_run, short_recipe
from harness.tracking.result_store import ResultStore
from harness.tracking.store import default_uri
from harness.tracking.tracker import Tracker
from harness.trial.ensembles import is_composite
from harness.trial.external import is_external
from harness.trial.folder import RESULT, write_verification
from harness.trial.results import (
    EVALUATION_VERSION,
    HEADLINE,
    TRAINING_VERSION,
    VERSIONS,
    Assignment,
    EpochReport,
    State,
    TrialResult,
    Verification,
)

REPRODUCED = "reproduced"
MATTERS = ("harness", "commit", "python", "torch", "numpy", "device", "cuda", "cpu", "threads")  # of an environment


@dataclass(frozen=True)
class Drift:
    """What decides or surrounds a result and is another now than when it was made."""

    name: str
    then: str
    now: str


@dataclass(frozen=True)
class Case:
    """A finished trial, and how it would be run again."""

    name: str
    then: TrialResult
    assignment: Assignment
    drift: tuple[Drift, ...]
    noise: float  # how far two runs of its row may lie apart in rsum; nan where the row has one seed
    results: Path

    @property
    def identity(self) -> str:
        """Which trial it is: of one label there may be several."""
        return f"key {self.then.key}, recipe {short_recipe(self.then.spec)}, rsum {self.then.measures['rsum']:.1f}"


@dataclass(frozen=True)
class Repetition:
    """A trial that was run again: its new result beside the first one."""

    case: Case
    now: TrialResult

    @property
    def difference(self) -> float:
        """Of rsum; nan where the repetition has none."""
        return self.now.measures.get("rsum", nan) - self.case.then.measures["rsum"]

    @property
    def is_identical(self) -> bool:
        return all(self.now.measures.get(name) == self.case.then.measures[name] for name in HEADLINE)

    @property
    def is_reproduced(self) -> bool:
        return self.is_identical or abs(self.difference) <= self.case.noise

    @property
    def verification(self) -> Verification:
        """What is recorded of it."""
        return Verification(
            numbers=self.case.then.numbers,
            is_verified=self.is_reproduced,
            verdict=self.verdict,
            commit=self.now.environment.get("commit", ""),
        )

    @property
    def verdict(self) -> str:
        if self.now.state is not State.DONE:
            return f"not reproduced: it {self.now.state.value} ({self.now.failure}): {self.now.message}"
        if self.is_identical:
            return "reproduced: every measure is the same"
        if isnan(self.case.noise):
            return f"rsum differs by {self.difference:+.1f}; how much is noise cannot be told from a row of one seed"
        inside = "reproduced within noise" if self.is_reproduced else "not reproduced"
        return f"{inside}: rsum differs by {self.difference:+.1f}, two seeds of its row by up to {self.case.noise:.1f}"


def case_of(store: ResultStore, config: Config, registry: Registry, name: str) -> Case:
    """The finished trial whose run id or key begins with `name`, or whose label it is.

    UsageError where there is none or more than one, or where its method or dataset no longer exists; DataError where
    its data or its protocol have changed, because the result cannot be the same then.
    """
    runs = store.runs()
    run = known_run(runs, name)
    then = run.result
    assert then is not None  # of a run that is done
    assigned = assignment_now(config, registry, then)
    sums = [other.numbers["rsum"] for other in runs if other.is_done and other.recipe == run.recipe]
    noise = run_noise(float(np.std(sums, ddof=1)), len(sums)) if len(sums) > 1 else nan
    changes = tuple(drift(then, assigned))
    return Case(then.spec.label, then, assigned, changes, noise, config.results)


def assignment_now(config: Config, registry: Registry, then: TrialResult) -> Assignment:
    """The trial as it would be run now, in a folder of its own."""
    spec = then.spec
    if is_external(spec.method):
        raise UsageError(
            f"{spec.label} is ranked from a file of scores, which nothing here can make again; make the scores as its "
            "row's page says, and give them: --scores FILE --by WHO"
        )
    if is_composite(spec):
        raise UsageError(
            f"{spec.label} is made of its members' scores and trains nothing; reproduce its members "
            f"({', '.join(member_names(spec.method))}); `harness forget {spec.label}` and the same run make it again"
        )
    method, dataset = registry.method(spec.method), registry.dataset(spec.dataset)
    tested = without_words(registry.dataset(spec.tested_on)) if spec.tested_on else None
    identity = {
        "data_fingerprint": fingerprint(dataset, config.data, config.cache),
        "test_fingerprint": fingerprint(tested, config.data, config.cache) if tested else "",
        "protocol_version": (tested or dataset).protocol_identity(spec.test_protocol)[1],
    }
    for name, value in identity.items():
        if value != getattr(spec, name):
            what = name.replace("_", " ")
            raise DataError(f"{what} was {getattr(spec, name)} and is {value} now; nothing was run")
    versions = dict(zip(VERSIONS, (TRAINING_VERSION, EVALUATION_VERSION), strict=True))
    now = spec.model_copy(update={"source": source_hash(method), **versions})
    assigned = assignment(config.for_dataset(spec.dataset), now, method, dataset)
    return assigned.model_copy(update={"folder": config.results / REPRODUCED / spec.key, "test_card": tested})


def drift(then: TrialResult, assigned: Assignment) -> Iterator[Drift]:
    from harness.trial.device import choose_device
    from harness.trial.environment import environment

    if then.spec.source != assigned.spec.source:
        yield Drift("source of the method", then.spec.source[:12], assigned.spec.source[:12])
    for name in VERSIONS:
        before, after = getattr(then.spec, name), getattr(assigned.spec, name)
        if before != after:
            yield Drift(name.replace("_", " "), str(before or "–"), str(after))
    now = {**environment(choose_device(assigned.device)), "threads": str(assigned.threads)}
    for name in MATTERS:
        if then.environment.get(name, "") != now.get(name, ""):
            yield Drift(name, then.environment.get(name) or "–", now.get(name) or "–")


def repeat(case: Case, view: View) -> Repetition:
    """Run the trial in this process; a repetition that was interrupted continues."""
    folder = case.assignment.folder
    with only_driver(case.results):
        if (folder / RESULT).is_file():
            shutil.rmtree(folder)  # of an earlier repetition
        view.start(1, 0)
        view.begin(case.assignment)

        def answer(report: EpochReport) -> bool:
            view.epoch(report)
            return True

        (result,) = InProcess().run([case.assignment], answer)
    view.result(result)
    return Repetition(case, result)


def record_verification(config: Config, result: TrialResult, verification: Verification) -> None:
    """Keep what came of making a result again with it; ResourceError where another driver runs."""
    check_writable(config.results)
    with only_driver(config.results):
        write_verification(config.trials / result.key, verification)
        Tracker(default_uri(config)).verify(result, verification)


def add_to_trial(config: Config, result: TrialResult, name: str, content: str) -> None:
    """Write a file into the folder of a finished trial and into the store; ResourceError where another driver runs."""
    check_writable(config.results)
    folder = config.trials / result.key
    with only_driver(config.results):
        write_own(folder / name, content)
        Tracker(default_uri(config)).result(result, folder)
