"""How long a set of Flickr30K's size takes to open, and how much memory of its own a process holds with it.

    python benchmarks/opening.py [--runs 5] [--folder DIR]

29,000, 1,014 and 1,000 images of 36 x 2048 numbers with five captions each, in three layouts; the arrays are holes of a
file, which take no room on the disk, but in the page cache all that they would. Opening is the fingerprint, all splits,
vocabulary and tokens, in a new process each time. **First**: nothing is known, and each array is read twice, for its
sha256 and for numbers that are not finite. **Cold**: these facts are remembered, and nothing else. **Warm**: what was
worked out is in the cache. Then 100 batches of 128 images are gathered. Private memory is what no other process can
share, anonymous pages. Pages of a mapped file are the page cache's; while one process alone has mapped them, its unique
set (USS) counts them too. Writes reports/measurements/opening.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console

from harness.config.cards import DatasetCard
from harness.data.region_store import FACTS, IDS, OFFSETS, REGIONS, StoreFacts
from harness.executors.placement import this_machine
from harness.files import write_atomic

MEASUREMENTS = Path(__file__).parents[1] / "reports" / "measurements"
SIZES = {"train": 29_000, "val": 1_014, "test": 1_000}
EACH, R, F = 5, 36, 2048
BATCH, BATCHES = 128, 100
LAYOUTS = ("precomp", "karpathy", "folder")
OPTIONS: dict[str, dict[str, Any]] = {
    "precomp": {"captions_each": EACH},
    "karpathy": {"annotations": "dataset_big.json"},
    "folder": {"regions": "../karpathy/regions"},
}
HEAD = """# Opening a dataset

Written by `python benchmarks/opening.py`, which says how it measures; 29,000, 1,014 and 1,000 images, {cpus} CPUs,
medians of {runs} processes where it is warm. The bars are 2 s and 500 MB: warm, and private.

| layout | opening | from the start of Python | of that, opening | CPU in all | private |
|---|---|---:|---:|---:|---:|
"""
GATHERED = f"""
After {BATCHES} batches of {BATCH} images, {BATCHES * BATCH * R * F * 4 / 1e9:.1f} GB read, by one process, and by each
of two that read the same at a time.

| layout | processes | private | USS | resident |
|---|---:|---:|---:|---:|
"""


def captions(rng: np.random.Generator, count: int) -> list[str]:
    """About as long as Flickr30K's, of 20,000 words by Zipf's law; one in ten needs NLTK's rules."""
    words = np.array([f"word{''.join(chr(97 + int(digit)) for digit in str(number))}" for number in range(20_000)])
    lengths = rng.integers(8, 17, count)
    drawn = iter(words[np.minimum(rng.zipf(1.3, lengths.sum()), len(words)) - 1].tolist())
    texts = [" ".join(next(drawn) for _ in range(length)) for length in lengths.tolist()]
    return [f"{text}'s day ." if number % 10 == 0 else f"{text} ." for number, text in enumerate(texts)]


