"""Karpathy's files with regions by image id: a small one is read, and every kind of broken one is refused by entry."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import tiny_card, write_files
from hypothesis import given, settings
from hypothesis import strategies as st
from karpathy_files import WIDTH, Content, entry, regions_of, write_store

from harness.config.cards import DatasetCard
from harness.data.dataset import Dataset
from harness.data.region_writer import RegionWriter
from harness.errors import ConfigError, DataError
from harness.layouts import karpathy
from harness.layouts.karpathy import read_images
from harness.layouts.opening import fingerprint, open_dataset
from harness.layouts.previews import Previews

FILE = "dataset_tiny.json"
CARD = tiny_card(
    "karpathy",
    feature_width=WIDTH,
    max_regions=4,
    splits={"train": {"images": 3, "captions": 6}, "test": {"images": 1, "captions": 3}},
    options={"annotations": FILE, "train": "train,restval", "image_id": "cocoid"},
    protocols=[{"name": "all", "images": 1, "captions": 3}],
)


def content() -> Content:
    images = [
        entry(4, "train", "a dog ", "two\ndogs  run"),
        entry(2, "test", "one bus", "a red bus", "the bus"),
        entry(1, "restval", "Cats.", "cats", "three cats"),
        entry(0, "val", "nobody asks"),
        entry(3, "train", "a tree"),
    ]
    return {"images": images, "dataset": "coco"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root; the store holds images 0, 10, … 50, of which the file does not know the last."""
    write_store(tmp_path / "tiny" / "regions", [str(10 * number) for number in range(6)])
    put(tmp_path, content())
    return tmp_path


def put(root: Path, value: Any) -> Path:
    return write_files(root / "tiny", {FILE: value}) / FILE


def opened(root: Path, **changes: Any) -> Dataset:
    options = {**CARD["options"], **changes.pop("options", {})}
    return open_dataset(DatasetCard.model_validate({**CARD, "options": options, **changes}), root, root / "cache")


def test_splits_are_read_in_the_order_of_the_file_with_the_regions_of_their_ids(root: Path) -> None:
    split = opened(root).split("train")
    assert split.image_ids == ("40", "10", "30")
    assert split.captions == ("a dog", "two dogs run", "Cats.", "cats", "three cats", "a tree")
    assert split.pairs.tolist() == [[0, 0], [0, 1], [1, 2], [1, 3], [1, 4], [2, 5]]
    for row, number in enumerate((4, 1, 3)):
        np.testing.assert_array_equal(split.images[row], regions_of(number))
    assert split.boxes is not None and split.boxes[1].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert isinstance(split.images.rows, np.memmap)


def test_images_and_captions_are_told_by_their_entries_in_the_file(root: Path) -> None:
    split = opened(root).split("train")
    assert [split.location("image", image).entry for image in range(3)] == ["images[0]", "images[2]", "images[4]"]
    entries = [split.location("caption", caption).entry for caption in (0, 1, 2, 4, 5)]
    assert entries[:2] == ["images[0], sentences[0]", "images[0], sentences[1]"]
    assert entries[2:] == ["images[2], sentences[0]", "images[2], sentences[2]", "images[4], sentences[0]"]
    assert split.location("image", 0).file == FILE


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("stem", "COCO_val2014_{:06d}"),
        ("filename", "COCO_val2014_{:06d}.jpg"),
        ("cocoid", "{}"),
    ],
)
def test_an_image_is_found_by_the_key_that_the_card_names(tmp_path: Path, key: str, names: str) -> None:
    write_store(tmp_path / "tiny" / "regions", [names.format(10 * number) for number in range(5)], boxes=False)
    put(tmp_path, content())
    split = opened(tmp_path, options={"image_id": key}).split("test")
    assert split.image_ids == (names.format(20),)
    np.testing.assert_array_equal(split.images[0], regions_of(2))


def test_where_no_image_is_in_the_store_both_sides_are_shown_and_the_key_that_would_match(root: Path) -> None:
    with pytest.raises(DataError) as error:
        opened(root, options={"image_id": "stem"}).split("train")
    for part in ("[train]", "'COCO_val2014_000040'", "'0', '10', '20', …", 'needs image_id = "cocoid"', "card.toml"):
        assert part in str(error.value), error.value


