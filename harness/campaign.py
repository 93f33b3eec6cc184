"""A campaign: run what its plan leaves to do and record it. Running the same again does what is left."""

from __future__ import annotations

import itertools
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Protocol

from filelock import FileLock, Timeout

from harness.cluster import RayExecutor
from harness.config import Config
from harness.errors import ResourceError, StoreError, TrialError
from harness.executors import Executor, InProcess
from harness.folders import RESULT, read_result
from harness.planning import TRIALS, Plan, Planned, plan
from harness.results import Assignment, EpochReport, State, TrialResult
from harness.tracking import Tracker

__all__ = ["Outcome", "Plan", "Planned", "View", "choose_executor", "execute", "plan"]

LOCK = ".lock"
LOCK_SECONDS = 0.5  # longer than `status` holds it to see whether it is free
TERMINATED = 143  # 128 + SIGTERM


class View(Protocol):
    """Who watches a campaign."""

    def start(self, plan: Plan) -> None:
        """The campaign begins."""

    def epoch(self, report: EpochReport) -> None:
        """A trial reports."""

    def result(self, result: TrialResult) -> None:
        """A trial has ended."""

    def warn(self, message: str) -> None:
        """Something to be told once, while the campaign goes on."""


@dataclass
class Outcome:
    """How a campaign ended."""

    results: list[TrialResult] = field(default_factory=list)
    store_error: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """Trials of this run by state."""
        return dict(Counter(result.state.value for result in self.results))

    @property
    def exit_code(self) -> int:
        """0 all well, 4 a trial failed, 6 results wait in their folders for the tracking store."""
        if self.store_error:
            return StoreError.exit_code
        return TrialError.exit_code if any(result.state is State.FAILED for result in self.results) else 0


def choose_executor(config: Config, here: bool = False) -> Executor:
    """Ray, local or the cluster that the configuration names; with `here` this process."""
    return InProcess() if here else RayExecutor(config.cluster, config.resources)


def execute(plan: Plan, executor: Executor, tracker: Tracker, view: View) -> Outcome:
    """Run what is left and record it; finished trials that the store lacks are logged too.

    One driver works in a results folder at a time (ResourceError). An interruption ends the workers, marks the
    campaign and goes on to the caller: finished trials and epochs are kept, and the same plan continues them.
    """
    with only_driver(plan.results):
        plan = plan.refreshed()
        try:
            if plan.todo:
                executor.check([trial.assignment for trial in plan.todo])
            tracker.open_campaign(plan.name, [t.spec for t in plan.trials], {"executor": executor.description})
            view.start(plan)
            with sigterm_raises():
                return record(plan, executor, Recorder(tracker, view))
        finally:
            executor.close()


def record(plan: Plan, executor: Executor, recorder: Recorder) -> Outcome:
    """Run the plan's trials, log each as it ends, close the campaign as it went."""
    outcome, ended = Outcome(), State.INTERRUPTED
    try:
        recorder.log(plan.unlogged)
        for result in executor.run(cleared(plan), recorder.epoch):
            outcome.results.append(result)
            recorder.result(result, plan.results / TRIALS / result.key)
        if recorder.away:
            recorder.try_again(replace(plan, force=False).refreshed().unlogged)
        outcome.store_error = recorder.away
        ended = State.FAILED if outcome.exit_code else State.DONE
    finally:
        recorder.close(ended)
    return outcome


class Recorder:
    """Hands everything to the view and the tracker; a store that goes away is told once and stops no training."""

    def __init__(self, tracker: Tracker, view: View) -> None:
        self.away = ""  # why the store cannot be reached
        self._told = False
        self._tracker = tracker
        self._view = view

    def epoch(self, report: EpochReport) -> bool:
        """A trial's report; the answer is to go on."""
        self._store(self._tracker.epoch, report)
        self._view.epoch(report)
        return True

    def result(self, result: TrialResult, folder: Path) -> None:
        """A trial's end."""
        self._store(self._tracker.result, result, folder)
        self._view.result(result)

    def log(self, ended: Sequence[Planned]) -> None:
        """Results that lie in their folders and not yet in the store."""
        for trial in ended:
            self._store(self._tracker.result, read_result(trial.folder), trial.folder)

    def try_again(self, ended: Sequence[Planned]) -> None:
        """One more attempt, in the end, to log what the store has missed."""
        self.away = ""
        self.log(ended)

    def close(self, state: State) -> None:
        """The campaign's end."""
        self._store(self._tracker.close_campaign, state)

    def _store(self, write: Callable[..., None], *record: object) -> None:
        """Write, unless the store is away: waiting for it again and again would hold up the trials."""
        if self.away:
            return
        try:
            with held_back():
                write(*record)
        except StoreError as error:
            self.away = str(error)
            if not self._told:
                self._told = True
                self._view.warn(self.away)


def cleared(plan: Plan) -> Iterator[Assignment]:
    """What is to be run, its folder made ready at the last moment: a failed result goes, `force` moves all aside."""
    for trial in plan.todo:
        if plan.force and trial.folder.exists():
            trial.folder.rename(aside(trial.folder))
        (trial.folder / RESULT).unlink(missing_ok=True)
        yield trial.assignment


def aside(folder: Path) -> Path:
    """The first free name beside a trial's folder: KEY.old-1, KEY.old-2, …"""
    names = (folder.with_name(f"{folder.name}.old-{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


@contextmanager
def only_driver(results: Path) -> Iterator[None]:
    """Hold the results folder; ResourceError where another driver does."""
    try:
        with FileLock(results / LOCK, timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise ResourceError(
            f"another harness is running in {results}; wait until it ends, or set [paths] results to another folder"
        ) from None


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, ending in exit code 143; only the main thread may say so.

    The handler raises KeyboardInterrupt, because Ray makes an exit with code 1 of a SystemExit that reaches it.
    """
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        if received:
            raise SystemExit(TERMINATED) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def held_back() -> Iterator[None]:
    """Hold an interruption back until a write is whole: half a transaction would lock the store. Twice is let in."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
