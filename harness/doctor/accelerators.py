"""GPUs: whether torch was built for them, the driver is new enough, Ray sees them, and what memory is free."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.doctor.diagnosis import Remark, fault, sound, warning
from harness.executors.placement import gpus_here, nvidia_smi

DRIVER = Path("/proc/driver/nvidia/version")
CUDA = re.compile(r"CUDA (?:UMD )?Version\s*:\s*(\d+)\.(\d+)")
INSTALL = "pip install torch as https://pytorch.org/get-started/locally says for CUDA {cuda}"
CONTAINER = "install NVIDIA's utilities, or start the container with --gpus all and the capability utility"
SCANT = 0.5  # share of a GPU's memory that others leave free


class NvidiaDriver(NamedTuple):
    """What the machine says of its GPUs without torch."""

    gpus: int  # that nvidia-smi lists, within CUDA_VISIBLE_DEVICES
    cuda: tuple[int, int] | None  # the newest that the driver runs
    has_program: bool  # nvidia-smi, by which Ray and the plan count GPUs
    is_loaded: bool


def driver() -> NvidiaDriver:
    """The driver of NVIDIA's as it is here; ResourceError where its program hangs or cannot be run."""
    program = shutil.which("nvidia-smi")
    if not program:
        return NvidiaDriver(0, None, False, DRIVER.exists())
    match = CUDA.search(nvidia_smi(program))
    return NvidiaDriver(gpus_here(), (int(match[1]), int(match[2])) if match else None, True, True)


def gpus(torch: Mapping[str, Any], driver: NvidiaDriver, device: str) -> Iterator[Remark]:
    """Whether trials find the GPUs that are here; `device` is that of [resources]."""
    devices: Sequence[Mapping[str, Any]] = torch["devices"]
    about = f"torch {torch['version']}, built for {'CUDA ' + torch['cuda'] if torch['cuda'] else 'CPUs alone'}"
    if devices:
        yield from usable(devices, torch["kinds"], driver, about)
        return
    wrong = fault if device.startswith("cuda") else warning  # else trials go on, on the CPU
    newest = ".".join(map(str, driver.cuda)) if driver.cuda else "your driver"
    if driver.gpus and not torch["cuda"]:
        yield wrong(f"{about}, but there {are(driver.gpus)}", INSTALL.format(cuda=newest))
    elif driver.gpus and driver.cuda and driver.cuda < oldest(torch["cuda"]):
        cure = f"a newer driver, or {INSTALL.format(cuda=newest)}"
        yield wrong(f"{about}, but the driver is too old: it runs CUDA {newest} at most", cure)
    elif driver.gpus:
        said = f": {torch['said']}" if torch["said"] else ""
        yield wrong(
            f"{about}, but there {are(driver.gpus)} that it does not see{said}", "see what `nvidia-smi` says of them"
        )
    elif driver.is_loaded and not driver.has_program:
        yield wrong(f"{about}; a driver is loaded, but nvidia-smi is absent: no GPU is counted", CONTAINER)
    elif device.startswith("cuda"):
        yield fault(f"[resources] device is {device}, and there is no GPU{hidden()}", "set it to auto or cpu")
    else:
        yield sound(f"{about}; no NVIDIA GPU{hidden()}, trials run on the CPU")


def usable(
    devices: Sequence[Mapping[str, Any]], kinds: Sequence[str], driver: NvidiaDriver, about: str
) -> Iterator[Remark]:
    """GPUs that torch sees: whether it has code for them, and how much memory is free."""
    yield sound(f"{about}, sees {len(devices)}")
    if not driver.gpus:
        yield warning("torch sees GPUs that nvidia-smi does not list: trials are given none", CONTAINER)
    for number, one in enumerate(devices):
        name, free, total = f"GPU {number}, {one['name']}", one["free"] / 2**30, one["total"] / 2**30
        if kinds and not has_code(one["kind"], kinds):
            cure = "install a torch whose builds name this kind"
            yield fault(f"{name}, is of kind {one['kind']}, torch has code for {', '.join(kinds)}", cure)
        elif free < SCANT * total:
            cure = "end what else uses it (`nvidia-smi` lists it), or choose another by CUDA_VISIBLE_DEVICES"
            yield warning(f"{name}: {free:.1f} of {total:.1f} GiB free", cure)
        else:
            yield sound(f"{name}: {free:.1f} of {total:.1f} GiB free")


def has_code(kind: str, kinds: Sequence[str]) -> bool:
    """Whether code of these kinds runs on a GPU: of its own generation up to its own, or to be compiled (compute_)."""
    digits = int(re.sub(r"\D", "", kind))
    codes = [(name.partition("_")[0], int(re.sub(r"\D", "", name))) for name in kinds]
    return any(code <= digits and (form == "compute" or code // 10 == digits // 10) for form, code in codes)


def oldest(text: str) -> tuple[int, int]:
    """The oldest CUDA of a driver that runs code built for a version: that of the same major number."""
    return int(text.partition(".")[0]), 0


def are(gpus: int) -> str:
    return "is one NVIDIA GPU" if gpus == 1 else f"are {gpus} NVIDIA GPUs"


def hidden() -> str:
    """A note where GPUs are hidden from this process."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if names is None else f" (CUDA_VISIBLE_DEVICES is {names!r})"
