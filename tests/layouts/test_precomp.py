"""The field's precomputed layout: small folders of it are read, and every kind of broken folder is refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import tiny_card, write_precomp

from harness.config.cards import DatasetCard
from harness.data.dataset import Dataset
from harness.errors import ConfigError, DataError
from harness.evaluation.protocols import split_folds
from harness.layouts.opening import open_dataset
from harness.layouts.previews import Previews

EACH = 5
CARD = tiny_card(
    "precomp",
    folder="tiny_precomp",
    feature_width=4,
    max_regions=3,
    splits={"train": {"images": 3, "captions": 15}, "val": {"images": 2, "captions": 10}},
    text={"min_count": 1, "vocabulary_splits": ["train", "val"]},
    options={"captions_each": EACH, "val": "dev"},
    protocols=[{"name": "all", "split": "val", "images": 2, "captions": 10}],
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Train images stored once, dev images repeated once a caption; no line feed at the end of dev's captions."""
    place = tmp_path / "tiny_precomp"
    place.mkdir()
    write_precomp(place, "train", regions(3), "".join(f"caption {number} of train\n" for number in range(15)))
    lines = [f"dev caption {number}" for number in range(10)]
    write_precomp(place, "dev", regions(2).repeat(EACH, axis=0), "\n".join(lines))
    return place


def regions(images: int) -> np.ndarray:
    return np.random.default_rng(images).random((images, 3, 4), dtype=np.float32)


def opened(folder: Path, **changes: Any) -> Dataset:
    root = folder.parent
    return open_dataset(DatasetCard.model_validate({**CARD, **changes}), root, root / "cache")


def test_no_captions_of_an_image_are_refused_by_the_option(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"'options\.captions_each' is '0'; a whole number from 1 on is needed"):
        opened(folder, options=CARD["options"] | {"captions_each": 0}).split("train")


