"""One pass over the regions of a split: what is wrong with them, their statistics, and a signature of every image."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.regions import Bools, Floats, Ints, Regions

PIECE = 2**25  # bytes of regions held together
DIGEST = 16
SIGNATURE = 16  # numbers of an image by which near copies are looked for
NEIGHBOURS = 4  # images that are compared with an image in full
NEAR = 0.01  # the distance of near copies, in norms of a region: rounding and noise are far below it
APART = 10  # how many times further apart images of these data must usually be
ROUNDING = 1e-5  # the distance of signatures of one image's regions in two orders, and more
ALIKE = 0.9  # the share of regions that near copies have in common
SAMPLE = 64  # images that show how far apart images usually are
Copy = tuple[str, int]  # an image: the split and its number there
Doubles = NDArray[np.float64]


class ColumnStatistics(NamedTuple):
    """Statistics of the F columns of all regions of a split."""

    regions: int
    mean: Doubles
    deviation: Doubles
    low: Floats
    high: Floats
    zeros: Doubles  # the share of regions in which it is 0


class Scan(NamedTuple):
    """Faults, statistics and signatures of N images, from one pass over their regions."""

    bad: Ints  # images with NaN or inf
    dead: Ints  # (D, 2) image and region whose numbers are all equal
    marks: list[bytes]  # N, of the first region of every image
    norms: Doubles  # (N,) mean norm of a region
    spread: float  # standard deviation of the norms of all regions, over their mean
    zeros: Doubles  # (N,) share of the numbers that are 0
    signatures: Floats  # (N, S), whatever the order of an image's regions; NaN where it has none
    columns: ColumnStatistics


class ScannedPiece(NamedTuple):
    """Of some images (n) with their regions (r)."""

    bad: Bools  # (n,)
    dead: Ints  # (d, 2)
    marks: list[bytes]
    means: Doubles  # (n, 3) of an image's regions: norm, squared norm, share of zeros
    signatures: Floats  # (n, S)
    sums: Doubles  # (3, F) of all regions: numbers, squares, zeros
    low: Floats  # (F,)
    high: Floats


def scan(images: Regions, advance: Callable[[int], object]) -> Scan:
    """Read every region once; `advance` is called with the number of images read."""
    each = max(1, PIECE // max(1, 4 * images.width * int(images.counts.max(initial=1))))
    directions = projection(images.width)
    pieces = []
    for start in range(0, len(images), each):
        numbers = np.arange(start, min(start + each, len(images)))
        pieces.append(scanned(*images.gather(numbers), start, directions))
        pieces[1:] = [merged(pieces[1:])] if len(pieces) > 2 else pieces[1:]
        advance(len(numbers))
    return summary(merged(pieces), images.counts)


def projection(width: int) -> Floats:
    """Orthonormal directions (F, S), the same for all splits: no distance grows by it."""
    gaussian = np.random.default_rng(0).standard_normal((width, min(SIGNATURE, width)))
    return np.linalg.qr(gaussian)[0].astype(np.float32)


def scanned(regions: Floats, mask: Bools, start: int, directions: Floats) -> ScannedPiece:
    """Of a batch of regions (n, R, F) and its mask, whose first image has the number `start`."""
    is_bad, is_dead = faults(regions, mask)
    images, places = np.nonzero(is_dead)
    marks = [digest(one[:1]) for one in regions]
    regions[is_bad] = 0
    rows = regions.reshape(-1, regions.shape[-1]) if mask.all() else regions[mask]
    squares = np.einsum("rf,rf->r", rows, rows, dtype=np.float64)
    is_zero = rows == 0
    each = np.stack([np.sqrt(squares), squares, is_zero.mean(axis=1)], axis=1)
    counts = mask.sum(axis=1)
    starts = np.cumsum(counts) - counts
    means = np.add.reduceat(each, starts) / counts[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        sums = regions.sum(axis=1, dtype=np.float32) @ directions
        signatures = sums / (counts * np.sqrt(means[:, 1]))[:, None]
    by_column = np.einsum("rf,rf->f", rows, rows, dtype=np.float64)
    totals = np.stack([rows.sum(axis=0, dtype=np.float64), by_column, np.count_nonzero(is_zero, axis=0)])
    dead = np.stack([start + images, places], axis=1)
    low, high = rows.min(axis=0), rows.max(axis=0)
    return ScannedPiece(np.any(is_bad, axis=1), dead, marks, means, signatures.astype(np.float32), totals, low, high)


def merged(pieces: Sequence[ScannedPiece]) -> ScannedPiece:
    return ScannedPiece(
        bad=np.concatenate([piece.bad for piece in pieces]),
        dead=np.concatenate([piece.dead for piece in pieces]),
        marks=[mark for piece in pieces for mark in piece.marks],
        means=np.concatenate([piece.means for piece in pieces]),
        signatures=np.concatenate([piece.signatures for piece in pieces]),
        sums=np.sum([piece.sums for piece in pieces], axis=0),
        low=np.min([piece.low for piece in pieces], axis=0),
        high=np.max([piece.high for piece in pieces], axis=0),
    )


def summary(whole: ScannedPiece, counts: Ints) -> Scan:
    regions = int(counts.sum())
    norm, square = (counts[:, None] * whole.means[:, :2]).sum(axis=0) / regions
    sums = whole.sums / regions
    deviation = np.sqrt(np.maximum(sums[1] - sums[0] ** 2, 0))
    return Scan(
        bad=np.flatnonzero(whole.bad),
        dead=whole.dead,
        marks=whole.marks,
        norms=whole.means[:, 0],
        spread=float(np.sqrt(max(square - norm**2, 0)) / norm) if norm else 0.0,
        zeros=whole.means[:, 2],
        signatures=whole.signatures,
        columns=ColumnStatistics(regions, sums[0], deviation, whole.low, whole.high, sums[2]),
    )


def faults(regions: Floats, mask: Bools) -> tuple[Bools, Bools]:
    """Which regions (B, R) of a batch (B, R, F) hold NaN or inf, and which one number throughout."""
    low, high = regions.min(axis=-1), regions.max(axis=-1)
    finite = np.isfinite(low) & np.isfinite(high)
    return mask & ~finite, mask & finite & (low == high) & (regions.shape[-1] > 1)


def copies(images: Mapping[str, Regions], marks: Mapping[str, list[bytes]]) -> list[list[Copy]]:
    """Groups of images whose regions are the same to the last bit; only those of one first region are read again."""
    near = _groups(((split, number), mark) for split, own in marks.items() for number, mark in enumerate(own))
    return [
        group for likely in near for group in _groups((place, digest(images[place[0]][place[1]])) for place in likely)
    ]


def digest(regions: Floats) -> bytes:
    """A hash of regions; 0 and -0 differ, as their bits do."""
    return hashlib.blake2b(np.ascontiguousarray(regions).data, digest_size=DIGEST).digest()


def _groups(marked: Iterable[tuple[Copy, bytes]]) -> list[list[Copy]]:
    by_mark: dict[bytes, list[Copy]] = defaultdict(list)
    for place, mark in marked:
        by_mark[mark].append(place)
    return [places for places in by_mark.values() if len(places) > 1]


class Likeness(StrEnum):
    REORDERED = "the same regions in another order"
    NEAR = "nearly the same regions"


class Twin(NamedTuple):
    image: Copy
    earlier: Copy
    likeness: Likeness


def twins(images: Mapping[str, Regions], signatures: Mapping[str, Floats], exact: list[list[Copy]]) -> Iterator[Twin]:
    """Images like one that stands before them, in another order or nearly; of exact copies only the first is looked at.

    Likely ones are neighbours by signature, and are compared in full: nothing is reported by its signature alone.
    """
    known = {split: own.copy() for split, own in signatures.items()}
    for split, number in (place for group in exact for place in group[1:]):
        known[split][number] = np.nan
    scale = usual_distances(images, known)
    for split, number, others in _neighbours(known, max(ROUNDING, scale.signatures / 2)):
        regions = images[split][number]
        for other in others:
            likeness = likeness_of(regions, images[other[0]][other[1]], min(NEAR, scale.regions / APART))
            if likeness:
                yield Twin((split, number), other, likeness)
                break


class UsualDistances(NamedTuple):
    signatures: float
    regions: float


def usual_distances(images: Mapping[str, Regions], signatures: Mapping[str, Floats]) -> UsualDistances:
    """How far an image of the largest split usually is from its nearest neighbour there, by a sample."""
    split = max(signatures, key=lambda name: len(signatures[name]))
    usable = np.flatnonzero(np.isfinite(signatures[split]).all(axis=1))
    if len(usable) < 2:
        return UsualDistances(0.0, NEAR * APART)
    sample = usable[np.linspace(0, len(usable) - 1, min(SAMPLE, len(usable)), dtype=np.int64)]
    distances, places = _tree(signatures[split][usable]).query(signatures[split][sample], k=2)
    own = images[split]
    apart = [
        distance(own[image], own[usable[pair[pair != place][0]]])
        for image, place, pair in zip(sample, np.searchsorted(usable, sample), places, strict=True)
    ]
    return UsualDistances(float(np.median(distances[:, 1])), float(np.median(apart)))


def _neighbours(signatures: Mapping[str, Floats], radius: float) -> Iterator[tuple[str, int, list[Copy]]]:
    """Images with the nearest ones that stand before them, in their own split or an earlier one."""
    names = list(signatures)
    for place, earlier in enumerate(names):
        usable = np.flatnonzero(np.isfinite(signatures[earlier]).all(axis=1))
        if not len(usable):
            continue
        tree = _tree(signatures[earlier][usable])
        for split in names[place:]:
            asked = np.flatnonzero(np.isfinite(signatures[split]).all(axis=1))
            _, neighbours = tree.query(signatures[split][asked], k=NEIGHBOURS + 1, distance_upper_bound=radius)
            for number, row in zip(asked.tolist(), neighbours, strict=True):
                others = usable[row[row < len(usable)]].tolist()
                before = [other for other in others if split != earlier or other < number]
                if not before and len(others) > NEIGHBOURS:  # one of many alike: those before it may be further away
                    before = [other for other in others if other != number]
                if before:
                    yield split, number, [(earlier, other) for other in before]


def _tree(points: Floats) -> Any:
    from scipy.spatial import cKDTree

    return cKDTree(points)


def likeness_of(one: Floats, other: Floats, near: float) -> Likeness | None:
    if one.shape == other.shape and sorted(map(bytes, one)) == sorted(map(bytes, other)):
        return Likeness.REORDERED
    return Likeness.NEAR if distance(one, other) <= near else None


def distance(one: Floats, other: Floats) -> float:
    """How far nine in ten regions (R, F) of two images are at most from the likest of the other, in norms."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    apart = np.concatenate([a - b[squares.argmin(axis=1)], b - a[squares.argmin(axis=0)]])
    norm = np.sqrt(max((a**2).sum(axis=1).mean(), (b**2).sum(axis=1).mean()))
    return float(np.quantile(np.linalg.norm(apart, axis=1), ALIKE, method="lower") / norm) if norm else 0.0
