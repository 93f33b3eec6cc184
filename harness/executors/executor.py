"""Where trials run: the Executor protocol, and the one that runs them in this process, one after another."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from harness.config.sources import PACKAGE, package_hash
from harness.errors import StoreError
from harness.trial.folder import attempts, read_epochs, write_result, write_spec
from harness.trial.results import Assignment, EpochReport, Failure, State, TrialResult

STEP_SECONDS = 2.0  # between two reports of an epoch under way
POLL_SECONDS = 0.25  # between two looks; Ctrl-C is noticed there
Answer = Callable[[EpochReport], bool]
Steps = Callable[[Assignment], Generator[EpochReport, bool | None, TrialResult]]
Files = dict[str, bytes]  # of a trial's folder, by name


class Executor(Protocol):
    """A place where trials run."""

    @property
    def description(self) -> str:
        """One line for the plan."""

    @property
    def room(self) -> int:
        """How many trials run at a time, as far as that is known without starting anything; else 0."""

    def check(self, assignments: Sequence[Assignment]) -> None:
        """Refuse, before anything starts, what can never run here: ResourceError with the request and the largest."""

    def start(self) -> None:
        """Start what trials run in, where it is not there yet; ResourceError where it cannot be. `run` would do so."""

    def run(self, assignments: Iterable[Assignment | None], answer: Answer) -> Iterator[TrialResult]:
        """Yield results as trials end; take assignments as slots become free, answer every report with go on or stop.

        None among the assignments means that there is nothing to hand out at the moment, and that more may come.
        """

    def close(self) -> None:
        """Stop all workers."""


class Reply(NamedTuple):
    """What a worker sends: a report or the result, and the files that it wrote where the driver cannot see them."""

    outcome: EpochReport | TrialResult
    files: Files


class Worker:
    """Advances a trial from report to report, then the next one, in this process or in one of Ray's."""

    def __init__(self, steps: Steps | None = None) -> None:
        self._presence = {"host": socket.gethostname(), "folder": str(PACKAGE), "code": package_hash()}
        self._steps = steps or trial_steps()
        self._trial: Generator[EpochReport, bool | None, TrialResult] | None = None

    @staticmethod
    def files_for(assignment: Assignment) -> Files:
        """The files that travel to the worker with a trial: none, as it sees the trial's folder."""
        return {}

    def arrive(self) -> dict[str, str]:
        """Its machine and its harness; any answer says that the worker has its resources and its process has begun."""
        return self._presence

    def begin(self, assignment: Assignment, files: Files) -> Reply:
        """Start a trial with the files that travelled; its first report, or the result."""
        self._trial = self._steps(assignment)
        return self._advance(None)

    def step(self, go: bool) -> Reply:
        """Send the answer to the last report; the next report, or the result."""
        return self._advance(go)

    def _advance(self, go: bool | None) -> Reply:
        assert self._trial is not None, "no trial has begun"
        try:
            return Reply(self._trial.send(go), {})
        except StopIteration as end:
            self._trial = None  # with its data and weights, before the next one brings its own
            return Reply(end.value, {})


class InProcess:
    """Trials in this process, one at a time: for a debugger."""

    description = "in this process, one trial at a time"
    room = 1

    def __init__(self, steps: Steps | None = None) -> None:
        self._steps = steps

    def check(self, assignments: Sequence[Assignment]) -> None:
        """ResourceError where this process has no such device; torch is asked for a GPU alone."""
        for device in sorted({assignment.device for assignment in assignments} - {"auto", "cpu"}):
            from harness.trial.device import choose_device

            choose_device(device)

    def start(self) -> None:
        """Nothing is to be started."""

    def run(self, assignments: Iterable[Assignment | None], answer: Answer) -> Iterator[TrialResult]:
        """Results in the order of the assignments; a time limit is looked at after every epoch."""
        worker = Worker(self._steps)
        for assignment in assignments:
            if assignment is None:
                time.sleep(POLL_SECONDS)
                continue
            began = time.monotonic()
            outcome = advanced(assignment, partial(worker.begin, assignment, {}))
            while isinstance(outcome, EpochReport):
                if is_over(assignment, began):
                    outcome = overdue(assignment)
                    break
                outcome = advanced(assignment, partial(worker.step, answer(outcome)))
            yield outcome

    def close(self) -> None:
        """Nothing was started."""


def advanced(assignment: Assignment, call: Callable[[], Reply]) -> EpochReport | TrialResult:
    """The next report of a trial in this process, or its result: a failed one where its method's code calls exit."""
    try:
        with writing(assignment.folder):
            return call().outcome
    except SystemExit as error:  # no signal, which comes as KeyboardInterrupt
        return lost(assignment, Failure.BUG, f"SystemExit: {error}: the method's code ended its process")


def is_over(assignment: Assignment, began: float) -> bool:
    """Whether an attempt that began then, by the monotonic clock, has used up its time."""
    return bool(assignment.seconds) and time.monotonic() - began > assignment.seconds


def overdue(assignment: Assignment) -> TrialResult:
    """The result of a trial that took longer than it may."""
    return lost(
        assignment,
        Failure.TIMEOUT,
        f"took longer than {assignment.seconds:g} s; raise failures.trial_seconds and run with --retry timeout: it "
        "continues from its last epoch",
    )


def lost(assignment: Assignment, failure: Failure, message: str) -> TrialResult:
    """Write the result of a trial whose worker is gone into its folder; StoreError where that fails."""
    folder = assignment.folder
    result = TrialResult(
        spec=assignment.spec,
        state=State.FAILED,
        failure=failure,
        message=message,
        epochs=len(read_epochs(folder)),
        attempts=1 + attempts(folder),
        search=assignment.search,
    )
    with writing(folder):
        write_spec(folder, assignment.spec)
        write_result(folder, result)
    return result


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """StoreError where not even a trial's end can be written into its folder."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"the trial's folder {folder} cannot be written: {error}; make room and run again") from error


def trial_steps() -> Steps:
    """The real trial; imported here because it brings torch."""
    from harness.trial.steps import steps

    return partial(steps, pace=STEP_SECONDS)
