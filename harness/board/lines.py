"""What a board draws as lines, in pixels: R@K for every K, and learning curves. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from harness.board.axes import EDGE, GLYPH, SCALE, TALL, WIDTH, Axis, Name, Spot, counting, linear, logarithmic, spread
from harness.board.cells import label, tenths
from harness.board.evidence import Assessed, Evidence, LearningCurve
from harness.board.intervals import shortened
from harness.board.standings import Board, Standing
from harness.evaluation.queries import LONGEST
from harness.evaluation.ranks import DIRECTIONS

MOST = 8  # rows that colour, shape and dash tell apart
MARKED = (1, 2, 5, 10, 20, 50, 100)  # K with a mark
LEAD = 34.0  # between the end of a line and its name
GAP = 40.0  # between two panels, for the numbers of the second
FEW = 12  # points of a line that all have a mark
TOP = 10.0
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Dot:
    """A point of a line that says its number."""

    x: float
    y: float
    detail: str


@dataclass(frozen=True)
class Line:
    """A ranked row."""

    place: int  # on the board, from 0; decides colour, shape and dash
    detail: str
    path: str
    thin: tuple[str, ...]  # of single seeds
    dots: tuple[Dot, ...]
    name: Name | None  # None where another panel has it
    lead: str  # the path from the line's end to its name


@dataclass(frozen=True)
class Panel:
    """Lines over the same axes."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Lines:
    """Panels side by side."""

    panels: tuple[Panel, ...]
    along: str  # what the horizontal axes count
    left_out: str  # which rows are missing, and why; empty: none


def recall(one: Assessed) -> Lines | None:
    """R@1 to R@100 of the leading rows, both directions; None where the store has no ranks of them."""
    board, evidence = one
    places = leading(evidence.profiles)
    if not places:
        return None
    names = [shortened(board.ranked[place]) for place in places]
    room = LEAD + GLYPH * max(map(len, names))
    wide = (WIDTH - SCALE - GAP - room) / 2
    starts = (SCALE, SCALE + wide + GAP)
    high = max(float(evidence.profiles[place].max()) for place in places)
    panels = []
    for way, start in enumerate(starts):
        x, y = logarithmic([1, LONGEST], start + 6, start + wide), linear([0, high], TALL, TOP)
        drawn = [profile_line(one, place, way, x, y) for place in places]
        panels.append(Panel(DIRECTIONS[way], x, y, tuple(drawn)))
    panels[-1] = labelled(panels[-1], names)
    return Lines(tuple(panels), "K", left_out(board, evidence.profiles, "usable ranks"))


def profile_line(one: Assessed, place: int, way: int, x: Axis, y: Axis) -> Line:
    """A row's R@K of one direction."""
    values = one.evidence.profiles[place][way]
    said = {k: f"R@{k} {tenths(float(values[k - 1]))}" for k in MARKED}
    whole = f"{label(one.board.ranked[place])}, {DIRECTIONS[way]}: "
    points = [(float(k), float(value)) for k, value in enumerate(values, start=1)]
    dots = tuple(Dot(x.at(k), y.at(float(values[k - 1])), whole + text) for k, text in said.items())
    return Line(place, whole + ", ".join(said.values()), path(points, x, y), (), dots, None, "")


def learning(one: Assessed) -> Lines | None:
    """The val rsum of the leading rows by epoch; None where the store has no epochs of them."""
    board, evidence = one
    places = leading(evidence.curves)
    return curves(board, evidence, places) if places else None


def curves(board: Board, evidence: Evidence, places: Sequence[int]) -> Lines:
    """The learning curves of some rows, their means and single seeds."""
    names = [shortened(board.ranked[place]) for place in places]
    panel = curve_panel(board, evidence, places, LEAD + GLYPH * max(map(len, names)))
    return Lines((labelled(panel, names),), "epoch", left_out(board, evidence.curves, "epochs"))


def own_curve(board: Board, evidence: Evidence, place: int) -> Lines:
    """The learning curve of one row, where it needs no name."""
    return Lines((curve_panel(board, evidence, [place], EDGE),), "epoch", "")


