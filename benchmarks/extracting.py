"""Pictures to regions: `harness data extract` against a bare loop of the same model over the same pictures.

    python benchmarks/extracting.py [--pictures 192] [--runs 5]

JPEG files of 500 x 375 pixels are written once and lie in the page cache. The model is timm's tf_efficientnet_lite0
with random weights, on the CPU, 224 x 224, 16 pictures at a time. A bare loop opens, resizes and normalises with Pillow
and NumPy, gives batches to the model, and keeps what it gives: once with the model as timm makes it, once as the
harness has it, its norms folded and channels last in memory; torch has all cores. The harness reads, sees, writes its
store and brings it to the disk. All run in turn in one process; rates are medians, ratios medians of the runs' own.
Seconds are without imports and loading. Writes reports/measurements/extracting.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from harness.data.pictures import find_pictures
from harness.extraction.extract import extract
from harness.extraction.timm_models import timm
from harness.extraction.vision_models import ModelChoice, load
from harness.files import write_atomic
from harness.processors import cpus_here

MEASUREMENTS = Path(__file__).parents[1] / "reports" / "measurements"
NAME, SIDE, BATCH = "tf_efficientnet_lite0", 224, 16
PICTURE = (500, 375)
BARE, FOLDED, HARNESS = "bare loop", "bare loop, folded", "`harness data extract`"
HEAD = """# Extracting regions

Written by `python benchmarks/extracting.py`, which says how it measures; {pictures} pictures, {cpus} CPUs, {runs} runs
of each in turn; load of the machine {load:.1f}. The bar is 85 % of a bare loop's pictures per second.

| way | pictures/s | CPU ms per picture | against the bare loop | against the folded one |
|---|---:|---:|---:|---:|
"""


def write_pictures(folder: Path, count: int) -> None:
    """Smooth pictures with some grain, about as large as photos in JPEG."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(PICTURE)
        grain = rng.integers(-12, 12, (*PICTURE[::-1], 3))
        pixels = np.clip(np.asarray(coarse, dtype=np.int16) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=90)


def loop(files: Sequence[Path], model: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """What somebody writes without a harness."""
    torch.set_num_threads(cpus_here())
    kept = []
    with torch.inference_mode():
        for start in range(0, len(files), BATCH):
            pictures = [Image.open(file).convert("RGB") for file in files[start : start + BATCH]]
            pixels = np.stack([np.asarray(one.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for one in pictures])
            numbers = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127.5) / 127.5
            kept.append(model(numbers).flatten(2).transpose(1, 2).numpy())


def ways(folder: Path) -> dict[str, Callable[[Path], Any]]:
    """Each way with the folder that it may write into."""
    files = find_pictures(folder / "pictures").files
    plain = timm().create_model(NAME, pretrained=False).eval()
    torch.save(plain.state_dict(), folder / "weights.pth")
    choice = ModelChoice(f"timm:{NAME}", weights=folder / "weights.pth")
    grid = load(choice, torch.device("cpu"))
    folded = grid.backbone.model  # type: ignore[attr-defined]
    paths = list(files.values())
    return {
        BARE: lambda store: loop(paths, plain.forward_features),
        FOLDED: lambda store: loop(paths, folded.forward_features),
        HARNESS: lambda store: extract(files, grid, store, batch_size=BATCH),
    }


def measure(way: Callable[[Path], Any], folder: Path) -> tuple[float, float]:
    """Seconds of the clock, and of all cores."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        clock, cores = time.perf_counter(), time.process_time()
        way(Path(own) / "store")
        return time.perf_counter() - clock, time.process_time() - cores


def rows(folder: Path, pictures: int, runs: int) -> list[str]:
    """A line of the table for each way."""
    all_ways = ways(folder)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in all_ways}
    for run in range(runs + 1):
        for name, way in all_ways.items():
            one = measure(way, folder)
            measured[name] += [one] * (run > 0)  # the first warms up
    lines = []
    for name, own in measured.items():
        rate = statistics.median(pictures / clock for clock, _ in own)
        cores = statistics.median(1000 * cores / pictures for _, cores in own)
        ratios = [
            statistics.median(other[0] / mine[0] for mine, other in zip(own, measured[base], strict=True))
            for base in (BARE, FOLDED)
        ]
        lines.append(f"| {name} | {rate:.1f} | {cores:.1f} | {ratios[0]:.0%} | {ratios[1]:.0%} |")
    return lines


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        write_pictures(folder / "pictures", args.pictures)
        lines = rows(folder, args.pictures, args.runs)
    busy = float(Path("/proc/loadavg").read_text().split()[0])
    head = HEAD.format(pictures=args.pictures, cpus=cpus_here(), runs=args.runs, load=busy)
    write_atomic(MEASUREMENTS / "extracting.md", head + "\n".join([*lines, ""]))
    Console(width=150, highlight=False).print("\n".join(lines))


if __name__ == "__main__":
    main()
