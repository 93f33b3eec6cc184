"""Pictures of scenes, really drawn, and the regions a detector would cut from them.

Everything is drawn in whole pixels without smoothing, so that a picture is the same on every machine.
A region is described by its pixels and its place alone. Of every region, F = 205 numbers:
    144   12 x 12: how far the pixel's colour is from the picture's background
     27   3 x 3 means of red, green and blue
     15   share of twelve hues, of dark, middle and light grey, among what is not background
      9   means of red, green and blue of all, of what is not background, and their deviations
     10   x1, y1, x2, y2, width, height, area, centre (shares of the picture), width / (width + height)
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from harness.data.regions import Floats
from harness.layouts.box_features import CROP, Pixels, appearance

if TYPE_CHECKING:
    from numpy.random import Generator  # imported in a tenth of a second

SIDE = 128  # of a picture, in pixels
GRAIN = 20
SLACK = 0.42  # an edge of a box lies up to half of this share of its side too far in or out
WIDTH = CROP * CROP + 27 + 15 + 9 + 10
PALETTE = {
    "red": (205, 35, 40),
    "orange": (240, 130, 25),
    "yellow": (235, 215, 40),
    "green": (45, 150, 60),
    "cyan": (45, 195, 205),
    "blue": (40, 70, 200),
    "purple": (130, 50, 170),
    "pink": (245, 125, 185),
}
# Every colour leaves room for the grain on both sides of each of its parts.
BACKGROUNDS = ((235, 235, 235), (205, 205, 205), (120, 120, 120), (45, 45, 45), (234, 228, 212), (212, 225, 235))
FILLS = ("solid", "outline", "striped")
SIZES = {"small": (14, 18), "medium": (21, 25), "large": (30, 36)}  # shortest and longest side, in pixels
# Corners in a square of 100 x 100.
POLYGONS = {
    "square": ((4, 4), (96, 4), (96, 96), (4, 96)),
    "triangle": ((50, 2), (99, 96), (1, 96)),
    "diamond": ((50, 0), (90, 50), (50, 100), (10, 50)),
    "star": (
        ((50, 0), (62, 36), (100, 38), (70, 61), (81, 98), (50, 76), (19, 98), (30, 61), (0, 38), (38, 36))
    ),
    "cross": (
        (33, 0), (67, 0), (67, 33), (100, 33), (100, 67), (67, 67),
        (67, 100), (33, 100), (33, 67), (0, 67), (0, 33), (33, 33),
    ),
    "arrow": ((50, 0), (98, 50), (70, 50), (70, 100), (30, 100), (30, 50), (2, 50)),
    "heart": ((50, 22), (72, 2), (96, 12), (98, 40), (50, 98), (2, 40), (4, 12), (28, 2)),
}  # fmt: skip
SHAPES = ("circle", *POLYGONS)


class Thing(NamedTuple):
    """One object of a scene; x and y are its left upper corner, side its width and height, in pixels."""

    shape: str
    colour: str
    fill: str
    size: str
    side: int
    x: int
    y: int

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.side / 2, self.y + self.side / 2


def draw(things: tuple[Thing, ...], rng: Generator) -> Image.Image:
    """A picture of things; `rng` gives the background, the exact shades and the grain."""
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    picture = Image.new("RGB", (SIDE, SIDE), background)
    for thing in things:
        shade = np.clip(np.array(PALETTE[thing.colour]) + rng.integers(-16, 17, 3), GRAIN, 255 - GRAIN)
        red, green, blue = (int(part) for part in shade)
        picture.paste((red, green, blue), (thing.x, thing.y), stencil(thing.shape, thing.fill, thing.side))
    grain = rng.integers(0, 2 * GRAIN + 1, (SIDE, SIDE, 3), dtype=np.uint8)
    return Image.fromarray(np.asarray(picture) - np.uint8(GRAIN) + grain)


@lru_cache(maxsize=1024)
def stencil(shape: str, fill: str, side: int) -> Image.Image:
    """Where a thing has colour: a mask of side x side pixels."""
    mask = Image.new("L", (side, side), 0)
    _blot(mask, shape, 0, 255)
    if fill == "outline":
        _blot(mask, shape, 22, 0)
    if fill == "striped":
        stripe = max(2, side // 8)
        rows = np.arange(side)[:, None] // stripe % 2 == 0
        mask = Image.fromarray(np.where(rows, np.asarray(mask), np.uint8(0)))
    return mask


def _blot(mask: Image.Image, shape: str, margin: int, value: int) -> None:
    """A filled shape, drawn in by a margin of so many hundredths on every side."""
    last = mask.width - 1
    pen = ImageDraw.Draw(mask)

    def place(part: int) -> int:
        return (last * (100 * margin + part * (100 - 2 * margin)) + 5000) // 10000

    if shape == "circle":
        pen.ellipse((place(0), place(0), place(100), place(100)), fill=value)
    else:
        pen.polygon([(place(x), place(y)) for x, y in POLYGONS[shape]], fill=value)


def detect(things: tuple[Thing, ...], most: int, rng: Generator) -> NDArray[np.int64]:
    """Boxes (R, 4) as a detector gives them, x, y, width, height in pixels, in no order: things, parts, background."""
    true = np.array([(thing.x, thing.y, thing.x + thing.side, thing.y + thing.side) for thing in things])
    sides = (true[:, 2] - true[:, 0])[:, None]
    detections = true + np.rint((rng.random(true.shape) - 0.5) * SLACK * sides).astype(np.int64)
    extra = int(rng.integers(1, 6))
    others = [_overlapping(true, rng) if rng.random() < 0.6 else _anywhere(rng) for _ in range(extra)]
    boxes = np.concatenate([detections, others])[:most]
    boxes = np.clip(boxes[rng.permutation(len(boxes))], 0, SIDE)
    return np.concatenate([boxes[:, :2], np.maximum(boxes[:, 2:] - boxes[:, :2], 1)], axis=1)


def _overlapping(true: NDArray[np.int64], rng: Generator) -> NDArray[np.int64]:
    first, second = rng.permutation(len(true))[:2]
    middles = (true[[first, second], :2] + true[[first, second], 2:]) // 2
    low, high = middles.min(axis=0) - 6, middles.max(axis=0) + 6
    return np.concatenate([low, high])


def _anywhere(rng: Generator) -> NDArray[np.int64]:
    size = rng.integers(14, 56, 2)
    low = rng.integers(0, SIDE - size)
    return np.concatenate([low, low + size])


def describe(pixels: Pixels, boxes: NDArray[np.int64]) -> Floats:
    return np.concatenate([appearance(pixels, boxes), geometry(boxes)], axis=1).astype(np.float32)


def geometry(boxes: NDArray[np.int64]) -> Floats:
    """Place and size of boxes as shares of the picture, (R, 10)."""
    x, y, w, h = (boxes / SIDE).T
    return np.stack([x, y, x + w, y + h, w, h, w * h, x + w / 2, y + h / 2, w / (w + h)], axis=1)