def write_all(root: Path) -> None:
    """The same captions in three layouts, two of which share a store."""
    rng = np.random.default_rng(0)
    texts = {split: captions(rng, EACH * images) for split, images in SIZES.items()}
    for layout in LAYOUTS:
        (root / layout).mkdir()
    for split, images in SIZES.items():
        np.lib.format.open_memmap(root / "precomp" / f"{split}_ims.npy", "w+", np.float32, (images, R, F))
        (root / "precomp" / f"{split}_caps.txt").write_text("".join(f"{text}\n" for text in texts[split]))
    names = {split: [f"{split}-{number}" for number in range(images)] for split, images in SIZES.items()}
    of = {
        name: texts[split][EACH * number : EACH * (number + 1)]
        for split, own in names.items()
        for number, name in enumerate(own)
    }
    write_store(root / "karpathy" / "regions", [name for own in names.values() for name in own])
    entries = [{**entry(name, of[name]), "split": split} for split, own in names.items() for name in own]
    (root / "karpathy" / "dataset_big.json").write_text(json.dumps({"images": entries}))
    (root / "folder" / "split.json").write_text(json.dumps(names))
    lines = (
        {"id": f"{name}/{number}", "image": name, "text": text}
        for name, own in of.items()
        for number, text in enumerate(own)
    )
    (root / "folder" / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def entry(name: str, texts: list[str]) -> dict[str, Any]:
    """An image as Karpathy's files have it."""
    sentences = [{"tokens": text.split()[:-1], "raw": text, "imgid": 0, "sentid": 0} for text in texts]
    return {"sentids": [0] * len(texts), "imgid": 0, "filename": f"{name}.jpg", "sentences": sentences}


def write_store(folder: Path, names: list[str]) -> None:
    """A region store of holes, its images in another order than the captions'."""
    folder.mkdir()
    order = np.random.default_rng(1).permutation(len(names))
    np.lib.format.open_memmap(folder / REGIONS, "w+", np.float32, (len(names) * R, F))
    np.save(folder / OFFSETS, np.arange(len(names) + 1) * R)
    (folder / IDS).write_text("".join(f"{names[number]}\n" for number in order))
    about: dict[str, Any] = {"images": len(names), "regions": len(names) * R, "width": F, "dtype": "float32"}
    facts = StoreFacts(**about, boxes=False, sizes=False, origin={})
    (folder / FACTS).write_text(facts.model_dump_json())


def card(layout: str) -> DatasetCard:
    """The card of one of the folders."""
    sizes = {split: {"images": images, "captions": EACH * images} for split, images in SIZES.items()}
    return DatasetCard.model_validate(
        {
            **dict.fromkeys(("title", "summary", "licence", "origin"), ""),
            **{"name": layout, "layout": layout, "folder": layout, "options": OPTIONS[layout], "path": "card.toml"},
            **{"feature_width": F, "max_regions": R, "splits": sizes},
            "protocols": [{"name": "1k", **sizes["test"]}],
        }
    )


def child(root: Path, layout: str) -> None:
    """A process that opens a dataset, gathers where it is told to, and says what it holds, until its stdin ends."""
    from harness.layouts.opening import open_dataset

    start = time.perf_counter()
    dataset = open_dataset(card(layout), root, root / "cache")
    splits = [dataset.split(name) for name in SIZES]
    assert len(dataset.fingerprint) == 64 and len(dataset.vocabulary) > 1000 and len(splits[0].tokens) == 145_000
    answer({"seconds": time.perf_counter() - start, "cpu": time.process_time()})
    images, rng = splits[0].images, np.random.default_rng(2)
    for word in sys.stdin:
        for _ in range(BATCHES if word == "gather\n" else 0):
            images.gather(rng.integers(0, len(images), BATCH))
        answer({})


def answer(found: dict[str, Any]) -> None:
    """Say what was found, and the memory held now, in MB."""
    memory = psutil.Process().memory_full_info()
    held = {"private": memory.rss - memory.shared, "uss": memory.uss, "rss": memory.rss}
    print(json.dumps({**found, **{name: value / 1e6 for name, value in held.items()}}), flush=True)


class Child:
    """A fresh process with a dataset."""

    def __init__(self, root: Path, layout: str) -> None:
        start = time.perf_counter()
        command = [sys.executable, __file__, "--folder", str(root), "--child", layout]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = self._hear()
        self.opened["whole"] = time.perf_counter() - start

    def tell(self, word: str) -> dict[str, float]:
        """Let it go on; its memory then."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._hear()

    def end(self) -> None:
        """Let it go."""
        self._process.communicate()

    def _hear(self) -> dict[str, float]:
        assert self._process.stdout is not None
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found


def opening(root: Path, layout: str) -> dict[str, float]:
    """One opening."""
    process = Child(root, layout)
    process.end()
    return process.opened


def opening_rows(root: Path, layout: str, runs: int) -> Iterator[str]:
    """First, cold and warm."""
    shutil.rmtree(root / "cache", ignore_errors=True)
    first = opening(root, layout)
    for folder in (root / "cache").iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    cold = opening(root, layout)
    warm = [opening(root, layout) for _ in range(runs)]
    median = {name: statistics.median(one[name] for one in warm) for name in cold}
    for kind, one in (("first", first), ("cold", cold), ("warm", median)):
        seconds = (f"{one[name]:.2f} s" for name in ("whole", "seconds", "cpu"))
        yield f"| {layout} | {kind} | {' | '.join(seconds)} | {one['private']:.0f} MB |"


def gathered_rows(root: Path, layout: str) -> Iterator[str]:
    """Memory after gathering, of a process alone and of the larger of two."""
    for number in (1, 2):
        processes = [Child(root, layout) for _ in range(number)]
        for process in processes:
            process.tell("gather")
        held = [process.tell("measure") for process in processes]
        for process in processes:
            process.end()
        worst = {name: max(one[name] for one in held) for name in held[0]}
        cells = (f"{worst[name]:,.0f} MB" for name in ("private", "uss", "rss"))
        yield f"| {layout} | {number} | {' | '.join(cells)} |"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", choices=LAYOUTS, help="for its own use")
    args = parser.parse_args()
    if args.child:
        return child(args.folder, args.child)
    opened: list[str] = []
    gathered: list[str] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        root = Path(folder)
        write_all(root)
        for layout in LAYOUTS:
            opened += opening_rows(root, layout, args.runs)
            gathered += gathered_rows(root, layout)
    head = HEAD.format(cpus=f"{this_machine().cpus:g}", runs=args.runs)
    write_atomic(MEASUREMENTS / "opening.md", "\n".join([head + "\n".join(opened), GATHERED + "\n".join(gathered), ""]))
    Console(width=150, highlight=False).print("\n".join([*opened, *gathered]))


if __name__ == "__main__":
    main()
