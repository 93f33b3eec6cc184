"""Where the time of a row goes, kernel by kernel, by torch's profiler; and how much of the time the device is busy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attention import Case
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from on_gpu.clock import measured, once
from on_gpu.results import Results
from on_gpu.steps import WholeStep

SHOWN = 12
METHODS = ("scan_t2i", "scan_i2t", "bssan", "caan")


def run(results: Results, device: str, rehearse: bool) -> None:
    """Whole steps of 128 in both precisions, and scores of 256 x 1,280."""
    batch, dim, sizes = (8, 32, (8, 24)) if rehearse else (128, 1024, (256, 1280))
    for method in METHODS[:1] if rehearse else METHODS:
        for precision in ("fp32", "bf16"):
            step = WholeStep(method, batch, dim, device, precision)
            results.add("profile", profiled(step, f"whole step of {batch}, {method}, {precision}", device))
        call = Case(method, "score", *sizes, dim, device=device).calls()["ours"]
        results.add("profile", profiled(call, f"score {sizes[0]} x {sizes[1]}, {method}, fp32", device))


def profiled(call: Callable[[], Any], title: str, device: str) -> dict[str, Any]:
    wall = measured(call, device)["seconds"]
    activities = [ProfilerActivity.CPU] if device == "cpu" else [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as seen:
        once(call, device)
    spent = [(event.key, event.count, own_time(event, device)) for event in seen.key_averages()]
    spent = sorted((one for one in spent if one[2] > 0), key=lambda one: -one[2])
    total = sum(one[2] for one in spent)
    launched = sum(event.count for event in seen.key_averages() if "LaunchKernel" in event.key)
    operators = sum(event.count for event in seen.key_averages() if event.key.startswith("aten::"))
    kernels = [[name[:100], count, time * 1e3, f"{time / total:.0%}"] for name, count, time in spent[:SHOWN]]
    note = f"{wall * 1e3:.3g} ms a call, {launched} launches, {operators} operators." if wall else "The call failed."
    return {"title": title, "busy": total / wall if wall else 0.0, "note": note, "kernels": kernels}


def own_time(event: Any, device: str) -> float:
    """Seconds of a kernel; on a GPU nothing of what the host did."""
    if device == "cpu":
        return event.self_cpu_time_total / 1e6
    on_device = event.device_type == DeviceType.CUDA
    return event.self_device_time_total / 1e6 if on_device else 0.0
