"""What the store has kept of a run, from the files of its trial; what is gone or damaged is None or empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from harness.evaluation.records import HEADS, MEASURED, RANKINGS, RANKS, arrays
from harness.trial.folder import EPOCHS
from harness.trial.results import EpochReport

Read = Callable[[str, str], bytes | None]  # the bytes of a run's file, by the run's id and the file's name


def ranks(read: Read, run: str) -> dict[str, NDArray[Any]] | None:
    """The arrays of a run's ranks.npz that measures follow from."""
    return arrays(read(run, RANKS), MEASURED)


def rankings(read: Read, run: str) -> dict[str, NDArray[Any]] | None:
    """The arrays of a run's rankings.npz, without scores."""
    return arrays(read(run, RANKINGS), HEADS)


def epochs(read: Read, run: str) -> tuple[EpochReport, ...]:
    """A run's epochs."""
    kept = read(run, EPOCHS)
    try:
        return tuple(EpochReport.model_validate_json(line) for line in (kept or b"").splitlines())
    except ValueError:
        return ()
