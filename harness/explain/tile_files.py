"""Encoded sets in files: the numbers of all tiles in one array, mapped when it is read, and what else they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.blocks.tiles import Tile
from harness.data.cache import file_fact, parsed_arrays, save_cached, text_array, text_of
from harness.files import make_way, read_own, replacing, sha256
from harness.method import Encoded

Arrays = dict[str, NDArray[Any]]


def one_of(tiles: Sequence[Tile], row: int) -> Tile:
    """One set of many, by its place among them all."""
    tile = next(tile for tile in tiles if row in tile.places)
    at = int(np.flatnonzero(tile.places == row)[0])
    return Tile(np.zeros(1, dtype=np.int64), Encoded(*(part[at : at + 1] for part in tile.sets)))


def moved(tile: Tile, device: torch.device) -> Tile:
    return tile if device.type == "cpu" else Tile(tile.places, Encoded(*(part.to(device) for part in tile.sets)))


def write_tiles(place: Path, cache: Path, tiles: Sequence[Tile]) -> None:
    """Tiles as one array of all numbers and, written last, one file of what else they are."""
    vectors, head = place.with_suffix(".npy"), place.with_suffix(".npz")
    total = sum(tile.sets.vectors.numel() for tile in tiles)
    make_way(vectors)
    with replacing(vectors) as part:
        numbers = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=(total,))
        start = 0
        for tile in tiles:
            own = tile.sets.vectors.float().cpu().numpy().reshape(-1)
            numbers[start : start + len(own)] = own
            start += len(own)
        numbers.flush()
    shapes = np.array([tuple(tile.sets.vectors.shape) for tile in tiles], dtype=np.int64)
    masks = np.concatenate([tile.sets.mask.cpu().numpy().reshape(-1) for tile in tiles])
    places = np.concatenate([tile.places for tile in tiles])
    checksum = text_array(file_fact(cache, vectors, "sha256", sha256))
    save_cached(head, {"shapes": shapes, "masks": masks, "places": places, "sha256": checksum})


def read_tiles(place: Path, cache: Path, items: int) -> list[Tile] | None:
    """The tiles of so many items, their vectors mapped from the file; None where they are absent or damaged."""
    head = place.with_suffix(".npz")
    return read_own(head, lambda data: _tiles_of(place.with_suffix(".npy"), cache, parsed_arrays(head, data), items))


def _tiles_of(vectors: Path, cache: Path, arrays: Arrays, items: int) -> list[Tile]:
    if file_fact(cache, vectors, "sha256", sha256) != text_of(arrays["sha256"]):
        raise ValueError(f"{vectors.name} has another checksum")
    if len(arrays["places"]) != items:
        raise ValueError(f"it holds {len(arrays['places'])} items, not {items}")
    mapped = np.load(vectors, mmap_mode="c", allow_pickle=False)  # torch wants what may be written to: "c", in memory
    sizes = arrays["shapes"].prod(axis=1)
    starts, sets = np.cumsum(sizes) - sizes, np.cumsum(arrays["shapes"][:, 0])
    places = np.split(arrays["places"], sets[:-1])
    masks = np.split(arrays["masks"], np.cumsum(arrays["shapes"][:, :2].prod(axis=1))[:-1])
    return [
        Tile(own, Encoded(torch.from_numpy(mapped[start : start + size].reshape(shape)), _mask(mask, shape)))
        for own, mask, start, size, shape in zip(places, masks, starts, sizes, arrays["shapes"].tolist(), strict=True)
    ]


def _mask(mask: NDArray[np.bool_], shape: Sequence[int]) -> torch.Tensor:
    return torch.from_numpy(mask.reshape(shape[:2]))
