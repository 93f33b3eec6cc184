"""Encode a split and score every image against every caption, in tiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.captions import Tokens
from harness.data import Split
from harness.method import Encoded, Method
from harness.regions import Regions
from harness.tiles import Tile, by_length, runs, side

BATCH_VECTORS = 2**12  # regions or words encoded at a time


class Scored(NamedTuple):
    """A split's scores and what they cost."""

    scores: NDArray[np.float32]  # (N, M)
    cost: dict[str, float]  # encode_images_per_second, encode_captions_per_second, score_pairs_per_second


@torch.no_grad()
def score_split(method: Method, split: Split, device: torch.device) -> Scored:
    """Every image of a split against every caption; a method's mode is restored afterwards."""
    training = method.training
    method.eval()
    try:
        start = time.perf_counter()
        images = encode(method.encode_images, split.images, split.images.counts, device)
        encoded_images = time.perf_counter()
        captions = encode(method.encode_captions, split.tokens, split.tokens.lengths, device)
        encoded_captions = time.perf_counter()
        scores = score_encoded(method, images, captions, device).cpu().numpy()
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
) -> list[Tile]:
    """All sets of one side, encoded in batches of about equal length."""
    order = np.argsort(lengths, kind="stable")
    batches = []
    for places in np.split(order, np.cumsum(runs(lengths[order].tolist(), BATCH_VECTORS))[:-1]):
        values, mask = (torch.from_numpy(part).to(device) for part in source.gather(places))
        batches.append(Tile(torch.from_numpy(places), encoder(values, mask)))
    return batches


@torch.no_grad()
def score_encoded(
    method: Method,
    images: Sequence[Tile],
    captions: Sequence[Tile],
    device: torch.device,
    vectors: int | None = None,
) -> Tensor:
    """The (N, M) float32 scores; `vectors` a side of a tile, halved for as long as a tile does not fit the memory."""
    vectors = vectors or side(method, device)
    while True:
        try:
            return score_tiles(method, *([t for of in sets for t in _cut(of, vectors)] for sets in (images, captions)))
        except torch.OutOfMemoryError:
            if vectors == 1:
                raise
            vectors //= 2
            torch.cuda.empty_cache()


def score_tiles(method: Method, images: Sequence[Tile], captions: Sequence[Tile]) -> Tensor:
    """Tile by tile; what the tiles of a row or a column share is worked out once."""
    shape = [sum(len(tile.places) for tile in tiles) for tiles in (images, captions)]
    device = images[0].sets.vectors.device
    scores = torch.empty(shape, dtype=torch.float32, device=device)
    rows = [(tile.places.to(device)[:, None], method.image_side(tile.sets)) for tile in images]
    for column in captions:
        places, shared = column.places.to(device), method.caption_side(column.sets)
        for row, of in rows:
            scores[row, places] = method.score_sides(of, shared).float()
    return scores


def _cut(batch: Tile, vectors: int) -> list[Tile]:
    return by_length(batch.sets, vectors, batch.places)
