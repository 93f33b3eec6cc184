"""A board as one web page that needs no other file: what it says, and in pixels what it draws. Pure: the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, floor, isfinite, log10
from typing import Any, NamedTuple

from harness.board import Board, Standing
from harness.cards import MethodCard
from harness.evidence import Assessed, Evidence
from harness.report import LEFT, environment, header, label, pairs, published, rate, rows, rsum, tenths
from harness.results import RECALLS

WIDTH, TALL = 640.0, 300.0  # of a plot, in its own pixels; the throughput's to its axis
LINE, PAD = 30.0, 12.0  # of the intervals: height of a row, above the first and below the last
ASIDE = 112.0  # right of the intervals, for numbers; letters lie beyond
SCALE = 48.0  # left of the throughput, for the numbers of its axis
EDGE = 24.0  # between the frame of a plot and its outermost mark
GLYPH = 7.6  # a letter's width, in the widest of usual fonts
LONGEST = 22  # characters of a name beside a mark
MOST = 5, 10  # steps of a linear axis, numbers along a logarithmic one
SPEED = "score_pairs_per_second"
MEASURES = {
    **{"rsum": "rsum", **{name.replace("_r", " R@"): name for name in RECALLS}, "val rsum": "best_val_rsum"},
    **{"train pairs/s": "train_pairs_per_second", "score pairs/s": SPEED, "parameters": "parameters"},
}  # columns, and what they are the means of
NUMBERS = (*MEASURES, "n", "95 %")  # columns that are sorted with the largest first
SHAPES = (  # of machines; with as many colours they tell sixteen apart
    *("M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z", "M-4.5,-4.5h9v9h-9z"),
    *("M0,-5.5L5.5,4.5H-5.5z", "M0,-6L6,0L0,6L-6,0z"),
)
UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # what HTML has no characters for
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


@dataclass(frozen=True)
class Bar:
    """A ranked row among the intervals."""

    name: str
    detail: str
    seen: str  # its rsum as the table has it
    letters: str
    y: float
    mean: float
    ends: Spot | None  # None where the ranks are gone
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Intervals:
    """The rsum of every ranked row, best on top."""

    axis: Axis
    bars: tuple[Bar, ...]
    foot: float  # where the axis lies


class Name(NamedTuple):
    """Text beside a mark."""

    text: str
    x: float
    y: float
    anchor: str


@dataclass(frozen=True)
class Mark:
    """A ranked row by its accuracy and its throughput."""

    name: Name
    detail: str
    x: float
    y: float
    is_front: bool


@dataclass(frozen=True)
class Series:
    """The rows of one machine."""

    machine: int  # of the board's, from 0
    marks: tuple[Mark, ...]
    steps: str  # the path along its front


@dataclass(frozen=True)
class Tradeoff:
    """Accuracy against throughput."""

    x: Axis
    y: Axis
    series: tuple[Series, ...]


def webpage(one: Assessed, methods: Mapping[str, MethodCard]) -> str:
    """A board as HTML."""
    board, evidence = one
    made = _template().render(
        **{"board": board, "evidence": evidence, "methods": methods, "header": header(board), "left": LEFT},
        **{"rows": sortable(board, evidence), "pairs": pairs(board, evidence), "published": published(board, methods)},
        **{"intervals": intervals(board, evidence), "tradeoff": tradeoff(board)},
        **{"numbers": NUMBERS, "width": WIDTH, "tall": TALL, "scale": SCALE, "shapes": SHAPES},
    )
    return str(made)


def sortable(board: Board, evidence: Evidence) -> list[list[tuple[str, float | None]]]:
    """The ranked rows as cells, with numbers in full; an interval counts as its lower end."""
    found = []
    for place, texts in enumerate(rows(board, evidence)):
        row = board.ranked[place]
        known: dict[str, float] = {column: row.means[name] for column, name in MEASURES.items()}
        known |= {"#": place + 1, "n": row.n} | dict(zip(["95 %"], evidence.intervals.get(place, ()), strict=False))
        cells = zip(header(board), texts, strict=True)
        found.append([(text, None if text == "–" else known.get(name)) for name, text in cells])
    return found


def intervals(board: Board, evidence: Evidence) -> Intervals:
    """Every ranked row with its interval, its mean and its seeds."""
    numbers = [trial["rsum"] for row in board.ranked for trial in row.trials]
    numbers += [one for ends in evidence.intervals.values() for one in ends]
    widest = max((len(shortened(row)) for row in board.ranked), default=0)
    letters = max(map(len, evidence.letters.values()), default=0)
    axis = linear(numbers, GLYPH * widest + EDGE, WIDTH - ASIDE - GLYPH * letters)
    bars = tuple(bar(row, place, evidence, axis) for place, row in enumerate(board.ranked))
    return Intervals(axis, bars, 2 * PAD + LINE * len(bars))


def bar(row: Standing, place: int, evidence: Evidence, axis: Axis) -> Bar:
    """One row among the intervals."""
    ends = evidence.intervals.get(place)
    return Bar(
        name=shortened(row),
        detail=f"{told(row)}, 95 % {tenths(ends[0])} to {tenths(ends[1])}" if ends else told(row),
        seen=rsum(row),
        letters=evidence.letters.get(place, ""),
        y=PAD + LINE * (place + 0.5),
        mean=axis.at(row.means["rsum"]),
        ends=(axis.at(ends[0]), axis.at(ends[1])) if ends else None,
        seeds=tuple(axis.at(trial["rsum"]) for trial in row.trials),
    )


def told(row: Standing) -> str:
    """A row in words, for who points at its mark."""
    return f"{label(row)}: rsum {rsum(row)}, n = {row.n}"


def shortened(row: Standing) -> str:
    """A name that fits beside a mark."""
    name = label(row)
    return name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip() + "…"


def tradeoff(board: Board) -> Tradeoff | None:
    """The rows that have the throughput of one machine; None where there are none."""
    drawn = {place: row for place, row in enumerate(board.ranked) if not excuse(row)}
    if not drawn:
        return None
    x = logarithmic([row.means[SPEED] for row in drawn.values()], SCALE + EDGE, WIDTH - EDGE)
    y = linear([row.means["rsum"] for row in drawn.values()], TALL - EDGE, EDGE)
    spots = [(x.at(row.means[SPEED]), y.at(row.means["rsum"])) for row in drawn.values()]
    names = named(spots, [(shortened(row), str(place + 1)) for place, row in drawn.items()])
    found = [*zip(drawn.values(), spots, names, strict=True)]
    machines = [[one for one in found if one[0].machines == (machine,)] for machine in board.machines]
    return Tradeoff(x, y, tuple(series(machine, part) for machine, part in enumerate(machines) if part))


def series(machine: int, found: Sequence[tuple[Standing, Spot, Name]]) -> Series:
    """The rows of one machine."""
    best = front([(row.means[SPEED], row.means["rsum"]) for row, _, _ in found])
    marks = [
        Mark(name, f"{told(row)}, {rate(row.means[SPEED])} pairs/s", *spot, is_front=place in best)
        for place, (row, spot, name) in enumerate(found)
    ]
    return Series(machine, tuple(marks), steps([found[place][1] for place in best]))


def excuse(row: Standing) -> str:
    """Why the throughput of a row cannot be drawn; empty where it can."""
    if not (isfinite(row.means[SPEED]) and row.means[SPEED] > 0):
        return "no throughput in the store"
    return "its seeds ran on several machines" if len(row.machines) > 1 else ""


def front(points: Sequence[Spot]) -> list[int]:
    """The places of the points that no other one beats: is as good in both numbers and better in one."""
    found = enumerate(points)
    return [n for n, (x, y) in found if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points)]


def steps(spots: Sequence[Spot]) -> str:
    """A path along a front in pixels: the best rsum of the rows that are as fast."""
    (x, y), *others = sorted(spots)
    return "".join([f"M{x:.1f},{y:.1f}", *(f"V{below:.1f}H{right:.1f}" for right, below in others)])


def linear(numbers: Sequence[float], start: float, end: float) -> Axis:
    """An axis around numbers, from tick to tick."""
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    if high - low < 1:
        low, high = low - 0.5, high + 0.5
    power = 10.0 ** floor(log10((high - low) / MOST[0]))
    step = next(power * nice for nice in (1, 2, 5, 10) if high - low <= MOST[0] * power * nice)
    return Axis(tuple(step * count for count in range(floor(low / step), ceil(high / step) + 1)), start, end)


def logarithmic(numbers: Sequence[float], start: float, end: float) -> Axis:
    """The same for positive numbers, whose ratios count."""
    powers = range(floor(log10(min(numbers))) - 1, ceil(log10(max(numbers))) + 2)
    rungs = [float(f"{nice}e{power}") for power in powers for nice in (1, 2, 5)]
    low = max(place for place, rung in enumerate(rungs) if rung <= min(numbers))
    high = min(place for place, rung in enumerate(rungs) if rung >= max(numbers))
    low, high = (low - 1, high + 1) if low == high else (low, high)
    return Axis(tuple(rungs[low : high + 1]), start, end, is_log=True)


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


def count(number: float) -> str:
    """A tick in words."""
    return f"{number / 1e6:,.6g} M" if number >= 1e6 else f"{number:,.6g}"


def readable(value: Any) -> Any:
    """Text without what HTML cannot hold."""
    return UNREADABLE.sub("\ufffd", value) if type(value) is str else value


@cache
def _template() -> Any:
    """The page: every value it prints is escaped."""
    made = environment(finalize=readable, autoescape=True)
    made.filters |= {"count": count, "excuse": excuse, "px": "{:.1f}".format}
    return made.get_template("board.html.j2")
