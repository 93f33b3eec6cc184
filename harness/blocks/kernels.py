"""Scores of one attention network in one Triton kernel: the products of a tile never reach the memory.

The algebra is that of blocks.attention, which stays the reference. Sets are grouped by their exact length and packed
into tiles of SIZE rows, several sets a tile and no padding inside of them, so that no mask is needed: the rows left
over at a tile's end are zeros, which add nothing. Sums over the vectors of a set, along either axis of a tile, are
products with a matrix of zeros and ones, and the Gram matrices of a tile's sets are the blocks of one matrix.

Three-term precisions store a number as a high and a low part and multiply [h, h, l] by [h, l, h] along D: the kernel's
loop is that of a plain product three times as long. Forward only, on CUDA or in Triton's interpreter.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.blocks.host import lengths_of
from harness.method import Encoded, ScorePrecision

Precision = Literal["tf32x3", "bf16x3", "tf32", "bf16"]
SETS = 16  # of a tile, at most
LONGEST = 128  # vectors of a set
WARMEST = 40.0  # the largest logit whose exp, and the square of that, are float32 without a largest subtracted


class Network(NamedTuple):
    """What becomes of the products of a tile.

    With a slope, logits are rectified and brought to unit length over the vectors of a query set, as in SCAN; without
    one they are taken as they are. `weighted` pools with weights that come with the queries.
    """

    temperature: float
    slope: float | None
    pooling: Literal["avg", "lse", "weighted"] = "avg"
    pooling_temperature: float = 1.0
    largest: float = 1.0  # logit before the temperature, at most: of unit vectors and of a unit length it is one


class Shape(NamedTuple):
    """How the kernel is cut: rows of contexts, columns of queries, depth of a step, warps and steps loaded ahead."""

    rows: int = 128
    columns: int = 128
    depth: int = 64
    warps: int = 8
    stages: int = 3


class Packed(NamedTuple):
    """Sets in tiles."""

    places: Tensor  # (tiles, SETS) int32, of the sets in the batch
    numbers: Tensor  # (tiles,) int32, of sets in a tile
    lengths: Tensor  # (tiles,) int32, of each set of a tile
    rows: Tensor  # (tiles, size) int64, of the vectors among all of the batch, padding included; -1 left over


class PackedContexts(NamedTuple):
    """Sets that are attended to, as the kernel reads them."""

    sets: int
    tiles: Packed
    vectors: Tensor  # (tiles, rows, terms of D)
    mapped: Tensor  # the same of what gives the logits; `vectors` itself where those are the products
    grams: Tensor  # (tiles, rows, rows), of the sets of a tile, zeros between them


class PackedQueries(NamedTuple):
    """Sets whose unit vectors attend, as the kernel reads them."""

    sets: int
    tiles: Packed
    vectors: Tensor  # (tiles, columns, terms of D)
    weights: Tensor  # (tiles, columns), of pooling; empty where it has none


class AttentionKernel:
    """One attention network: packs sets once, and scores contexts against queries as often as asked."""

    def __init__(self, network: Network, precision: Precision, shape: Shape) -> None:
        self.network, self.precision, self.shape = network, precision, shape

    def contexts(self, sets: Encoded, mapped: Tensor | None = None) -> PackedContexts:
        """Sets (C, L, D), and what gives the logits (C, L, D) where that is not the sets themselves."""
        tiles = packed(sets, self.shape.rows)
        vectors = gathered(sets.vectors, tiles)
        left = self._terms(vectors, "left")
        logits = left if mapped is None else self._terms(gathered(mapped, tiles), "left")
        return PackedContexts(len(sets.mask), tiles, left, logits, block_grams(vectors, tiles))

    def queries(self, sets: Encoded, weights: Tensor | None = None) -> PackedQueries:
        """Sets (Q, K, D), and weights (Q, K) to pool with."""
        tiles = packed(sets, self.shape.columns)
        vectors = gathered(sets.vectors, tiles)
        pooling = vectors.new_empty(0) if weights is None else gathered(weights.float().unsqueeze(2), tiles).squeeze(2)
        return PackedQueries(len(sets.mask), tiles, self._terms(vectors, "right"), pooling)

    def scores(self, contexts: PackedContexts, queries: PackedQueries) -> Tensor:
        """Pooled cosines of every query set's vectors with what they attend to in every context set, (C, Q)."""
        network, shape, of, by = self.network, self.shape, contexts.tiles, queries.tiles
        scores = torch.empty(contexts.sets, queries.sets, device=contexts.grams.device)
        _score_tiles[(len(of.lengths) * len(by.lengths),)](
            contexts.vectors,
            contexts.mapped,
            queries.vectors,
            contexts.grams,
            queries.weights,
            *of[:3],
            *by[:3],
            scores,
            len(of.lengths),
            len(by.lengths),
            queries.sets,
            network.temperature,
            network.slope or 0.0,
            network.pooling_temperature,
            WIDTH=contexts.vectors.shape[2],
            ROWS=shape.rows,
            COLUMNS=shape.columns,
            DEPTH=shape.depth,
            COUNT=SETS,
            RECTIFIED=network.slope is not None,
            MAPPED=contexts.mapped is not contexts.vectors,
            POOLING=network.pooling,
            INNER="tf32x3" if self.precision.endswith("x3") else "tf32",
            num_warps=shape.warps,
            num_stages=shape.stages,
        )
        return scores

    def _terms(self, vectors: Tensor, side: Literal["left", "right"]) -> Tensor:
        parts = terms(vectors, self.precision, side)
        return torch.nn.functional.pad(parts, (0, -parts.shape[2] % self.shape.depth))