def test_where_no_key_matches_none_is_offered(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    write_store(other / "tiny" / "regions", ["a", "b"])
    put(other, content())
    with pytest.raises(DataError, match=r"not one of its 3 images.*Both must name images alike"):
        opened(other).split("train")


def test_the_first_captions_alone_are_used_where_the_card_says_so(root: Path) -> None:
    sizes = {"train": {"images": 3, "captions": 5}, "test": {"images": 1, "captions": 2}}
    assert len(opened(root).split("train").captions) == 6
    dataset = opened(root, options={"most_captions": 2}, splits=sizes)
    assert dataset.split("train").captions == ("a dog", "two dogs run", "Cats.", "cats", "a tree")
    assert dataset.split("test").captions == ("one bus", "a red bus")


def test_a_file_that_was_read_is_not_parsed_again_until_it_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = opened(root).split("train").captions
    path = root / "tiny" / FILE
    status = path.stat()
    with monkeypatch.context() as patch:
        patch.setattr(karpathy, "read_json", lambda *_: pytest.fail("parsed again"))
        assert opened(root).split("train").captions == captions
    put(root, b"[" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as far as size and time tell, nothing has changed
    with pytest.raises(DataError, match="not readable as JSON"):
        opened(root).split("train")


def test_the_file_may_lie_in_a_folder_of_its_own_and_one_of_its_name_elsewhere_says_nothing(root: Path) -> None:
    other = {"images": [entry(0, "train", "another"), entry(1, "train", "release"), entry(2, "test", "of it")]}
    write_files(root / "tiny", {FILE: other, f"ann/{FILE}": content()})
    options = {"annotations": f"ann/{FILE}"}
    assert opened(root, options=options).split("train").captions[0] == "a dog"
    write_files(root / "tiny", {f"ann/{FILE}": json.loads(json.dumps(content()).replace("a dog", "one dog"))})
    assert opened(root, options=options).split("train").captions[0] == "one dog"
    (root / "tiny" / FILE).unlink()
    assert opened(root, options=options).split("train").captions[0] == "one dog"


def test_the_fingerprint_follows_the_captions_and_the_regions_and_not_how_the_store_was_made(root: Path) -> None:
    card = DatasetCard.model_validate(CARD)
    before = fingerprint(card, root, root / "cache")
    facts = root / "tiny" / "regions" / "store.json"
    facts.write_text(facts.read_text().replace("a test", "another"))
    assert fingerprint(card, root, root / "cache") == before
    put(root, {**content(), "dataset": "another"})
    assert fingerprint(card, root, root / "cache") != before


def test_looks_have_the_size_and_boxes_of_the_store(root: Path) -> None:
    looks = Previews(DatasetCard.model_validate(CARD), root, root / "cache")
    look = looks.of("10")
    assert look.size == (64, 48) and look.boxes == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert looks.of("nobody").size is None


def _set(index: int, key: str, value: Any) -> Callable[[Content], Any]:
    return lambda whole: whole["images"][index].update({key: value})


def _drop(index: int, key: str) -> Callable[[Content], Any]:
    return lambda whole: whole["images"][index].pop(key)


BROKEN: dict[str, tuple[Callable[[Content], Any], str]] = {
    "no split": (_drop(0, "split"), r"images\[0\]: has no 'split'"),
    "a split of no text": (_set(1, "split", 3), r"images\[1\]: has no 'split'"),
    "a split that is absent": (_set(2, "split", "train"), r"no image of a split 'restval'; it holds test, train, val"),
    "an entry that is none": (lambda whole: whole["images"].append(7), r"images\[5\]: has no 'split'"),
    "no list of images": (lambda whole: whole.update(images={"0": {}}), r"no list 'images'"),
    "no image": (lambda whole: whole.update(images=[]), r"no list 'images'"),
    "no sentences": (_drop(1, "sentences"), r"images\[1\]: has no 'sentences'"),
    "sentences that are none": (_set(1, "sentences", []), r"images\[1\]: has no 'sentences'"),
    "a sentence that is none": (
        _set(1, "sentences", [{"raw": "x"}, 5]),
        r"images\[1\], sentences\[1\]: its 'raw' is 5",
    ),
    "no text": (_set(1, "sentences", [{"tokens": ["x"]}]), r"images\[1\], sentences\[0\]: its 'raw' is None"),
    "an empty text": (_set(1, "sentences", [{"raw": " \n"}]), r"images\[1\], sentences\[0\]: its 'raw' is empty"),
    "half a character": (_set(1, "sentences", [{"raw": "\ud800"}]), r"images\[1\], sentences\[0\]: .* no Unicode"),
    "no id": (_drop(1, "cocoid"), r"images\[1\]: has no 'cocoid'; options\.image_id can be filename or imgid or stem"),
    "an id that is none": (_set(1, "cocoid", True), r"images\[1\]: its cocoid is True"),
    "an image twice": (_set(4, "cocoid", 40), r"images\[4\]: image '40', as images\[0\] is"),
    "an image in two splits": (_set(1, "cocoid", 40), r"images\[1\]: image '40', as images\[0\] is"),
    "an image without regions": (_set(1, "cocoid", 70), r"\[test\]: not one of its 1 images"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_by_entry(root: Path, kind: str) -> None:
    whole = content()
    breaks, message = BROKEN[kind]
    breaks(whole)
    put(root, whole)
    with pytest.raises(DataError, match=message) as error:
        opened(root).split("test")
    assert FILE in str(error.value)


def test_single_images_without_regions_are_counted_and_named(root: Path) -> None:
    whole = content()
    whole["images"][0]["cocoid"] = 999
    put(root, whole)
    with pytest.raises(DataError, match=r"\[train\]: image '999' is not in the store .* \(1 of 3 are not\)"):
        opened(root).split("train")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"images": [', r"dataset_tiny\.json: not readable as JSON .*line 1 column 13"),
        (b"[" * 100_000, r"dataset_tiny\.json: not readable as JSON"),
        ('{"images": "café"}'.encode("latin-1"), r"dataset_tiny\.json, line 1: not UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", r"Git LFS pointer"),
        (b"[]", r"no list 'images'"),
        (b"", r"dataset_tiny\.json: not readable as JSON"),
    ],
)
def test_what_is_no_json_of_that_kind_is_refused(root: Path, data: bytes, message: str) -> None:
    put(root, data)
    with pytest.raises(DataError, match=message):
        opened(root).split("test")


def test_absent_files_are_named_with_the_store_among_them(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        opened(tmp_path)
    assert FILE in str(error.value) and "regions/store.json" in str(error.value) and "the moon" in str(error.value)


def test_a_store_that_was_not_finished_is_told(tmp_path: Path) -> None:
    put_into = tmp_path / "tiny" / "regions"
    with RegionWriter(put_into, "float32", {}) as writer:
        writer.add("0", regions_of(0))
    put(tmp_path, content())
    with pytest.raises(DataError, match="it was not finished"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_id": "cocid"}, r"card\.toml: 'options\.image_id' is 'cocid'; it can be stem, filename, cocoid, imgid"),
        ({"test": "restval"}, r"the file's split 'restval' twice"),
        ({"most_captions": "five"}, r"options\.most_captions.*whole number"),
    ],
)
def test_a_card_that_makes_no_sense_is_refused_by_its_option(root: Path, options: Content, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(root, options=options)


@given(st.binary(max_size=60) | st.text(max_size=30).map(lambda text: f'{{"images": [{text}]}}'.encode()))
def test_any_bytes_are_images_or_a_data_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        path.write_bytes(data)
        try:
            assert read_images(path)
        except DataError as error:
            assert FILE in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["raw", "split", "x"]), inner),
    max_leaves=6,
)
KEYS = ("filename", "cocoid", "split", "sentences")


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shared")
    write_store(root / "tiny" / "regions", ["0"])
    return root


@given(st.dictionaries(st.sampled_from(KEYS), json_values), st.sampled_from(["stem", "filename", "cocoid", "imgid"]))
@settings(max_examples=60, deadline=None)
def test_any_entry_is_read_or_a_data_error(shared_root: Path, changes: Content, key: str) -> None:
    whole = content()
    whole["images"][1].update(changes)
    data = json.dumps(whole).encode()
    name = f"{hashlib.sha256(data).hexdigest()}.json"
    (shared_root / "tiny" / name).write_bytes(data)
    try:
        opened(shared_root, options={"image_id": key, "annotations": name}).split("test")
    except DataError as error:
        assert name in str(error) or "tiny test" in str(error)
