"""The state of a campaign's trials, read from their folders alone: nothing is opened, imported or started."""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.campaign.driver import LOCK
from harness.campaign.plan import Planned
from harness.tracking.logged import is_logged
from harness.trial.folder import SPEC, read_epochs, read_result
from harness.trial.results import State, best_rsum


@dataclass(frozen=True)
class Status:
    key: str
    label: str
    state: State
    epoch: int
    epochs: int
    rsum: float | None  # on test; of a trial that has not ended, the best on val
    logged: bool
    message: str


def statuses(
    trials: Iterable[Planned], uri: str, busy: bool, lacking: frozenset[str] = frozenset()
) -> Iterator[Status]:
    """The status of every trial of a plan; with `busy` a driver is at work, and unfinished trials are running.

    lacking: keys of the results that the store has lost.
    """
    for trial in trials:
        result, epochs = read_result(trial.folder), read_epochs(trial.folder)
        unfinished = State.RUNNING if busy else State.INTERRUPTED
        state = result.state if result else unfinished if (trial.folder / SPEC).is_file() else State.WAITING
        yield Status(
            key=trial.spec.key,
            label=trial.spec.label,
            state=state,
            epoch=len(epochs),
            epochs=trial.spec.training.epochs,
            rsum=result.measures.get("rsum") if result else best_rsum(epochs),
            logged=trial.spec.key not in lacking and is_logged(trial.folder, uri),
            message=f"{result.failure or ''} {result.message}".strip() if result else "",
        )


def counts(statuses: Iterable[Status]) -> dict[str, int]:
    """Trials by state; states without a trial are there too, but for pruned."""
    states = Counter(status.state for status in statuses)
    return {state.value: states[state] for state in State if states[state] or state is not State.PRUNED}


def is_busy(results: Path) -> bool:
    """Whether a driver holds the results folder; nothing is written, so that whoever may read it may ask."""
    try:
        with (results / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # closing the file gives it back
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
