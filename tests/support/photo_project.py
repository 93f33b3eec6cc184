"""A tiny project with a dataset of pictures of its own, each with boxes, in the layout `folder`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.region_writer import RegionWriter

SIZES = {"train": 16, "val": 8, "test": 8}
EACH, REGIONS, WIDTH = 2, 4, 6  # captions of an image, its regions, numbers of one
LICENCE, ORIGIN = "for research <only>", "those who took the photos"
CARD = f"""
name = "photos"
title = "Photos & captions"
summary = "For tests."
layout = "folder"
folder = "photos"
licence = "{LICENCE}"
origin = "{ORIGIN}"
feature_width = {WIDTH}
max_regions = {REGIONS}
[splits]
{{splits}}
[text]
min_count = 1
[[protocols]]
name = "all"
images = {SIZES["test"]}
captions = {SIZES["test"] * EACH}
"""


@pytest.fixture
def photos(project: Path) -> Path:
    """The folder of the dataset, beside a card and a configuration which names it alone."""
    folder = project / "data" / "photos"
    (folder / "images").mkdir(parents=True)
    ids = {split: [f"{split}{number}" for number in range(size)] for split, size in SIZES.items()}
    (folder / "split.json").write_text(json.dumps(ids))
    lines = [
        {"id": f"{image}-{n}", "image": image, "text": f"A brown dog beside thing {n} of {image}"}
        for names in ids.values()
        for image in names
        for n in range(EACH)
    ]
    (folder / "captions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    random = np.random.default_rng(0)
    boxes = np.array([(0, 0, 64, 64), (0, 0, 60, 62), (5, 5, 20, 10), (30, 20, 30, 40)], dtype=np.float32)
    with RegionWriter(folder / "regions", "float32", {"made": "by a test"}) as writer:
        for image in (image for names in ids.values() for image in names):
            writer.add(image, random.random((REGIONS, WIDTH), dtype=np.float32), boxes, (64, 64))
            pixels = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{image}.png")
        writer.finish()
    (folder / "original_sizes.json").write_text(json.dumps({image: [120, 80] for image in ids["test"]}))
    splits = "\n".join(f"{name} = {{ images = {n}, captions = {n * EACH} }}" for name, n in SIZES.items())
    (project / "cards" / "photos").mkdir()
    (project / "cards" / "photos" / "card.toml").write_text(CARD.format(splits=splits))
    config = project / "harness.toml"
    text = config.read_text().replace('datasets = ["tiny"]', 'datasets = ["photos"]')
    config.write_text(text.replace("[paths]\n", '[paths]\ndata = "data"\n'))
    return folder
