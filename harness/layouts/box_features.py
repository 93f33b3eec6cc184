"""Features of a box: where it lies, and what its pixels look like.

The last of the ten numbers of `geometry` is the shape of the image, width / height. `scene_pictures` has the shape of
the box there, width / (width + height), as its images all have one shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.regions import Floats

CROP = 12
HUES = 12
Pixels = NDArray[np.uint8]


def geometry(boxes: NDArray[Any], width: float, height: float) -> NDArray[np.float64]:
    """Corners, sides, area and centre of boxes (R, 4), x y w h in pixels, as shares, and the image's shape: (R, 10)."""
    x, y, w, h = (boxes / [width, height, width, height]).T
    return np.stack([x, y, x + w, y + h, w, h, w * h, x + w / 2, y + h / 2, np.full_like(x, width / height)], axis=1)


def appearance(pixels: Pixels, boxes: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
    """All numbers of regions but those of their place, (R, F - 10); of a picture (H, W, 3) of any size."""
    crops = cut(pixels, boxes)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = (np.median(border, axis=0) / 255).astype(np.float32)
    contrast = np.maximum.reduce(np.abs(crops - background[:, None, None, None]))
    weight = np.clip(contrast * 4 - 0.5, 0, 1)
    coarse = crops.reshape(3, -1, 3, CROP // 3, 3, CROP // 3).mean(axis=(3, 5)).transpose(1, 2, 3, 0)
    parts = [contrast, coarse, hues(crops, weight), statistics(crops, weight)]
    return np.concatenate([part.reshape(len(boxes), -1) for part in parts], axis=1)


def cut(pixels: Pixels, boxes: NDArray[np.int64]) -> Floats:
    """Crops (3, R, 12, 12) from 0 to 1, a colour first; each number is the mean of four pixels of its cell."""
    steps = (np.arange(2 * CROP) + 0.5) / (2 * CROP)
    columns = (boxes[:, :1] + steps * boxes[:, 2:3]).astype(np.int64)
    rows = (boxes[:, 1:2] + steps * boxes[:, 3:4]).astype(np.int64)
    fine = pixels.transpose(2, 0, 1)[:, rows[:, :, None], columns[:, None, :]].astype(np.float32)
    halves = fine[:, :, ::2] + fine[:, :, 1::2]
    return np.divide(halves[..., ::2] + halves[..., 1::2], 4 * 255, dtype=np.float32)


def hues(crops: Floats, weight: Floats) -> Floats:
    """Shares (R, 15) of twelve hues and three greys, of the weighted pixels."""
    red, green, blue = crops
    low, high = np.minimum.reduce(crops), np.maximum.reduce(crops)
    chroma = high - low
    # The hexagonal hue: 0 to 6 around the wheel, red at 0.
    other = np.where(high == green, 2 * chroma + blue - red, 4 * chroma + red - green)
    turn = np.where(high == red, green - blue, other) / np.maximum(chroma, np.float32(1e-6))
    hue = np.floor(turn % 6 * HUES / 6).astype(np.int64) % HUES
    grey = HUES + np.clip(high * 3, 0, 2).astype(np.int64)
    bins = np.where(chroma > 0.2, hue, grey).reshape(weight.shape[0], -1)
    count = HUES + 3
    places = bins + count * np.arange(len(bins))[:, None]
    total = np.bincount(places.ravel(), weights=weight.ravel(), minlength=count * len(bins)).reshape(-1, count)
    shares: Floats = (total / np.maximum(total.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    return shares


def statistics(crops: Floats, weight: Floats) -> Floats:
    """Means of the colours of all pixels and of the weighted ones, and the deviations of all: (R, 9)."""
    flat, share = crops.reshape(3, len(weight), -1), weight.reshape(len(weight), -1)
    weighted = (flat * share).sum(axis=2) / np.maximum(share.sum(axis=1), 1)
    return np.concatenate([flat.mean(axis=2), weighted, flat.std(axis=2)]).T