def attention_kernel(
    network: Network, contexts: int, queries: int, precision: ScorePrecision, device: torch.device
) -> AttentionKernel | None:
    """The kernel of a network for sets of at most so many vectors; None for what it cannot do."""
    if max(contexts, queries) > LONGEST or network.temperature * network.largest > WARMEST:
        return None
    # of an H100's three-term products those of bfloat16 were the faster ones; the interpreter has none
    exact: Precision = "bf16x3" if device.type == "cuda" else "tf32x3"
    inner: Precision = exact if precision == "fp32" else precision
    return AttentionKernel(network, inner, fastest_shape(contexts, queries, inner))


def fastest_shape(contexts: int, queries: int, precision: Precision) -> Shape:
    """What was fastest on an H100: two more terms leave registers for half a tile, cut on the side of shorter sets."""
    depth = 64 if precision.startswith("bf16") else 32
    if not precision.endswith("x3") or min(contexts, queries) > 64:
        return Shape(128, 128, depth, 8)
    return Shape(128, 64, depth, 8 if depth == 64 else 4) if queries <= contexts else Shape(64, 128, depth, 4)


def packed(sets: Encoded, size: int) -> Packed:
    """Sets of equal length side by side in tiles of `size` rows; ValueError for a set that is longer, or empty."""
    mask, device = sets.mask.cpu(), sets.mask.device
    lengths = torch.from_numpy(lengths_of(sets.mask))
    least, most = int(lengths.min()), int(lengths.max())
    if least < 1 or most > size:
        raise ValueError(f"the kernel takes sets of 1 to {size} vectors, not of {least} to {most}")
    starts = lengths.cumsum(0) - lengths
    real = mask.flatten().nonzero().squeeze(1)  # where each real vector lies
    parts = [_tiles_of(length, lengths, starts, real, size) for length in lengths.unique().tolist()]
    places, numbers, of_each, rows = (torch.cat(part).to(device) for part in zip(*parts, strict=True))
    return Packed(places.int(), numbers.int(), of_each.int(), rows)


