"""An explanation as a picture: one small picture a word, its regions lit by their weights. As SVG and as PNG, the same.

A region is told by three things at once, none of them a hue: how much of the faded picture shows through, how strong
its outline is, and, for the strongest, its weight in digits.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from math import ceil, sqrt
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageFont

from harness.explain.explanation import Explanation, Word, notes

PANEL, GAP, MARGIN = 176.0, 14.0, 22.0  # of a small picture, between two, around all; pixels
HEAD = 24.0  # above a panel, for its word
COLUMNS = 5
TALLEST = 1.5  # of a panel, in its width
LINE = 1.45  # of text, in its size
TAGS = 3  # weights in digits, a word
WORTH = 0.5  # of the word's strongest weight, for a weight in digits
FAINT, PLAIN = 0.1, 0.7  # of an outline without weight, and where no word is meant
INK, SOFT, EDGE = "#1c2127", "#5c6670", "#0b4f8a"
Box = tuple[float, float, float, float]  # x, y, width, height


class Text(NamedTuple):
    """A line of text from the left, at its base line."""

    x: float
    y: float
    text: str
    size: float = 13.0
    bold: bool = False
    colour: str = INK


class Light(NamedTuple):
    """A region in a panel."""

    box: Box
    strength: float  # 0 to 1, of its light
    edge: float  # 0 to 1, of its outline


@dataclass(frozen=True)
class Panel:
    """One small picture."""

    box: Box
    head: Text
    lights: tuple[Light, ...]  # the weakest first, so that the strongest lies on top
    tags: tuple[Text, ...]
    is_faded: bool


@dataclass(frozen=True)
class Sheet:
    """All that is drawn."""

    width: float
    height: float
    title: str
    texts: tuple[Text, ...]
    panels: tuple[Panel, ...]
    picture: Image.Image | None  # behind every panel


def sheet(one: Explanation) -> Sheet:
    """An explanation laid out."""
    size, boxes = placed(one)
    scale = min(PANEL / size[0], TALLEST * PANEL / size[1])
    boxes = [(x * scale, y * scale, w * scale, h * scale) for x, y, w, h in boxes]
    wide, tall = size[0] * scale, size[1] * scale
    columns = min(COLUMNS, len(one.words) + 1)
    width = 2 * MARGIN + max(columns, 3) * PANEL + (max(columns, 3) - 1) * GAP
    texts = list(heading(one, width - 2 * MARGIN))
    top = texts[-1].y + 20
    made = []
    for place, word in enumerate((None, *one.words)):
        x = MARGIN + place % columns * (PANEL + GAP)
        y = top + HEAD + place // columns * (HEAD + tall + GAP)
        made.append(panel(one, word, (x, y, wide, tall), boxes))
    foot = list(footing(one, width - 2 * MARGIN, made[-1].box[1] + tall + 26))
    height = foot[-1].y + MARGIN
    return Sheet(width, height, f"{one.image}: {one.caption}", (*texts, *foot), tuple(made), one.look.picture)


def placed(one: Explanation) -> tuple[tuple[float, float], list[Box]]:
    """The size of the picture and the boxes of its regions; cells in rows where the data knows no places."""
    if one.boxes:
        far = [max(box[side] + box[side + 2] for box in one.boxes) for side in (0, 1)]
        size = one.look.size or (far[0], far[1])
        return (float(size[0]), float(size[1])), [(x, y, w, h) for x, y, w, h in one.boxes]
    across = ceil(sqrt(one.regions))
    cells = [(place % across + 0.06, place // across + 0.06, 0.88, 0.88) for place in range(one.regions)]
    return (float(across), float(ceil(one.regions / across))), cells


def panel(one: Explanation, word: Word | None, box: Box, boxes: Sequence[Box]) -> Panel:
    """The panel of a word; without one, all regions as they are."""
    x, y, _, _ = box
    moved = [(x + left, y + top, w, h) for left, top, w, h in boxes]
    if word is None:
        lights = tuple(Light(one_box, 0.0, PLAIN) for one_box in moved)
        head = Text(x, y - 8, f"{len(boxes)} regions", colour=SOFT)
        return Panel(box, head, lights, tuple(names(one, moved, box)), is_faded=False)
    most = max(max(each.weights) for each in one.words) or 1.0
    order = sorted(range(len(moved)), key=lambda region: word.weights[region])
    shares = [(moved[region], word.weights[region] / most) for region in order]
    lights = tuple(Light(part, share, FAINT + (1 - FAINT) * share) for part, share in shares)
    said = word.text if word.is_known else f"{word.text} (unknown)"
    head = Text(x, y - 8, shortened(said, PANEL, 14, bold=True), 14, bold=True, colour=INK if word.is_known else SOFT)
    return Panel(box, head, lights, tuple(tags(one, word, moved, box)), is_faded=True)


def tags(one: Explanation, word: Word, boxes: Sequence[Box], frame: Box) -> Iterator[Text]:
    """The strongest weights in digits, and what the data calls those regions, each where it covers no other."""
    order = sorted(range(len(boxes)), key=lambda region: -word.weights[region])[:TAGS]
    taken: list[Box] = []
    for region in order:
        if word.weights[region] <= 0 or word.weights[region] < WORTH * word.weights[order[0]]:
            return
        y = boxes[region][1]
        text = f"{word.weights[region]:.2f} {one.look.labels[region] if one.look.labels else ''}".rstrip()
        wide, tall = measured(text, 11, bold=True), 13.0
        left = beside(boxes[region], wide, frame)
        foot = min(max(y + tall, frame[1] + tall), frame[1] + frame[3] - 3)
        while any(overlap((left, foot, wide, tall), other) for other in taken) and foot > frame[1] + tall:
            foot -= tall
        taken.append((left, foot, wide, tall))
        yield Text(left, foot, text, 11, bold=True)


def beside(box: Box, wide: float, frame: Box) -> float:
    """Where a tag begins: within its region, else to the right or to the left of it, so that it covers none of it."""
    x, _, w, _ = box
    low, high = frame[0] + 2, frame[0] + frame[2] - wide - 2
    places = (x + 2 if wide + 4 < w else high + 1, x + w + 3, x - wide - 3)
    return next((place for place in places if low <= place <= high), max(low, min(x, high)))


def names(one: Explanation, boxes: Sequence[Box], frame: Box) -> Iterator[Text]:
    """What the data calls the first regions, where there is no picture to see it."""
    if one.look.picture is None:
        for box, label in list(zip(boxes, one.look.labels, strict=False))[:TAGS]:
            yield Text(beside(box, measured(label, 11), frame), max(box[1] + 13, frame[1] + 13), label, 11)


def heading(one: Explanation, width: float) -> Iterator[Text]:
    """The caption, and what the method makes of the pair."""
    lines = wrapped(one.caption, width, 18, bold=True)
    y = MARGIN
    for text in lines:
        y += 18 * 1.3
        yield Text(MARGIN, y, text, 18, bold=True)
    spec = one.trial.spec
    about = f"{spec.method}, seed {spec.seed}, {spec.dataset} {one.split}, image {one.image}: score {one.score:.3f}"
    for text in wrapped(f"{about}{ranked(one)}", width, 13):
        y += 13 * LINE + 3
        yield Text(MARGIN, y, text, colour=SOFT)


def ranked(one: Explanation) -> str:
    """Where the pair stands, in words."""
    if one.rank is None:
        return ""
    caption, image, captions, images = one.rank
    ranks = f"caption {caption:,} of {captions:,}", f"image {image:,} of {images:,}"
    return f"; for the image this is {ranks[0]}, for the caption {ranks[1]}"


def footing(one: Explanation, width: float, y: float) -> Iterator[Text]:
    """How to read the picture."""
    most = max(max(word.weights) for word in one.words)
    how = f"Strength is a region's weight for the word; full strength is {most:.2f}, the largest of this caption. "
    how += "The weights of a word need not add up to one."
    for part in (how, *notes(one)):
        for text in wrapped(f"{part[0].upper()}{part[1:]}", width, 12):
            yield Text(MARGIN, y, text, 12, colour=SOFT)
            y += 12 * LINE


def overlap(one: Box, other: Box) -> bool:
    """Whether two lines of text, given by left, foot, width and height, cover each other."""
    return abs(one[1] - other[1]) < one[3] and one[0] < other[0] + other[2] and other[0] < one[0] + one[2]


def wrapped(text: str, width: float, size: float, bold: bool = False) -> list[str]:
    """A text in lines that fit."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and measured(longer, size, bold) > width:
            lines.append(shortened(word, width, size, bold))
        else:
            lines[-1] = shortened(longer, width, size, bold)
    return lines


def shortened(text: str, width: float, size: float, bold: bool = False) -> str:
    """A text that fits, cut where it does not."""
    if measured(text, size, bold) <= width:
        return text
    longer = bisect_right(range(len(text)), width, key=lambda kept: measured(f"{text[:kept]}…", size, bold))
    return f"{text[: max(0, longer - 1)]}…"


def measured(text: str, size: float, bold: bool = False) -> float:
    """The width of a text in pixels."""
    return font(20, bold).getlength(text) * size / 20


@cache
def font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings, so that it is the same on every machine."""
    place = find_spec("matplotlib")
    assert place is not None and place.origin is not None  # a dependency
    file = Path(place.origin).parent / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{'-Bold' * bold}.ttf"
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)
