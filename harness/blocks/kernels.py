"""Scores of stacked attention in one Triton kernel: the products of a tile never reach the memory.

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

from harness.method import Encoded

Precision = Literal["tf32x3", "bf16x3", "tf32", "bf16"]
SETS = 16  # of a tile, at most
WARMEST = 40.0  # temperature up to which exp(t a), |a| <= 1, and its square are float32 without a largest subtracted


class Stacked(NamedTuple):
    """The settings of SCAN's attention and pooling."""

    temperature: float
    slope: float
    pooling: Literal["avg", "lse"] = "avg"
    pooling_temperature: float = 1.0


class Shape(NamedTuple):
    """How the kernel is cut: rows of contexts, columns of queries, depth of a step, warps and steps loaded ahead."""

    rows: int = 128
    columns: int = 128
    depth: int = 64
    warps: int = 8
    stages: int = 3


class Packed(NamedTuple):
    """Sets in tiles."""

    vectors: Tensor  # (tiles, size, D), zeros in the rows left over
    lengths: Tensor  # (tiles,) int32, of each set of a tile
    numbers: Tensor  # (tiles,) int32, of sets in a tile
    places: Tensor  # (tiles, SETS) int32, of those sets in the batch


def attended_scores(
    context: Encoded,
    queries: Encoded,
    attention: Stacked,
    precision: Precision = "tf32x3",
    shape: Shape | None = None,
) -> Tensor:
    """Pooled cosines of every query set's vectors with what they attend to in every context set, (C, Q).

    Images as contexts give SCAN's text-to-image scores, captions as contexts the transposed image-to-text scores.
    ValueError for sets longer than a tile and for temperatures that need a largest logit subtracted.
    """
    if attention.temperature > WARMEST:
        raise ValueError(f"the kernel takes temperatures up to {WARMEST:g}, not {attention.temperature:g}")
    shape = shape or fastest_shape(context, queries, precision)
    of, by = packed(context, shape.rows), packed(queries, shape.columns)
    scores = torch.empty(len(context.mask), len(queries.mask), device=context.vectors.device)
    left, right = terms(of.vectors, precision, "left"), terms(by.vectors, precision, "right")
    left, right = (torch.nn.functional.pad(side, (0, -side.shape[2] % shape.depth)) for side in (left, right))
    _score_tiles[(len(of.lengths) * len(by.lengths),)](
        left,
        right,
        block_grams(of),
        *of[1:],
        *by[1:],
        scores,
        len(of.lengths),
        len(by.lengths),
        len(queries.mask),
        attention.temperature,
        attention.slope,
        attention.pooling_temperature,
        WIDTH=left.shape[2],
        ROWS=shape.rows,
        COLUMNS=shape.columns,
        DEPTH=shape.depth,
        COUNT=SETS,
        LSE=attention.pooling == "lse",
        INNER="tf32x3" if precision.endswith("x3") else "tf32",
        num_warps=shape.warps,
        num_stages=shape.stages,
    )
    return scores


def fastest_shape(context: Encoded, queries: Encoded, precision: Precision) -> Shape:
    """What was fastest on an H100: two more terms leave registers for half a tile, cut on the side of shorter sets."""
    depth = 64 if precision.startswith("bf16") else 32
    most, asking = context.mask.shape[1], queries.mask.shape[1]
    if not precision.endswith("x3") or min(most, asking) > 64:
        return Shape(128, 128, depth, 8)
    return Shape(128, 64, depth, 8 if depth == 64 else 4) if asking <= most else Shape(64, 128, depth, 4)


