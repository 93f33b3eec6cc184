"""Where trials run: the Executor protocol, and the one that runs them in this process, one after another."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Protocol

from harness.results import Assignment, EpochReport, TrialResult

Answer = Callable[[EpochReport], bool]
Steps = Callable[[Assignment], Generator[EpochReport, bool | None, TrialResult]]


class Executor(Protocol):
    """A place where trials run."""

    @property
    def description(self) -> str:
        """One line for the plan."""

    def check(self, assignments: Sequence[Assignment]) -> None:
        """Refuse, before anything starts, what can never run here: ResourceError with the request and the largest."""

    def run(self, assignments: Iterable[Assignment], answer: Answer) -> Iterator[TrialResult]:
        """Results as trials end; assignments are taken as places free up, every report is answered go on or stop."""

    def close(self) -> None:
        """Let go of whatever was started."""


class Running:
    """A trial under way, advanced from report to report; the same in this process and in a worker."""

    def __init__(self, assignment: Assignment, steps: Steps | None = None) -> None:
        self._trial = (steps or trial_steps())(assignment)

    def step(self, go: bool | None = None) -> EpochReport | TrialResult:
        """Send the answer to the last report (None starts the trial); the next report, or the result."""
        try:
            return self._trial.send(go)
        except StopIteration as end:
            result: TrialResult = end.value
            return result


class InProcess:
    """Trials in this process, one at a time: for a debugger."""

    description = "in this process, one trial at a time"

    def __init__(self, steps: Steps | None = None) -> None:
        self._steps = steps

    def check(self, assignments: Sequence[Assignment]) -> None:
        """ResourceError where this process has no such device."""
        from harness.trial import choose_device

        for device in sorted({assignment.device for assignment in assignments}):
            choose_device(device)

    def run(self, assignments: Iterable[Assignment], answer: Answer) -> Iterator[TrialResult]:
        """Results in the order of the assignments."""
        for assignment in assignments:
            trial = Running(assignment, self._steps)
            outcome = trial.step()
            while isinstance(outcome, EpochReport):
                outcome = trial.step(answer(outcome))
            yield outcome

    def close(self) -> None:
        """Nothing was started."""


def trial_steps() -> Steps:
    """The real trial; imported here because it brings torch."""
    from harness.trial import steps

    return steps
