"""Small COCO annotation files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataset_files import tiny_card, write_files

from harness.config.cards import DatasetCard
from harness.data.dataset import Dataset
from harness.layouts.opening import open_dataset

Files = dict[str, Any]
CARD = tiny_card(
    "coco",
    feature_width=13,
    max_regions=2,
    splits={"train": {"images": 2, "captions": 5}, "test": {"images": 1, "captions": 1}},
    options={"captions": "captions.json", "instances": "instances.json", "split": "split.json"},
    protocols=[{"name": "all", "images": 1, "captions": 1}],
)


def files() -> Files:
    """Three images of 100 x 50 pixels; categories 7, 3 and 90, in no order."""

    def box(one: int, image: int, category: int, bbox: list[float], crowd: int = 0) -> dict[str, Any]:
        return {"id": one, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": crowd}

    texts = {10: ["one dog", "a dog .\n"], 20: ["two  cats", "cats", "three"], 30: ["nothing known"]}
    flat = [(image, text) for image, group in texts.items() for text in group]
    return {
        "captions.json": {
            "annotations": [
                {"id": 100 - number, "image_id": image, "caption": text} for number, (image, text) in enumerate(flat)
            ]
        },
        "instances.json": {
            "images": [{"id": image, "width": 100, "height": 50} for image in (30, 20, 10)],
            "categories": [{"id": 7}, {"id": 3}, {"id": 90}],
            "annotations": [
                box(1, 10, 3, [0, 0, 10, 10]),
                box(2, 10, 90, [50, 25, 50, 25]),
                box(3, 10, 7, [0, 0, 99, 49], crowd=1),
                box(4, 20, 7, [20, 10, 10, 5]),
                box(5, 20, 7, [0, 0, 5, 10]),
                box(6, 20, 3, [0, 0, 1, 1]),
                box(7, 30, 3, [5, 5, 5, 0]),
            ],
        },
        "split.json": {"train": [10, 20], "test": [30], "about": "ids"},
    }


def opened(root: Path, content: Files, limit: int | None = None, **changes: Any) -> Dataset:
    write_files(root / "tiny", content)
    return open_dataset(DatasetCard.model_validate({**CARD, **changes}), root, root / "cache", limit)
