"""A campaign: hand its trials out and record what comes back. The same command again does what is left."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from filelock import FileLock, Timeout

from harness.addresses import words_without_secrets
from harness.campaign.attempts import GpuShares, Retries
from harness.campaign.plan import Plan, Planned
from harness.campaign.recorder import Recorder, View
from harness.campaign.status import LOCK, write_command
from harness.config.project import TRIALS, Config
from harness.config.sections import Failures
from harness.errors import ResourceError, StoreError, TrialError
from harness.executors.executor import Executor, InProcess
from harness.executors.ray_cluster import RayExecutor, chosen_address
from harness.files import read_own, write_own
from harness.interruption import signals_raise
from harness.tracking.log import Ended
from harness.tracking.logged import write_memory
from harness.tracking.tracker import Tracker
from harness.trial.folder import read_result
from harness.trial.private_folders import remove_left_behind
from harness.trial.results import Assignment, EpochReport, State, StepReport, TrialResult, TrialSpec

OWNER = ".owner.json"  # who holds the lock, for whoever finds it held
LOCK_SECONDS = 0.5  # longer than `is_busy` holds it to see whether it is free


@dataclass
class CampaignOutcome:
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


class Workload(Protocol):
    """What a campaign hands out: the trials of a plan, or those that a search proposes as it goes."""

    name: str
    results: Path
    specs: Sequence[TrialSpec]  # those that are known beforehand: what a report expects
    requests: Sequence[Assignment]  # one of each kind that may be handed out
    unlogged: Sequence[Ended]  # results that the store lacks
    total: int
    before: int  # ended already
    failed_before: int

    def assignments(self) -> Iterator[Assignment | None]:
        """Yield the next trial when a slot is free; None while the sampler has no proposal."""

    def answer(self, report: EpochReport) -> bool:
        """Whether a trial is to go on."""

    def ended(self, result: TrialResult) -> None:
        """Take in a trial's result, after its last attempt."""

    def standing(self) -> str:
        """What the trials have come to so far, for the view; empty where there is nothing to say."""


class PlannedTrials:
    """The trials of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.name, self.results = plan.name, plan.results
        self.specs: Sequence[TrialSpec] = [trial.spec for trial in plan.trials]
        self.requests: Sequence[Assignment] = [trial.assignment for trial in plan.todo]
        results = ((read_result(trial.folder), trial.folder) for trial in plan.unlogged)
        self.unlogged: Sequence[Ended] = [(result, folder) for result, folder in results if result]
        self.total, self.before = len(plan.trials), len(plan.trials) - len(plan.todo)
        self.failed_before = len(plan.failed)
        self._plan = plan
        self._open = {trial.spec.key for trial in plan.todo}  # those that have not ended

    def assignments(self) -> Iterator[Assignment | None]:
        """Yield what is to be run; `force` renames a trial's old folder when its turn has come.

        An ensemble waits for its members.
        """
        waiting = [*self._plan.todo]
        while waiting:
            ready = next((place for place, trial in enumerate(waiting) if self._is_ready(trial)), None)
            if ready is None:
                yield None
                continue
            trial = waiting.pop(ready)
            if self._plan.force and trial.folder.exists():
                trial.folder.rename(backup_of(trial.folder))
            yield trial.assignment

    def _is_ready(self, trial: Planned) -> bool:
        return not any(member.spec.key in self._open for member in trial.assignment.members)

    def answer(self, report: EpochReport) -> bool:
        """Every trial goes on to its end."""
        return True

    def ended(self, result: TrialResult) -> None:
        """Note that it has ended: the result lies in the trial's folder."""
        self._open.discard(result.key)

    def standing(self) -> str:
        """Nothing: trials of a plan are for the board to compare."""
        return ""


def choose_executor(config: Config, here: bool = False) -> Executor:
    """Ray, local or the cluster that the configuration names; with `here` this process.

    What commands that were killed left in temporary folders is removed, so that nothing of them runs on beside it.
    """
    remove_left_behind()
    return InProcess() if here else RayExecutor(config.cluster, config.resources)


def check_resources(config: Config, here: bool, trials: Sequence[Assignment]) -> None:
    """ResourceError for what this machine lacks, of trials that need not run; a cluster is not asked for them."""
    if not chosen_address(config.cluster)[0]:
        choose_executor(config, here).check(trials)


def execute(
    plan: Plan,
    executor: Executor,
    tracker: Tracker,
    view: View,
    failures: Failures | None = None,
    words: Sequence[str] = (),
) -> CampaignOutcome:
    """Run what is left of a plan and record it; finished trials that the store lacks are logged too.

    words: of the command, which `harness resume` repeats; a script has none.
    """
    with only_driver(plan.results):
        if words:  # only now: a command that was refused is not the one to be resumed
            write_command(plan.results, plan.name, words)
        return run_all(PlannedTrials(plan.refreshed()), executor, tracker, view, failures)


def run_all(
    workload: Workload, executor: Executor, tracker: Tracker, view: View, failures: Failures | None = None
) -> CampaignOutcome:
    """Run all trials of a workload and record them, under the lock of its results folder; closes the executor.

    An interruption ends the workers, marks the campaign and goes on to the caller: finished trials and epochs are kept,
    and the same command continues them.
    """
    try:
        if workload.requests:
            executor.check(workload.requests)
        recorder = Recorder(tracker, view)
        with signals_raise():
            view.start(workload.total, workload.before)
            view.standing(workload.standing())
            begin(workload, executor, recorder)
            outcome = record(workload, executor, recorder, failures or Failures())
    finally:
        executor.close()
    write_memory(workload.results, tracker.uri)
    return outcome


