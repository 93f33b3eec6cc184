"""Boxes beyond the numbers that a store holds, or in shares of a picture: refused, without a warning of NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.conversion.convert import convert
from harness.errors import DataError

LARGE = np.tile(np.array([1.0, 2, 1e300, 1e300]), (2, 3, 1))
NUMBERS = np.ones((2, 3, 8), np.float32)


def stacked(folder: Path) -> Path:
    np.save(folder / "grid.npy", NUMBERS)
    np.save(folder / "boxes.npy", LARGE)
    (folder / "ids.txt").write_text("a\nb\n")
    return folder / "grid.npy"


def array_per_image(folder: Path) -> Path:
    for place, image in enumerate("ab"):
        np.savez(folder / f"{image}.npz", x=NUMBERS[place], bbox=LARGE[place])
    return folder


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("make", [stacked, array_per_image])
def test_a_box_beyond_float32_is_refused_without_a_warning(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="image 'a'"):
        convert([make(tmp_path / "in")], tmp_path / "store")


@pytest.mark.parametrize("end", [0.9, 1.0, 1.004])
@pytest.mark.parametrize("size", [{}, {"image_w": 640, "image_h": 480}])
def test_shares_of_a_picture_are_no_boxes_also_where_they_are_rounded_beyond_it(
    tmp_path: Path, end: float, size: dict[str, int]
) -> None:
    corners = np.array([[0, 0, end, 0.5]] * 3)
    (tmp_path / "in").mkdir()
    for image in "ab":
        np.savez(tmp_path / "in" / f"{image}.npz", x=NUMBERS[0], bbox=corners, **size)
    with pytest.raises(DataError, match="its boxes are shares of the image; pixels are needed"):
        convert([tmp_path / "in"], tmp_path / "store")


def test_the_box_of_a_picture_of_one_pixel_is_no_share(tmp_path: Path) -> None:
    corners = np.array([[0, 0, 1.0, 1]] * 3)
    (tmp_path / "in").mkdir()
    for image in "ab":
        np.savez(tmp_path / "in" / f"{image}.npz", x=NUMBERS[0], bbox=corners, image_w=1, image_h=1)
    assert convert([tmp_path / "in"], tmp_path / "store").facts.images == 2
