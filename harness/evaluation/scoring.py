"""Encode a split, score every image against every caption in tiles, and rank."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.blocks.host import to_device, with_lengths
from harness.blocks.tiles import Tile, by_length, joined, runs, side
from harness.data.regions import Regions
from harness.data.split import Split
from harness.data.tokens import Tokens
from harness.errors import DataError, TrialError
from harness.evaluation.device_ranks import rank_on_device
from harness.evaluation.outcome import SplitRanks, rank_scores
from harness.evaluation.positives import PositiveSet
from harness.evaluation.protocols import Fold
from harness.evaluation.ranks import Ints, Look, look_at_all
from harness.evaluation.streaming import Rows, rank_streamed
from harness.method import Encoded, Method, ScorePrecision, Scorer

BATCH_VECTORS = 2**12  # regions or words encoded at a time
MATRIX_BYTES = 2**32  # of scores held together: COCO's 5,000 x 25,000 take an eighth of it
FUSED_PAIRS = 2**24  # from which a kernel, which is compiled for seconds, is worth it
FUSED_VECTORS = 2**16  # a side of what it scores at once
T = TypeVar("T")


class Scored(NamedTuple):
    scores: NDArray[np.float32]  # (N, M)
    cost: dict[str, float]  # encode_images_per_second, encode_captions_per_second, score_pairs_per_second


class Sets(NamedTuple):
    images: list[Tile]
    captions: list[Tile]
    cost: dict[str, float]  # encode_images_per_second, encode_captions_per_second


class RankedSplit(NamedTuple):
    ranks: SplitRanks
    cost: dict[str, float]  # encode_images_per_second, encode_captions_per_second, score_pairs_per_second
    sets: Sets  # that were scored


class Way(NamedTuple):
    """How encoded sets are scored: by the method in tiles that fit, or by its kernel in larger ones."""

    scorer: Method | Scorer
    tiles: Callable[[Sequence[Tile], int], list[Tile]]
    vectors: int  # a side of a tile


def score_split(method: Method, split: Split, device: torch.device, precision: ScorePrecision = "fp32") -> Scored:
    """Every image of a split against every caption; a method's mode is restored afterwards."""
    scores, _, cost = _score_there(method, split, device, precision)
    return Scored(scores.cpu().numpy(), cost)


def _score_there(
    method: Method, split: Split, device: torch.device, precision: ScorePrecision
) -> tuple[Tensor, Sets, dict[str, float]]:
    """Scores (N, M) that still lie on the device, the sets that they are of, and what they cost."""
    with scoring(method):
        sets = encode_split(method, split, device)
        start = time.perf_counter()
        scores = score_encoded(method, sets.images, sets.captions, device, precision=precision)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
    return scores, sets, {**sets.cost, "score_pairs_per_second": scores.numel() / seconds}


def rank_split(
    method: Method,
    split: Split,
    device: torch.device,
    folds: Sequence[Fold],
    sets: Sequence[PositiveSet] = (),
    matrix_bytes: int = MATRIX_BYTES,
    precision: ScorePrecision = "fp32",
    look: Look | None = None,
) -> RankedSplit:
    """The ranks of every fold of a split and of sets of positives on it, and what they cost.

    Scores beyond `matrix_bytes` are never held together; DataError where there are sets, which need all of them.
    `look` is called with all scores of both directions, where they are not held together with some queries at a time.
    """
    if 4 * len(split.images) * len(split.captions) <= matrix_bytes:
        scores, encoded, cost = _score_there(method, split, device, precision)
        if look:
            look_at_all(scores.cpu().numpy(), look)
        return RankedSplit(rank_there(scores, folds, sets), cost, encoded)
    if sets:
        raise DataError(
            f"{len(split.images)} x {len(split.captions)} scores are too many to hold, as the positives of "
            f"{', '.join(one.name for one in sets)} need them; take these out of the dataset's card"
        )
    with scoring(method):
        encoded = encode_split(method, split, device)
        start = time.perf_counter()
        way = way_of(method, encoded.images, encoded.captions, device, precision)
        with products_in(precision, device):
            ranks, shortlists = shrinking(
                # both passes again: their scores are the same to the bit only in tiles of one size
                lambda vectors: rank_streamed(partial(score_rows, way, encoded, split.pairs, vectors), folds),
                way.vectors,
            )
        seconds = time.perf_counter() - start
        if look:
            look_in_strips(way, encoded, split, device, precision, look)
    cost = {**encoded.cost, "score_pairs_per_second": len(split.images) * len(split.captions) / seconds}
    return RankedSplit(SplitRanks(ranks, shortlists, []), cost, encoded)


