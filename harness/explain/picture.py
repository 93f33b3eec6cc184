"""An explanation as a picture in SVG or PNG: one small picture per word, its regions lit by their weights.

A weight is never a hue: it is how much of the faded picture shows, how strong the outline is, and digits if strongest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from harness.board import drawing
from harness.board.drawing import BLUE, POINTS, Extent, Point, add_box, canvas, measured, shortened, unoccupied, wrapped
from harness.explain.explanation import Explanation, Word, notes

if TYPE_CHECKING:
    from harness.board.drawing import Axes, Figure

PANEL, GAP, MARGIN = 132.0, 12.0, 16.0  # of a small picture, between two, around all; points
HEAD, FOOT = 18.0, 18.0  # above a panel, for its word; above the lines below all panels
COLUMNS, FEWEST = 5, 3  # of panels; the width of a picture is that of three at least
TALLEST = 1.5  # of a panel, in its width
LINE = 1.45  # of text, in its size
CAPTION, WORD, PLAIN, SMALL, TAG = 14.0, 10.5, 9.5, 9.0, 8.0  # sizes of text
TAGS, WORTH = 3, 0.5  # weights in digits per word, and from which share of the word's strongest weight on
FAINT, EVEN = 0.1, 0.7  # opacity of an outline without weight, and where no word is meant
THIN, THICK, HALO = 0.6, 1.8, 1.6  # outlines without and with full weight, and the white around them; points
FADED = 0.74  # of white over the picture where nothing is lit
TINT = 0.55  # of a region with full weight where there is no picture
DARK, PAPER = "#1c2127", "#f5f6f8"  # digits on the picture, and its ground where there is none
PIXELS, SPARING = 8 / 3, 1.5  # of a picture per point, in PNG and in SVG; 4 / 3 is what a screen has

Shares = Sequence[float] | None  # of the caption's largest weight, by region; None lights nothing


class WeightTag(NamedTuple):
    """Text on a panel, in points from its upper left corner."""

    text: str
    extent: Extent


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
    size, boxes = regions(one)
    scale = min(PANEL / size[0], TALLEST * PANEL / size[1])
    boxes = [(x * scale, y * scale, (x + w) * scale, (y + h) * scale) for x, y, w, h in boxes]
    wide, tall = size[0] * scale, size[1] * scale
    columns = min(COLUMNS, len(one.words) + 1)
    rows = ceil((len(one.words) + 1) / columns)
    text_width = max(columns, FEWEST) * (PANEL + GAP) - GAP
    above, below = heading(one, text_width), footing(one, text_width)
    top = MARGIN + height_of(above) + GAP
    foot = top + rows * (HEAD + tall + GAP) + FOOT - GAP
    width, height = text_width + 2 * MARGIN, foot + height_of(below) + MARGIN
    with canvas(width / POINTS, height / POINTS, layout=None) as figure:
        write(figure, above, MARGIN)
        for place, word in enumerate((None, *one.words)):
            x = MARGIN + place % columns * (PANEL + GAP)
            y = top + HEAD + place // columns * (HEAD + tall + GAP)
            axes = figure.add_axes((x / width, 1 - (y + tall) / height, wide / width, tall / height))
            panel(axes, one, word, boxes, (wide, tall))
            ground(axes, one, boxes, strengths(one, word) if word else None, pixels)
        write(figure, below, foot)
        yield figure


def regions(one: Explanation) -> tuple[Point, list[Extent]]:
    """The size of the picture and x, y, width, height of its regions; cells in rows where the data has no boxes."""
    if one.boxes:
        far = [max(box[side] + box[side + 2] for box in one.boxes) for side in (0, 1)]
        size = one.look.size or (far[0], far[1])
        return (float(size[0]), float(size[1])), [(x, y, w, h) for x, y, w, h in one.boxes]
    across = ceil(sqrt(one.regions))
    cells = [(place % across + 0.06, place // across + 0.06, 0.88, 0.88) for place in range(one.regions)]
    return (float(across), float(ceil(one.regions / across))), cells


def panel(axes: Axes, one: Explanation, word: Word | None, boxes: Sequence[Extent], size: Point) -> None:
    shares = strengths(one, word)
    known = word is None or word.is_known
    text = f"{len(boxes)} regions" if word is None else word.text + " (unknown)" * (not word.is_known)
    weight, style = "normal" if word is None else "bold", "normal" if known else "italic"
    head = shortened(text, PANEL, WORD, bold=word is not None)
    axes.text(0, -6, head, size=WORD, weight=weight, style=style, va="baseline")
    axes.set_axis_off()
    for region in sorted(range(len(boxes)), key=lambda region: shares[region]):
        opacity = FAINT + (1 - FAINT) * shares[region] if word else EVEN
        for colour, extra in (("white", HALO), (BLUE, 0.0)):
            stroke = THIN + (THICK - THIN) * (shares[region] if word else EVEN) + extra
            add_box(axes, boxes[region], fill=False, edgecolor=colour, lw=stroke, alpha=opacity)
    for tag in tags(one, word, boxes, size):
        backing = {"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
        axes.text(*tag.extent[:2], tag.text, size=TAG, weight="bold", color=DARK, va="top", bbox=backing)
    axes.set_xlim(0, size[0])
    axes.set_ylim(size[1], 0)


def strengths(one: Explanation, word: Word | None) -> list[float]:
    """The weight of every region in shares of the caption's largest; nothing without a word."""
    most = max(max(each.weights) for each in one.words) or 1.0
    return [weight / most for weight in word.weights] if word else [0.0] * one.regions


