"""Seconds and peak memory of a call on a device."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from harness.trial.device import half_precision

BUDGET = 0.6  # seconds that the repeats of one call may take
REHEARSED = 0.01  # the same on a CPU
REPEATS = 9  # at most


def measured(call: Callable[[], Any], device: str, repeats: int = REPEATS, warm: int = 2) -> dict[str, Any]:
    """The median of repeated calls after a warm-up, its spread, and the peak memory of one call; or the problem."""
    try:
        first = once(call, device)
        budget = BUDGET if device != "cpu" else REHEARSED
        for _ in range(warm - 1 if first < budget else 0):
            once(call, device)
        before = forget_peak(device)
        times = [once(call, device)]
        peak = torch.cuda.max_memory_allocated() - before if device != "cpu" else None
        while len(times) < repeats and sum(times) < budget:
            times.append(once(call, device))
    except torch.OutOfMemoryError:
        return {"seconds": None, "problem": "out of memory"}
    except Exception as error:  # noqa: BLE001  a row that fails must not take the others with it
        return {"seconds": None, "problem": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    finally:
        gc.collect()
        if device != "cpu":
            torch.cuda.empty_cache()
    spread = [min(times), max(times)]
    return {"seconds": statistics.median(times), "first": first, "spread": spread, "peak_bytes": peak}


def once(call: Callable[[], Any], device: str) -> float:
    wait(device)
    start = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - start


def forget_peak(device: str) -> int:
    """Reset the peak; the bytes that are allocated now."""
    if device == "cpu":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


@contextlib.contextmanager
def products_in(precision: str, device: str) -> Iterator[None]:
    """Matrix products in float32, in TF32, or under autocast to bf16."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        with half_precision(torch.device(device), precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision("highest")
