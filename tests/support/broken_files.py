"""Files of datasets, whole and broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import write_files, write_precomp

from harness.data.region_writer import RegionWriter

EACH, REGIONS, WIDTH = 2, 3, 4
SIZES = {"train": 8, "val": 4, "test": 4}
STEMS = {"train": "train", "val": "dev", "test": "test"}
WORDS = ("dog", "cat", "bus", "cup", "kite", "tree", "sofa", "boat")
CARD = """
name = "{name}"
title = "A few images"
summary = "For tests."
layout = "{layout}"
folder = "{name} with spaces"
licence = "none"
origin = "the moon"
feature_width = {width}
max_regions = 3
[splits]
train = {{ images = 8, captions = 16 }}
val = {{ images = 4, captions = 8 }}
test = {{ images = 4, captions = 8 }}
[text]
min_count = 1
[[order]]
split = "val"
line = 1
caption = "a dog of val"
[[order]]
split = "test"
line = 1
caption = "a dog of test"
[[order]]
split = "test"
line = 8
caption = "the cup of test , again"
[[protocols]]
name = "all"
images = 4
captions = 8
[options]
{options}
"""
OPTIONS = {
    "precomp": f'captions_each = {EACH}\nval = "dev"',
    "coco": 'captions = "captions.json"\ninstances = "instances.json"\nsplit = "split.json"',
    "folder": "",
    "karpathy": 'annotations = "dataset_tiny.json"',
    "entities": "",
}
WIDTHS = {"precomp": WIDTH, "coco": 12, "folder": WIDTH, "karpathy": WIDTH, "entities": 10}
XML = """<annotation><size><width>100</width><height>50</height></size>
<object><name>1</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>9</ymax></bndbox></object>
</annotation>"""


def captions(split: str) -> list[str]:
    words = WORDS[: SIZES[split]]
    return [text for word in words for text in (f"a {word} of {split}", f"the {word} of {split} , again")]


def regions(split: str) -> np.ndarray:
    return np.random.default_rng(SIZES[split] + len(split)).random((SIZES[split], REGIONS, WIDTH), dtype=np.float32)


def add_card(project: Path, layout: str) -> Path:
    """A dataset of a layout among the project's cards; the folder of its files."""
    place = project / "cards" / layout
    place.mkdir()
    card = CARD.format(name=layout, layout=layout, options=OPTIONS[layout], width=WIDTHS[layout])
    (place / "card.toml").write_text(card, encoding="utf-8")
    folder = project / "data" / f"{layout} with spaces"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def precomp(project: Path) -> Path:
    """The folder of a small sound dataset in the field's layout."""
    folder = add_card(project, "precomp")
    for split, stem in STEMS.items():
        write_precomp(folder, stem, regions(split), "\n".join(captions(split)) + "\n")
    return folder


def annotations() -> dict[str, Any]:
    """The three files of a small dataset in COCO's official layout; images 1 to 8, 101 to 104, 201 to 204."""
    ids = {split: [first + n for n in range(SIZES[split])] for split, first in zip(SIZES, (1, 101, 201), strict=True)}
    images = [image for own in ids.values() for image in own]
    texts = [(image, number, split) for split, own in ids.items() for number, image in enumerate(own)]
    written = [
        {"image_id": image, "caption": captions(split)[2 * number + k]}
        for image, number, split in texts
        for k in (0, 1)
    ]
    return {
        "split.json": ids,
        "captions.json": {"annotations": [{"id": number, **one} for number, one in enumerate(written)]},
        "instances.json": {
            "images": [{"id": image, "width": 100, "height": 50} for image in images],
            "categories": [{"id": 1}, {"id": 2}],
            "annotations": [
                {
                    "id": image,
                    "image_id": image,
                    "category_id": 1 + image % 2,
                    "bbox": [image % 90, 1, 5, 5 + image % 40],
                }
                for image in images
            ],
        },
    }


@pytest.fixture
def coco(project: Path) -> Path:
    """The folder of a small sound dataset in COCO's official layout."""
    folder = add_card(project, "coco")
    rewrite(folder, lambda content: None)
    return folder


def names(split: str) -> list[str]:
    """Ids of images."""
    return [f"{split}-{number}" for number in range(SIZES[split])]


def write_store(folder: Path) -> None:
    """The regions of all images as a region store."""
    with RegionWriter(folder, "float32", {"of": "a test"}) as writer:
        for split in SIZES:
            for name, rows in zip(names(split), regions(split), strict=True):
                writer.add(name, rows)
        writer.finish()


@pytest.fixture
def folder(project: Path) -> Path:
    """The folder of a small sound dataset of one's own."""
    folder = add_card(project, "folder")
    write_store(folder / "regions")
    (folder / "split.json").write_text(json.dumps({split: names(split) for split in SIZES}), encoding="utf-8")
    texts = [(names(split)[number // EACH], text) for split in SIZES for number, text in enumerate(captions(split))]
    lines = (json.dumps({"id": number, "image": image, "text": text}) for number, (image, text) in enumerate(texts))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def karpathy(project: Path) -> Path:
    """The folder of a small sound dataset in Karpathy's form."""
    folder = add_card(project, "karpathy")
    write_store(folder / "regions")
    images = [
        {
            "filename": f"{name}.jpg",
            "split": split,
            "sentences": [{"raw": text} for text in captions(split)[EACH * number : EACH * (number + 1)]],
        }
        for split in SIZES
        for number, name in enumerate(names(split))
    ]
    (folder / "dataset_tiny.json").write_text(json.dumps({"images": images}), encoding="utf-8")
    return folder


@pytest.fixture
def entities(project: Path) -> Path:
    """The folder of a small sound dataset in the form of Flickr30k Entities."""
    folder = add_card(project, "entities")
    for name in ("Sentences", "Annotations"):
        (folder / name).mkdir()
    for split, first in zip(SIZES, (10, 30, 50), strict=True):
        (folder / f"{split}.txt").write_text("\n".join(names(split)) + "\n", encoding="utf-8")
        for number, name in enumerate(names(split)):
            own = captions(split)[EACH * number : EACH * (number + 1)]
            (folder / "Sentences" / f"{name}.txt").write_text("\n".join(own) + "\n", encoding="utf-8")
            (folder / "Annotations" / f"{name}.xml").write_text(XML.format(first + number), encoding="utf-8")
    return folder


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write a changed copy of COCO's files."""
    content = annotations()
    change(content)
    write_files(folder, content)


def saved(name: str, array: Callable[[np.ndarray], Any]) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        np.save(folder / name, array(np.load(folder / name, allow_pickle=False)))

    return save
