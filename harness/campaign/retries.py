"""Second attempts: a trial that lost its process, node or the host's memory is handed out again after a while."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from harness.config.sections import Failures
from harness.trial.folder import RESULT, add_attempt
from harness.trial.results import Assignment, TrialResult


class Retries:
    """Yields assignments in their order, and between them those whose time for another attempt has come."""

    def __init__(
        self, assignments: Iterable[Assignment | None], failures: Failures, warn: Callable[[str], None]
    ) -> None:
        """`warn` is called with every attempt that is to be repeated."""
        self._assignments = assignments
        self._failures = failures
        self._warn = warn
        self._under_way: dict[str, Assignment] = {}
        self._waiting: list[tuple[float, Assignment]] = []  # from when on, by the monotonic clock
        self._lost: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Assignment | None]:
        """Yield the next assignment, None while there is none; end when no attempt is under way or waiting."""
        end = object()
        for assignment in itertools.chain(self._assignments, itertools.repeat(end)):
            while again := self._due():
                yield self._handed_out(again)
            if isinstance(assignment, Assignment):
                yield self._handed_out(assignment)
            elif assignment is end and not self._under_way and not self._waiting:
                return
            else:
                yield None

    def ended(self, result: TrialResult, forgiven: bool = False) -> bool:
        """Take in how an attempt ended; whether that is the trial's end. `forgiven`: its failure is not its own."""
        assignment = self._under_way.pop(result.key)
        if result.failure is None:
            return True
        self._lost[result.key] += 1
        count = self._lost[result.key]
        is_last = not (result.failure.is_lost or forgiven) or count >= self._failures.attempts
        if not is_last:
            (assignment.folder / RESULT).unlink(missing_ok=True)  # a driver that ends now leaves no failed trial
        add_attempt(assignment.folder, result)
        if is_last:
            return True
        wait = self._failures.wait_seconds * 2 ** (count - 1)
        self._waiting.append((time.monotonic() + wait, assignment))
        why = f"{result.failure.value}: {result.message}"
        self._warn(f"{assignment.name}: {why}; attempt {count + 1} of {self._failures.attempts} in {wait:g} s")
        return False

    def _due(self) -> Assignment | None:
        now = time.monotonic()
        due = next((waiting for waiting in self._waiting if waiting[0] <= now), None)
        if due is None:
            return None
        self._waiting.remove(due)
        return due[1]

    def _handed_out(self, assignment: Assignment) -> Assignment:
        (assignment.folder / RESULT).unlink(missing_ok=True)  # of the attempt before
        self._under_way[assignment.spec.key] = assignment
        return assignment
