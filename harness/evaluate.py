"""Encode a split, score every image against every caption in tiles, and rank."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.captions import Tokens
from harness.data import Split
from harness.errors import NonFiniteError
from harness.method import Encoded, Method
from harness.regions import Regions

TILE = 64  # sets a side: a tile's products of about 64 x 64 x 10 x 12 floats stay in the cache


class Tile(NamedTuple):
    """Some sets of a split, of about equal length, and the rows they belong to."""

    places: NDArray[np.int64]  # (n,)
    sets: Encoded


class Scored(NamedTuple):
    """A split's scores and what they cost."""

    scores: NDArray[np.float32]  # (N, M)
    cost: dict[str, float]  # encode_images_per_second, encode_captions_per_second, score_pairs_per_second


@torch.no_grad()
def score_split(method: Method, split: Split, device: torch.device, tile: int = TILE) -> Scored:
    """Every image of a split against every caption; a method's mode is restored afterwards.

    Raises NonFiniteError where a score is NaN or inf.
    """
    training = method.training
    method.eval()
    try:
        start = time.perf_counter()
        images = encode(method.encode_images, split.images, split.images.counts, device, tile)
        encoded_images = time.perf_counter()
        captions = encode(method.encode_captions, split.tokens, split.tokens.lengths, device, tile)
        encoded_captions = time.perf_counter()
        scores = score_tiles(method, images, captions, len(split.images), len(split.captions))
        scored = time.perf_counter()
    finally:
        method.train(training)
    cost = {
        "encode_images_per_second": len(split.images) / (encoded_images - start),
        "encode_captions_per_second": len(split.captions) / (encoded_captions - encoded_images),
        "score_pairs_per_second": scores.size / (scored - encoded_captions),
    }
    return Scored(scores, cost)


def encode(
    encoder: Callable[[Tensor, Tensor], Encoded],
    source: Regions | Tokens,
    lengths: NDArray[np.integer],
    device: torch.device,
    tile: int = TILE,
) -> list[Tile]:
    """All sets of one side, encoded in tiles sorted by length so that they carry little padding."""
    order = np.argsort(lengths, kind="stable")
    tiles = []
    for start in range(0, len(order), tile):
        places = order[start : start + tile]
        values, mask = (torch.from_numpy(part).to(device) for part in source.gather(places))
        tiles.append(Tile(places, encoder(values, mask)))
    return tiles


def score_tiles(
    method: Method, images: Iterable[Tile], captions: list[Tile], n_images: int, n_captions: int
) -> NDArray[np.float32]:
    """The (N, M) matrix, tile by tile; each tile is checked to be finite before anything ranks it."""
    scores = np.empty((n_images, n_captions), dtype=np.float32)
    for row in images:
        for column in captions:
            tile = method.score(row.sets, column.sets).float().cpu().numpy()
            if not np.isfinite(tile).all():
                image, caption = np.argwhere(~np.isfinite(tile))[0]
                place = f"image {row.places[image]}, caption {column.places[caption]}"
                raise NonFiniteError(f"the score of {place} is not finite; lower training.lr or look at the method")
            scores[np.ix_(row.places, column.places)] = tile
    return scores
