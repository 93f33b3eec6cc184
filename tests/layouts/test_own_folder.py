"""A plain folder of one's own: any captions of any images are read back, and every broken line is refused by number."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import tiny_card, write_files
from hypothesis import given, settings
from hypothesis import strategies as st
from karpathy_files import WIDTH, regions_of, write_store
from PIL import Image

from harness.config.cards import DatasetCard
from harness.data.content import Place
from harness.data.dataset import Dataset
from harness.data.region_writer import discard
from harness.errors import DataError
from harness.layouts.opening import open_dataset
from harness.layouts.own_folder import OwnFolder, read_captions, read_split
from harness.layouts.previews import Previews

NAMES = [f"my picture {number}" for number in range(5)]
SPLIT: dict[str, list[Any]] = {"train": [NAMES[3], NAMES[0]], "test": [NAMES[1]], "about": []}
SPLIT_OF_FOLDERS = {"train": ["2019/1", "b"], "test": ["c"]}
LINES: list[Any] = [
    {"id": "a", "image": NAMES[1], "text": "one bus"},
    {"id": 2, "image": NAMES[0], "text": " a  dog\n", "by": "somebody"},
    {"id": "c", "image": NAMES[4], "text": "in no split"},
    {"id": "d", "image": NAMES[3], "text": "Ein Bär"},
    {"id": "e", "image": NAMES[0], "text": "the dog"},
]
CARD = tiny_card(
    "folder",
    feature_width=WIDTH,
    max_regions=4,
    splits={"train": {"images": 2, "captions": 3}, "test": {"images": 1, "captions": 1}},
    protocols=[{"name": "all", "images": 1, "captions": 1}],
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with the dataset."""
    write_store(tmp_path / "tiny" / "regions", NAMES)
    put(tmp_path, LINES, SPLIT)
    return tmp_path


def put(root: Path, lines: list[Any], split: Any) -> None:
    texts = (line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines)
    write_files(root / "tiny", {"captions.jsonl": b"\n".join(texts) + b"\n", "split.json": split})


def opened(root: Path, **changes: Any) -> Dataset:
    return open_dataset(DatasetCard.model_validate({**CARD, **changes}), root, root / "cache")


def test_images_stand_in_the_order_of_the_split_and_captions_in_the_order_of_their_lines(root: Path) -> None:
    split = opened(root).split("train")
    assert split.image_ids == (NAMES[3], NAMES[0])
    assert split.captions == ("Ein Bär", "a dog", "the dog")
    assert split.pairs.tolist() == [[0, 0], [1, 1], [1, 2]]
    for row, number in enumerate((3, 0)):
        np.testing.assert_array_equal(split.images[row], regions_of(number))
    assert opened(root).split("train").captions == split.captions


def test_images_and_captions_are_told_by_file_entry_and_line(root: Path) -> None:
    split = opened(root).split("train")
    assert [str(split.location("caption", caption)) for caption in range(3)] == [
        "captions.jsonl, line 4",
        "captions.jsonl, line 2",
        "captions.jsonl, line 5",
    ]
    assert str(split.location("image", 1)) == "split.json, [train], entry 1"


def test_a_card_may_name_another_file_of_splits_and_what_it_calls_them(root: Path) -> None:
    expected = opened(root).split("train")
    write_files(root / "tiny", {"official.json": {"dev": SPLIT["train"], "test": SPLIT["test"]}})
    split = opened(root, options={"split": "official.json", "train": "dev"}).split("train")
    assert (split.captions, split.image_ids) == (expected.captions, expected.image_ids)
    assert str(split.location("image", 1)) == "official.json, [dev], entry 1"
    with pytest.raises(DataError, match=r"official\.json: no images in a split 'train'; it holds dev, test"):
        opened(root, options={"split": "official.json"}).split("train")
    with pytest.raises(DataError, match=r"absent\.json"):
        opened(root, options={"split": "absent.json"})


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_windows_line_ends_and_marks_are_accepted(root: Path, start: bytes) -> None:
    expected = opened(root).split("train")
    for name in ("captions.jsonl", "split.json"):
        path = root / "tiny" / name
        path.write_bytes(start + path.read_bytes().removesuffix(b"\n").replace(b"\n", b"\r\n"))
    split = opened(root).split("train")
    assert (split.captions, split.image_ids) == (expected.captions, expected.image_ids)


def test_numbers_and_their_digits_are_one_id(tmp_path: Path) -> None:
    write_store(tmp_path / "tiny" / "regions", ["7", "8", "9"])
    lines = [{"id": number, "image": image, "text": "x"} for number, image in enumerate((7, "8", 9, 9))]
    put(tmp_path, lines, {"train": ["7", 9], "test": [8]})
    assert opened(tmp_path).split("train").image_ids == ("7", "9")


