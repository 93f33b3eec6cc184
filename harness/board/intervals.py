"""What a board draws of its rows, in pixels: how sure their order is, and what accuracy costs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from harness.board.axes import EDGE, GLYPH, SCALE, TALL, WIDTH, Axis, Name, Spot, linear, logarithmic, named
from harness.board.cells import label, rate, rsum, tenths
from harness.board.evidence import Evidence
from harness.board.standings import Board, Standing

LINE, PAD = 30.0, 12.0  # of the intervals: height of a row, above the first and below the last
ASIDE = 112.0  # right of the intervals, for numbers; letters lie beyond
LONGEST = 22  # characters of a name beside a mark
SPEED = "score_pairs_per_second"
SHAPES = (  # of machines; with as many colours they tell sixteen apart
    *("M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z", "M-4.5,-4.5h9v9h-9z"),
    *("M0,-5.5L5.5,4.5H-5.5z", "M0,-6L6,0L0,6L-6,0z"),
)


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