def look_at_split(
    method: Method,
    split: Split,
    device: torch.device,
    look: Look,
    matrix_bytes: int = MATRIX_BYTES,
    precision: ScorePrecision = "fp32",
) -> None:
    """Call `look` with all scores of a split, as `rank_split` does, without ranking them."""
    if 4 * len(split.images) * len(split.captions) <= matrix_bytes:
        look_at_all(score_split(method, split, device, precision).scores, look)
        return
    with scoring(method):
        encoded = encode_split(method, split, device)
        way = way_of(method, encoded.images, encoded.captions, device, precision)
        look_in_strips(way, encoded, split, device, precision, look)


def look_in_strips(
    way: Way, sets: Sets, split: Split, device: torch.device, precision: ScorePrecision, look: Look
) -> None:
    """Call `look` with scores of the images, then of the captions, some of them at a time: all are scored twice."""

    def strips(vectors: int) -> None:
        for rows in score_rows(way, sets, split.pairs, vectors, matching=False):
            look("i2t", rows.images, rows.scores)
        for captions, scores in score_columns(way, sets, vectors):
            look("t2i", captions, scores)

    with products_in(precision, device):
        shrinking(strips, way.vectors)


def rank_there(scores: Tensor, folds: Sequence[Fold], sets: Sequence[PositiveSet]) -> SplitRanks:
    """Rank the scores (N, M) of a split where they lie, or on the host where a GPU lacks the memory."""
    if scores.device.type == "cuda":
        try:
            return rank_on_device(scores, folds, sets)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    return rank_scores(scores.cpu().numpy(), folds, sets)


@contextmanager
def scoring(method: Method) -> Iterator[None]:
    """A method in evaluation mode, without gradients and without TF32; its mode is restored afterwards."""
    training = method.training
    method.eval()
    try:
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        method.train(training)


