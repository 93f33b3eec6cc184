"""Ids of COCO files in the forms that pandas gives them, and boxes that are no x, y, width, height."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_files import rewrite
from hypothesis import given
from hypothesis import strategies as st

from harness.config.cards import DatasetCard, read_card
from harness.data.content import Content, Place, whole_id
from harness.data.galleries import ids_of
from harness.errors import DataError, Location
from harness.layouts.coco import Coco
from harness.layouts.stored_regions import id_of

Change = Callable[[Any], Any]


def read(folder: Path) -> Content:
    card = read_card(DatasetCard, folder.parents[1] / "cards" / "coco" / "card.toml")
    return Coco(Place(card, folder, folder)).read("test")


def with_ids(content: Any, change: Change) -> Any:
    """A JSON with every id in another form."""
    if isinstance(content, list):
        return [change(one) if type(one) is int else with_ids(one, change) for one in content]
    if isinstance(content, dict):
        ids = {"id", "image_id", "category_id"}
        return {
            key: change(one) if key in ids else with_ids(one, change) if key != "bbox" else one
            for key, one in content.items()
        }
    return content


@pytest.mark.parametrize("change", [float, str, lambda one: f"{one}.0"], ids=["12.0", '"12"', '"12.0"'])
@pytest.mark.parametrize(
    "files", [["split.json"], ["captions.json", "instances.json"], ["instances.json", "split.json"]]
)
def test_ids_are_read_as_pandas_writes_them(coco: Path, change: Change, files: list[str]) -> None:
    expected = read(coco)
    rewrite(coco, lambda content: content.update({file: with_ids(content[file], change) for file in files}))
    content = read(coco)
    assert (content.image_ids, content.captions) == (expected.image_ids, expected.captions)
    np.testing.assert_array_equal(content.images[0], expected.images[0])


def test_a_split_that_stands_twice_is_refused(coco: Path) -> None:
    file = coco / "split.json"
    file.write_text(file.read_text().replace('{"train":', '{"train": [1], "train":'))
    with pytest.raises(DataError, match=r"split\.json: the key 'train' stands 2 times"):
        read(coco)


@pytest.mark.parametrize("value", [12.5, float("nan"), float("inf"), True, None, "x", "1e3", "9" * 30, 2.0**60])
def test_what_is_no_whole_number_is_no_id(coco: Path, value: Any) -> None:
    assert whole_id(value) is None
    rewrite(coco, lambda content: content["split.json"]["test"].append(value))
    with pytest.raises(DataError, match=r"\[test\], entry 4: .* is no image id"):
        read(coco)


@given(st.integers(-(10**17), 10**17))
def test_a_whole_number_is_itself_in_every_form(number: int) -> None:
    forms = [number, str(number), f"{number}.0", *[float(number)] * (abs(number) < 2**53)]
    assert {whole_id(form) for form in forms} == {number}


def test_floats_are_ids_of_galleries_and_of_stored_regions() -> None:
    assert ids_of(Path("mine.json"), [12.0, 13, "x"]) == ["12", "13", "x"]
    assert id_of(12.0, "its id", Location("")) == "12"
    with pytest.raises(DataError):
        id_of(12.5, "its id", Location(""))


def boxes(folder: Path, *rows: list[float]) -> None:
    def change(content: dict[str, Any]) -> None:
        annotations = content["instances.json"]["annotations"]
        for place, one in enumerate(annotations):
            one["bbox"] = rows[place % len(rows)]

    rewrite(folder, change)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[50, 10, 90, 45], [20, 30, 95, 50]], r"annotation 1: 16 of 16 boxes leave .*corners x1, y1, x2, y2\?"),
        ([[50, 10, 60, 9], [20, 30, 5, 5]], r"8 of 16 boxes leave their picture.*bbox is x, y, width, height"),
        ([[-20, 10, 30, 9]], "boxes leave their picture"),
        ([[1, 2, -3, 4]], "greater than or equal to 0"),
        (
            [[0, 0.1, 1.004, 0.5]],
            r"annotation 1: no box .* first: they are shares of their pictures, .*; multiply x by",
        ),
        ([[1, 2, 3, float("nan")]], "finite"),
    ],
)
def test_boxes_that_cannot_be_x_y_width_height_are_refused(coco: Path, rows: list[list[float]], said: str) -> None:
    boxes(coco, *rows)
    with pytest.raises(DataError, match=said):
        read(coco)


def test_few_boxes_beyond_their_pictures_are_read_and_told_by_validate(coco: Path, look: Callable[..., Any]) -> None:
    rewrite(coco, lambda content: content["instances.json"]["annotations"][13].update(bbox=[90, 1, 12, 5]))
    (one,) = [one for one in look("coco")["findings"] if one["code"] == "boxes-wrong"]
    assert (one["severity"], one["file"], one["entry"]) == ("warning", "instances.json", "image 202")
