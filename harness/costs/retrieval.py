"""What retrieval takes once a gallery is encoded: bytes in an index, and the time of one query at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.blocks.host import Ints, in_order, lengths_of, to_device, with_lengths
from harness.blocks.tiles import Tile, joined
from harness.data.regions import Regions
from harness.data.split import Split
from harness.data.tokens import Tokens
from harness.evaluation.protocols import Fold
from harness.evaluation.scoring import Sets, products_in, scoring
from harness.method import Encoded, Method, ScorePrecision

WARM_UP, LEAST, MOST = 2, 3, 20  # queries of a direction: not counted, measured at least, measured at most
SECONDS = 1.0  # after which no further query of a direction is measured
TILE_VECTORS = 2**15  # of the gallery scored at once: one query's products with them are few
RESULTS = 10  # that a query asks for
Answer = Callable[[int], Tensor]  # the scores (G,) of a query, by its number in the split, with the whole gallery


def retrieval_costs(
    method: Method, sets: Sets, split: Split, fold: Fold, device: torch.device, precision: ScorePrecision = "fp32"
) -> dict[str, float]:
    """bytes_per_image and bytes_per_caption of the encoded sets; i2t_query_ms and t2i_query_ms in a fold's gallery.

    A query is encoded, scored against all of the gallery, whose sides are ready, and its first results are read. Times
    that cannot be measured, for want of memory above all, are left out: a cost never fails a trial.
    """
    sizes = {"bytes_per_image": mean_bytes(sets.images), "bytes_per_caption": mean_bytes(sets.captions)}
    try:
        with scoring(method):
            times = {
                "i2t_query_ms": median_ms(image_queries(method, sets, split, fold, device, precision), fold.images),
                "t2i_query_ms": median_ms(caption_queries(method, sets, split, fold, device, precision), fold.captions),
            }
    except (RuntimeError, MemoryError):
        times = {}
    return sizes | times


def mean_bytes(tiles: Sequence[Tile]) -> float:
    """The bytes of an encoded set, the mean over all: its real vectors alone, in the type that they have."""
    real = sum(int(lengths_of(tile.sets.mask).sum()) for tile in tiles)
    first = tiles[0].sets.vectors
    return real * first.shape[-1] * first.element_size() / sum(len(tile.places) for tile in tiles)


def image_queries(
    method: Method, sets: Sets, split: Split, fold: Fold, device: torch.device, precision: ScorePrecision
) -> Answer:
    """Answers images with the scores of a fold's captions."""
    gallery = [method.caption_side(tile.sets) for tile in gallery_tiles(sets.captions, fold.captions)]

    def answer(image: int) -> Tensor:
        query = encode_one(method.encode_images, split.images, split.images.counts, image, device)
        with products_in(precision, device):
            side = method.image_side(query)
            return torch.cat([method.score_sides(side, of)[0] for of in gallery])

    return answer


def caption_queries(
    method: Method, sets: Sets, split: Split, fold: Fold, device: torch.device, precision: ScorePrecision
) -> Answer:
    """Answers captions with the scores of a fold's images."""
    gallery = [method.image_side(tile.sets) for tile in gallery_tiles(sets.images, fold.images)]

    def answer(caption: int) -> Tensor:
        query = encode_one(method.encode_captions, split.tokens, split.tokens.lengths, caption, device)
        with products_in(precision, device):
            side = method.caption_side(query)
            return torch.cat([method.score_sides(of, side)[:, 0] for of in gallery])

    return answer


def encode_one(
    encoder: Callable[[Tensor, Tensor], Encoded],
    source: Regions | Tokens,
    lengths: Ints,
    number: int,
    device: torch.device,
) -> Encoded:
    """One image or caption as a batch of its own."""
    values, mask = (to_device(part, device) for part in source.gather(np.array([number])))
    return encoder(values, with_lengths(mask, lengths[[number]]))


def median_ms(answer: Answer, numbers: Ints) -> float:
    """The median time of a query, of some that lie evenly among all; reading its results waits for the device."""
    queries = numbers[np.linspace(0, len(numbers) - 1, MOST + WARM_UP).astype(int)].tolist()
    for number in queries[:WARM_UP]:
        first_results(answer(number))
    seconds: list[float] = []
    for number in queries[WARM_UP:]:
        start = time.perf_counter()
        first_results(answer(number))
        seconds.append(time.perf_counter() - start)
        if len(seconds) >= LEAST and sum(seconds) > SECONDS:
            break
    return 1000 * float(np.median(seconds))


def first_results(scores: Tensor) -> Any:
    """The places of the best results of a query, on the host."""
    return scores.float().topk(min(RESULTS, len(scores))).indices.tolist()


def gallery_tiles(tiles: Sequence[Tile], chosen: Ints) -> list[Tile]:
    """The sets of a gallery in tiles for one query."""
    inside = [part for tile in tiles if len((part := within(tile, chosen)).places)]
    return joined(inside, TILE_VECTORS)


def within(tile: Tile, chosen: Ints) -> Tile:
    """The part of a tile whose sets are among those chosen."""
    rows = np.flatnonzero(np.isin(tile.places, chosen))
    if len(rows) == len(tile.places):
        return tile
    lengths = lengths_of(tile.sets.mask)[rows]
    vectors, mask = (in_order(part, rows) for part in tile.sets)
    return Tile(tile.places[rows], Encoded(vectors, with_lengths(mask, lengths)))
