"""Boxes beyond the numbers that a store holds: refused in words, without a warning of NumPy's beside them."""

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
