"""The field's precomputed layout: small folders of it are read, and every kind of broken folder is refused."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cards import DatasetCard
from harness.data import Dataset, open_dataset
from harness.errors import DataError

EACH = 5
CARD: dict[str, Any] = {
    "name": "tiny",
    "title": "",
    "summary": "",
    "layout": "precomp",
    "folder": "tiny_precomp",
    "licence": "",
    "origin": "the moon",
    "feature_width": 4,
    "max_regions": 3,
    "splits": {"train": {"images": 3, "captions": 15}, "val": {"images": 2, "captions": 10}},
    "text": {"min_count": 1, "vocabulary_splits": ["train", "val"]},
    "options": {"captions_each": EACH, "val": "dev"},
    "protocols": [{"name": "all", "split": "val", "images": 2, "captions": 10}],
    "path": "card.toml",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Train images stored once, dev images repeated once a caption; no line feed at the end of dev's captions."""
    place = tmp_path / "tiny_precomp"
    place.mkdir()
    np.save(place / "train_ims.npy", regions(3))
    np.save(place / "dev_ims.npy", regions(2).repeat(EACH, axis=0))
    lines = [f"caption {number} of train\n" for number in range(15)]
    (place / "train_caps.txt").write_text("".join(lines), encoding="utf-8")
    (place / "dev_caps.txt").write_text("\n".join(f"dev caption {number}" for number in range(10)), encoding="utf-8")
    return place


def regions(images: int) -> np.ndarray:
    return np.random.default_rng(images).random((images, 3, 4), dtype=np.float32)


def opened(folder: Path, **changes: Any) -> Dataset:
    root = folder.parent
    return open_dataset(DatasetCard.model_validate({**CARD, **changes}), root, root / "cache")


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
    found, _ = images.gather([2, 0])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, half[[2, 0]].astype(np.float32))


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


BROKEN = {
    "cut short": (cut_short, r"train_ims\.npy.* 272 bytes, but it has 200"),
    "a broken header": (broken_header, r"train_ims\.npy is no \.npy file of numbers"),
    "NaN": (with_nan, r"train_ims\.npy: row 1 holds NaN"),
    "a pickle": (pickled, r"train_ims\.npy is no \.npy file .*pickle is never loaded"),
    "objects": (lambda folder: save(folder, np.array([{}], dtype=object)), r"train_ims\.npy holds pickled objects"),
    "two dimensions": (
        lambda folder: save(folder, np.zeros((3, 4))),
        r"train_ims\.npy holds float64 of shape \(3, 4\)",
    ),
    "whole numbers": (lambda folder: save(folder, np.zeros((3, 3, 4), int)), r"train_ims\.npy holds int64"),
    "Fortran order": (
        lambda folder: save(folder, np.asfortranarray(regions(3))),
        r"train_ims\.npy is in Fortran order.*ascontiguousarray",
    ),
    "another width": (lambda folder: save(folder, np.zeros((3, 3, 5), np.float32)), r"4 numbers a region.* hold 5"),
    "too many regions": (lambda folder: save(folder, np.zeros((3, 4, 4), np.float32)), r"more than 3 regions"),
    "fewer rows": (lambda folder: save(folder, regions(2)), r"train_ims\.npy has 2 rows and train_caps\.txt 15 lines"),
    "a line less": (one_line_less, r"train_ims\.npy has 3 rows and train_caps\.txt 14 lines"),
    "rows that differ": (not_repeated, r"rows 0 to 4 should repeat one image"),
    "not UTF-8": (not_utf8, r"train_caps\.txt, line 4 is not UTF-8"),
    "an empty line": (empty_line, r"train_caps\.txt, line 7 is empty"),
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
