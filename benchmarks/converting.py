"""Bottom-up-attention TSV to arrays: ours, the textbook way, and what the machine gives at best.

    python benchmarks/converting.py [--images 400] [--runs 5]

A TSV of random values, 36 x 2048 per image, is written once and lies in the page cache. Every way is a process of its
own; all run in turn, times are medians without the start of Python, memory is the process's peak. Decoding alone reads
the lines and decodes their base64, which a converter cannot do without. The textbook reads with csv.DictReader, keeps
all images in a list, and saves them as one array. Writes reports/measurements/converting.md.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from harness.conversion.convert import convert
from harness.executors.placement import this_machine
from harness.files import write_atomic

MEASUREMENTS = Path(__file__).parents[1] / "reports" / "measurements"
REGIONS, WIDTH, SIZE = 36, 2048, (640, 480)
NAMES = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LONGEST = 1 << 26  # the csv module's limit of a cell
HEAD = """# Converting bottom-up-attention TSV

Written by `python benchmarks/converting.py`, which says how it measures; {images:,} images, a TSV of {size:,.0f} MB,
{cpus} CPUs, {runs} runs of each. Rates are bytes of the TSV. Python and NumPy alone take {bare:,.0f} MB of the memory.

| way | seconds | rate | of decoding alone | peak memory |
|---|---:|---:|---:|---:|
"""


def write_tsv(path: Path, images: int) -> None:
    """Rows of random values."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for image in range(images):
            low, extent = rng.uniform(0, np.array(SIZE) / 2, (2, REGIONS, 2))
            boxes = np.concatenate([low, low + extent], axis=1).astype("<f4")
            features = rng.standard_normal((REGIONS, WIDTH), dtype=np.float32)
            cells = [str(number).encode() for number in (image, *SIZE, REGIONS)]
            file.write(b"\t".join([*cells, base64.b64encode(boxes), base64.b64encode(features)]) + b"\n")


def nothing(tsv: Path, folder: Path) -> None:
    """What the imports take."""


def decode(tsv: Path, folder: Path) -> None:
    """Every line's features, and no more."""
    with tsv.open("rb") as file:
        for line in file:
            binascii.a2b_base64(line[line.rindex(b"\t") + 1 : -1], strict_mode=True)


def decode_and_write(tsv: Path, folder: Path) -> None:
    """The same, their bytes written to a file and brought to the disk, as every converter must that says it is done."""
    with tsv.open("rb") as file, (folder / "bytes").open("wb") as out:
        for line in file:
            out.write(binascii.a2b_base64(line[line.rindex(b"\t") + 1 : -1], strict_mode=True))
        out.flush()
        os.fsync(out.fileno())


def textbook(tsv: Path, folder: Path) -> None:
    """All images in a list, then in one array."""
    csv.field_size_limit(LONGEST)
    images = []
    with tsv.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", fieldnames=NAMES):
            features = np.frombuffer(base64.b64decode(row["features"]), dtype=np.float32)
            images.append(features.reshape(int(row["num_boxes"]), -1))
    np.save(folder / "regions.npy", np.stack(images))


WAYS: dict[str, Callable[[Path, Path], object]] = {
    "nothing": nothing,
    "decoding alone": decode,
    "decoding and writing": decode_and_write,
    "textbook": textbook,
    "`harness data convert`, float32": lambda tsv, folder: convert([tsv], folder / "store"),
    "`harness data convert`, float16": lambda tsv, folder: convert([tsv], folder / "store", "float16"),
}


def measure(way: str, tsv: Path) -> tuple[float, float]:
    """Seconds and MB of one way, in this process."""
    with tempfile.TemporaryDirectory(dir=tsv.parent) as folder:
        start = time.perf_counter()
        WAYS[way](tsv, Path(folder))
        seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (peak,) = (int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))
    return seconds, peak


def in_a_process(tsv: Path, way: str) -> tuple[float, float]:
    """The same in a process of its own."""
    words = [sys.executable, __file__, "--way", way, "--tsv", str(tsv)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    seconds, peak = map(float, said.split())
    return seconds, peak


def rows(tsv: Path, runs: int) -> tuple[list[str], float]:
    """A line of the table for each way, and the memory of a process that does nothing."""
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(runs):
        for way in WAYS:
            found[way].append(in_a_process(tsv, way))
    middle = {way: tuple(map(statistics.median, zip(*all_, strict=True))) for way, all_ in found.items()}
    _, bare = middle.pop("nothing")
    least, size = middle["decoding alone"][0], tsv.stat().st_size / 1e6
    lines = [
        f"| {way} | {seconds:.2f} | {size / seconds:,.0f} MB/s | {least / seconds:.0%} | {peak:,.0f} MB |"
        for way, (seconds, peak) in middle.items()
    ]
    return lines, bare


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--tsv", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    say = Console(width=150, highlight=False).print
    if args.way:
        say(*measure(args.way, args.tsv))
        return
    with tempfile.TemporaryDirectory() as folder:
        tsv = Path(folder) / "features.tsv"
        write_tsv(tsv, args.images)
        lines, bare = rows(tsv, args.runs)
        size = tsv.stat().st_size / 1e6
    cpus = f"{this_machine().cpus:g}"
    head = HEAD.format(images=args.images, size=size, cpus=cpus, runs=args.runs, bare=bare)
    write_atomic(MEASUREMENTS / "converting.md", head + "\n".join([*lines, ""]))
    say("\n".join(lines))


if __name__ == "__main__":
    main()
