"""Sources that were replaced after their store was finished: it is said which image differs, never "all was there"."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.conversion import convert as module
from harness.conversion.convert import convert
from harness.errors import UsageError

IMAGES = 5


def numbers() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random((IMAGES, 3, 8)).astype(np.float32)


def stacked(folder: Path) -> Path:
    folder.mkdir()
    np.save(folder / "grid.npy", numbers())
    np.save(folder / "boxes.npy", np.tile(np.array([1, 2, 30, 40], np.float32), (IMAGES, 3, 1)))
    np.save(folder / "sizes.npy", np.full((IMAGES, 2), 100))
    (folder / "ids.txt").write_text("".join(f"i{place}\n" for place in range(IMAGES)))
    return folder / "grid.npy"


def folder_of_arrays(folder: Path) -> Path:
    folder.mkdir()
    for place, one in enumerate(numbers()):
        np.savez(folder / f"i{place}.npz", x=one)
    return folder


def changed(file: Path, place: int) -> None:
    array = np.load(file)
    array[place] += 1
    np.save(file, array)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("file", "place"), [("grid.npy", 3), ("boxes.npy", 4), ("sizes.npy", 1)], ids=["regions", "boxes", "sizes"]
)
def test_an_array_that_was_replaced_is_not_taken_for_the_one_that_was_converted(
    tmp_path: Path, file: str, place: int
) -> None:
    path = stacked(tmp_path / "in")
    convert([path], tmp_path / "store")
    before = contents(tmp_path / "store")
    changed(tmp_path / "in" / file, place)
    said = rf"grid\.npy, row {place}: the source has changed since .*store was .* image 'i{place}' first; --force"
    with pytest.raises(UsageError, match=said):
        convert([path], tmp_path / "store")
    assert contents(tmp_path / "store") == before
    assert convert([path], tmp_path / "store", force=True).before == 0


def test_a_file_of_a_folder_that_was_replaced_is_named(tmp_path: Path) -> None:
    folder = folder_of_arrays(tmp_path / "in")
    convert([folder], tmp_path / "store")
    np.savez(folder / "i3.npz", x=numbers()[3] + 1)
    with pytest.raises(UsageError, match=r"i3\.npz: the source has changed since .*, image 'i3' first"):
        convert([folder], tmp_path / "store")


@pytest.mark.parametrize("dtype", ["keep", "float16"])
@pytest.mark.parametrize("make", [stacked, folder_of_arrays])
def test_a_newer_source_with_the_same_numbers_is_finished(
    tmp_path: Path, make: Callable[[Path], Path], dtype: Any
) -> None:
    path = make(tmp_path / "in")
    convert([path], tmp_path / "store", dtype)
    for file in (tmp_path / "in").iterdir():
        os.utime(file)
    progress: list[int] = []

    @contextmanager
    def watch(total: int, done: int) -> Iterator[Any]:
        yield progress.append
        assert progress[-1] == total

    assert convert([path], tmp_path / "store", dtype, watch=watch).before == IMAGES
    assert len(progress) == IMAGES + 1


def test_an_older_source_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stacked(tmp_path / "in")
    convert([path], tmp_path / "store")
    os.utime(tmp_path / "store" / "store.json", (2e9, 2e9))

    def reads(*_: object) -> None:
        raise AssertionError("all of the source is read")

    monkeypatch.setattr(module, "check_equal", reads)
    assert convert([path], tmp_path / "store").before == IMAGES


def test_an_image_that_the_source_has_no_longer_is_named(tmp_path: Path) -> None:
    folder = folder_of_arrays(tmp_path / "in")
    convert([folder], tmp_path / "store")
    (folder / "i4.npz").rename(folder / "i9.npz")
    with pytest.raises(UsageError, match=r"i9\.npz: the source has changed since .*, image 'i9' first"):
        convert([folder], tmp_path / "store")
