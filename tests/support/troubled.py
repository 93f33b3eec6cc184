"""A real method that meets trouble in mid-epoch until its place holds a file `calm`; tests copy it beside a card."""

from __future__ import annotations

import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.method import Batch, Inputs
from methods.vsepp import VSEpp


def wait(settings: Any) -> None:
    """Say which process waits: an epoch is half done. Wait until that is taken away, or for calm."""
    place = Path(settings.place)
    sign = place / f"{os.getpid()}.waits"
    sign.touch()
    while sign.exists() and not (place / "calm").exists():
        time.sleep(0.02)


def full(settings: Any) -> None:
    """From now on this process writes no longer files: in the middle of one the write fails, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (settings.room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def oom(_settings: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def oom_host(_settings: Any) -> None:
    raise MemoryError


def killed(_settings: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def bug(_settings: Any) -> None:
    raise ZeroDivisionError("by hand")


TROUBLES = {kind.__name__: kind for kind in (wait, full, oom, oom_host, killed, bug)}


class Troubled(VSEpp):
    """VSE++, but for the trouble."""

    @dataclass(frozen=True)
    class Settings(VSEpp.Settings):
        trouble: str
        at: int  # the step of an attempt
        place: str
        room: int  # bytes

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.step = 0

    def loss(self, batch: Batch) -> Tensor:
        self.step += 1
        settings = self.settings
        if self.step == settings.at and not (Path(settings.place) / "calm").exists():
            if settings.trouble == "nonfinite":
                return super().loss(batch) * float("nan")
            TROUBLES[settings.trouble](settings)
        return super().loss(batch)
