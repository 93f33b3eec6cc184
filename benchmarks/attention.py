"""Scores and training steps of each fragment method: ours, the textbook's, and the bare products that nobody can avoid.

    python benchmarks/attention.py [--methods scan_t2i,caan] [--tasks score,step] [--device cpu] [--threads 2]
                                   [--repeats 3] [--quick]

The three run in turn in one process, so that a noisy machine is noisy for all: in each repeat the textbook once, and
ours and the products, a tenth of its time and less, three times. Times are medians. Peak memory is that of a process of
its own, beyond what held the encoded sets; the textbook's is measured for steps. Rows go into speed.json in
reports/measurements/, instead of earlier ones of the same method, task, shape and device, and speed.md beside it
is drawn from them. --quick is a try: small shapes, nothing written.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from textbook.formula import formula, scores
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import methods
from harness.blocks.losses import hinge
from harness.blocks.tiles import Tile, in_tiles
from harness.config.cards import MethodCard, read_card
from harness.config.registry import load_class
from harness.evaluation.scoring import score_encoded
from harness.files import write_atomic
from harness.method import Batch, Encoded, Inputs

MEASUREMENTS = Path(__file__).parents[1] / "reports" / "measurements"
IDENTITY = ("method", "task", "shape", "dtype", "threads", "device")
HEAD = """# Speed

Written by `python benchmarks/attention.py`, which says how it measures. **Floor**: the matrix products that the scores
need, bare, over real words only; of SCAN, BSSAN and CAAN timed one by one, of the others counted and taken at the speed
of that of all regions with all words. **Textbook**: the papers' formulas, one caption at a time against all images,
attended vectors built (`benchmarks/textbook/`). `score` is n images against m captions, from encoded sets; `step` is
scores, hinge and gradients of a batch. In products: the share of our time that matrix products take. Memory is the peak
of one call.

