"""The official COCO layout: a small folder is read, a seed deals out splits, broken folders are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_files import CARD, Files, files, opened
from hypothesis import given
from hypothesis import strategies as st

from harness.config.cards import DatasetCard, read_card
from harness.data.content import Place
from harness.data.split import check_split
from harness.errors import ConfigError, DataError
from harness.layouts.coco import Coco, drawn
from harness.layouts.opening import open_dataset

ROOT = Path(__file__).parents[2]
OFFICIAL = ROOT / "datasets" / "coco-val2017" / "card.toml"
REAL = ROOT.parent / "shared" / "data" / "coco_val2017"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the captions of val2017 are not here")
NAMES = {"captions": "captions.json", "instances": "instances.json"}
SIZES = {"train": {"images": 2, "captions": 5}, "test": {"images": 1, "captions": 1}}
DEALT = {"options": {**NAMES, "split_seed": 4}, "splits": SIZES}  # the seed that gives image 30 to test


def test_a_region_is_category_box_and_image_aspect(tmp_path: Path) -> None:
    images = opened(tmp_path, files()).split("train").images
    right_below = [0, 0, 1, 0.5, 0.5, 1, 1, 0.5, 0.5, 0.25, 0.75, 0.75, 2]
    np.testing.assert_allclose(images[0], [right_below, [1, 0, 0, 0, 0, 0.1, 0.2, 0.1, 0.2, 0.02, 0.05, 0.1, 2]])
    assert images[0].dtype == np.float32


def test_the_largest_boxes_come_first_equals_by_id_and_crowds_are_left_out(tmp_path: Path) -> None:
    boxes = opened(tmp_path, files()).split("train").boxes
    assert boxes is not None
    assert boxes[0].tolist() == [[50, 25, 50, 25], [0, 0, 10, 10]]
    assert boxes[1].tolist() == [[20, 10, 10, 5], [0, 0, 5, 10]]


def test_all_captions_of_an_image_are_used_in_the_order_of_their_ids(tmp_path: Path) -> None:
    split = opened(tmp_path, files()).split("train")
    assert split.captions == ("a dog .", "one dog", "three", "cats", "two cats")
    assert split.pairs.tolist() == [[0, 0], [0, 1], [1, 2], [1, 3], [1, 4]]
    assert split.image_ids == ("10", "20")


def test_a_limit_keeps_the_first_images_and_their_captions_and_the_whole_vocabulary(tmp_path: Path) -> None:
    whole, part = opened(tmp_path, files()), opened(tmp_path, files(), limit=1)
    split = part.split("train")
    assert (len(split.images), split.captions, split.pairs.tolist()) == (1, ("a dog .", "one dog"), [[0, 0], [0, 1]])
    assert split.boxes is not None and len(split.boxes) == 1 and len(split.tokens) == 2
    assert part.vocabulary.word2idx == whole.vocabulary.word2idx
    assert [split.tokens[i].tolist() for i in range(2)] == [whole.split("train").tokens[i].tolist() for i in range(2)]


def test_a_caption_of_unknown_words_only_is_kept_and_counted(tmp_path: Path) -> None:
    dataset = opened(tmp_path, files())
    assert len(dataset.split("test").captions) == 1
    assert dataset.unknown_only == {"test": 1}


def _drop(name: str, key: str, index: int) -> Callable[[Files], Any]:
    return lambda content: content[name][key].pop(index)


def _set(name: str, key: str, index: int, field: str, value: Any) -> Callable[[Files], Any]:
    return lambda content: content[name][key][index].update({field: value})


BROKEN: dict[str, tuple[Callable[[Files], Any], str]] = {
    "an id in two splits": (
        lambda c: c["split.json"]["test"].append(20),
        r"split\.json, \[test\], entry 1: image 20 stands in \[train\], entry",
    ),
    "an id twice in a split": (
        lambda c: c["split.json"]["test"].append(30),
        r"split\.json, \[test\], entry 1: image 30 stands in \[test\], entry 0 already",
    ),
    "an id that is none": (lambda c: c["split.json"]["test"].append("x"), r"split\.json.*'x'"),
    "a split that is absent": (lambda c: c["split.json"].pop("test"), r"split\.json: no split 'test'"),
    "an image without caption": (
        _drop("captions.json", "annotations", 5),
        r"captions\.json, image 30: without a caption",
    ),
    "an image without box": (_drop("instances.json", "annotations", 6), r"instances\.json, image 30: without a box"),
    "an unknown image": (_drop("instances.json", "images", 0), r"instances\.json, image 30: not among the images"),
    "an empty caption": (
        _set("captions.json", "annotations", 5, "caption", " "),
        r"captions\.json, caption 95: an empty caption, of image 30",
    ),
    "a caption id twice": (
        _set("captions.json", "annotations", 5, "id", 100),
        r"captions\.json, annotations\[5\]: id 100 stands twice",
    ),
    "an image id twice": (
        _set("instances.json", "images", 0, "id", 20),
        r"instances\.json, images\[1\]: id 20 stands twice",
    ),
    "a box without category": (
        _set("instances.json", "annotations", 6, "category_id", 4),
        r"annotation 7: has category 4",
    ),
    "a box of NaN": (
        _set("instances.json", "annotations", 6, "bbox", [0, 0, 1, float("nan")]),
        r"annotations\[6\]: id 7, bbox\.3: Input should be a finite number \(got nan\)",
    ),
    "an image of no height": (
        _set("instances.json", "images", 0, "height", 0),
        r"images\[0\]: id 30, height: Input should be greater than 0",
    ),
    "a field left out": (
        lambda c: c["instances.json"]["annotations"][6].pop("bbox"),
        r"annotations\[6\]: id 7 has no 'bbox'",
    ),
    "a box that is no list": (_set("instances.json", "annotations", 6, "bbox", 3), r"id 7, bbox.* \(got 3\)"),
    "a box of three": (_set("instances.json", "annotations", 6, "bbox", [1, 2, 3]), r"id 7 has no 'bbox\.3'"),
    "a width in words": (_set("instances.json", "images", 0, "width", "wide"), r"id 30, width.*'wide'"),
    "a caption of no text": (_set("captions.json", "annotations", 5, "caption", 7), r"id 95, caption.*\(got 7\)"),
    "an id of a list": (_set("captions.json", "annotations", 5, "id", [1]), r"annotations\[5\]: .*id.*valid integer"),
    "an entry that is none": (
        lambda c: c["instances.json"]["images"].append("x"),
        r"images\[3\]: .*dictionary.* \(got 'x'\)",
    ),
    "another kind of file": (lambda c: c["captions.json"].pop("annotations"), r"captions\.json: no list 'annotations'"),
    "a list for an object": (lambda c: c.update({"split.json": []}), r"split\.json: a JSON object is expected"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_by_file_and_id(tmp_path: Path, kind: str) -> None:
    content = files()
    breaks, message = BROKEN[kind]
    breaks(content)
    with pytest.raises(DataError, match=message):
        opened(tmp_path, content).split("test")


def test_a_file_cut_short_is_refused_with_its_place(tmp_path: Path) -> None:
    opened(tmp_path, files())
    (tmp_path / "tiny" / "split.json").write_text('{"train": [1,', encoding="utf-8")
    with pytest.raises(DataError, match=r"split\.json: not readable as JSON .*line 1"):
        open_dataset(DatasetCard.model_validate(CARD), tmp_path, tmp_path / "cache").split("test")


def test_a_card_without_a_files_name_is_refused_by_field(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"card\.toml.*options\.split"):
        opened(tmp_path, files(), options={"captions": "captions.json", "instances": "instances.json"})


def without(content: Files, *images: int) -> Files:
    """The files without the boxes of these images, and without a split."""
    objects = content["instances.json"]
    objects["annotations"] = [box for box in objects["annotations"] if box["image_id"] not in images]
    content.pop("split.json")
    return content


def test_a_seed_deals_out_the_images_that_have_captions(tmp_path: Path) -> None:
    dataset = opened(tmp_path, without(files()), **DEALT)
    assert {*dataset.split("train").image_ids} == {"10", "20"} and dataset.split("test").image_ids == ("30",)
    assert not (tmp_path / "tiny" / "split.json").exists()


@given(
    st.dictionaries(st.sampled_from(["test", "b", "train", "val", "a"]), st.integers(0, 9), min_size=1),
    st.integers(0, 99),
    st.randoms(),
)
def test_splits_are_of_their_sizes_apart_and_the_same_in_any_order(sizes: dict[str, int], seed: int, any_: Any) -> None:
    images = [7 * number for number in range(sum(sizes.values()))]
    splits = drawn(images, sizes, seed)
    assert {name: len(ids) for name, ids in splits.items()} == sizes
    assert sorted(image for ids in splits.values() for image in ids) == images
    names = any_.sample(sorted(sizes), len(sizes))
    assert drawn(any_.sample(images, len(images)), {name: sizes[name] for name in names}, seed) == splits


def test_train_comes_first_then_val_then_test_of_the_permuted_ids() -> None:
    order = np.random.default_rng(3).permutation(np.arange(10)).tolist()
    splits = drawn([*range(9, -1, -1)], {"test": 1, "val": 2, "train": 7}, 3)
    assert splits == {"train": order[:7], "val": order[7:9], "test": order[9:]}


def test_another_number_of_images_than_the_card_adds_up_to_is_refused(tmp_path: Path) -> None:
    wrong = {**DEALT, "splits": {**SIZES, "val": {"images": 1, "captions": 1}}}
    with pytest.raises(DataError, match=r"captions\.json: 3 images have captions, .*card\.toml add up to 4"):
        opened(tmp_path, without(files()), **wrong).split("test")


def test_an_image_without_a_box_is_one_region_of_no_category(tmp_path: Path) -> None:
    options = {**DEALT["options"], "boxless": "whole"}
    content = without(files(), 30)
    split = opened(tmp_path, content, **{**DEALT, "options": options}).split("test")
    assert split.images[0].tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0.5, 0.5, 2]]
    assert split.boxes is not None and split.boxes[0].tolist() == [[0, 0, 100, 50]]
    reader = Coco(Place(DatasetCard.model_validate({**CARD, **DEALT, "options": options}), tmp_path / "tiny", tmp_path))
    assert reader.preview("30").labels == ("the whole image",)
    assert "the whole image" not in reader.preview("10").labels


def test_an_image_of_crowds_alone_has_no_box(tmp_path: Path) -> None:
    content = without(files())
    content["instances.json"]["annotations"][6]["iscrowd"] = 1
    options = {**DEALT["options"], "boxless": "whole"}
    split = opened(tmp_path, content, **{**DEALT, "options": options}).split("test")
    assert split.images[0][0, :7].tolist() == [0, 0, 0, 0, 0, 1, 1]


def test_without_the_option_an_image_without_a_box_is_refused_and_the_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"image 30: without a box, which boxless = .* allows, but in card\.toml \[test\]"
    ):
        opened(tmp_path, without(files(), 30), **DEALT).split("test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "split.json", "split_seed": 0}, r"'options\.split' and 'options\.split_seed'; give one"),
        ({}, r"needs the key 'options\.split'"),
        ({"split_seed": "x"}, r"'options\.split_seed' is 'x'; a whole number"),
        ({"split_seed": 0, "boxless": "skip"}, r"'options\.boxless' is 'skip'; it can be 'refuse' or 'whole'"),
    ],
)
def test_a_wrong_option_is_refused_by_name(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(tmp_path, files(), options={**NAMES, **options}).split("test")


@real
def test_the_counts_of_coco_val2017_are_those_of_the_official_captions_with_every_image(tmp_path: Path) -> None:
    card = read_card(DatasetCard, OFFICIAL)
    reader, whole = Coco(Place(card, REAL, tmp_path)), 0
    for name in card.splits:
        content = reader.read(name)
        check_split(card, name, content)
        whole += sum(not content.images[row][:, :80].any() for row in range(len(content.images)))
    assert whole == 5000 - 4952
    assert sum(size.captions for size in card.splits.values()) == 25_014
