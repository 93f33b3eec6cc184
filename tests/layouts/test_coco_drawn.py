"""COCO files as they are published: a seed deals out the splits, and an image without a box is one region."""

from __future__ import annotations

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

ROOT = Path(__file__).parents[2]
OFFICIAL = ROOT / "datasets" / "coco-val2017" / "card.toml"
REAL = ROOT.parent / "shared" / "data" / "coco_val2017"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the captions of val2017 are not here")
NAMES = {"captions": "captions.json", "instances": "instances.json"}
SIZES = {"train": {"images": 2, "captions": 5}, "test": {"images": 1, "captions": 1}}
DEALT = {"options": {**NAMES, "split_seed": 4}, "splits": SIZES}  # the seed that gives image 30 to test


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
    found = drawn(images, sizes, seed)
    assert {name: len(ids) for name, ids in found.items()} == sizes
    assert sorted(image for ids in found.values() for image in ids) == images
    names = any_.sample(sorted(sizes), len(sizes))
    assert drawn(any_.sample(images, len(images)), {name: sizes[name] for name in names}, seed) == found


def test_train_comes_first_then_val_then_test_of_the_permuted_ids() -> None:
    order = np.random.default_rng(3).permutation(np.arange(10)).tolist()
    found = drawn([*range(9, -1, -1)], {"test": 1, "val": 2, "train": 7}, 3)
    assert found == {"train": order[:7], "val": order[7:9], "test": order[9:]}


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