@contextmanager
def products_in(precision: ScorePrecision, device: torch.device) -> Iterator[None]:
    """Products of scores in a precision, where a device has it: TF32 is of GPUs alone."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def way_of(
    method: Method,
    images: Sequence[Tile],
    captions: Sequence[Tile],
    device: torch.device,
    precision: ScorePrecision = "fp32",
) -> Way:
    """A kernel where one can run, the method has one, and there is enough to score for what its compiler takes."""
    scorer = None
    if sum(len(tile.places) for tile in images) * sum(len(tile.places) for tile in captions) >= FUSED_PAIRS:
        regions, words = (max(tile.sets.mask.shape[1] for tile in tiles) for tiles in (images, captions))
        scorer = method.fused(regions, words, precision, device) if runs_kernels(device) else None
    return Way(scorer, joined, FUSED_VECTORS) if scorer else Way(method, _cut, side(method, device))


def runs_kernels(device: torch.device) -> bool:
    """Whether Triton can run here: on the GPUs that its kernels were measured on, or in its interpreter."""
    if device.type == "cuda":
        able = torch.cuda.get_device_capability(device) >= (9, 0)
    else:
        able = os.environ.get("TRITON_INTERPRET") == "1"
    # descriptors came with Triton 3.4; the module is looked for where the first answer is yes, as that imports Triton
    return able and find_spec("triton") is not None and find_spec("triton.tools.tensor_descriptor") is not None


def encode_split(method: Method, split: Split, device: torch.device) -> Sets:
    start = time.perf_counter()
    images = encode(method.encode_images, split.images, split.images.counts, device)
    middle = time.perf_counter()
    captions = encode(method.encode_captions, split.tokens, split.tokens.lengths, device)
    cost = {
        "encode_images_per_second": len(split.images) / (middle - start),
        "encode_captions_per_second": len(split.captions) / (time.perf_counter() - middle),
    }
    return Sets(images, captions, cost)


def encode(
    encoder: Callable[[Tensor, Tensor], Encoded],
    source: Regions | Tokens,
    lengths: Ints,
    device: torch.device,
    tell: Callable[[int], object] = lambda _: None,
) -> list[Tile]:
    """Sets in tiles of similar lengths; `tell` is called with the number that was encoded since."""
    order = np.argsort(lengths, kind="stable")
    batches = []
    for places in np.split(order, np.cumsum(runs(lengths[order].tolist(), BATCH_VECTORS))[:-1]):
        values, mask = (to_device(part, device) for part in source.gather(places))
        batches.append(Tile(places, encoder(values, with_lengths(mask, lengths[places]))))
        tell(len(places))
    return batches


@torch.no_grad()
def score_encoded(
    method: Method,
    images: Sequence[Tile],
    captions: Sequence[Tile],
    device: torch.device,
    vectors: int | None = None,
    precision: ScorePrecision = "fp32",
) -> Tensor:
    """The (N, M) float32 scores; `vectors` a side of a tile, halved for as long as a tile does not fit the memory."""
    way = way_of(method, images, captions, device, precision)

    def scores(vectors: int) -> Tensor:
        return score_tiles(way.scorer, way.tiles(images, vectors), way.tiles(captions, vectors))

    with products_in(precision, device):
        return shrinking(scores, vectors or way.vectors)


def shrinking(call: Callable[[int], T], vectors: int) -> T:
    """Call with tiles of at most so many vectors per side; halve the number and call again where memory runs out."""
    while vectors > 1:
        try:
            return call(vectors)
        except torch.OutOfMemoryError:
            vectors //= 2
        torch.cuda.empty_cache()  # not above, where the error still holds on to the tiles
    return call(vectors)


def score_tiles(method: Method | Scorer, images: Sequence[Tile], captions: Sequence[Tile]) -> Tensor:
    shape = [sum(len(tile.places) for tile in tiles) for tiles in (images, captions)]
    device = images[0].sets.vectors.device
    scores = torch.empty(shape, dtype=torch.float32, device=device)
    rows = [(to_device(tile.places, device)[:, None], method.image_side(tile.sets)) for tile in images]
    for column in captions:
        places, shared = to_device(column.places, device), method.caption_side(column.sets)
        for row, of in rows:
            scores[row, places] = tile_scores(method, of, shared, len(row), len(places))
    return scores


def tile_scores(scorer: Method | Scorer, of: Any, shared: Any, images: int, captions: int) -> Tensor:
    """Float32 scores of images by captions; TrialError where a method gives anything but real scores of that shape."""
    scores = scorer.score_sides(of, shared)
    if isinstance(scores, Tensor) and scores.shape == (images, captions) and scores.is_floating_point():
        return scores.float()
    kind = f"{tuple(scores.shape)} of {scores.dtype}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
    raise TrialError(
        f"the method's scores of {images} images with {captions} captions are {kind}; floating numbers "
        f"({images}, {captions}) are needed, see `harness validate`"
    )


def score_rows(way: Way, sets: Sets, pairs: Ints, vectors: int, matching: bool) -> Iterator[Rows]:
    """The scores of all images with all captions, some images at a time; `matching`: of tiles with a pair alone."""
    scorer, columns = way.scorer, way.tiles(sets.captions, vectors)
    sides = [scorer.caption_side(tile.sets) for tile in columns]
    of_images = [np.unique(pairs[np.isin(pairs[:, 1], tile.places), 0]) for tile in columns]
    for tile in way.tiles(sets.images, vectors):
        places, shared = tile.places, scorer.image_side(tile.sets)
        scores = np.zeros((len(places), sum(len(column.places) for column in columns)), dtype=np.float32)
        for column, of, near in zip(columns, sides, of_images, strict=True):
            if not matching or np.isin(places, near).any():
                tile_of = tile_scores(scorer, shared, of, len(places), len(column.places))
                scores[:, column.places] = tile_of.cpu().numpy()
        yield Rows(places, scores)


def score_columns(way: Way, sets: Sets, vectors: int) -> Iterator[tuple[Ints, NDArray[np.float32]]]:
    """Some captions at a time, their numbers (m,) and their scores (m, N) with all images."""
    scorer, rows = way.scorer, way.tiles(sets.images, vectors)
    sides = [scorer.image_side(tile.sets) for tile in rows]
    for tile in way.tiles(sets.captions, vectors):
        places, shared = tile.places, scorer.caption_side(tile.sets)
        scores = np.empty((len(places), sum(len(row.places) for row in rows)), dtype=np.float32)
        for row, of in zip(rows, sides, strict=True):
            scores[:, row.places] = tile_scores(scorer, of, shared, len(row.places), len(places)).cpu().numpy().T
        yield places, scores


def _cut(batches: Sequence[Tile], vectors: int) -> list[Tile]:
    return [tile for batch in batches for tile in by_length(batch.sets, vectors, batch.places)]