def packed(sets: Encoded, size: int) -> Packed:
    """Sets of equal length side by side in tiles of `size` rows."""
    mask = sets.mask.cpu()
    lengths = mask.sum(1)
    least, most = int(lengths.min()), int(lengths.max())
    if least < 1 or most > size:
        raise ValueError(f"the kernel takes sets of 1 to {size} vectors, not of {least} to {most}")
    starts = lengths.cumsum(0) - lengths
    real = mask.flatten().nonzero().squeeze(1)  # where each real vector lies
    rows, of_tiles = [], []
    for length in lengths.unique().tolist():
        own = (lengths == length).nonzero().squeeze(1)
        each = min(SETS, size // length)
        members = torch.nn.functional.pad(own, (0, -len(own) % each), value=-1).view(-1, each)
        within = real[starts[members.clamp_min(0)].unsqueeze(2) + torch.arange(length)]
        within = within.masked_fill(members.unsqueeze(2) < 0, -1).flatten(1)
        rows.append(torch.nn.functional.pad(within, (0, size - each * length), value=-1))
        places = torch.nn.functional.pad(members, (0, SETS - each), value=-1)
        of_tiles.append((torch.full((len(places),), length), (members >= 0).sum(1), places))
    device = sets.vectors.device
    at = torch.cat(rows).to(device)
    vectors = sets.vectors.flatten(0, 1)[at.clamp_min(0)].masked_fill_((at < 0).unsqueeze(2), 0)
    return Packed(vectors, *(torch.cat(part).int().to(device) for part in zip(*of_tiles, strict=True)))


def block_grams(sets: Packed) -> Tensor:
    """(tiles, size, size): inner products within each set of a tile, zeros between sets."""
    vectors = sets.vectors.float()
    owner = torch.arange(vectors.shape[1], device=vectors.device) // sets.lengths[:, None]
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
def _cosines(s, g, members, owners, temperature, slope, INNER: tl.constexpr):  # type: ignore[no-untyped-def]
    """Cosines of every query vector with what it attends to in every context set of a tile: e . s / sqrt(e^T G e)."""
    f = tl.where(s > 0, s, s * slope)
    warmth = temperature / (tl.sqrt(_right(f * f, members, INNER)) + 1e-8)
    e = tl.exp(f * _right(warmth, tl.trans(members), INNER))
    spread = tl.dot(g, e, input_precision=INNER)
    inner = _left(owners, e * s, INNER)
    square = _left(owners, e * spread, INNER)
    return inner * tl.rsqrt(tl.maximum(square, 1e-37))


# fmt: off
@triton.jit(do_not_specialize=["context_tiles", "query_tiles", "queries"])  # type: ignore[untyped-decorator]
def _score_tiles(  # type: ignore[no-untyped-def]
    left, right, grams, context_lengths, context_numbers, context_places, query_lengths, query_numbers, query_places,
    scores, context_tiles, query_tiles, queries, temperature, slope, pooling_temperature,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, COUNT: tl.constexpr,
    LSE: tl.constexpr, INNER: tl.constexpr,
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
    s = _products(
        left + c.to(tl.int64) * ROWS * WIDTH, right + q.to(tl.int64) * COLUMNS * WIDTH, rows, columns, WIDTH, DEPTH
    )
    members = (columns[:, None] // tl.load(query_lengths + q) == sets[None, :]).to(tl.float32)
    owners = (sets[:, None] == rows[None, :] // tl.load(context_lengths + c)).to(tl.float32)
    g = tl.load(grams + c.to(tl.int64) * ROWS * ROWS + rows[:, None] * ROWS + rows[None, :])
    cosines = _cosines(s, g, members, owners, temperature, slope, INNER)
    if LSE:
        summed = _right(tl.exp(pooling_temperature * cosines), members, INNER)
        pooled = tl.log(tl.maximum(summed, 1e-37)) / pooling_temperature
    else:
        pooled = _right(cosines, members, INNER) / tl.load(query_lengths + q)

    row = tl.load(context_places + c * COUNT + sets)
    column = tl.load(query_places + q * COUNT + sets)
    real = (sets < tl.load(context_numbers + c))[:, None] & (sets < tl.load(query_numbers + q))[None, :]
    tl.store(scores + row[:, None].to(tl.int64) * queries + column[None, :], pooled, mask=real)
