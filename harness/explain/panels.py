"""The panels of an explanation, in points: where its regions lie, how strong each is, where digits stand.

A region that is the whole picture lights nothing: its outline is a frame, its weight stands below the panel. Regions
that tile the picture are cells of a grid: they are filled by their weights, without outlines and digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, hypot, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.board.drawing import Extent, Point, is_within, measured, shortened, unoccupied
from harness.explain.explanation import Explanation, Word

PANEL, TALLEST = 132.0, 1.5  # points of a panel's width; its greatest height, in its width
TAG, BACKING, INSET = 8.0, 1.5, 2.0  # size of digits, the ground around them, and their distance from edges; points
TAGS, WORTH = 3, 0.5  # weights in digits per word, and from which share of the word's strongest weight on
WHOLE = 0.98  # of each side, from which a region is the whole picture
FEWEST_CELLS, SLACK = 4, 0.02  # of a grid; share of the picture by which cells may overlap or leave gaps
NUMBERED = 0.06  # of a cell, left free at its edges where the place of a region is not known


class Panels(NamedTuple):
    size: Point  # of each
    boxes: tuple[Extent, ...]  # of every region
    whole: frozenset[int]  # regions that are the whole picture
    is_grid: bool  # whether the other regions tile it

    @property
    def placed(self) -> list[int]:
        """The regions that lie somewhere: all but the whole picture."""
        return [region for region in range(len(self.boxes)) if region not in self.whole]


class WeightTag(NamedTuple):
    text: str
    extent: Extent  # of its ground


def panels(one: Explanation) -> Panels:
    corners, shape = in_shares(one)
    scale = min(PANEL / shape[0], TALLEST * PANEL / shape[1])
    size = max(1.0, shape[0] * scale), max(1.0, shape[1] * scale)
    whole = np.flatnonzero(((corners[:, 2:] - corners[:, :2]) >= WHOLE).all(axis=1)).tolist()
    boxes = tuple(map(tuple, (corners * [*size, *size]).tolist()))
    return Panels(size, boxes, frozenset(whole), bool(one.boxes) and is_tiling(np.delete(corners, whole, axis=0)))


def in_shares(one: Explanation) -> tuple[NDArray[np.float64], Point]:
    """Corners of every region in shares of the picture, (R, 4), and the picture's proportion.

    Cells in rows where the data has no boxes.
    """
    if not one.boxes:
        across = ceil(sqrt(one.regions))
        sides = float(across), float(ceil(one.regions / across))
        low = np.array([divmod(region, across)[::-1] for region in range(one.regions)], dtype=float) + NUMBERED
        return np.hstack([low, low + 1 - 2 * NUMBERED]) / [*sides, *sides], one.look.shape or sides
    boxes = np.array(one.boxes, dtype=float)
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    size = one.look.size or tuple(np.maximum(corners[:, 2:].max(axis=0), 1).tolist())
    return (corners / [*size, *size]).clip(0, 1), one.look.shape or size


def is_tiling(corners: NDArray[np.float64]) -> bool:
    """Whether boxes, in shares of a picture, cover it side by side."""
    low, high = corners[:, None, :2], corners[:, None, 2:]
    areas = (high - low).prod(axis=2).sum()
    if len(corners) < FEWEST_CELLS or abs(areas - 1) > SLACK:
        return False
    shared = (np.minimum(high, high[:, 0]) - np.maximum(low, low[:, 0])).clip(0).prod(axis=2)
    return bool(shared.sum() - areas <= SLACK)


def strongest(one: Explanation, layout: Panels) -> float:
    """The largest weight that the words have for a region at its place: full strength."""
    regions = layout.placed or range(one.regions)
    return max(word.weights[region] for word in one.words for region in regions) or 1.0


def strengths(one: Explanation, word: Word, layout: Panels) -> list[float]:
    """The weight of every region in shares of full strength, at most one."""
    most = strongest(one, layout)
    return [min(1.0, weight / most) for weight in word.weights]


def heading(layout: Panels) -> str:
    """What the first panel, which has no word, shows."""
    name = "cells" if layout.is_grid else "regions"
    return f"{len(layout.placed)} {name}, whole picture" if layout.whole else f"{len(layout.boxes)} {name}"


def note(word: Word | None, layout: Panels) -> str:
    """What stands below a panel: the weights that have no digits in it."""
    if word is None:
        return ""
    whole = f"whole picture {sum(word.weights[region] for region in layout.whole):.2f}" if layout.whole else ""
    cells = f"cells up to {max(word.weights[region] for region in layout.placed):.2f}" if layout.is_grid else ""
    return ", ".join(filter(None, (whole, cells)))


def tags(one: Explanation, word: Word | None, layout: Panels) -> Iterator[WeightTag]:
    """The strongest weights with the names of their regions, or the first names, where there is room for each.

    None covers another. If it can be, none covers a marked region but its own and those around it, nor any marked
    region that is too small to hold a tag.
    """
    texts, taken = dict(tag_texts(one, word, layout)), list[Extent]()
    thin = [layout.boxes[region] for region in texts if not holds(layout.boxes[region], tag_size(texts[region]))]
    for region, text in texts.items():
        text = shortened(text, layout.size[0] - 2 * (INSET + BACKING), TAG, bold=True)
        box, size, frame = layout.boxes[region], tag_size(text), (0, 0, *layout.size)
        others = [layout.boxes[other] for other in texts if not is_within(box, layout.boxes[other])]
        near, far = close(box, size), anywhere(box, size, layout.size)
        plain = list[Extent]()
        tries = ((near, others + thin), (near, thin), (far, thin), (near, plain), (far, plain))
        extents = (unoccupied(spots, taken + avoided, frame) for spots, avoided in tries)
        if extent := next(filter(None, extents), None):
            taken.append(extent)
            yield WeightTag(text, extent)


def tag_size(text: str) -> Point:
    return measured(text, TAG, bold=True) + 2 * BACKING, TAG + 2 * BACKING


def holds(box: Extent, size: Point) -> bool:
    """Whether a tag of a size fits into a region."""
    left, top, right, bottom = box
    return right - left >= size[0] + 2 * INSET and bottom - top >= size[1] + 2 * INSET


def tag_texts(one: Explanation, word: Word | None, layout: Panels) -> Iterator[tuple[int, str]]:
    """The regions that have a tag, with its text; where a picture shows what they are, no names without weights."""
    if layout.is_grid:
        return
    if word is None:
        yield from enumerate(one.look.labels[:TAGS] if one.look.picture is not None else ())
        return
    order = sorted(layout.placed, key=lambda region: -word.weights[region])[:TAGS]
    for region in order:
        if 0 < word.weights[region] >= WORTH * word.weights[order[0]]:
            yield region, f"{word.weights[region]:.2f} {one.look.labels[region] if one.look.labels else ''}".rstrip()


def close(box: Extent, size: Point) -> list[Extent]:
    """Where the tag of a region may stand, the best place first.

    In a corner of the region where it fits into it, else beside it, so that it covers none of it.
    """
    (left, top, right, bottom), (wide, tall) = box, size
    columns, rows = (left + INSET, right - INSET - wide), (top + INSET, bottom - INSET - tall)
    inside = [(x, y) for y in rows for x in columns] if holds(box, size) else []
    beside = [(right + 1, top), (left - 1 - wide, top), (left, bottom + 1), (left, top - 1 - tall)]
    beside += [(right + 1, bottom - tall), (left - 1 - wide, bottom - tall), (right - wide, bottom + 1)]
    return [(x, y, x + wide, y + tall) for x, y in inside + beside]


def anywhere(box: Extent, size: Point, panel: Point) -> list[Extent]:
    """Places of a tag all over a panel, those that are nearest to a region first."""
    (wide, tall), spare = size, [max(0.0, whole - own) for whole, own in zip(panel, size, strict=True)]
    steps = [np.linspace(0, room, 1 + ceil(2 * room / own)).tolist() for room, own in zip(spare, size, strict=True)]
    middle = [(box[side] + box[side + 2] - size[side]) / 2 for side in (0, 1)]
    spots = [(x, y, x + wide, y + tall) for x in steps[0] for y in steps[1]]
    return sorted(spots, key=lambda spot: hypot(spot[0] - middle[0], spot[1] - middle[1]))
