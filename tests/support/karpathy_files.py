"""Small files in Karpathy's form, with a region store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.region_writer import RegionWriter

WIDTH = 3
Content = dict[str, Any]


def entry(number: int, split: str, *captions: str) -> Content:
    return {
        "filepath": "val2014",
        "filename": f"COCO_val2014_{10 * number:06d}.jpg",
        "imgid": number,
        "cocoid": 10 * number,
        "split": split,
        "sentences": [
            {"raw": text, "tokens": text.split(), "sentid": 7 - place} for place, text in enumerate(captions)
        ],
    }


def regions_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).random((1 + number % 4, WIDTH), dtype=np.float32)


def write_store(folder: Path, names: Sequence[str], boxes: bool = True) -> None:
    """A store whose image number i has `regions_of(i)`."""
    with RegionWriter(folder, "float32", {"of": "a test"}) as writer:
        for number, name in enumerate(names):
            regions = regions_of(number)
            own = np.arange(4 * len(regions)).reshape(-1, 4) if boxes else None
            writer.add(name, regions, own, (64, 48) if boxes else None)
        writer.finish()