def test_images_stored_once_and_images_repeated_once_a_caption_are_read_alike(folder: Path) -> None:
    dataset = opened(folder)
    for name, images in (("train", 3), ("val", 2)):
        split = dataset.split(name)
        assert len(split.images) == images and len(split.captions) == images * EACH
        np.testing.assert_array_equal(split.images.gather(range(images))[0], regions(images))
        assert split.pairs.tolist() == [[caption // EACH, caption] for caption in range(images * EACH)]
    assert dataset.split("val").image_ids == ("dev/0", "dev/1")


def test_the_vocabulary_is_of_the_splits_that_the_card_names(folder: Path) -> None:
    assert "dev" in opened(folder).vocabulary.word2idx
    assert "dev" not in opened(folder, text={"min_count": 1}).vocabulary.word2idx


def test_a_file_is_checked_and_read_in_pieces_and_never_loaded_whole(folder: Path) -> None:
    whole = np.lib.format.open_memmap(folder / "train_ims.npy", "w+", np.float32, (400, 36, 2048))  # 118 MB of zeros
    whole.flush()
    (folder / "train_caps.txt").write_text("a caption\n" * 2000, encoding="utf-8")
    size = {"train": {"images": 400, "captions": 2000}}
    tracemalloc.start()
    split = opened(folder, splits=size, feature_width=2048, max_regions=36, text={"min_count": 1}).split("train")
    assert split.images.gather([399, 0])[0].shape == (2, 36, 2048)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15e6


def test_float16_is_read_as_it_is_stored_and_becomes_float32(folder: Path) -> None:
    half = regions(3).astype(np.float16)
    save(folder, half)
    images = opened(folder).split("train").images
    assert isinstance(images.rows, np.memmap) and images.dtype == np.float16
    batch, _ = images.gather([2, 0])
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, half[[2, 0]].astype(np.float32))


@pytest.mark.parametrize("times", [1, EACH])
def test_ids_boxes_and_sizes_are_read_where_they_are(folder: Path, times: int) -> None:
    corners = np.array([[10, 20, 30, 60], [0, 0, 5, 5], [1, 2, 3, 4]], dtype=np.float32)
    for stem, images in (("train", 3), ("dev", 2)):
        names = [f"{stem}-{image}" for image in range(images) for _ in range(times)]
        (folder / f"{stem}_ids.txt").write_text("\n".join(names), encoding="utf-8")
        np.save(
            folder / f"{stem}_boxes.npy", np.stack([corners + image for image in range(images)]).repeat(times, axis=0)
        )
        np.save(folder / f"{stem}_img_sizes.npy", np.full((images * times, 2), [640, 480]))
    dataset = opened(folder)
    for name, stem in (("train", "train"), ("val", "dev")):
        split = dataset.split(name)
        assert split.image_ids[1] == f"{stem}-1" and split.boxes is not None
        assert split.boxes[1].tolist() == [[11, 21, 20, 40], [1, 1, 5, 5], [2, 3, 2, 2]]
        assert split.boxes.first(2)[1].tolist() == split.boxes[1].tolist()
    looks = Previews(dataset.card, folder.parent, folder.parent / "cache")
    assert looks.of("dev-1").size == (640, 480) and looks.of("dev-1").boxes[0] == (11, 21, 20, 40)
    assert looks.of("dev-9").size is None


def test_ids_decide_results_and_boxes_do_not(folder: Path) -> None:
    plain = opened(folder).fingerprint
    np.save(folder / "train_boxes.npy", np.zeros((3, 3, 4), dtype=np.float32))
    assert opened(folder).fingerprint == plain
    (folder / "train_ids.txt").write_text("a\nb\nc\n", encoding="utf-8")
    assert opened(folder).fingerprint != plain


def test_a_row_and_a_line_are_told_by_their_files(folder: Path) -> None:
    dataset = opened(folder)
    assert str(dataset.split("train").location("caption", 7)) == "train_caps.txt, line 8"
    assert str(dataset.split("val").location("image", 1)) == "dev_ims.npy, row 5"
    assert str(dataset.split("val").first(1).location("caption", 2)) == "dev_caps.txt, line 3"


GALLERY = b'["dev/1"]'


def test_a_gallery_is_read_with_its_split(folder: Path) -> None:
    (folder / "second.json").write_bytes(GALLERY)
    card = {"name": "second", "split": "val", "images": 1, "captions": EACH, "gallery": "second.json"}
    protocols = [{**card, "gallery_sha256": hashlib.sha256(GALLERY).hexdigest()}]
    dataset = opened(folder, protocols=protocols)
    (fold,) = split_folds(dataset.card.protocols[0], dataset.split("val"))
    assert fold.images.tolist() == [1] and fold.captions.tolist() == [5, 6, 7, 8, 9]
    limited = open_dataset(dataset.card, folder.parent, folder.parent / "cache", limit=1)
    (fold,) = split_folds(dataset.card.protocols[0], limited.split("val"), limited=True)
    assert fold.images.tolist() == [0]


def save(folder: Path, array: Any, name: str = "train_ims.npy") -> None:
    np.save(folder / name, array)


def cut_short(folder: Path) -> None:
    os.truncate(folder / "train_ims.npy", 200)


def with_nan(folder: Path) -> None:
    array = regions(3)
    array[1, 2, 3] = np.nan
    save(folder, array)


def pickled(folder: Path) -> None:
    (folder / "train_ims.npy").write_bytes(pickle.dumps(regions(3)))


def broken_header(folder: Path) -> None:
    path = folder / "train_ims.npy"
    path.write_bytes(path.read_bytes().replace(b"'shape': (", b"'shape': (\"", 1))


def not_utf8(folder: Path) -> None:
    (folder / "train_caps.txt").write_bytes(b"a caption\n" * 3 + "caf\xe9\n".encode("latin-1") + b"a caption\n" * 11)


def empty_line(folder: Path) -> None:
    (folder / "train_caps.txt").write_bytes(b"a caption\n" * 6 + b" \n" + b"a caption\n" * 8)


def one_line_less(folder: Path) -> None:
    (folder / "train_caps.txt").write_bytes(b"a caption\n" * 14)


def not_repeated(folder: Path) -> None:
    save(folder, regions(15))


def not_repeated_in_the_middle(folder: Path) -> None:
    array = regions(3).repeat(EACH, axis=0)
    array[8] += 1
    save(folder, array)


def ids(*lines: object) -> Callable[[Path], None]:
    return lambda folder: (folder / "train_ids.txt").write_text("".join(f"{one}\n" for one in lines)) and None


BROKEN = {
    "cut short": (cut_short, r"train_ims\.npy.* 272 bytes, but it has 200"),
    "a broken header": (broken_header, r"train_ims\.npy: no \.npy file of numbers"),
    "NaN": (with_nan, r"train_ims\.npy, row 1: holds NaN"),
    "a pickle": (pickled, r"train_ims\.npy: no \.npy file .*pickle is never loaded"),
    "objects": (lambda folder: save(folder, np.array([{}], dtype=object)), r"train_ims\.npy: holds pickled objects"),
    "two dimensions": (
        lambda folder: save(folder, np.zeros((3, 4))),
        r"train_ims\.npy: holds float64 of shape \(3, 4\)",
    ),
    "float64": (
        lambda folder: save(folder, regions(3).astype(np.float64)),
        r"train_ims\.npy: holds <f8 numbers; .*astype\(numpy\.float32\)",
    ),
    "whole numbers": (lambda folder: save(folder, np.zeros((3, 3, 4), int)), r"train_ims\.npy: holds int64"),
    "Fortran order": (
        lambda folder: save(folder, np.asfortranarray(regions(3))),
        r"train_ims\.npy: in Fortran order.*ascontiguousarray",
    ),
    "another width": (lambda folder: save(folder, np.zeros((3, 3, 5), np.float32)), r"4 numbers per region.* hold 5"),
    "too many regions": (lambda folder: save(folder, np.zeros((3, 4, 4), np.float32)), r"more than 3 regions"),
    "fewer rows": (lambda folder: save(folder, regions(2)), r"train_ims\.npy: has 2 rows and train_caps\.txt 15 lines"),
    "a line less": (one_line_less, r"train_ims\.npy: has 3 rows and train_caps\.txt 14 lines"),
    "rows that differ": (not_repeated, r"rows 0 to 4: they should repeat one image"),
    "one row that differs": (not_repeated_in_the_middle, r"rows 5 to 9: they should repeat one image"),
    "too few ids": (ids(1, 2), r"train_ids\.txt: has 2 rows for 3 images"),
    "ids that differ within an image": (
        ids(*"111112232233333"),
        r"train_ids\.txt, line 8: the id is '3', but the 5 lines of an image begin with '2'",
    ),
    "an id twice": (ids(1, 2, 1), r"train_ids\.txt, line 3: image '1' stands there twice"),
    "boxes of other regions": (
        lambda folder: np.save(folder / "train_boxes.npy", np.zeros((3, 2, 4))),
        r"train_boxes\.npy: has the shape \(3, 2, 4\), but train_ims\.npy has 3 regions per image",
    ),
    "boxes of too few images": (
        lambda folder: np.save(folder / "train_boxes.npy", np.zeros((2, 3, 4))),
        r"train_boxes\.npy: has 2 rows for 3 images",
    ),
    "boxes of text": (
        lambda folder: np.save(folder / "train_boxes.npy", np.full((3, 3, 4), "x")),
        r"train_boxes\.npy: holds <U1 of shape",
    ),
    "not UTF-8": (not_utf8, r"train_caps\.txt, line 4: not UTF-8"),
    "an empty line": (empty_line, r"train_caps\.txt, line 7: an empty"),
    "an absent file": (lambda folder: (folder / "train_ims.npy").unlink(), r"train_ims\.npy"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_refused_by_file_and_row_or_line(folder: Path, kind: str) -> None:
    breaks, message = BROKEN[kind]
    breaks(folder)
    with pytest.raises(DataError, match=message):
        opened(folder).split("train")


def test_a_file_is_checked_again_after_it_changed(folder: Path) -> None:
    opened(folder).split("train")
    with_nan(folder)
    status = (folder / "train_ims.npy").stat()
    os.utime(folder / "train_ims.npy", ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    with pytest.raises(DataError, match="row 1"):
        opened(folder).split("train")


def test_a_format_of_version_2_is_read(folder: Path) -> None:
    with (folder / "train_ims.npy").open("wb") as file:
        np.lib.format.write_array(file, regions(3), version=(2, 0))
    np.testing.assert_array_equal(opened(folder).split("train").images[2], regions(3)[2])
