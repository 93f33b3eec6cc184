"""Places without a machine, and trials without training: what a driver sees of a cluster, at any size.

A trial's seconds and its val rsum are drawn from its key and settings. Some attempts lose their process, some trials
become nonfinite. The clock of the places jumps from event to event.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial

from harness.executors.executor import Answer, lost
from harness.trial.folder import EPOCHS, RESULT, SPEC, attempts, read_epochs
from harness.trial.results import RECALLS, Assignment, EpochReport, Failure, State, TrialResult

EPOCHS_EACH = 10
LOST, NONFINITE = 0.02, 0.01  # shares of attempts and of trials
Trial = Generator[EpochReport, bool, TrialResult]


class Clock:
    """CPU time of this thread that went by inside of it; entered twice, it counts once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began: list[float] = []

    def __enter__(self) -> None:
        self._began.append(time.thread_time())

    def __exit__(self, *error: object) -> None:
        began = self._began.pop()
        self.seconds += 0.0 if self._began else time.thread_time() - began


class Places:
    """An executor of places without a machine: trials take turns by a clock that jumps from event to event."""

    def __init__(self, slots: int) -> None:
        self.description = f"{slots} simulated places"
        self.clock = Clock()  # what workers would do
        self.epochs = 0
        self.repeated = 0
        self._slots = slots

    def check(self, assignments: Sequence[Assignment]) -> None:
        """Everything fits."""

    def close(self) -> None:
        """Nothing was started."""

    def run(self, assignments: Iterable[Assignment | None], answer: Answer) -> Iterator[TrialResult]:
        """Results in the order of the simulated clock."""
        source, now, order = iter(assignments), 0.0, itertools.count()
        events: list[tuple[float, int, Trial, EpochReport | TrialResult]] = []

        def follow(trial: Trial, step: Callable[[], EpochReport]) -> None:
            came = self._step(step)
            heapq.heappush(events, (now + taken(came), next(order), trial, came))

        while True:
            while len(events) < self._slots and (assignment := next(source, None)):
                trial = attempt(assignment)
                follow(trial, trial.__next__)
            if not events:
                return
            now, _, trial, came = heapq.heappop(events)
            if isinstance(came, TrialResult):
                self.repeated += bool(came.failure and came.failure.is_lost)
                yield came
            else:
                self.epochs += came.phase == "train"
                follow(trial, partial(trial.send, answer(came)))

    def _step(self, step: Callable[[], EpochReport]) -> EpochReport | TrialResult:
        with self.clock:
            try:
                return step()
            except StopIteration as end:
                result: TrialResult = end.value
                return result


def taken(came: EpochReport | TrialResult) -> float:
    """Simulated seconds until a report or a result is there."""
    return came.seconds if isinstance(came, EpochReport) else 0.0


def attempt(assignment: Assignment) -> Trial:
    """One attempt at a made-up trial, from its last epoch on; it leaves in its folder what a real one does."""
    spec, folder = assignment.spec, assignment.folder
    chance = random.Random(f"{spec.key} {attempts(folder)}")
    breaks = chance.randint(1, EPOCHS_EACH) if chance.random() < LOST else 0
    nan = random.Random(spec.key).random() < NONFINITE
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPEC).write_text(spec.model_dump_json(indent=2))
    before = read_epochs(folder)
    go = yield report(assignment, len(before), chance, "start")
    with (folder / EPOCHS).open("a") as file:
        for epoch in range(len(before) + 1, EPOCHS_EACH + 1):
            if epoch == breaks:
                return lost(assignment, Failure.KILLED, "the place was taken away")
            if nan and epoch > 1:
                return ended(assignment, State.FAILED, before, Failure.NONFINITE)
            before.append(report(assignment, epoch, chance))
            file.write(before[-1].model_dump_json() + "\n")
            file.flush()
            go = yield before[-1]
            if not go:
                return ended(assignment, State.PRUNED, before)
    return ended(assignment, State.DONE, before)


def report(assignment: Assignment, epoch: int, chance: random.Random, phase: str = "train") -> EpochReport:
    """A report whose val rsum rises, with some noise, to what the settings are worth."""
    spec = assignment.spec
    about = {"key": spec.key, "epoch": epoch, "epochs": EPOCHS_EACH, "phase": phase}
    if phase == "start":
        return EpochReport.model_validate({**about, "seconds": 5 * chance.random()})
    rsum = worth(assignment) * (1 - 0.6**epoch) + chance.gauss(0, 5)
    val = {"rsum": rsum, **dict.fromkeys(RECALLS, rsum / 6)}
    numbers = {"loss": 100 / rsum, "lr": spec.training.lr, "pairs_per_second": 1000.0, "data_wait": 0.01}
    return EpochReport.model_validate({**about, "val": val, "seconds": chance.uniform(60, 180), **numbers})


def worth(assignment: Assignment) -> float:
    """The rsum that settings lead to: best in the middle of the ranges."""
    spec = assignment.spec
    off = (
        abs(spec.training.lr - 2e-3) / 8e-3 + abs(float(spec.settings["margin"] or 0) - 0.2) + spec.training.drop_words
    )
    return 400 / (1 + off)


def ended(
    assignment: Assignment, state: State, epochs: list[EpochReport], failure: Failure | None = None
) -> TrialResult:
    """The result of a made-up trial, in its folder; no fsync, as its worker would be the one to wait for it."""
    best = max(epochs, key=lambda epoch: epoch.val["rsum"])
    seconds = sum(epoch.seconds for epoch in epochs)
    result = TrialResult(
        spec=assignment.spec,
        state=state,
        failure=failure,
        measures=best.val if state is State.DONE else {},
        val=best.val,
        best_epoch=best.epoch,
        epochs=len(epochs),
        attempts=1 + attempts(assignment.folder),
        cost={"seconds": seconds, "train_pairs_per_second": 1000.0, "peak_memory_mb": 4000.0, "parameters": 1e7},
        environment={"device": "simulated", "torch": "none", "python": "3", "commit": "0" * 40},
    )
    (assignment.folder / RESULT).write_text(result.model_dump_json(indent=2))
    return result
