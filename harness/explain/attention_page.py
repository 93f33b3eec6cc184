"""What several methods attend to in one image as one web page that needs no other file. Pure: the same bytes.

A row is a method, a column a word of the caption. The picture stands in the page once; every panel draws it with its
own regions over it, by the geometry of `panels`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from harness.board.drawing import POINTS, Extent
from harness.board.markup import markup
from harness.explain.explanation import Explanation, Explanations, Word, notes
from harness.explain.panels import BACKING, TAG, Panels, WeightTag, heading, note, panels, strengths, strongest, tags
from harness.explain.picture import EVEN, FADED, FAINT, HEAT, THICK, THIN, TINT, VEIL, framed
from harness.explain.private_pages import REASON, is_private
from harness.layouts.previews import thumbnail

SIDE, QUALITY = 640, 82  # pixels of the picture's longer side; of WebP
SCREEN = 96.0  # pixels of an inch


class RegionMark(NamedTuple):
    """One region of a panel."""

    left: float
    top: float
    width: float
    height: float
    share: float  # of full strength
    stroke: float  # pixels of a screen
    opacity: float  # of its outline
    is_placed: bool  # not the whole picture, and so lit
    title: str


class Cell(NamedTuple):
    word: Word
    marks: tuple[RegionMark, ...]  # the weakest first
    tags: tuple[WeightTag, ...]
    note: str


class MethodRow(NamedTuple):
    one: Explanation
    strongest: float
    cells: tuple[Cell, ...]


def webpage(several: Explanations) -> str:
    first = several.ones[0]
    layout, look, card = panels(first), first.look, first.card
    uri = thumbnail(look.picture, SIDE, look.shape, QUALITY) if look.picture is not None and look.shape else ""
    rows = [MethodRow(one, strongest(one, layout), tuple(cells(one, layout))) for one in several.ones]
    lines = [line for one in several.ones for line in notes(one)]
    page = markup("attention.html.j2").render(
        **{"one": first, "rows": rows, "layout": layout, "uri": uri, "left_out": several.left_out},
        **{"card": card, "private": is_private(card), "reason": REASON, "heading": heading(layout)},
        **{"plain": plain_marks(first, layout), "is_lit": bool(uri and first.boxes)},
        **{"about": {line: [one.trial.spec.method for one in several.ones if line in notes(one)] for line in lines}},
        **{"tag_size": TAG, "backing": BACKING, "faded": FADED, "veil": VEIL, "heat": HEAT, "tint": TINT},
    )
    return str(page)


def cells(one: Explanation, layout: Panels) -> Iterator[Cell]:
    for word in one.words:
        shares = strengths(one, word, layout)
        order = sorted(range(one.regions), key=lambda region: shares[region])
        marks = (mark(layout, region, shares[region], f"{word.weights[region]:.3f}") for region in order)
        yield Cell(word, tuple(marks), tuple(tags(one, word, layout)), note(word, layout))


def plain_marks(one: Explanation, layout: Panels) -> list[RegionMark]:
    labels = one.look.labels or [f"region {region + 1}" for region in range(one.regions)]
    return [mark(layout, region, EVEN, labels[region]) for region in range(one.regions)]


def mark(layout: Panels, region: int, share: float, title: str) -> RegionMark:
    box: Extent = layout.boxes[region]
    left, top, right, bottom = framed(box, THICK) if region in layout.whole else box
    stroke, opacity = (THIN + (THICK - THIN) * share) / POINTS * SCREEN, FAINT + (1 - FAINT) * share
    sides = left, top, max(0.0, right - left), max(0.0, bottom - top)
    return RegionMark(*sides, share, stroke, opacity, region not in layout.whole, title)
