"""Sets of vectors as the attention kernel reads them: in tiles without padding, in numbers that it multiplies fast.

Sets are grouped by their exact length and packed into tiles of so many rows, several sets a tile and no padding inside
of them, so that no mask is needed: the rows left over at a tile's end are zeros, which add nothing.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from harness.blocks.host import lengths_of
from harness.method import Encoded, ScorePrecision

Precision = Literal["fp16+fp8", "bf16x3", "tf32x3", "fp16", "tf32", "bf16"]
KINDS = {"fp16": torch.float16, "bf16": torch.bfloat16, "bf16x3": torch.bfloat16}  # of products; else float32
Side = Literal["queries", "contexts"]
SETS = 16  # of a tile, at most
WIDE = 1024  # D from which what eight bits round off averages out to a few millionths of a score
LOW_BITS, HIGH_BITS = 20, 8  # that scale both parts of a number of at most one into the range of eight bits


class Packed(NamedTuple):
    """Sets in tiles."""

    places: Tensor  # (tiles, SETS) int32, of the sets in the batch
    numbers: Tensor  # (tiles,) int32, of sets in a tile
    lengths: Tensor  # (tiles,) int32, of each set of a tile
    rows: Tensor  # (tiles, size) int64, of the vectors among all of the batch, padding included; -1 left over


class Terms(NamedTuple):
    """A matrix as the kernel multiplies it, and what that rounds off; the same matrix where one term will do."""

    high: Tensor
    low: Tensor


class PackedContexts(NamedTuple):
    """Sets that are attended to, as the kernel reads them: an even number of tiles, the last perhaps of no set."""

    sets: int
    tiles: Packed
    vectors: Terms  # (tiles x size, D); of a mapped network a tile of vectors, then one of what gives its logits
    grams: Terms  # (tiles x size, size), of the sets of a tile, zeros between them


class PackedQueries(NamedTuple):
    """Sets whose unit vectors attend, as the kernel reads them."""

    sets: int
    tiles: Packed
    vectors: Terms  # (tiles x size, D)
    weights: Tensor  # (tiles, size), of pooling; empty where it has none


def kernel_precision(precision: ScorePrecision, dim: int, mapped: bool, device: torch.device) -> Precision:
    """The fastest products on an H100 that are as exact as was asked for."""
    if precision == "bf16":
        return "bf16"
    if device.type != "cuda":  # the interpreter
        return "tf32x3" if precision == "fp32" else "tf32"
    if mapped:  # vectors of any length may be beyond the range of half precision
        return "bf16x3" if precision == "fp32" else "tf32"
    if precision == "tf32":  # half precision has the digits of TF32, and a unit vector is within its range
        return "fp16"
    return "fp16+fp8" if dim >= WIDE else "bf16x3"


def packed(sets: Encoded, size: int, multiple: int = 1) -> Packed:
    """Sets of equal length side by side in tiles of `size` rows; ValueError for a set that is longer, or empty.

    With tiles of no set at the end where their number is to be a multiple of one.
    """
    mask, device = sets.mask.cpu(), sets.mask.device
    lengths = torch.from_numpy(lengths_of(sets.mask))
    least, most = int(lengths.min()), int(lengths.max())
    if least < 1 or most > size:
        raise ValueError(f"the kernel takes sets of 1 to {size} vectors, not of {least} to {most}")
    starts = lengths.cumsum(0) - lengths
    real = mask.flatten().nonzero().squeeze(1)  # where each real vector lies
    parts = [_tiles_of(length, lengths, starts, real, size) for length in lengths.unique().tolist()]
    parts += [_no_tiles(-sum(len(part.numbers) for part in parts) % multiple, size)]
    places, numbers, of_each, rows = (torch.cat(part).to(device) for part in zip(*parts, strict=True))
    return Packed(places.int(), numbers.int(), of_each.int(), rows)


def _no_tiles(number: int, size: int) -> Packed:
    """Tiles of no set."""
    places, rows = (torch.full((number, width), -1) for width in (SETS, size))
    return Packed(places, torch.zeros(number, dtype=torch.int64), torch.ones(number, dtype=torch.int64), rows)


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


def in_precision(vectors: Tensor, precision: Precision, multiple: int, side: Side) -> Terms:
    """Vectors (..., D) of tiles as rows (n, D), D padded to a multiple."""
    rows = vectors.flatten(0, -2)
    rows = torch.nn.functional.pad(rows, (0, -rows.shape[1] % multiple))
    if precision == "fp16+fp8":
        return with_eighths(rows, side)
    kind = KINDS.get(precision, torch.float32)
    return in_terms(rows, kind) if precision.endswith("x3") else Terms(*[rows.to(kind).contiguous()] * 2)


def in_terms(numbers: Tensor, kind: torch.dtype) -> Terms:
    """Numbers as the sum of two that products take exactly: bfloat16, or float32 without what TF32 lacks."""
    numbers = numbers.float()
    high = numbers.to(kind) if kind is torch.bfloat16 else without_low_bits(numbers)
    return Terms(high.contiguous(), (numbers - high.float()).to(kind).contiguous())


def with_eighths(rows: Tensor, side: Side) -> Terms:
    """Rows (n, D) of unit vectors in half precision, and in eight bits (n, 2 D) for what that leaves out of a product.

    (h + l) (h' + l') less l l' is h h', which half precision takes exactly, and [l, h] [h', l'], a thousandth of it.
    """
    rows = rows.float()
    high = rows.half()
    low = (rows - high.float()) * 2.0**LOW_BITS
    parts = [low, rows * 2.0**HIGH_BITS] if side == "queries" else [rows * 2.0**HIGH_BITS, low]
    return Terms(high.contiguous(), torch.cat(parts, 1).to(torch.float8_e4m3fn))


def without_low_bits(vectors: Tensor) -> Tensor:
    """Numbers that TF32 holds exactly: the 13 lowest bits of float32 cleared."""
    return (vectors.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)
