"""One pass over the regions of a split, in constant memory: what is no number, what is dead, what is there twice."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from harness.data.regions import Bools, Floats, Ints, Regions

PIECE = 2**25  # bytes of regions held together
DIGEST = 16

Copy = tuple[str, int]  # an image: the split and its number there


class Scan(NamedTuple):
    """What one pass has seen of N images."""

    bad: Ints  # images with NaN or inf
    dead: Ints  # (D, 2) image and region whose numbers are all equal
    marks: list[bytes]  # N, of the first region of every image


def scan(images: Regions, advance: Callable[[int], None]) -> Scan:
    """Look at every region once; `advance` is told how many images were read."""
    each = max(1, PIECE // max(1, 4 * images.width * int(images.counts.max(initial=1))))
    bad, dead, marks = [], [], []
    for start in range(0, len(images), each):
        numbers = np.arange(start, min(start + each, len(images)))
        regions, mask = images.gather(numbers)
        is_bad, is_dead = faults(regions, mask)
        bad.append(numbers[is_bad.any(axis=1)])
        rows, places = np.nonzero(is_dead)
        dead.append(np.stack([start + rows, places], axis=1))
        marks += [digest(regions[row, :1]) for row in range(len(numbers))]
        advance(len(numbers))
    return Scan(np.concatenate([[], *bad]).astype(np.int64), np.concatenate([np.empty((0, 2), int), *dead]), marks)


def faults(regions: Floats, mask: Bools) -> tuple[Bools, Bools]:
    """Which regions (B, R) of a batch (B, R, F) hold NaN or inf, and which one number throughout."""
    low, high = regions.min(axis=-1), regions.max(axis=-1)
    finite = np.isfinite(low) & np.isfinite(high)
    return mask & ~finite, mask & finite & (low == high) & (regions.shape[-1] > 1)


def copies(images: Mapping[str, Regions], marks: Mapping[str, list[bytes]]) -> list[list[Copy]]:
    """Groups of images whose regions are the same to the last bit, in the order of splits and images.

    Those whose first regions are the same are read again and compared whole.
    """
    near = _groups(((split, number), mark) for split, own in marks.items() for number, mark in enumerate(own))
    return [
        group for likely in near for group in _groups((place, digest(images[place[0]][place[1]])) for place in likely)
    ]


def digest(regions: Floats) -> bytes:
    """A hash of regions; 0 and -0 are told apart, as bits are."""
    return hashlib.blake2b(np.ascontiguousarray(regions).data, digest_size=DIGEST).digest()


def _groups(marked: Iterable[tuple[Copy, bytes]]) -> list[list[Copy]]:
    """Images that share a mark, where there are two or more."""
    by_mark: dict[bytes, list[Copy]] = defaultdict(list)
    for place, mark in marked:
        by_mark[mark].append(place)
    return [places for places in by_mark.values() if len(places) > 1]
