"""Scores and training steps of each fragment method: ours, the textbook's, and the bare products that nobody can avoid.

    python benchmarks/speed.py [--methods scan_t2i,caan] [--tasks score,step] [--device cpu] [--threads 2] [--repeats 3]
                               [--quick]

The three run in turn in one process, so that a noisy machine is noisy for all: in each repeat the textbook once, and
ours and the products, a tenth of its time and less, three times. Times are medians. Peak memory is that of a process of
its own, beyond what held the encoded sets; the textbook's is measured for steps. Rows go into reports/measurements/speed.json, in
the place of earlier ones of the same method, task, shape and device, and reports/measurements/speed.md is drawn from it. --quick is
a try: small shapes, nothing written.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import re
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from cases import METHODS, Case
from rich.console import Console
from torch.profiler import ProfilerActivity, profile

from harness.files import write_atomic

ROOT = Path(__file__).parents[1]
IDENTITY = ("method", "task", "shape", "dtype", "threads", "device")
HEAD = """# Speed

Written by `python benchmarks/speed.py`, which says how it measures. **Floor**: the matrix products that the scores
need, bare, over real words only. **Textbook**: the papers' formulas, one caption at a time against all images, attended
vectors built (`benchmarks/textbook.py`). `score` is n images against m captions, from encoded sets; `step` is scores,
hinge and gradients of a batch. In products: the share of our time that matrix products take. Memory is the peak of one
call.

"""
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")
COLUMNS = "method,task,shape,type,device,ours,textbook,floor,against the textbook,of the floor,in products"
COLUMNS += ",floor at,memory,textbook's memory"


def measure(case: Case, repeats: int) -> dict[str, Any]:
    """One row: medians of interleaved runs, and peak memory."""
    seconds: dict[str, list[float]] = {name: [] for name in case.calls()}
    for _ in range(repeats):
        for name, call in [*case.calls().items(), *2 * without_textbook(case)]:
            seconds[name].append(timed(call, case.device))
    median = {name: statistics.median(of) for name, of in seconds.items()}
    return {
        "method": case.method,
        "task": case.task,
        "shape": case.shape,
        "dtype": str(case.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "device": device_name(case.device),
        "seconds": median["ours"],
        "textbook_seconds": median["textbook"],
        "floor_seconds": median["floor"],
        "peak_bytes": in_own_process(case, "ours"),
        "textbook_peak_bytes": in_own_process(case, "textbook") if case.task == "step" else None,
        "floor_flops": case.flops,
        "product_share": product_share(case),
        "spread": {name: [min(of), max(of)] for name, of in seconds.items()},
    }


def without_textbook(case: Case) -> list[tuple[str, Any]]:
    """The calls that take little."""
    return [(name, call) for name, call in case.calls().items() if name != "textbook"]


def product_share(case: Case) -> float:
    """The share of our time that goes into matrix products, by torch's profiler."""
    activities = {ProfilerActivity.CPU} if case.device == "cpu" else {ProfilerActivity.CUDA}
    with profile(activities=activities) as seen:
        case.calls()["ours"]()
    name = "self_cpu_time_total" if case.device == "cpu" else "self_device_time_total"
    spent = {event.key: getattr(event, name) for event in seen.key_averages()}
    if case.device == "cpu":
        return sum(spent.get(f"aten::{kind}", 0) for kind in PRODUCTS) / sum(spent.values())
    return sum(time for key, time in spent.items() if "gemm" in key.lower()) / sum(spent.values())


def timed(call: Any, device: str) -> float:
    """Seconds of one call, the device's work included."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: str) -> None:
    """Wait for a GPU; a CPU is never behind."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def in_own_process(case: Case, who: str) -> int:
    """Peak bytes of one call, in a fresh process."""
    threads = torch.get_num_threads()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(peak_bytes, replace(case), who, threads).result()  # without what it has made


def peak_bytes(case: Case, who: str, threads: int) -> int:
    """The most memory that a call adds to what the encoded sets and the method take."""
    torch.set_num_threads(threads)
    call = case.calls()[who]
    _ = case.model, case.sets
    if case.device != "cpu":
        before = torch.cuda.memory_allocated(case.device)
        torch.cuda.reset_peak_memory_stats(case.device)
        call()
        return torch.cuda.max_memory_allocated(case.device) - before
    ctypes.CDLL(None).malloc_trim(0)  # else memory that was freed before is used again, and not seen
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def device_name(device: str) -> str:
    """A name to read."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{models[0] if models else 'CPU'}, {torch.get_num_threads()} threads"


def cases(args: argparse.Namespace) -> list[Case]:
    """The shapes of the table."""
    dim, score, batches = (256, (32, 96), (16,)) if args.quick else (1024, (256, 1280), (64, 128))
    made = []
    for method in args.methods.split(","):
        made.append(Case(method, "score", *score, dim, device=args.device))
        made += [Case(method, "step", batch, batch, dim, device=args.device) for batch in batches]
    return [case for case in made if case.task in args.tasks.split(",")]


def merged(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """New rows in the place of old ones of the same identity, in order."""
    rows = {tuple(str(row[name]) for name in IDENTITY): row for row in (*old, *new)}
    return [rows[key] for key in sorted(rows)]


def titles() -> list[str]:
    """The head of the table; numbers stand on the right."""
    names = COLUMNS.split(",")
    marks = ["---" if column < 5 else "---:" for column in range(len(names))]
    return [f"| {' | '.join(cells)} |" for cells in (names, marks)]


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    ours, textbook, floor = (row[name] for name in ("seconds", "textbook_seconds", "floor_seconds"))
    peaks = (row["peak_bytes"], row["textbook_peak_bytes"])
    memory = (f"{peak / 2**20:,.0f} MiB" if peak is not None else "" for peak in peaks)
    times = (f"{value:.3g} s" for value in (ours, textbook, floor))
    ratios = (f"{textbook / ours:.1f} x faster", f"{ours / floor:.2f} x", f"{row['product_share']:.0%}")
    rate = f"{row['floor_flops'] / floor / 1e9:,.0f} GFLOP/s"
    cells = (row["method"], row["task"], row["shape"], row["dtype"], row["device"], *times, *ratios, rate, *memory)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--tasks", default="score,step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small shapes, nothing written")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console, rows = Console(width=250, highlight=False), []
    for case in cases(args):
        rows.append(measure(case, args.repeats))
        console.print(line(rows[-1]))
    if args.quick:
        return
    kept = ROOT / "reports" / "measurements" / "speed.json"
    rows = merged(json.loads(kept.read_text()) if kept.is_file() else [], rows)
    write_atomic(kept, json.dumps(rows, indent=1) + "\n")
    write_atomic(ROOT / "reports" / "measurements" / "speed.md", HEAD + "\n".join([*titles(), *map(line, rows)]) + "\n")


if __name__ == "__main__":
    main()
