"""Many sets against many, in tiles: sorted by length so that they carry little padding, sized to the machine.

The vectors on either side of a tile are enough for products at full speed and, on a GPU, take a bounded share of the
memory. What a row or column of tiles shares is computed once (`Method.image_side`, `Method.caption_side`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from harness.blocks.host import Ints, in_order, lengths_of, with_lengths
from harness.method import Encoded, Method

WHOLE = 16  # a tile has a multiple of so many sets where it can: whole vector registers and cache lines
PADDED = 1.1  # what padding may add to a tile of more sets than that
CPU_VECTORS = 2**11  # a side: a matrix product at full speed; the algebra cuts strips of its own
GPU_VECTORS = 2**14  # a side, at most: larger tiles gain nothing
GPU_LOOSE = 2**12  # a side of a tile that may be padded at will: a GPU starts a kernel later than it computes zeros
GPU_SHARE = 1 / 64  # of the memory, for one tensor of a tile: a step holds some ten of them


class Tile(NamedTuple):
    """Sets of about equal length, and their rows in the whole batch."""

    places: Ints  # (n,)
    sets: Encoded


def side(method: Method, device: torch.device) -> int:
    """Vectors on each side of a tile."""
    if device.type != "cuda":
        return CPU_VECTORS
    memory = torch.cuda.get_device_properties(device).total_memory * torch.cuda.get_per_process_memory_fraction(device)
    floats = memory * GPU_SHARE / 4
    return max(1, min(GPU_VECTORS, math.isqrt(int(floats / method.tile_growth))))


def by_length(sets: Encoded, vectors: int, places: Ints | None = None) -> list[Tile]:
    """Sets cut into tiles of at most `vectors` vectors, padding included, and of at least one set."""
    lengths = lengths_of(sets.mask)
    order = np.argsort(lengths, kind="stable")
    places, lengths = order if places is None else places[order], lengths[order]
    sizes = runs(lengths.tolist(), vectors, loose=0 if sets.mask.device.type == "cpu" else GPU_LOOSE)
    ends = np.cumsum(sizes)[:-1]
    parts = (*(in_order(part, order).split(sizes) for part in sets), np.split(lengths, ends))
    return list(map(Tile, np.split(places, ends), map(_cut, *parts)))


def joined(tiles: Sequence[Tile], vectors: int) -> list[Tile]:
    """Consecutive tiles in larger ones of at most `vectors` vectors, padding included, or of one tile."""
    parts: list[list[Tile]] = []
    sets, longest = 0, 0
    for tile in tiles:
        sets, longest = sets + len(tile.places), max(longest, tile.sets.mask.shape[1])
        if not parts or sets * longest > vectors:
            parts.append([])
            sets, longest = len(tile.places), tile.sets.mask.shape[1]
        parts[-1].append(tile)
    return [_together(part) for part in parts]


def runs(lengths: Sequence[int], vectors: int, loose: int = 0) -> list[int]:
    """Sizes of consecutive runs of ascending lengths, none with more than so many vectors, padding included.

    A run of more than WHOLE sets has a multiple of them, but for the last, and little padding, but for `loose` vectors.
    """
    sizes: list[int] = []
    start = 0
    while start < len(lengths):
        end, real = start + 1, lengths[start]
        while end < len(lengths) and _room(end + 1 - start, lengths[end], real + lengths[end], vectors, loose):
            real += lengths[end]
            end += 1
        size = end - start
        sizes.append(size - size % WHOLE if size > WHOLE and end < len(lengths) else size)
        start += sizes[-1]
    return sizes


def _room(sets: int, longest: int, real: int, vectors: int, loose: int) -> bool:
    """Whether a tile of so many sets, and real vectors in them, is neither too large nor too empty."""
    return sets * longest <= vectors and (sets <= WHOLE or sets * longest <= max(loose, PADDED * real))


def in_tiles(method: Method, images: Encoded, captions: Encoded, vectors: int | None = None) -> Tensor:
    """Exactly `method.score(images, captions)` to rounding, with gradients; `vectors` a side of a tile."""
    vectors = vectors or side(method, images.vectors.device)
    rows, columns = by_length(images, vectors), by_length(captions, vectors)
    caption_sides = [method.caption_side(tile.sets) for tile in columns]
    scores = torch.cat([_row(method, method.image_side(tile.sets), caption_sides) for tile in rows])
    return in_order(in_order(scores, _back(rows)).T, _back(columns)).T


def in_full(product: Tensor) -> Tensor:
    """A product in float32, in which scores are summed; autocast may have made it half precision."""
    return product.float() if product.dtype in (torch.bfloat16, torch.float16) else product


def _row(method: Method, images: Any, captions: Sequence[Any]) -> Tensor:
    return torch.cat([method.score_sides(images, of) for of in captions], 1)


def _together(tiles: Sequence[Tile]) -> Tile:
    longest = max(tile.sets.mask.shape[1] for tile in tiles)
    vectors = [pad(tile.sets.vectors, (0, 0, 0, longest - tile.sets.mask.shape[1])) for tile in tiles]
    masks = [pad(tile.sets.mask, (0, longest - tile.sets.mask.shape[1])) for tile in tiles]
    lengths = np.concatenate([lengths_of(tile.sets.mask) for tile in tiles])
    sets = Encoded(torch.cat(vectors), with_lengths(torch.cat(masks), lengths))
    return Tile(np.concatenate([tile.places for tile in tiles]), sets)


def _back(tiles: Sequence[Tile]) -> Ints:
    """Where each set went in the concatenation of the tiles."""
    return np.argsort(np.concatenate([tile.places for tile in tiles]))


def _cut(vectors: Tensor, mask: Tensor, lengths: Ints) -> Encoded:
    """Sets without the columns that are padding in all of them."""
    longest = int(lengths[-1])
    return Encoded(vectors[:, :longest], with_lengths(mask[:, :longest], lengths))