def _tiles_of(length: int, lengths: Tensor, starts: Tensor, real: Tensor, size: int) -> Packed:
    """The tiles of all sets of one length."""
    own = (lengths == length).nonzero().squeeze(1)
    each = min(SETS, size // length)
    members = torch.nn.functional.pad(own, (0, -len(own) % each), value=-1).view(-1, each)
    within = real[starts[members.clamp_min(0)].unsqueeze(2) + torch.arange(length)]
    within = within.masked_fill(members.unsqueeze(2) < 0, -1).flatten(1)
    rows = torch.nn.functional.pad(within, (0, size - each * length), value=-1)
    places = torch.nn.functional.pad(members, (0, SETS - each), value=-1)
    return Packed(places, (members >= 0).sum(1), torch.full((len(places),), length), rows)


def gathered(vectors: Tensor, tiles: Packed) -> Tensor:
    """Vectors (n, L, D) of sets as their tiles have them, (tiles, size, D); zeros in the rows left over."""
    return vectors.flatten(0, 1)[tiles.rows.clamp_min(0)].masked_fill_((tiles.rows < 0).unsqueeze(2), 0)


def block_grams(vectors: Tensor, tiles: Packed) -> Tensor:
    """(tiles, size, size) of (tiles, size, D): inner products within each set of a tile, zeros between sets."""
    vectors = vectors.float()
    owner = torch.arange(vectors.shape[1], device=vectors.device) // tiles.lengths[:, None]
    return (vectors @ vectors.transpose(1, 2)).masked_fill_(owner[:, :, None] != owner[:, None, :], 0)


def terms(vectors: Tensor, precision: Precision, side: Literal["left", "right"]) -> Tensor:
    """Vectors (..., D) as the kernel multiplies them: (..., D), or (..., 3 D) of their high and low parts."""
    kind = torch.bfloat16 if precision.startswith("bf16") else torch.float32
    if not precision.endswith("x3"):
        return vectors.to(kind).contiguous()
    high = vectors.to(kind) if kind is torch.bfloat16 else without_low_bits(vectors.float())
    low = (vectors.float() - high.float()).to(kind)
    return torch.cat([high, high, low] if side == "left" else [high, low, high], -1)


def without_low_bits(vectors: Tensor) -> Tensor:
    """Numbers that TF32 holds exactly: the 13 lowest bits of float32 cleared."""
    return (vectors.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)


@triton.jit  # type: ignore[untyped-decorator]
def _right(numbers, ones, INNER: tl.constexpr):  # type: ignore[no-untyped-def]  # Triton compiles annotations too
    """Numbers times a matrix of zeros and ones: in two terms where precision asks for them, as the ones are exact."""
    if INNER == "tf32":
        return tl.dot(numbers, ones, input_precision="tf32")
    high = (numbers.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    return tl.dot(numbers - high, ones, tl.dot(high, ones, input_precision="tf32"), input_precision="tf32")


@triton.jit  # type: ignore[untyped-decorator]
def _left(ones, numbers, INNER: tl.constexpr):  # type: ignore[no-untyped-def]
    if INNER == "tf32":
        return tl.dot(ones, numbers, input_precision="tf32")
    high = (numbers.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    return tl.dot(ones, numbers - high, tl.dot(ones, high, input_precision="tf32"), input_precision="tf32")


@triton.jit  # type: ignore[untyped-decorator]
def _products(left, right, rows, columns, WIDTH: tl.constexpr, DEPTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """All inner products of two tiles."""
    steps = tl.arange(0, DEPTH)
    of = left + rows[:, None] * WIDTH + steps[None, :]
    by = right + columns[None, :] * WIDTH + steps[:, None]
    s = tl.zeros((rows.shape[0], columns.shape[0]), tl.float32)
    for step in range(0, WIDTH, DEPTH):
        s = tl.dot(tl.load(of + step), tl.load(by + step), s, input_precision="tf32")
    return s


@triton.jit  # type: ignore[untyped-decorator]
def _weights(logits, members, temperature, slope, RECTIFIED: tl.constexpr, INNER: tl.constexpr):  # type: ignore[no-untyped-def]
    """Attention of every query vector to the context, up to a positive factor."""
    if RECTIFIED:
        f = tl.where(logits > 0, logits, logits * slope)
        warmth = temperature / (tl.sqrt(_right(f * f, members, INNER)) + 1e-8)
        e = tl.exp(f * _right(warmth, tl.trans(members), INNER))
    else:
        e = tl.exp(logits * temperature)
    return e


@triton.jit  # type: ignore[untyped-decorator]
def _cosines(e, s, g, owners, INNER: tl.constexpr):  # type: ignore[no-untyped-def]
    """Cosines of every query vector with what it attends to in every context set of a tile: e . s / sqrt(e^T G e)."""
    spread = tl.dot(g, e, input_precision=INNER)
    inner = _left(owners, e * s, INNER)
    square = _left(owners, e * spread, INNER)
    return inner * tl.rsqrt(tl.maximum(square, 1e-37))


# fmt: off
@triton.jit(do_not_specialize=["context_tiles", "query_tiles", "queries"])  # type: ignore[untyped-decorator]
def _score_tiles(  # type: ignore[no-untyped-def]
    left, mapped, right, grams, weights, context_places, context_numbers, context_lengths, query_places, query_numbers,
    query_lengths, scores, context_tiles, query_tiles, queries, temperature, slope, pooling_temperature,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, COUNT: tl.constexpr,
    RECTIFIED: tl.constexpr, MAPPED: tl.constexpr, POOLING: tl.constexpr, INNER: tl.constexpr,
):
    # fmt: on
    """One tile of contexts against one of queries."""
    # programs that run together share tiles: BAND context tiles against one query tile after another
    BAND: tl.constexpr = 16
    program = tl.program_id(0)
    band = program // (BAND * query_tiles)
    height = min(context_tiles - band * BAND, BAND)
    within = program % (BAND * query_tiles)
    c = band * BAND + within % height
    q = within // height

    rows, columns, sets = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, COUNT)
    of, by = c.to(tl.int64) * ROWS * WIDTH, right + q.to(tl.int64) * COLUMNS * WIDTH
    s = _products(left + of, by, rows, columns, WIDTH, DEPTH)
    logits = s
    if MAPPED:
        logits = _products(mapped + of, by, rows, columns, WIDTH, DEPTH)
    members = (columns[:, None] // tl.load(query_lengths + q) == sets[None, :]).to(tl.float32)
    owners = (sets[:, None] == rows[None, :] // tl.load(context_lengths + c)).to(tl.float32)
    g = tl.load(grams + c.to(tl.int64) * ROWS * ROWS + rows[:, None] * ROWS + rows[None, :])
    cosines = _cosines(_weights(logits, members, temperature, slope, RECTIFIED, INNER), s, g, owners, INNER)
    if POOLING == "lse":
        summed = _right(tl.exp(pooling_temperature * cosines), members, INNER)
        pooled = tl.log(tl.maximum(summed, 1e-37)) / pooling_temperature
    elif POOLING == "weighted":
        pooled = _right(cosines * tl.load(weights + q * COLUMNS + columns)[None, :], members, INNER)
    else:
        pooled = _right(cosines, members, INNER) / tl.load(query_lengths + q)

    row = tl.load(context_places + c * COUNT + sets)
    column = tl.load(query_places + q * COUNT + sets)
    real = (sets < tl.load(context_numbers + c))[:, None] & (sets < tl.load(query_numbers + q))[None, :]
    tl.store(scores + row[:, None].to(tl.int64) * queries + column[None, :], pooled, mask=real)
