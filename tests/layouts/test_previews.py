"""What images look like: pictures and boxes in the proportion that they had before their files were squeezed."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_files import CARD, files, opened
from PIL import Image

from harness.config.cards import DatasetCard
from harness.errors import DataError
from harness.explain.examples_page import page_image
from harness.layouts.previews import ORIGINALS, Previews, thumbnail


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """The folder of a dataset whose pictures are of 100 x 50 pixels."""
    opened(tmp_path, files())
    (tmp_path / "tiny" / "images").mkdir()
    return tmp_path / "tiny"


def previews(folder: Path) -> Previews:
    return Previews(DatasetCard.model_validate(CARD), folder.parent, folder.parent)


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_a_squeezed_picture_is_shown_in_its_original_proportion_with_its_boxes(dataset: Path) -> None:
    first, second, *_ = opened(dataset.parent, files()).split("train").image_ids
    before = previews(dataset).of(first)
    assert before.shape == before.size == (100, 50) and before.original is None
    (dataset / ORIGINALS).write_text(json.dumps({first: [300, 600]}))
    look = previews(dataset).of(first)
    assert (look.shape, look.size, look.boxes) == ((300, 600), (100, 50), before.boxes)
    canvas = page_image(look)
    assert canvas is not None and (canvas.width, canvas.height) == (300, 600)
    assert np.allclose(canvas.boxes, np.array(before.boxes) * [3, 12, 3, 12])
    assert previews(dataset).of(second).shape == (100, 50), "an image that is not in the file stays as it is"
    Image.new("RGB", (80, 80), "red").save(dataset / "images" / f"{first}.png")
    drawn = page_image(previews(dataset).of(first))
    assert drawn is not None and (drawn.width, drawn.height) == (300, 600)
    assert decoded(drawn.uri).size == (80, 160), "no column of pixels is lost"


def test_a_picture_is_shown_as_its_file_is_whatever_pixels_its_boxes_count(dataset: Path) -> None:
    first = opened(dataset.parent, files()).split("train").image_ids[0]
    Image.new("RGB", (40, 60), "red").save(dataset / "images" / f"{first}.png")
    look = previews(dataset).of(first)
    assert look.size == (100, 50) and look.shape == (40, 60)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[1, 2]", "found a list"),
        ("{", "not readable as JSON"),
        ('{"7": [1]}', r"image '7'.*\[1\] is no \[width, height\] in pixels"),
        ('{"7": [1, 0]}', r"image '7'.*\[1, 0\] is no"),
        ('{"7": [1.5, 2]}', r"image '7'.*is no"),
        ('{"7": [true, 2]}', r"image '7'.*is no"),
        ('{"7": {"width": 3}}', r"image '7'.*is no"),
        ('{"7": null}', r"image '7'.*None is no"),
    ],
)
def test_wrong_sizes_are_refused_with_the_image(dataset: Path, content: str, why: str) -> None:
    (dataset / ORIGINALS).write_text(content)
    with pytest.raises(DataError, match=f"{ORIGINALS}.*{why}"):
        previews(dataset)


def test_sizes_are_no_part_of_the_data(dataset: Path) -> None:
    before = opened(dataset.parent, files()).fingerprint
    (dataset / ORIGINALS).write_text(json.dumps({"1": [300, 600]}))
    assert opened(dataset.parent, files()).fingerprint == before


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        ((224, 224), (500, 375), (160, 120)),
        ((224, 224), (375, 500), (120, 160)),
        ((64, 64), (500, 250), (128, 64)),
        ((50, 40), (50, 40), (50, 40)),
        ((900, 10), (900, 10), (160, 2)),
        ((3000, 1), (3000, 1), (160, 1)),
    ],
)
def test_a_thumbnail_has_the_proportion_and_is_not_enlarged(size: Any, shape: Any, expected: Any) -> None:
    assert decoded(thumbnail(Image.new("RGB", size), 160, shape)).size == expected
