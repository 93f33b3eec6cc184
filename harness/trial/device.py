"""The choice of a device, its half precision, and the peak memory of a trial where others ran before."""

from __future__ import annotations

import ctypes
import gc
import re
import resource
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import torch

from harness.config.sections import CONTEXT_MB
from harness.errors import ResourceError, UsageError

BF16_CPU = "AVX512"  # the least that oneDNN computes an LSTM in bfloat16 on; elsewhere it refuses to
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak(device: torch.device) -> None:
    """Free what earlier trials left, and reset the peak, which else is of the process's whole life."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif RESET.exists():
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
        if trim is not None:
            trim(0)
        with suppress(OSError):  # some sandboxes forbid it
            RESET.write_text("5")  # the peak of resident memory, see proc_pid_clear_refs(5)


def cap_memory(device: torch.device, gpus: float) -> None:
    """Limit a trial with a share of a GPU to that share of its memory: Ray divides GPUs by name alone.

    torch limits tensors; what a process holds beside them comes off the share, so that all shares fit together.
    """
    if device.type == "cuda":
        total_mb = torch.cuda.get_device_properties(device).total_memory / 2**20
        fraction = 1.0 if gpus <= 0 or gpus >= 1 else max(0.0, gpus - CONTEXT_MB / total_mb)
        torch.cuda.set_per_process_memory_fraction(fraction, device)


def peak_mb(device: torch.device) -> float:
    """The peak memory since `forget_peak`, MiB: on the GPU where the trial computes on one, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = STATUS.read_text().splitlines() if STATUS.exists() else []
    for line in status:
        if line.startswith("VmHWM:"):  # some sandboxes have a status without it
            return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def prepare_device(name: str, threads: int, gpus: float) -> torch.device:
    """The device of a trial, with its threads and its share of a GPU set, and its peak memory counted from now on."""
    torch.set_num_threads(threads)
    device = choose_device(name)
    cap_memory(device, gpus)
    forget_peak(device)
    return device


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU that this process may see, else the CPU; a GPU comes with its number, which torch asks for."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UsageError(f"--device {name!r}: give auto, cpu, cuda or cuda:0")
    if not name.startswith("cuda"):
        return torch.device(name)
    if not torch.cuda.is_available():
        raise ResourceError(
            f"--device {name}: this process sees no CUDA device; use --device cpu or ask for gpus-per-trial"
        )
    device = torch.device(name)
    index, count = torch.cuda.current_device() if device.index is None else device.index, torch.cuda.device_count()
    if index >= count:
        raise ResourceError(
            f"--device {name}: this process sees {count} CUDA device(s), numbered from 0; use --device cuda"
        )
    return torch.device("cuda", index)


@contextmanager
def half_precision(device: torch.device, enabled: bool = True) -> Iterator[None]:
    """Autocast to bfloat16 where enabled, on any CPU: one that oneDNN has no bfloat16 for computes without oneDNN."""
    refuses = enabled and device.type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith(BF16_CPU)
    if refuses:
        warnings.filterwarnings("ignore", message="TF32 acceleration on top of oneDNN")  # which only flags() speaks of
    with (
        torch.backends.mkldnn.flags(enabled=False) if refuses else nullcontext(),
        torch.autocast(device.type, torch.bfloat16, enabled=enabled),
    ):
        yield
