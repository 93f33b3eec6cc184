"""A trial's checkpoint: tensors and plain values with their own checksum, so that a torn file is never trusted."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from harness.files import write_atomic

DIGEST = 32  # bytes of sha256 that end the file; the rest is what torch.save writes


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    write_atomic(path, data + hashlib.sha256(data).digest())


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The saved state, on a device; None where the file is absent or damaged: the trial then begins again."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    if hashlib.sha256(data[:-DIGEST]).digest() != data[-DIGEST:]:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(data[:-DIGEST]), map_location=device, weights_only=True)
    return state
