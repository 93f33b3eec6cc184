"""Regions of given boxes: cut out and seen one by one, or the mean of a picture's map over each box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from harness.data.regions import Floats
from harness.extraction.backbones import Backbone
from harness.extraction.corners import Corners
from harness.extraction.extractors import Extractor, Pixels, Seen, as_boxes, batch_of, check_vectors, map_size, numbers
from harness.extraction.placed_boxes import PlacedBoxes

CROPS = 32  # that a model sees at a time, so that a batch of pictures with many boxes has room


class Crops(Extractor):
    """A region is a box cut out of its picture and resized, without its proportions; its numbers the model's vector."""

    def __init__(self, backbone: Backbone, placed: PlacedBoxes) -> None:
        self.backbone, self._corners = backbone, placed.corners
        check_vectors(backbone)
        super().__init__(backbone.device, origin_of("crop", backbone, placed))

    def prepare(self, picture: Image.Image, image: str = "") -> Pixels:
        corners = self._corners[image]
        crops = np.stack([self.backbone.squeezed(picture, box).numpy() for box in corners])
        return Pixels({"crops": torch.from_numpy(crops)}, picture.size, as_boxes(corners))

    def regions_of(self, pictures: Sequence[Pixels]) -> list[Seen]:
        crops = torch.cat([picture.inputs["crops"] for picture in pictures])
        parts = [numbers(self.backbone.vectors(part.to(self.device))) for part in crops.split(CROPS)]
        ends = np.cumsum([len(picture.boxes) for picture in pictures])[:-1]
        rows = np.split(np.concatenate(parts), ends)
        return [Seen(own, picture.boxes) for own, picture in zip(rows, pictures, strict=True)]


class MapMeans(Extractor):
    """A region is a box, its numbers the mean of its picture's map over it: each cell counts by what the box covers."""

    def __init__(self, backbone: Backbone, placed: PlacedBoxes) -> None:
        self.backbone, self._corners = backbone, placed.corners
        self._cells = map_size(backbone)
        own = origin_of("map", backbone, placed)
        super().__init__(backbone.device, {"patches": list(self._cells), **own})

    def prepare(self, picture: Image.Image, image: str = "") -> Pixels:
        corners = self._corners[image]
        covered = cell_weights(corners, picture.size, self._cells, self.backbone.covered)
        inputs = {"picture": self.backbone.squeezed(picture), "weights": torch.from_numpy(covered)}
        return Pixels(inputs, picture.size, as_boxes(corners))

    def regions_of(self, pictures: Sequence[Pixels]) -> list[Seen]:
        maps = self.backbone.cells(batch_of(pictures, "picture").to(self.device)).flatten(2)
        weights = (picture.inputs["weights"].to(self.device) for picture in pictures)
        rows = [numbers(own @ cells.T) for own, cells in zip(weights, maps, strict=True)]
        return [Seen(own, picture.boxes) for own, picture in zip(rows, pictures, strict=True)]


def origin_of(by: str, backbone: Backbone, placed: PlacedBoxes) -> dict[str, Any]:
    return {"kind": "given boxes", "by": by, "boxes": placed.facts, "input": list(backbone.size), **backbone.facts}


def cell_weights(
    corners: Sequence[Corners], size: tuple[int, int], cells: tuple[int, int], covered: tuple[float, float]
) -> Floats:
    """How much each cell counts for each box, (R, rows * columns): by the area that they share; a row adds up to one.

    A box beside all cells, at an edge that no whole patch covers, has the nearest ones.
    """
    boxes = np.array(corners, dtype=np.float64).reshape(-1, 2, 2)  # first and last corner, x and y
    axes = [overlaps(boxes[:, :, axis] / size[axis], cells[1 - axis], covered[1 - axis]) for axis in (0, 1)]
    weights = axes[1][:, :, None] * axes[0][:, None, :]
    return weights.reshape(len(boxes), -1).astype(np.float32)


def overlaps(spans: NDArray[np.float64], count: int, covered: float) -> NDArray[np.float64]:
    """Shares of spans (R, 2), in shares of a side, that lie on each of `count` cells of `covered`, (R, count)."""
    edges = np.linspace(0, covered, count + 1)
    lengths = np.minimum(spans[:, 1:], edges[None, 1:]) - np.maximum(spans[:, :1], edges[None, :-1])
    lengths = np.maximum(lengths, 0)
    none = lengths.sum(axis=1) <= 0
    lengths[none, -1] = 1
    shares: NDArray[np.float64] = lengths / lengths.sum(axis=1, keepdims=True)
    return shares