def ground(axes: Axes, one: Explanation, boxes: Sequence[Extent], shares: Shares, pixels: float) -> None:
    (_, wide), (tall, _) = axes.get_xlim(), axes.get_ylim()
    if one.look.picture is not None:
        image = lit(one.look.picture, boxes, shares, pixels, (wide, tall))
        axes.imshow(image, extent=(0, wide, tall, 0), interpolation="none", aspect="auto")
        return
    add_box(axes, (0, 0, wide, tall), facecolor=PAPER, lw=0, zorder=0)
    for box, share in zip(boxes, shares or (), strict=False):
        add_box(axes, box, facecolor=BLUE, lw=0, alpha=TINT * share, zorder=0)


def lit(picture: Image.Image, boxes: Sequence[Extent], shares: Shares, pixels: float, size: Point) -> Any:
    """The pixels of a picture, (height, width, 3), faded but where a region has weight; all clear without weights."""
    wide, tall = (max(1, round(pixels * side)) for side in size)
    clear = np.asarray(picture.convert("RGB").resize((wide, tall), Image.Resampling.BICUBIC), dtype=float)
    hidden = np.ones((tall, wide, 1))
    for box, share in zip(boxes, shares or (), strict=False):
        left, top, right, bottom = (max(0, round(pixels * side)) for side in box)
        hidden[top:bottom, left:right] *= 1 - share
    faded = clear if shares is None else 255 - (255 - clear) * (1 - FADED * hidden)
    return faded.round().astype(np.uint8)


def tags(one: Explanation, word: Word | None, boxes: Sequence[Extent], size: Point) -> Iterator[WeightTag]:
    """The strongest weights with the names of their regions, or the first names, each where it covers no other."""
    taken: list[Extent] = []
    for region, text in tag_texts(one, word):
        text = shortened(text, size[0] - 4, TAG, bold=True)
        options = list(around(boxes[region], measured(text, TAG, bold=True), size))
        extent = unoccupied(options, taken, (0, 0, *size))
        if extent or not taken:
            taken.append(extent or options[0])
            yield WeightTag(text, taken[-1])


def tag_texts(one: Explanation, word: Word | None) -> Iterator[tuple[int, str]]:
    """The regions that have a tag, with its text; where a picture shows what they are, no names without weights."""
    if word is None:
        yield from enumerate(one.look.labels[:TAGS] if one.look.picture is None else ())
        return
    order = sorted(range(one.regions), key=lambda region: -word.weights[region])[:TAGS]
    for region in order:
        if 0 < word.weights[region] >= WORTH * word.weights[order[0]]:
            yield region, f"{word.weights[region]:.2f} {one.look.labels[region] if one.look.labels else ''}".rstrip()


def around(box: Extent, wide: float, size: Point) -> Iterator[Extent]:
    """Where the tag of a region may stand: at its upper edge, else below or above, within it or beside it."""
    tall = TAG * 1.2
    left = beside(box, wide, size[0])
    for down in (0, 1, -1, 2, -2, 3, -3):
        top = min(max(box[1] + 1 + down * tall, 1), size[1] - tall - 1)
        yield left, top, left + wide, top + tall


def beside(box: Extent, wide: float, width: float) -> float:
    """Where a tag begins: within its region, else right or left of it, so that it covers none of it."""
    left, _, right, _ = box
    low, high = 2.0, width - wide - 2
    places = (left + 2 if wide + 4 < right - left else high + 1, right + 3, left - wide - 3)
    return next((place for place in places if low <= place <= high), max(low, min(left, high)))


def heading(one: Explanation, width: float) -> list[TextLine]:
    spec = one.trial.spec
    about = f"{spec.method}, seed {spec.seed}, {spec.dataset} {one.split}, image {one.image}: score {one.score:.3f}"
    caption = [TextLine(text, CAPTION, is_bold=True) for text in wrapped(one.caption, width, CAPTION, bold=True)]
    return caption + [TextLine(text, PLAIN) for text in wrapped(f"{about}{rank_text(one)}", width, PLAIN)]


def rank_text(one: Explanation) -> str:
    if one.rank is None:
        return ""
    caption, image, captions, images = one.rank
    ranks = f"caption {caption:,} of {captions:,}", f"image {image:,} of {images:,}"
    return f"; for the image this is {ranks[0]}, for the caption {ranks[1]}"


def footing(one: Explanation, width: float) -> list[TextLine]:
    most = max(max(word.weights) for word in one.words)
    how = f"Strength is a region's weight for the word; full strength is {most:.2f}, the largest of this caption. "
    how += "The weights of a word need not add up to one."
    parts = (f"{part[0].upper()}{part[1:]}" for part in (how, *notes(one)))
    return [TextLine(text, SMALL) for part in parts for text in wrapped(part, width, SMALL)]


def height_of(lines: Sequence[TextLine]) -> float:
    return sum(LINE * line.size for line in lines)


def write(figure: Figure, lines: Sequence[TextLine], top: float) -> None:
    width, height = (POINTS * side for side in figure.get_size_inches())
    for line in lines:
        top += LINE * line.size
        weight = "bold" if line.is_bold else "normal"
        figure.text(MARGIN / width, 1 - top / height, line.text, size=line.size, weight=weight, va="baseline")