"""
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")
COLUMNS = "method,task,shape,type,device,ours,textbook,floor,against the textbook,of the floor,in products"
COLUMNS += ",floor at,memory,textbook's memory"


LARGE = ((256, 1280), (64, 128))  # images and captions that are scored, and batches of steps
MEDIUM, SMALL = ((128, 640), (64,)), ((32, 160), (16,))  # where a pair, or its textbook, takes much longer
SIZES = {
    **dict.fromkeys(("scan_t2i", "scan_i2t", "bssan", "caan"), LARGE),
    **dict.fromkeys(("bfan_equal", "bfan_prob", "bcan", "chan", "naaf", "sgrl", "mssan", "msa"), MEDIUM),
    **dict.fromkeys(("saf", "sgr", "xdim", "imram"), SMALL),
}
REGIONS = 36
WORDS = (12.5, 2.4, 7, 30)  # mean, deviation, least and most of a COCO caption with <start> and <end>
FEATURES = 64  # width of the raw regions: encoding them is not timed


@dataclass(frozen=True)
class Case:
    """One method, task and shape on one device."""

    method: str
    task: str  # score: n images against m captions; step: scores, loss and backward of a batch of n = m pairs
    images: int
    captions: int
    dim: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def shape(self) -> str:
        """For people."""
        return f"{self.images} x {self.captions}, {REGIONS} regions, D {self.dim}"

    @cached_property
    def model(self) -> Any:
        """The method with its card's defaults, at this case's D."""
        card = read_card(MethodCard, Path(methods.__path__[0]) / f"{self.method}.toml")
        kind = load_class(card)
        torch.manual_seed(0)
        return kind(kind.Settings(**{**card.defaults, "dim": self.dim}), Inputs(FEATURES, 1000)).to(self.device)

    @cached_property
    def sets(self) -> tuple[Encoded, Encoded]:
        """Encoded images and captions, on the device."""
        torch.manual_seed(1)
        mean, deviation, least, most = WORDS
        lengths = (mean + deviation * torch.randn(self.captions)).round().clamp(least, most).int()
        tokens = torch.randint(4, 1000, (self.captions, int(lengths.max())))
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]
        full = torch.ones(self.images, REGIONS, dtype=torch.bool)
        with torch.no_grad():
            images = self.model.encode_images(
                torch.randn(self.images, REGIONS, FEATURES).to(self.device), full.to(self.device)
            )
            captions = self.model.encode_captions(tokens.to(self.device), mask.to(self.device))
        return Encoded(images.vectors.to(self.dtype), images.mask), Encoded(
            captions.vectors.to(self.dtype), captions.mask
        )

    def calls(self) -> dict[str, Callable[[], Any]]:
        """The three things to time, by name."""
        of_paper = formula(self.method, self.model)
        if self.task == "score":
            return {
                "ours": self._scored,
                "textbook": torch.no_grad()(lambda: scores(of_paper, *self.sets)),
                "floor": torch.no_grad()(lambda: self._products(1)),
            }
        return {
            "ours": lambda: self._step(lambda i, c: in_tiles(self.model, i, c)),
            "textbook": lambda: self._step(lambda i, c: scores(of_paper, i, c)),
            "floor": torch.no_grad()(lambda: self._products(3)),
        }

    @property
    def flops(self) -> float:
        """Floating-point operations of all products."""
        once = sum(2 * left.numel() * right.shape[1] for left, right in self._factors)
        return once * self.floor_scale * (1 if self.task == "score" else 3)

    @cached_property
    def floor_scale(self) -> float:
        """How many times the operations of the products that are timed as the floor a method's own are.

        One where all of them are timed. Else they are counted in a scoring, and taken at the speed of the timed ones.
        """
        if SIZES.get(self.method) == LARGE:
            return 1.0
        regions, words = self._factors[0]
        with FlopCounterMode(display=False) as counted:
            self._scored()
        return counted.get_total_flops() / (2 * regions.numel() * words.shape[1])

    def _scored(self) -> Tensor:
        images, captions = ([Tile(np.arange(len(of.mask)), of)] for of in self.sets)
        return score_encoded(self.model, images, captions, torch.device(self.device))

    def _step(self, score: Callable[[Encoded, Encoded], Tensor]) -> Tensor:
        """Scores, the hinge with hardest negatives, gradients of the sets and of the method's parameters."""
        leaves = [Encoded(of.vectors.detach().requires_grad_(), of.mask) for of in self.sets]
        self.model.zero_grad()
        matching = torch.eye(self.images, dtype=torch.bool, device=self.device)
        nothing = torch.empty(0)
        loss = hinge(score(*leaves), Batch(nothing, nothing, nothing, nothing, matching), 0.2)
        loss.backward()
        return loss.detach()

    def _products(self, times: int) -> None:
        """The matrix products that the scores need, bare, over real words; a step needs each three times."""
        for left, right in self._factors:
            for _ in range(times):
                left @ right

    @cached_property
    def _factors(self) -> list[tuple[Tensor, Tensor]]:
        """All regions with all words, once an affinity and once a cosine; for CAAN the four with k columns besides."""
        images, captions = self.sets
        regions = images.vectors[..., : self.dim].flatten(0, 1)
        words = captions.vectors[captions.mask][:, : self.dim].T
        if self.method != "caan":
            return [(regions, words)] * (4 if self.method == "bssan" else 1)
        width = self.model.settings.width
        a = torch.rand(len(words.T), REGIONS, dtype=self.dtype, device=self.device)
        x = torch.rand(REGIONS, width, dtype=self.dtype, device=self.device)
        return [(regions, words)] * 2 + [(a, x)] * (4 * self.images)


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
        "floor_seconds": median["floor"] * case.floor_scale,
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
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted again from what is resident
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
    made = []
    for method in args.methods.split(","):
        dim, (score, batches) = (256, ((32, 96), (16,))) if args.quick else (1024, SIZES[method])
        made.append(Case(method, "score", *score, dim, device=args.device))
        made += [Case(method, "step", batch, batch, dim, device=args.device) for batch in batches]
    return [case for case in made if case.task in args.tasks.split(",")]


def merged(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """New rows instead of old ones of the same identity, in order."""
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
    parser.add_argument("--methods", default=",".join(SIZES))
    parser.add_argument("--tasks", default="score,step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small shapes, nothing written")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(width=250, highlight=False)
    for case in cases(args):
        row = measure(case, args.repeats)
        console.print(line(row))
        if not args.quick:
            write(row)


def write(row: dict[str, Any]) -> None:
    """Put a row into the committed table."""
    table = MEASUREMENTS / "speed.json"
    rows = merged(json.loads(table.read_text()) if table.is_file() else [], [row])
    write_atomic(table, json.dumps(rows, indent=1) + "\n")
    write_atomic(MEASUREMENTS / "speed.md", HEAD + "\n".join([*titles(), *map(line, rows)]) + "\n")


if __name__ == "__main__":
    main()
