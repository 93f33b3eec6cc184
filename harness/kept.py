"""What the store has kept of a run, from the files of its trial; what is gone or damaged is None or empty."""

from __future__ import annotations

from collections.abc import Callable, Collection
from io import BytesIO
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from harness.folders import EPOCHS, RANKINGS, RANKS
from harness.results import EpochReport
from harness.shortlists import CAPTIONS, IMAGE_IDS

MEASURED = ("pairs", "fold", "i2t_rank", "t2i_rank")
HEADS = (IMAGE_IDS, CAPTIONS, *(f"{way}_{name}" for way in ("i2t", "t2i") for name in ("query", "fold", "found")))
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


def arrays(kept: bytes | None, names: Collection[str] = ()) -> dict[str, NDArray[Any]] | None:
    """The arrays of an .npz file, those of the names where some are given: reading one costs more than its file."""
    if not kept:
        return None
    try:
        with np.load(BytesIO(kept), allow_pickle=False) as found:
            return {name: found[name] for name in found.files if not names or name in names}
    except (ValueError, OSError, BadZipFile):
        return None
