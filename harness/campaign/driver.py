"""A campaign: hand its trials out, record what comes back. Running the same again does what is left."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import socket
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from harness.campaign.gpu_shares import Shares
from harness.campaign.plan import Plan
from harness.campaign.recorder import Recorder, View
from harness.campaign.retries import Attempts
from harness.config.project import TRIALS, Config
from harness.config.sections import Failures
from harness.errors import ResourceError, StoreError, TrialError
from harness.executors.executor import Executor, InProcess
from harness.executors.ray_cluster import RayExecutor
from harness.files import write_atomic
from harness.interruption import sigterm_raises
from harness.tracking.log import Books, Ended, Logbook
from harness.tracking.log_process import Scribe
from harness.tracking.tracker import Tracker
from harness.trial.folder import read_result
from harness.trial.results import Assignment, EpochReport, State, TrialResult, TrialSpec

LOCK = ".lock"
OWNER = ".owner.json"  # who holds the lock, for whoever finds it held
LOCK_SECONDS = 0.5  # longer than `status` holds it to see whether it is free


@dataclass
class Outcome:
    """How a campaign ended."""

    results: list[TrialResult] = field(default_factory=list)
    failed_before: int = 0
    store_error: str = ""
    stopped: str = ""  # why it went no further

    @property
    def counts(self) -> dict[str, int]:
        """Trials of this run by state."""
        return dict(Counter(result.state.value for result in self.results))

    @property
    def failed(self) -> list[TrialResult]:
        """Trials of this run that failed."""
        return [result for result in self.results if result.state is State.FAILED]

    @property
    def exit_code(self) -> int:
        """0 all well, 4 a trial failed now or before, 6 results wait in their folders for the tracking store."""
        if self.store_error:
            return StoreError.exit_code
        return TrialError.exit_code if self.failed or self.failed_before else 0


class Work(Protocol):
    """What a campaign hands out: a list of trials, or a search that thinks of them as it goes."""

    name: str
    results: Path
    specs: Sequence[TrialSpec]  # those that are known beforehand: what a report expects
    requests: Sequence[Assignment]  # one of each kind that may be handed out
    unlogged: Sequence[Ended]  # results that the store lacks
    total: int
    before: int  # ended already
    failed_before: int

    def assignments(self) -> Iterator[Assignment | None]:
        """Trials as places free up; None while the next one cannot be told yet."""

    def answer(self, report: EpochReport) -> bool:
        """Whether a trial is to go on."""

    def ended(self, result: TrialResult) -> None:
        """A trial has ended for good."""


class Listed:
    """The trials of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.name, self.results = plan.name, plan.results
        self.specs: Sequence[TrialSpec] = [trial.spec for trial in plan.trials]
        self.requests: Sequence[Assignment] = [trial.assignment for trial in plan.todo]
        found = ((read_result(trial.folder), trial.folder) for trial in plan.unlogged)
        self.unlogged: Sequence[Ended] = [(result, folder) for result, folder in found if result]
        self.total, self.before = len(plan.trials), len(plan.trials) - len(plan.todo)
        self.failed_before = len(plan.failed)
        self._plan = plan

    def assignments(self) -> Iterator[Assignment]:
        """What is to be run; `force` moves a folder aside at the last moment."""
        for trial in self._plan.todo:
            if self._plan.force and trial.folder.exists():
                trial.folder.rename(aside(trial.folder))
            yield trial.assignment

    def answer(self, report: EpochReport) -> bool:
        """Every trial goes on to its end."""
        return True

    def ended(self, result: TrialResult) -> None:
        """Its folder says it all."""


def choose_executor(config: Config, here: bool = False) -> Executor:
    """Ray, local or the cluster that the configuration names; with `here` this process."""
    return InProcess() if here else RayExecutor(config.cluster, config.resources)


def choose_books(uri: str, here: bool = False) -> AbstractContextManager[Books]:
    """The tracking store's books, kept by a process of its own; with `here` in this process."""
    return nullcontext(Logbook(Tracker(uri))) if here else Scribe(uri)


def execute(plan: Plan, executor: Executor, books: Books, view: View, failures: Failures | None = None) -> Outcome:
    """Run what is left of a plan and record it; finished trials that the store lacks are logged too."""
    with only_driver(plan.results):
        return carry_out(Listed(plan.refreshed()), executor, books, view, failures)


def carry_out(work: Work, executor: Executor, books: Books, view: View, failures: Failures | None = None) -> Outcome:
    """Do a campaign's work, under the lock of its results folder.

    An interruption ends the workers, marks the campaign and goes on to the caller: finished trials and epochs are kept,
    and the same command continues them.
    """
    try:
        if work.requests:
            executor.check(work.requests)
        books.open(work.name, work.specs, {"executor": executor.description}, view.warn)
        view.start(work.total, work.before)
        with sigterm_raises():
            return record(work, executor, Recorder(books, view), failures or Failures())
    finally:
        executor.close()


def record(work: Work, executor: Executor, recorder: Recorder, failures: Failures) -> Outcome:
    """Hand the trials out, log each as it ends, close the campaign as it went."""
    outcome, state = Outcome(failed_before=work.failed_before), State.INTERRUPTED
    shares = Shares(recorder.view.warn)
    attempts = Attempts(work.assignments(), failures, recorder.view.warn)

    def answer(report: EpochReport) -> bool:
        recorder.epoch(report)
        return work.answer(report)

    try:
        recorder.log(work.unlogged)
        for result in executor.run(announced(attempts, recorder, shares), answer):
            if not attempts.ended(result, excused=shares.excuses(result)):
                continue
            outcome.results.append(result)
            work.ended(result)
            recorder.result(result, work.results / TRIALS / result.key)
            if failures.max_failures and len(outcome.failed) >= failures.max_failures:
                outcome.stopped = f"stopped after {len(outcome.failed)} failed trials (failures.max_failures)"
                break
        else:
            state = State.FAILED if outcome.failed else State.DONE
    finally:
        outcome.store_error = recorder.close(state)
    return outcome


def announced(
    assignments: Iterable[Assignment | None], recorder: Recorder, shares: Shares
) -> Iterator[Assignment | None]:
    """Assignments as they are handed out, each with its share of a GPU and told to the view and the store."""
    for assignment in assignments:
        if assignment is not None:
            recorder.begin(assignment)
        yield shares.placed(assignment) if assignment else None


def aside(folder: Path) -> Path:
    """The first free name beside a trial's folder: KEY.old-1, KEY.old-2, …"""
    names = (folder.with_name(f"{folder.name}.old-{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


@contextmanager
def only_driver(results: Path) -> Iterator[None]:
    """Hold the results folder, and say in it who does; ResourceError that names the driver that holds it already."""
    try:
        held = FileLock(results / LOCK).acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise ResourceError(
            f"another harness is running in {results}{owner_of(results)}; wait until it ends, or set [paths] results "
            "to another folder"
        ) from None
    command = re.sub(r"//[^/@\s]*@", "//", shlex.join(["harness", *sys.argv[1:]]))  # a uri may hold a password
    with held:
        with suppress(OSError):  # the lock is what counts, the name a courtesy
            owner = {"command": command, "pid": os.getpid(), "host": socket.gethostname()}
            write_atomic(results / OWNER, json.dumps(owner))
        yield


def owner_of(results: Path) -> str:
    """Who holds the lock, in words; what a killed driver left behind is overwritten by whoever holds it next."""
    try:
        owner = json.loads((results / OWNER).read_text(encoding="utf-8"))
        return f": `{owner['command']}`, process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