def test_a_look_has_the_boxes_of_the_store_and_the_picture_of_the_folder(root: Path) -> None:
    (root / "tiny" / "images").mkdir()
    Image.new("RGB", (64, 48), "red").save(root / "tiny" / "images" / f"{NAMES[1]}.png")
    looks = Previews(DatasetCard.model_validate(CARD), root, root / "cache")
    look = looks.of(NAMES[1])
    assert look.picture is not None and look.picture.getpixel((3, 3)) == (255, 0, 0)
    assert look.size == (64, 48) and look.boxes == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert looks.of(NAMES[0]).picture is None


Change = Callable[[list[Any], dict[str, Any]], Any]
BROKEN: dict[str, tuple[Change, str]] = {
    "no JSON": (lambda lines, split: lines.insert(1, b"{oops"), r"captions\.jsonl, line 2: not readable as JSON"),
    "no object": (lambda lines, split: lines.insert(1, [1]), r"captions\.jsonl, line 2: has no 'id'; a line is"),
    "no image": (lambda lines, split: lines[3].pop("image"), r"line 4: has no 'image'"),
    "no text": (lambda lines, split: lines[3].pop("text"), r"line 4: has no 'text'"),
    "an empty text": (lambda lines, split: lines[3].update(text=" \t"), r"line 4: its 'text' is empty"),
    "a text of numbers": (lambda lines, split: lines[3].update(text=5), r"line 4: its 'text' is 5"),
    "half a character": (
        lambda lines, split: lines.insert(0, rb'{"id": 0, "image": "x", "text": "\udc00"}'),
        r"line 1: its 'text' is no Unicode",
    ),
    "a fraction for an id": (lambda lines, split: lines[3].update(image=1.5), r"line 4: its 'image' is 1\.5"),
    "an id of two lines": (lambda lines, split: lines[3].update(id="a\nb"), r"line 4: its 'id' is 'a\\nb'"),
    "not UTF-8": (lambda lines, split: lines.insert(2, "caf\xe9".encode("latin-1")), r"line 3: not UTF-8"),
    "an empty line": (lambda lines, split: lines.insert(2, b""), r"captions\.jsonl, line 3: an empty"),
    "a caption twice": (lambda lines, split: lines[4].update(id="2"), r"line 5: caption '2' is in line 2 already"),
    "nested without end": (lambda lines, split: lines.insert(0, b"[" * 100_000), r"line 1: not readable as JSON"),
    "a pointer": (
        lambda lines, split: lines.insert(0, b"version https://git-lfs.github.com/spec/v1"),
        r"line 1: not readable as JSON .*Git LFS pointer",
    ),
    "an image twice": (
        lambda lines, split: split["train"].append(NAMES[0]),
        r"split\.json, \[train\], entry 2: image 'my picture 0' stands in \[train\], entry 1 already",
    ),
    "an image in two splits": (
        lambda lines, split: split["test"].append(NAMES[0]),
        r"split\.json, \[test\], entry 1: image 'my picture 0' stands in \[train\], entry 1 already",
    ),
    "an image without caption": (
        lambda lines, split: split["train"].append(NAMES[2]),
        r"\[train\], entry 2: image 'my picture 2' has no caption in captions\.jsonl \(1 such images\)",
    ),
    "an image without regions": (
        lambda lines, split: (split["train"].append("x"), lines.append({"id": 9, "image": "x", "text": "y"})),
        r"split\.json, \[train\]: image 'x' is not in the store .* \(1 of 3 are not\)",
    ),
    "an id that is none": (lambda lines, split: split["test"].append(None), r"\[test\], entry 1: the id is None"),
    "a split that is no list": (lambda lines, split: split.update(test="x"), r"\[test\]: no list"),
    "a split less": (
        lambda lines, split: split.pop("test"),
        r"split\.json: no images in a split 'test'; it holds about, train; add it$",
    ),
    "a split of another name": (
        lambda lines, split: split.update(dev=split.pop("test")),
        r"no images in a split 'test'; it holds about, dev, train; rename the one that is meant, or choose it by the "
        r"card's option, \[options\] test = \"dev\"$",
    ),
    "a split of nothing": (
        lambda lines, split: split.update(test=[]),
        r"split\.json: the split 'test' is empty; give it images$",
    ),
    "a split of nothing beside another": (
        lambda lines, split: split.update(test=[], dev=[NAMES[1]]),
        r"'test' is empty; give it images, or choose another one by the card's option, \[options\] test = \"dev\"$",
    ),
    "a key twice": (
        lambda lines, split: lines.insert(1, b'{"id": 7, "image": "x", "text": "a", "text": "b"}'),
        r"captions\.jsonl, line 2: the key 'text' stands 2 times; keep one of them",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_refused_by_file_and_line(root: Path, kind: str) -> None:
    lines, split = json.loads(json.dumps(LINES)), json.loads(json.dumps(SPLIT))
    breaks, message = BROKEN[kind]
    breaks(lines, split)
    put(root, lines, split)
    with pytest.raises(DataError, match=message):
        opened(root).split("train")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"train": [1,', r"split\.json: not readable as JSON .*line 1"),
        (b"[1, 2]", r"split\.json: .* is expected, found a list"),
        (b'{"train": ["a"], "test": [], "test": ["b"]}', r"split\.json: the key 'test' stands 2 times; keep one"),
        (b"\xff\xfe{", r"split\.json, line 1: not UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1", r"split\.json: .*Git LFS pointer"),
    ],
)
def test_a_split_file_of_another_kind_is_refused(root: Path, data: bytes, message: str) -> None:
    put(root, LINES, data)
    with pytest.raises(DataError, match=message):
        opened(root).split("train")


@pytest.mark.parametrize(
    ("own", "other"),
    [("caf\u00e9", "cafe\u0301"), ("beach", "beach.jpg"), ("7", "0007"), ("Beach", "BEACH"), ("b.JPG", "train/b")],
)
def test_an_id_that_is_written_in_two_ways_is_told_with_both(tmp_path: Path, own: str, other: str) -> None:
    said = re.escape(f"{own!a} seems to be {other!a} there: name images alike in both, to the letter")
    split = {"train": [own, "b"], "test": ["c"]}
    lines = [{"id": image, "image": image, "text": "a dog"} for image in (own, "b", "c")]
    put(tmp_path, lines, split)
    for stored in ([other, "b", "c"], [other]):  # one of them is absent, or all are
        write_store(tmp_path / "tiny" / "regions", stored)
        with pytest.raises(DataError, match=said):
            opened(tmp_path).split("train")
        discard(tmp_path / "tiny" / "regions")
    write_store(tmp_path / "tiny" / "regions", [own, "b", "c"])
    put(tmp_path, [{**lines[0], "image": other}, *lines[1:]], split)
    with pytest.raises(DataError, match=f"has no caption in .*; {said}"):
        opened(tmp_path).split("train")


def test_an_id_of_another_folder_is_another_image(tmp_path: Path) -> None:
    put(tmp_path, [{"id": image, "image": image, "text": "a dog"} for image in ("2019/1", "b", "c")], SPLIT_OF_FOLDERS)
    write_store(tmp_path / "tiny" / "regions", ["2020/1", "b", "c"])
    with pytest.raises(DataError, match=r"image '2019/1' is not in the store .*; convert or extract them too"):
        opened(tmp_path).split("train")


def test_a_cut_store_is_refused_by_its_file(root: Path) -> None:
    os.truncate(root / "tiny" / "regions" / "regions.npy", 140)
    with pytest.raises(DataError, match=r"regions\.npy: its header promises .* it has 140"):
        opened(root).split("train")


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shared")
    write_store(root / "tiny" / "regions", NAMES)
    return root


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.split())


