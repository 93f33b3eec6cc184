"""Attempts at trials: when a lost one is handed out again, and with what share of a GPU each is.

A trial that lost its process, node or the host's memory is repeated after a while. A method's first trial has a whole
GPU; what it held decides for the rest.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from harness.config.sections import CONTEXT_MB, Failures
from harness.trial.folder import RESULT, add_attempt
from harness.trial.results import Assignment, Failure, State, TrialResult, TrialSpec

HEADROOM = 1.25  # over what the first trial held: batches differ in length, the allocator leaves gaps
MOST = 16  # trials on one GPU: a GPU is divided into no smaller parts


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

    @property
    def under_way(self) -> list[str]:
        """The keys of the trials that are handed out and have not ended."""
        return [*self._under_way]

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


class GpuShares:
    """Gives trials whose share is left open (gpus -1) the share that their method has needed on their dataset.

    A method's first trial has a whole GPU. A trial that runs out of memory in the share given here is not at fault: its
    method gets whole GPUs from then on, and the trial another attempt.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        """`warn` is called with every share, before the first trial gets it."""
        self._warn = warn
        self._known: dict[str, float] = {}  # by label without seed
        self._share_by_key: dict[str, float] = {}  # of trials under way, those that were set here

    def with_share(self, assignment: Assignment) -> Assignment:
        """The assignment with its method's share, where that is left open and known."""
        share = self._known.get(kind(assignment.spec), 1.0)
        if assignment.gpus >= 0 or assignment.device == "cpu" or share == 1.0:
            return assignment
        self._share_by_key[assignment.spec.key] = share
        return assignment.model_copy(update={"gpus": share})

    def is_forgiven(self, result: TrialResult) -> bool:
        """Learn from a trial's end; whether it failed because of the share that it was given here."""
        share = self._share_by_key.pop(result.key, None)
        of = kind(result.spec)
        if result.failure is Failure.OOM and share:
            self._known[of] = 1.0
            self._warn(f"{of}: out of memory in {share:g} of a GPU; its trials get a whole one from now on")
            return True
        if result.state is State.DONE and of not in self._known:
            self._learn(of, result)
        return False

    def _learn(self, of: str, result: TrialResult) -> None:
        total = float(result.environment.get("gpu_memory_mb") or 0)
        if not total:
            return
        peak = result.cost["peak_memory_mb"]
        share = self._known[of] = share_for(peak, total)
        if share < 1:
            self._warn(
                f"{of}: {peak:,.0f} of {total:,.0f} MiB of its GPU held; its further trials get {share:g} of "
                "one (--gpus-per-trial says otherwise)"
            )


def share_for(peak_mb: float, total_mb: float) -> float:
    """The part of a GPU that a trial needs, one nth so that n such trials share it without a rest."""
    fit = math.floor(total_mb / (peak_mb * HEADROOM + CONTEXT_MB))
    return round(1 / min(max(fit, 1), MOST), 4)


def kind(spec: TrialSpec) -> str:
    """What decides how much memory a trial needs, settings aside: its label without the seed."""
    return spec.label.rpartition("/")[0]
