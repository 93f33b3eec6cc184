"""An explanation as a picture in SVG or PNG: one small picture per word, its regions lit by their weights.

A weight is never told by a hue: it is how much of the faded picture shows and how strong an outline is, with digits at
the strongest; in a grid it is how strongly a cell is coloured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor

from harness.board import drawing
from harness.board.drawing import BLUE, POINTS, VERMILION, Extent, add_box, canvas, shortened, wrapped
from harness.explain.explanation import Explanation, Word, notes
from harness.explain.panels import BACKING, PANEL, TAG, Panels, note, panels, strengths, strongest, tags
from harness.explain.panels import heading as panel_heading

if TYPE_CHECKING:
    from harness.board.drawing import Axes, Figure

GAP, MARGIN = 12.0, 16.0  # between two small pictures, around all; points
HEAD, BELOW, FOOT = 18.0, 12.0, 18.0  # above a panel, for its word; below it, for its note; above the last lines
COLUMNS, FEWEST = 5, 3  # of panels; the width of a picture is that of three at least
LINE = 1.45  # of text, in its size
CAPTION, WORD, PLAIN, SMALL = 14.0, 10.5, 9.5, 9.0  # sizes of text
UNBROKEN = r"\S{1,20}\s*"  # what a line of text is broken between: words, and parts of very long ones
FAINT, EVEN = 0.1, 0.7  # opacity of an outline without weight, and where no word is meant
THIN, THICK, HALO = 0.6, 1.8, 1.6  # outlines without and with full weight, and the white around them; points
LINES = {"edgecolor": "white", "lw": 0.8, "alpha": 0.8}  # between the cells of a grid where no word is meant
FADED = 0.74  # of white over the picture where nothing is lit
TINT = 0.55  # of a region with full weight where there is no picture
VEIL, HEAT = 0.55, 0.8  # of white over the grey picture below a grid, and of colour over a cell with full weight
DARK, PAPER = "#1c2127", "#f5f6f8"  # digits on the picture, and its ground where there is none
PIXELS, SPARING = 8 / 3, 1.5  # of a picture per point, in PNG and in SVG; 4 / 3 is what a screen has

Shares = Sequence[float] | None  # of full strength, by region; None lights nothing


class TextLine(NamedTuple):
    text: str
    size: float
    is_bold: bool = False


def svg(one: Explanation) -> bytes:
    with painted(one, SPARING) as figure:
        return drawing.svg(figure, title(one))


def png(one: Explanation) -> bytes:
    with painted(one, PIXELS) as figure:
        return drawing.png(figure, PIXELS)


def title(one: Explanation) -> str:
    return f"{one.image}: {one.caption}"


@contextmanager
def painted(one: Explanation, pixels: float) -> Iterator[Figure]:
    """The figure with a panel per word, the first one with all regions as they are, and text above and below."""
    layout = panels(one)
    wide, tall = layout.size
    columns = min(COLUMNS, len(one.words) + 1)
    rows = ceil((len(one.words) + 1) / columns)
    below = BELOW if note(one.words[0], layout) else 0.0
    text_width = max(columns, FEWEST) * (PANEL + GAP) - GAP
    first, last = heading(one, text_width), footing(one, layout, text_width)
    top = MARGIN + height_of(first) + GAP
    foot = top + rows * (HEAD + tall + below + GAP) + FOOT - GAP
    width, height = text_width + 2 * MARGIN, foot + height_of(last) + MARGIN
    with canvas(width / POINTS, height / POINTS, layout=None) as figure:
        write(figure, first, MARGIN)
        for place, word in enumerate((None, *one.words)):
            x = MARGIN + place % columns * (PANEL + GAP)
            y = top + HEAD + place // columns * (HEAD + tall + below + GAP)
            axes = figure.add_axes((x / width, 1 - (y + tall) / height, wide / width, tall / height))
            panel(axes, one, word, layout)
            ground(axes, one, layout, strengths(one, word, layout) if word else None, pixels)
        write(figure, last, foot)
        yield figure


def panel(axes: Axes, one: Explanation, word: Word | None, layout: Panels) -> None:
    known = word is None or word.is_known
    text = panel_heading(layout) if word is None else word.text + " (unknown)" * (not word.is_known)
    weight, style = "normal" if word is None else "bold", "normal" if known else "italic"
    head = shortened(text, PANEL, WORD, bold=word is not None)
    axes.text(0, -6, head, size=WORD, weight=weight, style=style, va="baseline")
    if below := note(word, layout):
        axes.text(0, layout.size[1] + BELOW - 1.5, below, size=SMALL, va="baseline")
    axes.set_axis_off()
    outlines(axes, layout, strengths(one, word, layout) if word else None)
    for tag in tags(one, word, layout):
        left, top, _, bottom = tag.extent
        add_box(axes, tag.extent, facecolor="white", lw=0, alpha=0.8, zorder=3)
        place = left + BACKING, (top + bottom) / 2
        axes.text(*place, tag.text, size=TAG, weight="bold", color=DARK, va="center_baseline", zorder=4)
    axes.set_xlim(0, layout.size[0])
    axes.set_ylim(layout.size[1], 0)


def outlines(axes: Axes, layout: Panels, shares: Shares) -> None:
    """The outlines of all regions, the strongest on top; of cells of a grid thin lines, where they are not filled."""
    known = shares or [EVEN] * len(layout.boxes)
    for region in layout.placed if layout.is_grid and shares is None else ():
        add_box(axes, layout.boxes[region], fill=False, **LINES)
    outlined = layout.whole if layout.is_grid else range(len(layout.boxes))
    for region in sorted(outlined, key=lambda region: known[region]):
        opacity = FAINT + (1 - FAINT) * known[region] if shares else EVEN
        stroke = THIN + (THICK - THIN) * known[region]
        for colour, extra in (("white", HALO), (BLUE, 0.0)):
            box = framed(layout.boxes[region], THICK) if region in layout.whole else layout.boxes[region]
            add_box(axes, box, fill=False, edgecolor=colour, lw=stroke + extra, alpha=opacity)


def framed(box: Extent, inset: float) -> Extent:
    """A box within another one, so that an outline at the edge of a picture is seen whole."""
    return box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset


def ground(axes: Axes, one: Explanation, layout: Panels, shares: Shares, pixels: float) -> None:
    """The picture, lit where regions have weight; regions alone where there is none, or where it has no boxes."""
    wide, tall = layout.size
    if one.look.picture is not None and (shares is None or one.boxes):
        light = heated if layout.is_grid else lit
        image = light(one.look.picture, layout, shares, pixels)
        axes.imshow(image, extent=(0, wide, tall, 0), interpolation="none", aspect="auto")
        return
    add_box(axes, (0, 0, wide, tall), facecolor=PAPER, lw=0, zorder=0)
    for region in layout.placed if shares else ():
        add_box(axes, layout.boxes[region], facecolor=BLUE, lw=0, alpha=TINT * (shares or ())[region], zorder=0)


def lit(picture: Image.Image, layout: Panels, shares: Shares, pixels: float) -> Any:
    """The pixels of a picture, (height, width, 3), faded but where a region has weight; all clear without weights."""
    clear = clear_pixels(picture, layout, pixels)
    hidden = np.ones((*clear.shape[:2], 1))
    for region in layout.placed if shares else ():
        hidden[pixels_of(layout.boxes[region], pixels)] *= 1 - (shares or ())[region]
    faded = clear if shares is None else 255 - (255 - clear) * (1 - FADED * hidden)
    return faded.round().astype(np.uint8)


def heated(picture: Image.Image, layout: Panels, shares: Shares, pixels: float) -> Any:
    """The pixels of a picture in grey, each cell of its grid in colour as strong as its weight; clear without them."""
    clear = clear_pixels(picture, layout, pixels)
    if shares is None:
        return clear.astype(np.uint8)
    heat = np.zeros((*clear.shape[:2], 1))
    for region in layout.placed:
        heat[pixels_of(layout.boxes[region], pixels)] = HEAT * shares[region]
    grey = 255 - (255 - clear.mean(axis=2, keepdims=True)) * (1 - VEIL)
    return (grey * (1 - heat) + np.array(ImageColor.getrgb(VERMILION)) * heat).round().astype(np.uint8)


def clear_pixels(picture: Image.Image, layout: Panels, pixels: float) -> Any:
    size = max(1, round(pixels * layout.size[0])), max(1, round(pixels * layout.size[1]))
    return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=float)


def pixels_of(box: Extent, pixels: float) -> tuple[slice, slice]:
    left, top, right, bottom = (max(0, round(pixels * side)) for side in box)
    return slice(top, bottom), slice(left, right)


def heading(one: Explanation, width: float) -> list[TextLine]:
    spec = one.trial.spec
    about = f"{spec.method}, seed {spec.seed}, {spec.dataset} {one.split}, image {one.image}: score {one.score:.3f}"
    caption = wrapped(one.caption, width, CAPTION, bold=True, parts=UNBROKEN)
    facts = wrapped(f"{about}{rank_text(one)}", width, PLAIN, parts=UNBROKEN)
    return [TextLine(text, CAPTION, is_bold=True) for text in caption] + [TextLine(text, PLAIN) for text in facts]


def rank_text(one: Explanation) -> str:
    if one.rank is None:
        return ""
    caption, image, captions, images = one.rank
    ranks = f"caption {caption:,} of {captions:,}", f"image {image:,} of {images:,}"
    return f"; for the image this is {ranks[0]}, for the caption {ranks[1]}"


def footing(one: Explanation, layout: Panels, width: float) -> list[TextLine]:
    parts = (f"{part[0].upper()}{part[1:]}" for part in (how_to_read(one, layout), *notes(one), source(one)))
    return [TextLine(text, SMALL) for part in parts for text in wrapped(part, width, SMALL, parts=UNBROKEN)]


def how_to_read(one: Explanation, layout: Panels) -> str:
    most = f"{strongest(one, layout):.2f}, the largest of these words"
    aside = "; the whole picture, a frame, has no part in it" if layout.whole else ""
    what = "the colour of a cell is its" if layout.is_grid else "strength is a region's"
    return f"{what} weight for the word; full strength is {most}{aside}."


def source(one: Explanation) -> str:
    """Whose pictures and captions these are."""
    return f"{one.card.title}. Licence: {one.card.licence}. From: {one.card.origin}"


def height_of(lines: Sequence[TextLine]) -> float:
    return sum(LINE * line.size for line in lines)


def write(figure: Figure, lines: Sequence[TextLine], top: float) -> None:
    width, height = (POINTS * side for side in figure.get_size_inches())
    for line in lines:
        top += LINE * line.size
        weight = "bold" if line.is_bold else "normal"
        figure.text(MARGIN / width, 1 - top / height, line.text, size=line.size, weight=weight, va="baseline")
