"""Regions of zeros, which fill images up in an array of one shape: told with their number, as each is a region."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.conversion.convert import convert
from harness.conversion.opening import ArrayOptions

COUNTS = [3, 5, 1, 4]


def padded(folder: Path) -> np.ndarray:
    array = np.zeros((len(COUNTS), max(COUNTS), 8), np.float32)
    for row, count in enumerate(COUNTS):
        array[row, :count] = np.random.default_rng(row).random((count, 8))
    folder.mkdir()
    np.save(folder / "grid.npy", array)
    (folder / "ids.txt").write_text("".join(f"photo {row}\n" for row in range(len(COUNTS))))
    return array


def on_zeros(remarks: tuple[str, ...]) -> list[str]:
    return [remark for remark in remarks if "are 0 throughout" in remark]


def test_regions_of_zeros_are_told_with_their_number_and_what_to_do(tmp_path: Path) -> None:
    padded(tmp_path / "in")
    (remark,) = on_zeros(convert([tmp_path / "in" / "grid.npy"], tmp_path / "store").remarks)
    assert remark.startswith("7 regions of those converted now") and "counts.npy beside an array" in remark


@pytest.mark.parametrize("form", ["counts", "a file each"])
def test_where_only_real_regions_are_given_nothing_is_told(tmp_path: Path, form: str) -> None:
    array = padded(tmp_path / "in")
    source = tmp_path / "in" / "grid.npy"
    if form == "counts":
        np.save(tmp_path / "in" / "counts.npy", np.array(COUNTS))
    else:
        source = tmp_path / "each"
        source.mkdir()
        for row, count in enumerate(COUNTS):
            np.save(source / f"photo {row}.npy", array[row, :count])
    made = convert([source], tmp_path / "store", options=ArrayOptions())
    assert made.facts.regions == sum(COUNTS) and not on_zeros(made.remarks)
