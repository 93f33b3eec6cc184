"""Random batches out of a memory-mapped .npy file against the bare read, and how long training waits for them.

    python benchmarks/loading.py [--images 4000] [--runs 40] [--device cpu]

A file of random values is written once as float32 and once as float16 and lies in the page cache. Each batch is 128
images of 36 x 2048 numbers, drawn again for every reading; all ways read in turn, times are medians. The bare read is
the faster of np.take and fancy indexing of whole images; ours works out the batch's places besides. Where regions are
hidden at random, as training does, ours reads region by region: here in random order. Then the real trainer runs epochs
on the file. Writes reports/measurements/loading.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

import methods
from harness.config.cards import MethodCard, read_card
from harness.config.registry import load_class
from harness.config.sections import Training
from harness.data.arrays import open_array
from harness.data.content import pairs_of
from harness.data.regions import PaddedArray, offsets, padded_places
from harness.data.split import Split
from harness.data.tokens import UNKNOWN, Tokens
from harness.executors.placement import this_machine
from harness.files import write_atomic
from harness.layouts.precomp import AXES
from harness.method import Inputs
from harness.trial.batches import DeviceRegions, read
from harness.trial.training import Trainer

MEASUREMENTS = Path(__file__).parents[1] / "reports" / "measurements"
BATCH, REGIONS, WIDTH = 128, 36, 2048
WORDS = 1000  # of the vocabulary
TYPES = ("float32", "float16")
HEAD = """# Reading batches

Written by `python benchmarks/loading.py`, which says how it measures; {images:,} images, {cpus} CPUs, {runs} readings
of each. **Ready**: as stored, into memory that is used again, as pinned memory is when batches go to a GPU. **Fresh**:
as float32, in memory new for every batch, as on a CPU. Rates are bytes of the file. The goals are 90 % of the bare read
and less than 5 % of the time waited.

| file | memory | way | a batch | rate | of the bare read |
|---|---|---|---:|---:|---:|
"""
WAITS = """
An epoch of {steps} steps of {batch} pairs at D 256 on {device}; the first batch of an epoch is always waited for.

