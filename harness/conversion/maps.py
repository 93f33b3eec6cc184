"""Maps (C, h, w) as regions: each cell of the grid is one, row by row, its C channels are its numbers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.conversion.source import Size
from harness.data.regions import grid_boxes
from harness.errors import DataError

Channels = Literal["first", "last"]
Grid = tuple[int, int]  # rows and columns of cells
REGIONS_FORM, MAP_FORM = ("regions", "width"), ("channels", "height", "width")


def channels_of(shape: tuple[int, ...], given: Channels | None) -> Channels:
    """Where the numbers of a region stand among an image's axes; DataError where a map does not tell.

    A map has more channels than cells in a row or a column, as a rule. Where it looks otherwise, whoever has it must
    say what it is.
    """
    if given or len(shape) == 2:
        return given or "last"
    if shape[0] > shape[2]:
        return "first"
    if shape[0] == 1:
        raise DataError(
            f"an image is of shape {shape}: where the 1 counts images, save x[0]; where it is a map, say where its "
            "channels stand: --channels first or --channels last"
        )
    raise DataError(
        f"a map is of shape {shape}, so its channels seem to stand last: say --channels last, or --channels first "
        f"where it is of {shape[0]:,} channels"
    )


def grid_of(shape: tuple[int, ...], channels: Channels) -> Grid | None:
    """The rows and columns of a map's cells; None where an image is regions in no grid."""
    if len(shape) < 3:
        return None
    return (shape[1], shape[2]) if channels == "first" else (shape[0], shape[1])


def as_regions(image: NDArray[Any], channels: Channels) -> NDArray[Any]:
    """An image's regions (R, F), of a map or of regions whose numbers may stand first."""
    last = np.moveaxis(image, 0, -1) if channels == "first" else image
    return last.reshape(-1, last.shape[-1])


def cells(grid: Grid, size: Size) -> NDArray[np.float32]:
    """The boxes x, y, width, height of cells that share a picture equally, row by row: (rows x columns, 4)."""
    axes = [(count, length / count) for count, length in zip(grid, size[::-1], strict=True)]
    rows, columns = (np.stack([np.arange(count) * side, np.full(count, side)], axis=1) for count, side in axes)
    return grid_boxes(rows, columns)
