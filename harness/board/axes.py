"""From numbers to pixels: axes with round ticks, and names that cover nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import NamedTuple

WIDTH, TALL = 640.0, 300.0  # of a plot, in its own pixels; the height to its axis
SCALE = 48.0  # left of a plot, for the numbers of its axis
EDGE = 24.0  # between the frame of a plot and its outermost mark
GLYPH = 7.6  # a letter's width, in the widest of usual fonts
LEADING = 15.0  # between names in a column
MOST = 5, 10  # steps of a linear axis, numbers along a logarithmic one
Spot = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Axis:
    """From numbers to pixels."""

    ticks: tuple[float, ...]  # the first and the last are its ends
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a number."""
        low, high, here = (log10(one) if self.is_log else one for one in (self.ticks[0], self.ticks[-1], value))
        return self.start + (here - low) / (high - low) * (self.end - self.start)

    @property
    def numbered(self) -> tuple[float, ...]:
        """The ticks that have room for their number: whole powers of ten where a logarithmic axis has many."""
        crowded = self.is_log and len(self.ticks) > MOST[1]
        return tuple(tick for tick in self.ticks if not crowded or log10(tick).is_integer())


class Name(NamedTuple):
    """Text beside a mark."""

    text: str
    x: float
    y: float
    anchor: str


def linear(numbers: Sequence[float], start: float, end: float) -> Axis:
    """An axis around numbers, from tick to tick."""
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    if high - low < 1:
        low, high = low - 0.5, high + 0.5
    step = rounded((high - low) / MOST[0])
    return Axis(tuple(step * count for count in range(floor(low / step), ceil(high / step) + 1)), start, end)


def logarithmic(numbers: Sequence[float], start: float, end: float) -> Axis:
    """The same for positive numbers, whose ratios count."""
    powers = range(floor(log10(min(numbers))) - 1, ceil(log10(max(numbers))) + 2)
    rungs = [float(f"{nice}e{power}") for power in powers for nice in (1, 2, 5)]
    low = max(place for place, rung in enumerate(rungs) if rung <= min(numbers))
    high = min(place for place, rung in enumerate(rungs) if rung >= max(numbers))
    low, high = (low - 1, high + 1) if low == high else (low, high)
    return Axis(tuple(rungs[low : high + 1]), start, end, is_log=True)


def counting(last: int, start: float, end: float) -> Axis:
    """An axis of whole numbers from the first to the last one, or from 0 where they are many."""
    if last <= MOST[1]:
        return Axis(tuple(map(float, range(1 if last > 1 else 0, last + 1))), start, end)
    step = max(1, round(rounded(last / MOST[1])))
    return Axis(tuple(float(step * count) for count in range(ceil(last / step) + 1)), start, end)


def rounded(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below a positive number."""
    power = 10.0 ** floor(log10(least))
    return next(power * nice for nice in (1, 2, 5, 10) if least <= power * nice)


def named(spots: Sequence[Spot], texts: Sequence[Sequence[str]]) -> Iterator[Name]:
    """Names that cover nothing, each beside its mark; in a crowd the second, shorter text is taken."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in spots]
    for (x, y), versions in zip(spots, texts, strict=True):
        sides = ((x + 10, y + 4, "start"), (x - 10, y + 4, "end"), (x, y - 11, "middle"), (x, y + 20, "middle"))
        tried = [Name(text, *side) for text in versions for side in sides]
        found = next((name for name in tried if is_free(name, taken)), tried[-2])
        taken.append(box(found))
        yield found


def box(name: Name) -> Box:
    """The room that a text takes."""
    wide = GLYPH * len(name.text)
    left = name.x - {"start": 0.0, "middle": wide / 2, "end": wide}[name.anchor]
    return left, name.y - 11, left + wide, name.y + 3


def is_free(name: Name, taken: Sequence[Box]) -> bool:
    """Whether a text lies within the frame and on nothing else."""
    left, top, right, bottom = box(name)
    inside = left > SCALE and right < WIDTH and top > 0 and bottom < TALL
    return inside and not any(left < b[2] and b[0] < right and top < b[3] and b[1] < bottom for b in taken)


def spread(heights: Sequence[float], top: float, bottom: float) -> list[float]:
    """Heights moved apart as little as a column of names needs, in the same order, between top and bottom."""
    gap = min(LEADING, (bottom - top) / max(1, len(heights) - 1))
    order = sorted(range(len(heights)), key=lambda place: (heights[place], place))
    found = dict.fromkeys(order, 0.0)
    least = top
    for place in order:
        found[place] = least = max(heights[place], least)
        least += gap
    most = bottom
    for place in reversed(order):
        found[place] = most = min(found[place], most)
        most -= gap
    return [found[place] for place in range(len(heights))]


def count(number: float) -> str:
    """A tick in words."""
    return f"{number / 1e6:,.6g} M" if number >= 1e6 else f"{number:,.6g}"
