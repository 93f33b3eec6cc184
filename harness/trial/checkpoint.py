"""A trial's checkpoint: tensors and plain values with their own checksum, so that a torn file is never trusted."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.data.cache import file_fact
from harness.errors import first_line
from harness.files import DAMAGE, read_own, write_own

SOUND = "sound"
DIGEST = 32  # bytes of sha256 that end the file; the rest is what torch.save writes


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    write_own(path, data + hashlib.sha256(data).digest())


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The saved state, on a device; None where the file is absent or damaged: the trial then begins again."""
    return read_own(path, lambda data: _state_of(data, device))


def mapped_checkpoint(path: Path, cache: Path) -> dict[str, Any] | None:
    """The saved state with tensors mapped from the file; None where it is absent or damaged.

    The file is read whole, for its checksum, only where it has changed since the cache remembers one that was right.
    """
    if not path.is_file() or file_fact(cache, path, "checkpoint", _soundness) != SOUND:
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except DAMAGE:
        return None
    return state


def checksum_of(path: Path) -> str:
    """The checksum that ends a checkpoint, in hex, which tells one set of weights from another without reading them."""
    with path.open("rb") as file:
        file.seek(-DIGEST, os.SEEK_END)
        return file.read().hex()


def _soundness(path: Path) -> str:
    return SOUND if load_checkpoint(path, torch.device("cpu")) else "damaged"


def _state_of(data: bytes, device: torch.device) -> dict[str, Any]:
    if hashlib.sha256(data[:-DIGEST]).digest() != data[-DIGEST:]:
        raise ValueError("its checksum is another")
    try:
        state = torch.load(io.BytesIO(data[:-DIGEST]), map_location=device, weights_only=True)
    except Exception as error:
        raise ValueError(first_line(error)) from error
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}")
    return state


def fits(weights: Any, method: nn.Module) -> bool:
    """Whether saved weights are those of such a method, by names and shapes."""
    if not isinstance(weights, dict):
        return False
    shapes = {name: tuple(value.shape) for name, value in method.state_dict().items()}
    return shapes == {name: tuple(getattr(value, "shape", ())) for name, value in weights.items()}
