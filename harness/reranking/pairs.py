"""Score some pairs of a split by a method: an image at a time against the captions that it is to be scored with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.blocks.host import lengths_of, to_device, with_lengths
from harness.blocks.tiles import Tile, runs, side
from harness.data.regions import offsets, padded_places
from harness.data.split import Split
from harness.evaluation.scoring import encode_split, products_in, score_split, scoring, shrinking, tile_scores
from harness.method import Encoded, Method, ScorePrecision

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Scores = NDArray[np.float32]


class PairScores(NamedTuple):
    scores: Scores  # (N, M), zeros where a pair was not scored
    number: int  # of pairs that were scored
    seconds: float  # that scoring took, encoding left out


class Pool:
    """Encoded sets one behind the other, without padding: any of them in any order, at the cost of a copy."""

    def __init__(self, tiles: Sequence[Tile]) -> None:
        places = np.concatenate([tile.places for tile in tiles])
        lengths = np.concatenate([lengths_of(tile.sets.mask) for tile in tiles])
        self._rows = np.argsort(places)  # of a set, in the order of the tiles
        self._starts = offsets(lengths.tolist())
        self.vectors = torch.cat([tile.sets.vectors[tile.sets.mask] for tile in tiles])  # (S, D)
        self.lengths: Ints = lengths[self._rows]

    def take(self, numbers: Ints) -> Encoded:
        places, mask = padded_places(self._starts, self._rows[numbers])
        device = self.vectors.device
        real = with_lengths(to_device(mask, device), self.lengths[numbers])
        vectors = self.vectors[to_device(np.maximum(places, 0), device)]
        return Encoded(vectors.masked_fill_(~real[..., None], 0), real)


def score_pairs(
    method: Method, split: Split, device: torch.device, pairs: Bools, precision: ScorePrecision = "fp32"
) -> PairScores:
    """The scores of the pairs (N, M) of a split that are True, and of no others.

    Where all are, they are scored as any method's are, in the same tiles and so to the same bits.
    """
    if pairs.all():
        whole = score_split(method, split, device, precision)
        return PairScores(whole.scores, pairs.size, pairs.size / whole.cost["score_pairs_per_second"])
    with scoring(method):
        sets = encode_split(method, split, device)
        images, captions = Pool(sets.images), Pool(sets.captions)
        start = time.perf_counter()
        with products_in(precision, device):
            scores = shrinking(partial(_rows, method, images, captions, pairs), side(method, device))
        return PairScores(scores, int(pairs.sum()), time.perf_counter() - start)


def _rows(method: Method, images: Pool, captions: Pool, pairs: Bools, vectors: int) -> Scores:
    scores = np.zeros(pairs.shape, dtype=np.float32)
    for image in range(len(pairs)):
        others = np.flatnonzero(pairs[image])
        if len(others):
            scores[image, others] = _row(method, images.take(np.array([image])), captions, others, vectors)
    return scores


def _row(method: Method, image: Encoded, captions: Pool, others: Ints, vectors: int) -> Scores:
    """The scores of one image with some captions, (n,), in tiles of captions of about equal length."""
    order = np.argsort(captions.lengths[others], kind="stable")
    shared = method.image_side(image)
    parts: list[Tensor] = []
    start = 0
    for size in runs(captions.lengths[others][order].tolist(), vectors):
        sets = captions.take(others[order[start : start + size]])
        parts.append(tile_scores(method, shared, method.caption_side(sets), 1, size)[0])
        start += size
    scores = np.empty(len(others), dtype=np.float32)
    scores[order] = torch.cat(parts).cpu().numpy()
    return scores