def begin(workload: Workload, executor: Executor, recorder: Recorder) -> None:
    """Open the tracking store while the executor starts: the one computes for seconds, the other mostly waits."""
    with ThreadPoolExecutor(1, thread_name_prefix="store") as pool:
        opening = pool.submit(recorder.open, workload.name, workload.specs, {"executor": executor.description})
        try:
            if workload.requests:
                executor.start()
        except BaseException:
            if opening.exception() is None:  # else the store says nothing of this campaign
                recorder.close(State.INTERRUPTED)
            raise
        opening.result()


def record(workload: Workload, executor: Executor, recorder: Recorder, failures: Failures) -> CampaignOutcome:
    """Hand trials out, record what they report, repeat lost attempts, and close the campaign."""
    outcome = CampaignOutcome(failed_before=workload.failed_before)
    shares = GpuShares(recorder.view.warn)
    retries = Retries(workload.assignments(), failures, recorder.view.warn)
    state = State.INTERRUPTED  # unless the loop comes to its end

    def answer(report: EpochReport) -> bool:
        # Recorded first: the epoch after which a trial is stopped counts as well.
        recorder.epoch(report)
        return isinstance(report, StepReport) or workload.answer(report)

    try:
        # Before any trial begins: one that is repeated overwrites the folder that its result is logged from.
        recorder.catch_up(workload.unlogged)

        for result in executor.run(handed_out(workload.results, retries, recorder, shares), answer):
            # Shares before retries: out of memory is repeated where the share that was given here was too small.
            forgiven = shares.is_forgiven(result)

            # A lost attempt is no result: it is handed out again, and neither search nor store hears of it.
            if not retries.ended(result, forgiven):
                write_owner(workload.results, retries.under_way)
                continue

            # The search before the next trial: it is proposed when the executor is asked to go on.
            outcome.results.append(result)
            workload.ended(result)

            # The store last: what a crash keeps from it, the next run finds in the trial's folder.
            recorder.result(result, workload.results / TRIALS / result.key)
            recorder.view.standing(workload.standing())

            # Only then may the campaign stop, so that the failure that stops it is recorded, too.
            if failures.max_failures and len(outcome.failed) >= failures.max_failures:
                outcome.stopped = f"stopped after {len(outcome.failed)} failed trials (failures.max_failures)"
                break
        else:
            state = State.FAILED if outcome.failed else State.DONE
    finally:
        # After an interruption, too: trials under way are marked, and what was recorded reaches the store.
        outcome.store_error = recorder.close(state)
    return outcome


def handed_out(results: Path, retries: Retries, recorder: Recorder, shares: GpuShares) -> Iterator[Assignment | None]:
    """Record each assignment as it is handed out, and give it its share of a GPU."""
    for assignment in retries:
        if assignment is None:
            yield None
            continue
        # Recorded before its first report can come; the run of a repeated attempt is still open and goes on.
        recorder.begin(assignment)
        write_owner(results, retries.under_way)
        # The share is decided now and not in the plan: by now other trials have shown what their method needs.
        yield shares.with_share(assignment)


def backup_of(folder: Path) -> Path:
    """The first free name beside a trial's folder: KEY.old-1, KEY.old-2, …"""
    names = (folder.with_name(f"{folder.name}.old-{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


@contextmanager
def only_driver(results: Path) -> Iterator[None]:
    """Hold the results folder, and say in it who does; ResourceError that names the driver that holds it already."""
    try:
        lock = FileLock(results / LOCK).acquire(timeout=LOCK_SECONDS)
    except Timeout:
        driver = driver_of(results)
        where = f"{results}: {driver}" if driver else str(results)
        raise ResourceError(
            f"another harness is running in {where}; wait until it ends, or set [paths] results to another folder"
        ) from None
    with lock:
        write_owner(results)
        yield


class Driver(NamedTuple):
    """The command that holds a results folder."""

    words: list[str]  # without its secrets
    folder: str  # in which it was given
    pid: int
    host: str
    trials: Sequence[str] = ()  # keys of those that are under way

    def __str__(self) -> str:
        """The driver in words."""
        return f"`{shlex.join(['harness', *self.words])}`, process {self.pid} on {self.host}"


def write_owner(results: Path, trials: Sequence[str] = ()) -> None:
    """Say who holds the results folder, this command, and which trials it has under way."""
    with suppress(OSError):  # the lock is what counts, the name a courtesy
        words = words_without_secrets(sys.argv[1:])
        driver = Driver(words, str(Path.cwd()), os.getpid(), socket.gethostname(), trials)
        write_own(results / OWNER, json.dumps(driver._asdict()))


def driver_of(results: Path) -> Driver | None:
    """Who holds the lock; what a killed driver left behind is overwritten by whoever holds it next."""
    return read_own(results / OWNER, _driver)


def _driver(text: bytes) -> Driver:
    entry = json.loads(text)
    words = [str(word) for word in entry["words"]] if "words" in entry else shlex.split(entry["command"])[1:]
    trials = [str(key) for key in entry.get("trials", ())]
    return Driver(words, str(entry.get("folder", ".")), int(entry["pid"]), str(entry["host"]), trials)
