"""What share of a GPU a method's trials need: one trial has a whole GPU, what it held decides for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.config.sections import CONTEXT_MB
from harness.trial.results import Assignment, Failure, State, TrialResult

HEADROOM = 1.25  # over what the first trial held: batches differ in length, the allocator leaves gaps
MOST = 16  # trials on one GPU: a GPU is divided into no smaller parts
Pair = tuple[str, str]  # method and dataset


class GpuShares:
    """Gives trials whose share is left open (gpus -1) the share that their method has needed on their dataset.

    A method's first trial has a whole GPU. A trial that runs out of memory in the share given here is not at fault: its
    method gets whole GPUs from then on, and the trial another attempt.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        """`warn` is called with every share, before the first trial gets it."""
        self._warn = warn
        self._known: dict[Pair, float] = {}
        self._share_by_key: dict[str, float] = {}  # of trials under way, those that were set here

    def with_share(self, assignment: Assignment) -> Assignment:
        """The assignment with its method's share, where that is left open and known."""
        share = self._known.get(pair(assignment), 1.0)
        if assignment.gpus >= 0 or assignment.device == "cpu" or share == 1.0:
            return assignment
        self._share_by_key[assignment.spec.key] = share
        return assignment.model_copy(update={"gpus": share})

    def is_forgiven(self, result: TrialResult) -> bool:
        """Learn from a trial's end; whether it failed because of the share that it was given here."""
        share = self._share_by_key.pop(result.key, None)
        of = (result.spec.method, result.spec.dataset)
        if result.failure is Failure.OOM and share:
            self._known[of] = 1.0
            self._warn(f"{'/'.join(of)}: out of memory in {share:g} of a GPU; its trials get a whole one from now on")
            return True
        if result.state is State.DONE and of not in self._known:
            self._learn(of, result)
        return False

    def _learn(self, of: Pair, result: TrialResult) -> None:
        total = float(result.environment.get("gpu_memory_mb") or 0)
        if not total:
            return
        peak = result.cost["peak_memory_mb"]
        share = self._known[of] = share_for(peak, total)
        if share < 1:
            self._warn(
                f"{'/'.join(of)}: {peak:,.0f} of {total:,.0f} MiB of its GPU held; its further trials get {share:g} of "
                "one (--gpus-per-trial says otherwise)"
            )


def share_for(peak_mb: float, total_mb: float) -> float:
    """The part of a GPU that a trial needs, one nth so that n such trials share it without a rest."""
    fit = math.floor(total_mb / (peak_mb * HEADROOM + CONTEXT_MB))
    return round(1 / min(max(fit, 1), MOST), 4)


def pair(assignment: Assignment) -> Pair:
    """What decides how much memory a trial needs, settings aside."""
    return assignment.spec.method, assignment.spec.dataset
