"""Given boxes: every form of file, what is cut, counted and refused, and that a region's numbers are its box's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from tiny_project import Call
from tiny_vision import SHAPES, images, models
from torch import Tensor

from harness.cli.datasets import data
from harness.cli.main import cli
from harness.data.pictures import PictureHead, read_head
from harness.data.region_store import open_store
from harness.errors import DataError
from harness.extraction.backbones import Backbone
from harness.extraction.box_files import GivenBoxes, read_boxes
from harness.extraction.corners import Corners
from harness.extraction.given_boxes import Crops, MapMeans
from harness.extraction.placed_boxes import BoxRules, PlacedBoxes, place_boxes

pytest.importorskip("transformers")

__all__ = ["images", "models"]
Captured = pytest.CaptureFixture[str]
cli.add_command(data)
SECOND = {"id": 1, "file_name": "a.jpg", "width": 20, "height": 10}
BOXES = {"a": [[1, 2, 5, 8], [0, 0, 9.5, 10]], "b": [[3, 4, 6, 7]]}


# Forms of files


def coco(path: Path) -> Path:
    listed = [
        {"id": number, "image_id": "ab".index(image), "bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": 1}
        for image, own in BOXES.items()
        for number, (x1, y1, x2, y2) in enumerate(own)
    ]
    crowd = {"id": 9, "image_id": 1, "bbox": [0, 0, 1, 1], "iscrowd": 1}
    named = [{"id": n, "file_name": f"val/{name}.jpg", "width": 20, "height": 10} for n, name in enumerate("ab")]
    (path / "coco.json").write_text(json.dumps({"images": named, "annotations": [*listed, crowd], "categories": []}))
    return path / "coco.json"


def voc(path: Path) -> Path:
    for image, own in BOXES.items():
        places = "".join(
            f"<object><name>x</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>"
            for x1, y1, x2, y2 in own
        )
        size = "<size><width>20</width><height>10</height></size>"
        named = f"<filename>{image}.jpg</filename>"
        scene = "<object><name>a scene without a box</name></object>"
        (path / f"{image}.xml").write_text(f"<annotation>{named}{size}{scene}{places}</annotation>")
    return path


def lists(path: Path) -> Path:
    (path / "boxes.json").write_text(json.dumps(BOXES))
    return path / "boxes.json"


def objects(path: Path) -> Path:
    content = {image: [{"box": box, "entities": ["1"]} for box in own] for image, own in BOXES.items()}
    (path / "boxes.json").write_text(json.dumps(content))
    return path / "boxes.json"


def test_an_image_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text('{"a": [[0, 0, 1, 1]], "b": [], "a": [[0, 0, 2, 2]]}')
    with pytest.raises(DataError, match=r"boxes\.json: the key 'a' stands 2 times; keep one of them"):
        read_boxes(tmp_path / "boxes.json")


@pytest.mark.parametrize("form", [coco, voc, lists, objects])
def test_every_form_gives_the_same_boxes(tmp_path: Path, form: Callable[[Path], Path]) -> None:
    read = read_boxes(form(tmp_path))
    assert read.boxes == {image: [tuple(map(float, box)) for box in own] for image, own in BOXES.items()}
    assert read.sha256 == read_boxes(lists(tmp_path)).sha256
    assert read.sizes == ({"a": (20, 10), "b": (20, 10)} if form in (coco, voc) else {})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1], "holds no boxes; COCO's instances"),
        ({"a": 3}, "image 'a': is no list of boxes"),
        ({"a": [[1, 2, 3]]}, r"image 'a', box 1: \[1, 2, 3\] is no box of four numbers"),
        ({"a": [[0, 0, 1, 1], [1, 2, 3, "4"]]}, "image 'a', box 2: '4' is no number of pixels"),
        ({"a": [[1, 2, 3, float("nan")]]}, "nan is no number of pixels"),
        ({"a": [{"bbox": [1, 2, 3, 4]}]}, "image 'a', box 1: None is no box"),
        ({"images": [], "annotations": [{"image_id": 3}]}, "annotations, entry 1: is of image 3, which is not among"),
        ({"images": [{"id": 1}], "annotations": []}, "images, entry 1: has no file_name as COCO has it"),
        ({"images": [SECOND, {**SECOND, "id": 2}], "annotations": []}, "a second image is called 'a'"),
        ({"images": [SECOND, {**SECOND, "file_name": "b.jpg"}], "annotations": []}, "has the id 1, as 'a' has"),
        ({"images": [SECOND, {**SECOND, "file_name": "b.jpg", "id": "1"}], "annotations": []}, "image has the id 1"),
        ({"images": [{**SECOND, "id": True}], "annotations": []}, "entry 1: has no id as COCO has it, but True"),
    ],
)  # fmt: skip
def test_a_faulty_file_is_named_with_the_place(tmp_path: Path, content: Any, said: str) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=said) as caught:
        read_boxes(tmp_path / "boxes.json")
    assert "boxes.json" in str(caught.value)


@pytest.mark.parametrize(("image", "of"), [(1.0, 1.0), (1, "1"), ("1.0", 1), (12.0, "12"), ("x", "x")])
def test_ids_as_pandas_writes_them_are_those_of_coco(tmp_path: Path, image: Any, of: Any) -> None:
    content = {"images": [{**SECOND, "id": image}], "annotations": [{"image_id": of, "bbox": [1, 2, 3, 4]}]}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    assert read_boxes(tmp_path / "boxes.json").boxes == {"a": [(1, 2, 4, 6)]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<annotation>", "no readable XML"),
        ("<!DOCTYPE a><annotation/>", "has a DOCTYPE"),
        ("<a><object><bndbox><xmin>1</xmin></bndbox></object></a>", "image 'one', box 1: None is no number of pixels"),
    ],
)
def test_a_faulty_xml_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=r"holds no \.xml file"):
        read_boxes(tmp_path)
    (tmp_path / "one.xml").write_text(text)
    with pytest.raises(DataError, match=said):
        read_boxes(tmp_path)


def test_a_voc_file_may_count_from_0(tmp_path: Path) -> None:
    places = "<xmin>0</xmin><ymin>1</ymin><xmax>20</xmax><ymax>10</ymax>"
    (tmp_path / "a.xml").write_text(f"<annotation><object><bndbox>{places}</bndbox></object></annotation>")
    assert read_boxes(tmp_path).boxes == {"a": [(0, 0, 20, 10)]}
    (tmp_path / "a.xml").write_text((tmp_path / "a.xml").read_text().replace("<xmin>0<", "<xmin>-3<"))
    assert read_boxes(tmp_path).boxes == {"a": [(-4, 0, 20, 10)]}


# Boxes on pictures

WIDE = PictureHead((20, 10), 1)


def placed(boxes: dict[str, list[Corners]], sizes: Any = None, **rules: Any) -> PlacedBoxes:
    heads = dict.fromkeys(("a", "b"), WIDE)
    return place_boxes(GivenBoxes(Path("boxes.json"), boxes, sizes or {}), heads, BoxRules(**rules))


def test_the_first_boxes_of_the_file_are_kept_behind_the_whole_picture() -> None:
    boxes: dict[str, list[Corners]] = {"a": [(0, 0, 2, 2), (1, 1, 9, 9), (2, 2, 3, 3)], "b": [(0, 0, 1, 1)], "z": []}
    regions = placed(boxes, most=2, whole=True)
    assert regions.corners["a"] == ((0, 0, 20, 10), (0, 0, 2, 2), (1, 1, 9, 9))
    assert (regions.cut, regions.total, regions.boxless, regions.unused) == (0, 4, 0, 1)
    assert regions.facts["most"] == 2 and regions.facts["whole"] is True


def test_boxes_beyond_the_edge_are_cut_and_counted() -> None:
    many: list[Corners] = [(0, 0, 5, 5)] * 20
    regions = placed({"a": [*many, (-3, 2, 25, 9)], "b": [(0, 0, 20.001, 10)]})
    assert regions.corners["a"][-1] == (0, 2, 20, 9) and regions.cut == 1
    assert regions.corners["b"] == ((0, 0, 20, 10),)  # rounding is not counted


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ({"a": [(0, 0, 1, 1)], "b": [(1, 1, 1, 5)]}, r"image 'b', box 1: the box \(1, 1, 1, 5\) is inverted or has no"),
        ({"a": [(5, 5, 1, 1)], "b": [(1, 1, 2, 5)]}, "image 'a', box 1: .* is inverted or has no size"),
        ({"a": [(0, 0, 1, 1)] * 30, "b": [(21, 1, 23, 5)]}, "image 'b', box 1: .* lies outside the picture, 20 x 10"),
        ({"a": [(0, 0, 30, 15)], "b": [(0, 0, 1, 1)] * 8}, r"1 of 9 boxes leave their picture, \(0, 0, 30, 15\)"),
        ({"a": [(0, 0, 1, 1)], "b": []}, "1 of 2 pictures have no box in it, image 'b' first; .* --boxless whole"),
    ],
)  # fmt: skip
def test_wrong_boxes_are_refused_by_name(boxes: dict[str, list[Corners]], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        placed(boxes)
    assert "boxes.json" in str(caught.value)


@pytest.mark.parametrize("boxes", [[(0.1, 0.2, 0.5, 0.9)], [(0, 0, 1, 1), (0.3, 0, 1.004, 0.5)]])
def test_shares_of_a_picture_are_refused(tmp_path: Path, boxes: list[Corners]) -> None:
    with pytest.raises(
        DataError, match=r"boxes\.json: no box .* of image 'a' first: they are shares of .*; multiply x"
    ):
        placed({"a": boxes, "b": boxes})
    assert placed({"a": [*boxes, (1, 1, 9, 9)], "b": boxes}).total == 2 * len(boxes) + 1  # small boxes, but of pixels
    one = PictureHead((1, 1), 1)
    assert place_boxes(GivenBoxes(tmp_path, {"a": [(0, 0, 1, 1)]}, {}), {"a": one}, BoxRules()).total == 1


@pytest.mark.parametrize("other", ["cafe\u0301", "caf\u00e9.jpg", "train\\caf\u00e9.JPG", "CAF\u00c9"])
@pytest.mark.parametrize("boxless", ["refuse", "whole"])
def test_a_box_under_another_form_of_a_pictures_name_is_not_passed_over(other: str, boxless: Any) -> None:
    own, heads = "caf\u00e9", dict.fromkeys(("a", "caf\u00e9"), WIDE)
    given = GivenBoxes(Path("boxes.json"), {"a": [(1, 1, 9, 9)], other: [(1, 1, 9, 9)]}, {})
    said = re.escape(f"{own!a} seems to be {other!a} there: name images alike")
    with pytest.raises(DataError, match=said):
        place_boxes(given, heads, BoxRules(boxless=boxless))
    with pytest.raises(DataError, match=said):
        place_boxes(given, {own: WIDE}, BoxRules(boxless=boxless))
    elsewhere = GivenBoxes(Path("boxes.json"), {"a": [(1, 1, 9, 9)], "7": [(1, 1, 9, 9)]}, {})
    assert place_boxes(elsewhere, heads, BoxRules(boxless="whole")).boxless == 1


def test_boxes_on_a_picture_as_exif_turns_it_are_refused_with_what_to_do() -> None:
    given = GivenBoxes(Path("boxes.json"), {"a": [(1, 1, 9, 9)]}, {"a": (10, 20)})
    with pytest.raises(DataError, match="its EXIF turns it, and the boxes were drawn on it as it is shown"):
        place_boxes(given, {"a": PictureHead((20, 10), 1, orientation=6)}, BoxRules())
    with pytest.raises(DataError, match="and it has 20 x 10: take the pictures that the boxes were drawn on"):
        place_boxes(given, {"a": WIDE}, BoxRules())


def test_boxes_of_another_pictures_size_are_refused() -> None:
    with pytest.raises(DataError, match="image 'a': boxes are of a picture of 40 x 20 pixels, and it has 20 x 10"):
        placed({"a": [(0, 0, 1, 1)], "b": [(0, 0, 1, 1)]}, sizes={"a": (40, 20)})


def test_a_picture_without_boxes_is_one_region_where_that_is_asked_for() -> None:
    regions = placed({"a": [(0, 0, 2, 2)]}, boxless="whole")
    assert regions.corners["b"] == ((0, 0, 20, 10),) and regions.boxless == 1


@pytest.mark.parametrize("boxless", ["refuse", "whole"])
def test_boxes_of_other_pictures_alone_are_refused_with_the_names_of_both(boxless: str) -> None:
    boxes: dict[str, list[Corners]] = {f"{image}.jpg": [(0, 0, 1, 1)] for image in "abcd"}
    said = r"not one of 2 pictures has a box .* 'a\.jpg', 'b\.jpg', 'c\.jpg' and 1 more, the pictures are 'a', 'b';"
    with pytest.raises(DataError, match=said):
        placed({**boxes, "a": []}, boxless=boxless)
    with pytest.raises(DataError, match="its boxes are of none"):
        placed({}, boxless=boxless)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_turned_as_their_picture_is(tmp_path: Path, orientation: int) -> None:
    pixels = np.zeros((10, 20, 3), dtype=np.uint8)
    pixels[2:5, 3:11] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    head = read_head(tmp_path / "a.png", turned=True)
    boxes = GivenBoxes(Path("boxes.json"), {"a": [(3, 2, 11, 5)]}, {})
    ((x1, y1, x2, y2),) = place_boxes(boxes, {"a": head}, BoxRules()).corners["a"]
    with Image.open(tmp_path / "a.png") as picture:
        seen = np.asarray(ImageOps.exif_transpose(picture))[..., 0] > 0
    expected = np.zeros_like(seen)
    expected[int(y1) : int(y2), int(x1) : int(x2)] = True
    np.testing.assert_array_equal(seen, expected)


# Numbers of regions


class Colours(Backbone):
    """Its cells are mean colours of squares of two pixels, its vector the mean colour of all."""

    def __init__(self, size: tuple[int, int] = (8, 12)) -> None:
        super().__init__({"model": "colours", "class": "Colours"}, torch.device("cpu"), size)

    def squeezed(self, picture: Image.Image, corners: Corners | None = None) -> Tensor:
        height, width = self.size
        resized = picture.resize((width, height), Image.Resampling.BOX, box=corners)
        return torch.from_numpy(np.array(resized, dtype=np.float32)).permute(2, 0, 1)

    def cells(self, inputs: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(inputs, 2)

    def vectors(self, inputs: Tensor) -> Tensor:
        return inputs.mean((2, 3))


def of_boxes(corners: list[Corners]) -> PlacedBoxes:
    return PlacedBoxes({"a": tuple(corners)}, {}, 0, len(corners), 0, 0)


def test_a_crop_is_the_pixels_of_its_box() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    corners: list[Corners] = [(0, 0, 40, 30), (4, 5, 28, 21), (0, 0, 12, 8)]
    crops = Crops(Colours(), of_boxes(corners))
    (seen,) = crops.see([crops.prepare(Image.fromarray(pixels), "a")])
    means = [pixels[y1:y2, x1:x2].mean((0, 1)) for x1, y1, x2, y2 in np.array(corners, dtype=int)]
    np.testing.assert_allclose(seen.regions, means, atol=0.6)  # a resized pixel is rounded
    np.testing.assert_array_equal(seen.boxes, [[0, 0, 40, 30], [4, 5, 24, 16], [0, 0, 12, 8]])


def test_crops_of_a_batch_go_to_their_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.extraction.given_boxes.CROPS", 2)
    given_boxes = PlacedBoxes({"a": ((0, 0, 4, 4),) * 3, "b": ((0, 0, 4, 4),)}, {}, 0, 4, 0, 0)
    crops = Crops(Colours(), given_boxes)
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    red, blue = crops.see([crops.prepare(picture, image) for picture, image in zip(pictures, "ab", strict=True)])
    np.testing.assert_array_equal(red.regions, [[255, 0, 0]] * 3)
    np.testing.assert_array_equal(blue.regions, [[0, 0, 255]])


@given(st.lists(st.tuples(*[st.integers(0, 240)] * 4), min_size=1, max_size=4))
def test_a_mean_of_the_map_counts_each_cell_by_what_the_box_covers(places: list[tuple[int, int, int, int]]) -> None:
    corners = [(min(a, c) / 10, min(b, d) / 15, max(a, c) / 10 + 0.5, max(b, d) / 15 + 0.5) for a, b, c, d in places]
    pixels = np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)  # 4 x 4 pixels a cell
    corners = [(x1, y1, min(x2, 24), min(y2, 16)) for x1, y1, x2, y2 in corners if x1 < 24 and y1 < 16]
    if not corners:
        return
    means = MapMeans(Colours(), of_boxes(corners))
    (seen,) = means.see([means.prepare(Image.fromarray(pixels), "a")])
    cells = Colours().cells(Colours().squeezed(Image.fromarray(pixels))[None])[0].numpy()
    for region, (x1, y1, x2, y2) in zip(seen.regions, corners, strict=True):
        total = np.zeros(3)
        for row in range(4):
            for column in range(6):
                across = max(0.0, min(x2, 4 * column + 4) - max(x1, 4 * column))
                down = max(0.0, min(y2, 4 * row + 4) - max(y1, 4 * row))
                total += across * down * cells[:, row, column]
        np.testing.assert_allclose(region, total / ((x2 - x1) * (y2 - y1)), rtol=1e-4)


def test_a_box_beside_all_patches_has_the_nearest() -> None:
    backbone = Colours()
    backbone.covered = (0.5, 0.5)
    means = MapMeans(backbone, of_boxes([(20, 12, 24, 16)]))
    pixels = np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    (seen,) = means.see([means.prepare(Image.fromarray(pixels), "a")])
    last = backbone.cells(backbone.squeezed(Image.fromarray(pixels))[None])[0, :, -1, -1]
    np.testing.assert_allclose(seen.regions, last[None].numpy())


# The command


def boxes_of(images: Path) -> dict[str, list[list[float]]]:
    sizes = {path.stem: SHAPES[int(path.stem) % len(SHAPES)] for path in images.iterdir()}
    return {image: [[0, 0, width / 2, height], [3, 4, width, height]] for image, (width, height) in sizes.items()}


@pytest.mark.parametrize("by", ["crop", "map"])
def test_the_command_makes_a_store_of_given_boxes(
    models: Path, images: Path, tmp_path: Path, call: Call, capsys: Captured, by: str
) -> None:
    boxes = {**boxes_of(images), "absent": [[0, 0, 1, 1]]}
    boxes["2"][1] = [-5, 4, 90, 50]
    boxes["4"] = []
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    words = ["data", "extract", str(images), "--to", str(tmp_path / "store"), "--model", str(models / "clip")]
    words += ["--boxes-from", str(tmp_path / "boxes.json"), "--whole", "--boxless", "whole", "--boxes-by", by]
    assert call(*words) == 0
    out = capsys.readouterr().out
    for line in (
        "cut at the edge of their pictures: 1 of 16 boxes",
        "one region, as no box is given: 1 picture",
        "boxes left out, as their pictures are not here: those of 1 image",
    ):
        assert line in out
    store = open_store(tmp_path / "store", tmp_path / "cache")
    assert store.images.counts.tolist() == [3, 3, 3, 3, 1, 3, 3, 3, 3] and store.boxes is not None
    np.testing.assert_allclose(store.boxes[2], [[0, 0, 90, 50], [0, 0, 45, 50], [0, 4, 90, 46]])
    assert store.facts.origin["kind"] == "given boxes" and store.facts.origin["by"] == by
    assert store.facts.width == (16 if by == "map" else 512)  # hidden states, or the projected vector
    assert call(*words) == 0
    assert "all of it was there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("yolos", (), "--boxes-from: .*yolos is an object detector, whose regions are boxes of its own"),
        ("vit", ("--pool", "2"), r"--pool 2: .*vit sees given boxes \(--boxes-from\); leave that flag out"),
        ("vit", ("--pooled",), "--pooled: .*vit sees given boxes"),
    ],
)
def test_flags_of_other_regions_are_refused_beside_given_boxes(
    models: Path, images: Path, tmp_path: Path, call: Call, capsys: Captured, name: str, flags: Any, said: str
) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps(boxes_of(images)))
    words = ["data", "extract", str(images), "--to", str(tmp_path / "store"), "--model", str(models / name)]
    assert call(*words, "--boxes-from", str(tmp_path / "boxes.json"), *flags) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "store").exists()