| file | method | regions | a step | waited for batches |
|---|---|---|---:|---:|
"""


def written(path: Path, dtype: str, images: int) -> PaddedArray:
    """A file of random values, opened as the harness does."""
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), (images, REGIONS, WIDTH))
    for start in range(0, images, 100):
        array[start : start + 100] = rng.standard_normal(array[start : start + 100].shape, dtype=np.float32)
    array.flush()
    return PaddedArray(open_array(path, AXES), np.arange(images))


def ways(regions: PaddedArray) -> dict[str, dict[str, Callable[[np.ndarray], Any]]]:
    """What reads a batch of images, by memory and name."""
    array, ready, cpu = regions.array, np.empty((BATCH, REGIONS, WIDTH), regions.dtype), torch.device("cpu")
    order = np.random.default_rng(4).permuted(np.tile(np.arange(REGIONS), (BATCH, 1)), axis=1)

    def places(images: np.ndarray) -> np.ndarray:
        return padded_places(regions.offsets, images)[0]

    return {
        "ready": {
            "bare, np.take": lambda images: np.take(array, images, axis=0, out=ready, mode="clip"),
            "bare, fancy indexing": lambda images: np.copyto(ready, array[images]),
            "`Regions.fetch`": lambda images: regions.fetch(places(images), ready),
            "the same, region by region": lambda images: regions.fetch(
                np.take_along_axis(places(images), order, 1), ready
            ),
        },
        "fresh": {
            "bare, np.take": lambda images: np.take(array, images, axis=0, mode="clip").astype("float32", copy=False),
            "bare, fancy indexing": lambda images: array[images].astype("float32", copy=False),
            "`Regions.gather`": regions.gather,
            "`batches.read`": lambda images: read(regions, cpu, places(images)),
        },
    }


def readings(regions: PaddedArray, runs: int) -> dict[str, dict[str, float]]:
    """Median seconds of each way; the first round is not counted."""
    rng, of_memory = np.random.default_rng(1), ways(regions)
    taken: dict[str, dict[str, list[float]]] = {memory: {name: [] for name in of} for memory, of in of_memory.items()}
    for _ in range(runs + 1):
        for memory, of in of_memory.items():
            for name, way in of.items():
                images = rng.choice(len(regions), BATCH, replace=False)
                start = time.perf_counter()
                way(images)
                taken[memory][name].append(time.perf_counter() - start)
    return {memory: {name: statistics.median(all_[1:]) for name, all_ in of.items()} for memory, of in taken.items()}


def reading_rows(dtype: str, seconds: dict[str, dict[str, float]]) -> Iterator[str]:
    """The bare read, the faster of two, and ours, for each kind of memory."""
    size = BATCH * REGIONS * WIDTH * np.dtype(dtype).itemsize
    for memory, of in seconds.items():
        bare = min((name for name in of if name.startswith("bare")), key=of.__getitem__)
        for name in (bare, *(name for name in of if not name.startswith("bare"))):
            cells = (f"{of[name] * 1e3:.1f} ms", f"{size / of[name] / 1e9:.1f} GB/s", f"{of[bare] / of[name]:.0%}")
            yield f"| {' | '.join([dtype, memory, name, *cells])} |"


def split_of(regions: PaddedArray) -> Split:
    """One caption per image, about as long as COCO's."""
    images = len(regions)
    lengths = np.random.default_rng(2).normal(12.5, 2.4, images).round().clip(7, 30).astype(int)
    ids = np.random.default_rng(3).integers(UNKNOWN + 1, WORDS, lengths.sum())
    names = tuple(map(str, range(images)))
    tokens = Tokens(ids, offsets(lengths))
    return Split(
        images=regions, captions=names, pairs=pairs_of([1] * images), image_ids=names, name="train", tokens=tokens
    )


def waiting_row(dtype: str, method: str, split: Split, device: torch.device, epochs: int) -> str:
    """A method trained for some epochs after a first one: medians of a step and of the share waited."""
    card = read_card(MethodCard, Path(methods.__path__[0]) / f"{method}.toml")
    kind = load_class(card)
    model = kind(kind.Settings(**{**card.defaults, "dim": 256}), Inputs(WIDTH, WORDS)).to(device)
    trainer = Trainer(model, split, Training(batch_size=BATCH, epochs=epochs + 1), 0, device)
    costs = [trainer.run_epoch() for _ in range(epochs + 1)][1:]
    step = statistics.median(cost.seconds for cost in costs) / len(trainer.batches)
    waited = statistics.median(cost.waited / cost.seconds for cost in costs)
    where = "held" if isinstance(trainer.batches.source, DeviceRegions) else "read"
    return f"| {dtype} | {method} | {where} | {step * 1e3:.0f} ms | {waited:.1%} |"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--methods", default="vsepp,scan_t2i")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    reads: list[str] = []
    waits: list[str] = []
    for dtype in TYPES:
        with tempfile.TemporaryDirectory() as folder:
            regions = written(Path(folder) / "train_ims.npy", dtype, args.images)
            reads += reading_rows(dtype, readings(regions, args.runs))
            split = split_of(regions.first(args.steps * BATCH))
            for method in args.methods.split(","):
                waits.append(waiting_row(dtype, method, split, torch.device(args.device), args.epochs))
    head = HEAD.format(images=args.images, cpus=f"{this_machine().cpus:g}", runs=args.runs)
    middle = WAITS.format(steps=args.steps, batch=BATCH, device=args.device)
    write_atomic(MEASUREMENTS / "loading.md", "\n".join([head + "\n".join(reads), middle + "\n".join(waits), ""]))
    Console(width=150, highlight=False).print("\n".join([*reads, *waits]))


if __name__ == "__main__":
    main()