@given(st.permutations(NAMES), st.lists(st.tuples(st.sampled_from(NAMES), texts), max_size=12), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_any_captions_in_any_order_are_read_back(
    shared_root: Path, order: list[str], said: list[tuple[str, str]], train: int
) -> None:
    said = [*said, *((name, "at least one") for name in NAMES)]
    put(
        shared_root,
        [{"id": number, "image": image, "text": text} for number, (image, text) in enumerate(said)],
        {"train": order[:train], "test": order[train:]},
    )
    sizes = {}
    for name, images in (("train", order[:train]), ("test", order[train:])):
        sizes[name] = {"images": len(images), "captions": sum(image in images for image, _ in said)}
    with tempfile.TemporaryDirectory() as cache:
        card = DatasetCard.model_validate({**CARD, "splits": sizes})
        split = OwnFolder(Place(card, shared_root / "tiny", Path(cache))).read("train")
    of = {image: [" ".join(text.split()) for other, text in said if other == image] for image in order[:train]}
    assert split.captions == tuple(text for captions in of.values() for text in captions)
    assert [split.image_ids[image] for image, _ in split.pairs] == [i for i, own in of.items() for _ in own]
    for row, image in enumerate(order[:train]):
        np.testing.assert_array_equal(split.images[row], regions_of(NAMES.index(image)))


@pytest.mark.parametrize("read", [read_captions, read_split])
@given(data=st.binary(max_size=60) | st.text(max_size=40).map(lambda text: f'{{"id": {text}, "image": 1}}\n'.encode()))
def test_any_bytes_are_read_or_a_data_error(read: Callable[[Path], Any], data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a file"
        path.write_bytes(data)
        try:
            read(path)
        except DataError as error:
            assert str(path) in str(error)
