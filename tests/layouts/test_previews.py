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
from harness.data.content import Preview
from harness.data.pictures import find_pictures
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


@pytest.mark.parametrize(
    "name",
    ["{}.JPG", "{}.WebP", "2019/{}.jpg", "2019/summer/{}.PNG", "2019.12/{}.Jpeg", "linked/{}.jpg", "{:0>12}.JPG"],
)
def test_pictures_are_found_wherever_extract_finds_them(dataset: Path, tmp_path: Path, name: str) -> None:
    image = opened(dataset.parent, files()).split("train").image_ids[0]
    (tmp_path / "elsewhere").mkdir()
    (dataset / "images" / "linked").symlink_to(tmp_path / "elsewhere")
    file = dataset / "images" / name.format(image)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 60), "red").save(file, {"jpg": "JPEG"}.get(file.suffix.lower()[1:]))
    assert file.stem in find_pictures(dataset / "images").files
    assert (look := previews(dataset).of(image)).picture is not None and look.shape == (40, 60)


def test_a_picture_is_found_whose_name_a_mac_has_written(dataset: Path) -> None:
    composed, parted = "caf\u00e9", "cafe\u0301"
    Image.new("RGB", (40, 60)).save(dataset / "images" / f"{parted}.JPG", "JPEG")
    looks = previews(dataset)
    assert all(looks.of(image).picture is not None for image in (composed, parted))
    Image.new("RGB", (20, 20)).save(dataset / "images" / f"{composed}.JPG", "JPEG")
    looks = previews(dataset)
    assert [looks.of(image).shape for image in (composed, parted)] == [(20, 20), (40, 60)]


def test_an_id_with_a_folder_in_it_is_found_whatever_the_suffix(dataset: Path) -> None:
    (dataset / "images" / "2019").mkdir()
    Image.new("RGB", (40, 60)).save(dataset / "images" / "2019" / "beach.PNG")
    assert previews(dataset).of("2019/beach").picture is not None


def test_hidden_pictures_and_those_outside_the_folder_are_not_found(dataset: Path) -> None:
    (dataset / "images" / ".thumbs").mkdir()
    for file in ("images/.thumbs/beach.jpg", "images/.beach.JPG", "secret.JPG", "secret.jpg"):
        Image.new("RGB", (4, 4)).save(dataset / file)
    Image.new("RGB", (4, 4)).save(dataset / "images" / "other.jpg")
    looks = previews(dataset)
    for image in ("beach", "../secret", "secret", str(dataset / "secret"), "2019/../../secret"):
        assert looks.of(image) == Preview()


def test_an_id_with_two_files_below_the_folder_is_refused_with_both_but_one_directly_in_it_is_taken(
    dataset: Path,
) -> None:
    for place in ("2018", "2019"):
        (dataset / "images" / place).mkdir()
        Image.new("RGB", (4, 4)).save(dataset / "images" / place / "beach.jpg")
    with pytest.raises(
        DataError, match=r"2019/beach\.jpg: image 'beach' has two files, this one and .*2018/beach\.jpg"
    ):
        previews(dataset).of("beach")
    Image.new("RGB", (40, 60)).save(dataset / "images" / "beach.jpg")
    assert previews(dataset).of("beach").shape == (40, 60)


def test_the_folder_is_listed_once_also_where_that_fails(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists: list[Path] = []
    monkeypatch.setattr("harness.data.pictures.os.walk", lambda top, **_: lists.append(top) or iter(()))
    looks = previews(dataset)
    assert [looks.of(f"absent{number}").picture for number in range(3)] == [None] * 3 and len(lists) == 1
    monkeypatch.undo()
    (dataset / "images" / "again").symlink_to(dataset / "images")
    looks = previews(dataset)
    for _ in range(2):
        with pytest.raises(DataError, match="is read already; take that link out"):
            looks.of("absent")


def test_a_picture_that_cannot_be_read_is_its_id_alone_among_others_and_is_named(dataset: Path) -> None:
    for number in range(12):
        (dataset / "images" / f"broken{number}.jpg").write_text("no picture")
    Image.new("RGB", (4, 4)).save(dataset / "images" / "whole.jpg")
    looks = previews(dataset)
    assert looks.of_many("whole").picture is not None and not list(looks.notes)
    assert all(looks.of_many(f"broken{number}") == Preview() for number in [*range(12), 3])
    first, *_, last = notes = list(looks.notes)
    assert len(notes) == 11 and last.startswith("2 more images are shown by their ids alone")
    assert first.startswith("broken0 is shown by its id alone: ") and "broken0.jpg: no readable picture" in first


def test_a_size_that_stands_twice_is_refused_with_the_image(dataset: Path) -> None:
    (dataset / ORIGINALS).write_text('{"7": [3, 4], "8": [1, 2], "7": [4, 3]}')
    with pytest.raises(DataError, match=rf"{ORIGINALS}: the key '7' stands 2 times; keep one of them"):
        previews(dataset)
