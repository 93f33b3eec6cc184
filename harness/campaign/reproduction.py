"""One trial of the store run again from its spec: what has changed since, and whether the result comes back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path

import numpy as np

from harness.campaign.driver import only_driver
from harness.campaign.plan import assignment
from harness.campaign.recorder import View
from harness.config.cards import protocol_of
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.sources import source_hash
from harness.errors import DataError, UsageError, unknown
from harness.evaluation.statistics import run_noise
from harness.executors.executor import InProcess
from harness.layouts.opening import fingerprint
from harness.tracking.frame import labelled, run_of
from harness.tracking.tracker import Tracker
from harness.trial.external import is_external
from harness.trial.folder import RESULT
from harness.trial.results import HEADLINE, Assignment, EpochReport, State, TrialResult

REPRODUCED = "reproduced"
MATTERS = ("harness", "commit", "python", "torch", "numpy", "device", "cuda", "cpu", "threads")  # of an environment


@dataclass(frozen=True)
class Drift:
    """Something that has changed since the run."""

    name: str
    then: str
    now: str


@dataclass(frozen=True)
class Case:
    """A run, and what it takes to run it again."""

    name: str
    then: TrialResult
    assignment: Assignment
    drift: tuple[Drift, ...]
    noise: float  # how far two runs of its row may lie apart in rsum; nan where the row has one seed
    results: Path


@dataclass(frozen=True)
class Again:
    """A run and its repetition."""

    case: Case
    now: TrialResult

    @property
    def difference(self) -> float:
        """Of rsum; nan where the repetition has none."""
        return self.now.measures.get("rsum", nan) - self.case.then.measures["rsum"]

    @property
    def is_identical(self) -> bool:
        """Whether every measure is the same number."""
        return all(self.now.measures.get(name) == self.case.then.measures[name] for name in HEADLINE)

    @property
    def is_reproduced(self) -> bool:
        """Whether the result came back, exactly or within the noise of its row."""
        return self.is_identical or abs(self.difference) <= self.case.noise

    @property
    def verdict(self) -> str:
        """In words."""
        if self.now.state is not State.DONE:
            return f"not reproduced: it {self.now.state.value} ({self.now.failure}): {self.now.message}"
        if self.is_identical:
            return "reproduced: every measure is the same"
        if isnan(self.case.noise):
            return f"rsum differs by {self.difference:+.1f}; how much is noise cannot be told from a row of one seed"
        inside = "reproduced within noise" if self.is_reproduced else "not reproduced"
        return f"{inside}: rsum differs by {self.difference:+.1f}, two seeds of its row by up to {self.case.noise:.1f}"


def case_of(tracker: Tracker, config: Config, registry: Registry, name: str) -> Case:
    """The finished trial that the start of a run's id or key, or its label, means.

    UsageError where there is none or its method or dataset is gone; DataError where its data or its protocol have
    changed, as no result could come back then.
    """
    frame = tracker.frame()
    run = run_of(frame, name) or labelled(frame, name)
    kept = tracker.artifact(run["run_id"], RESULT)
    if kept is None:
        raise DataError(f"the tracking store has lost the result of {name}, and its spec with it; nothing was run")
    then = TrialResult.model_validate_json(kept)
    again = planned(config, registry, then)
    sums = frame[(frame["recipe"] == run["recipe"]) & (frame["state"] == State.DONE)]["rsum"].tolist()
    noise = run_noise(float(np.std(sums, ddof=1)), len(sums)) if len(sums) > 1 else nan
    changed = drift(then, again)
    return Case(then.spec.label, then, again, tuple(changed), noise, config.results)


def planned(config: Config, registry: Registry, then: TrialResult) -> Assignment:
    """The trial as it would be run now, in a folder of its own."""
    spec = then.spec
    if is_external(spec.method):
        raise UsageError(
            f"{spec.label} is ranked from a file of scores, which nothing here can make again; its row on the board "
            "has the `harness score` command"
        )
    for kind, name, known in (("method", spec.method, registry.methods), ("dataset", spec.dataset, registry.datasets)):
        if name not in known:
            raise UsageError(unknown(kind, name, known))
    method, dataset = registry.methods[spec.method], registry.datasets[spec.dataset]
    found = {
        "data_fingerprint": fingerprint(dataset, config.data, config.cache),
        "protocol_version": protocol_of(dataset, spec.protocol)[1],
    }
    for name, value in found.items():
        if value != getattr(spec, name):
            what = name.replace("_", " ")
            raise DataError(f"{what} was {getattr(spec, name)} and is {value} now; nothing was run")
    now = spec.model_copy(update={"source": source_hash(method)})
    made = assignment(config.for_dataset(spec.dataset), now, method, dataset)
    return made.model_copy(update={"folder": config.results / REPRODUCED / spec.key})


def drift(then: TrialResult, again: Assignment) -> Iterator[Drift]:
    """What has changed since: the method's source, versions, machine."""
    from harness.trial.device import choose_device
    from harness.trial.environment import environment

    if then.spec.source != again.spec.source:
        yield Drift("source of the method", then.spec.source[:12], again.spec.source[:12])
    now = {**environment(choose_device(again.device)), "threads": str(again.threads)}
    for name in MATTERS:
        if then.environment.get(name, "") != now.get(name, ""):
            yield Drift(name, then.environment.get(name) or "–", now.get(name) or "–")


def again(case: Case, view: View) -> Again:
    """Run it, in this process; one that was cut off goes on."""
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
    return Again(case, result)