def curve_panel(board: Board, evidence: Evidence, places: Sequence[int], room: float) -> Panel:
    """The learning curves of some rows, with room for names at the right."""
    points = [point for place in places for curve in evidence.curves[place] for point in curve.points]
    x = counting(max(epoch for epoch, _ in points), SCALE + EDGE / 2, WIDTH - room)
    y = linear([value for _, value in points], TALL, TOP)
    drawn = [curve_line(label(board.ranked[place]), place, evidence.curves[place], x, y) for place in places]
    return Panel("val rsum", x, y, tuple(drawn))


def curve_line(name: str, place: int, seeds: Sequence[LearningCurve], x: Axis, y: Axis) -> Line:
    """A row's learning curve: the mean over seeds as far as all of them go, and each seed."""
    mean = means(seeds)
    best, epoch = max((value, -epoch) for epoch, value in mean)
    of = f", mean of {len(seeds)} seeds" if len(seeds) > 1 else ""
    shown = {*x.ticks, mean[-1][0]} if len(mean) > FEW else {epoch for epoch, _ in mean}
    dots = [
        Dot(x.at(epoch), y.at(value), f"{name}: {tenths(value)} after epoch {epoch:.0f}{of}")
        for epoch, value in mean
        if epoch in shown
    ]
    thin = tuple(path(curve.points, x, y) for curve in seeds) if len(seeds) > 1 else ()
    detail = f"{name}: val rsum {tenths(best)} after epoch {-epoch:.0f}, its best{of}"
    return Line(place, detail, path(mean, x, y), thin, tuple(dots), None, "")


def means(seeds: Sequence[LearningCurve]) -> list[tuple[float, float]]:
    """The mean curve, over the epochs that every seed has."""
    each = [dict(curve.points) for curve in seeds]
    common = sorted(set.intersection(*(set(one) for one in each)))
    return [(float(epoch), fmean(one[epoch] for one in each)) for epoch in common]


def leading(found: Mapping[int, object]) -> list[int]:
    """The rows that are drawn: those of the first few that can be."""
    return [place for place in sorted(found) if place < MOST]


def left_out(board: Board, found: Mapping[int, object], what: str) -> str:
    """Which rows are not drawn, and why."""
    missing = [row for place, row in enumerate(board.ranked[:MOST]) if place not in found]
    parts = [f"{label(row)} ({'not trained' if is_untrained(row) else f'no {what} in the store'})" for row in missing]
    parts += [f"rows after the first {MOST}"] if len(board.ranked) > MOST else []
    return "; ".join(parts)


def is_untrained(row: Standing) -> bool:
    """Whether a row has no epochs because its method has nothing to train."""
    return all(trial.get("epochs") == 0 for trial in row.trials)


def labelled(panel: Panel, names: Sequence[str]) -> Panel:
    """A panel with each line's name at its end, none on another."""
    ends = [(line.dots[-1].x, line.dots[-1].y) for line in panel.lines]
    right = max(panel.x.end, *(x for x, _ in ends)) + LEAD - 14
    heights = spread([y for _, y in ends], TOP, TALL)
    places = zip(panel.lines, names, ends, heights, strict=True)
    lines = [
        replace(line, name=Name(name, right + 10, height + 4, "start"), lead=lead(end, (right - 6, height)))
        for line, name, end, height in places
    ]
    return replace(panel, lines=tuple(lines))


def lead(end: Spot, name: Spot) -> str:
    """The path from the end of a line to its name."""
    return f"M{end[0]:.1f},{end[1]:.1f}L{name[0]:.1f},{name[1]:.1f}"


def path(points: Points, x: Axis, y: Axis) -> str:
    """A path through points."""
    return "M" + "L".join(_pixels(points, x, y))


def _pixels(points: Points, x: Axis, y: Axis) -> Iterator[str]:
    return (f"{x.at(across):.1f},{y.at(up):.1f}" for across, up in points)
