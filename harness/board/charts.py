"""What the plots of a board show, drawn on a figure that is given: intervals, accuracy against throughput, lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from math import isfinite
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.board import drawing
from harness.board.cells import rate, rsum
from harness.board.evidence import Assessed, LearningCurve
from harness.board.standings import Board, Standing
from harness.board.tables import milliseconds
from harness.board.validity import TRAINING
from harness.evaluation.queries import LONGEST
from harness.evaluation.ranks import DIRECTIONS

if TYPE_CHECKING:
    from harness.board.drawing import Axes, Figure, Point

NAME = 120.0  # points of a name, at most
MOST = 8  # rows that are drawn as lines
MARKED = (1, 2, 5, 10, 20, 50, 100)  # K with a mark
FEW = 12  # epochs that all have a mark
SPEED = "score_pairs_per_second"
OFF_SCALE: dict[str, Any] = {"color": drawing.BLUE, "ms": 7, "mew": 0, "ls": "none", "clip_on": False}


class Expense(NamedTuple):
    """A cost that accuracy is drawn against."""

    name: str  # of the mean of a row
    file: str
    heading: str
    quantity: str  # in the title of its plot
    axis: str
    lack: str  # why a row without it is not drawn
    text: Callable[[float], str]
    is_less_better: bool = True
    is_of_machine: bool = True  # whether only rows of one machine compare


THROUGHPUT = Expense(
    name=SPEED,
    file="tradeoff.svg",
    heading="What accuracy costs",
    quantity="throughput",
    axis="score pairs/s",
    lack="no throughput in the store",
    text=lambda value: f"{rate(value)} pairs/s",
    is_less_better=False,
)
QUERY_TIME = Expense(
    name="t2i_query_ms",
    file="query-time.svg",
    heading="What accuracy costs per query",
    quantity="time per query",
    axis="ms per caption query",
    lack="no query was timed",
    text=lambda value: f"{milliseconds(value)} ms per caption query",
)
INDEX_SIZE = Expense(
    name="bytes_per_image",
    file="index-size.svg",
    heading="What accuracy costs in an index",
    quantity="bytes per image",
    axis="bytes per image in an index",
    lack="no size of its index in the store",
    text=lambda value: f"{value:,.0f} bytes per image",
    is_of_machine=False,
)


def intervals(figure: Figure, one: Assessed) -> None:
    board, evidence = one
    axes = figure.subplots()
    places = range(len(board.ranked))
    known = [(place, *evidence.intervals[place]) for place in places if place in evidence.intervals]
    if known:
        heights, lows, highs = zip(*known, strict=True)
        axes.hlines(heights, lows, highs, color=drawing.BLUE, alpha=0.6, lw=8, label="95 % interval")
    means = [row.means["rsum"] for row in board.ranked]
    axes.plot(means, places, "o", color=drawing.BLUE, ms=6, mew=0, label="mean over seeds")
    seeds = [(run.numbers["rsum"], place + 0.32) for place in places for run in board.ranked[place].runs]
    if len(seeds) > len(places):
        axes.plot(*zip(*seeds, strict=True), "o", color=drawing.BLUE, ms=2.6, mew=0, label="one seed")
    axes.set_yticks(places, names_of(board), fontsize=drawing.SIZE)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(places) - 0.4, -0.6)
    start = intervals_start(one)
    if start is not None:
        axes.set_xlim(left=start)
        beyond = [place for place in places if means[place] < start]
        axes.plot([0.012] * len(beyond), beyond, "<", transform=axes.get_yaxis_transform(), **OFF_SCALE)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("rsum", loc="right")
    texts = [rsum(row) for row in board.ranked]
    column(axes, 6, texts)
    width = max(drawing.measured(text, 8) for text in texts)
    column(axes, 16 + width, [evidence.groups.get(place, "") for place in places])
    figure.legend(loc="outside lower left", ncols=3)


def intervals_start(one: Assessed) -> float | None:
    ranked, known = one.board.ranked, one.evidence.intervals
    return start_of_scale(ranked, [known.get(place, (row.means["rsum"],) * 2) for place, row in enumerate(ranked)])


def tradeoff_start(rows: Sequence[Standing]) -> float | None:
    return start_of_scale(rows, [(row.means["rsum"],) * 2 for row in rows])


def start_of_scale(rows: Sequence[Standing], ends: Sequence[tuple[float, float]]) -> float | None:
    """Where an axis of rsum begins, so that untrained rows far below do not press the others together.

    ends: of each row, what is drawn of it. None where the axis may show all.
    """
    trained = [pair for row, pair in zip(rows, ends, strict=True) if not row.is_untrained]
    if len(trained) < 2:
        return None
    low, high = min(low for low, _ in trained), max(high for _, high in trained)
    span = max(high - low, high / 10)  # of rows that are almost equal no small difference is to look large
    return low - span / 10 if min(low for low, _ in ends) < low - span else None


def column(axes: Axes, right: float, texts: Sequence[str]) -> None:
    """Write a text for every row, so many points right of the axes."""
    for place, text in enumerate(texts):
        axes.annotate(text, (1, place), (right, 0), xycoords=axes.get_yaxis_transform(), fontsize=8, **drawing.BESIDE)


def names_of(board: Board) -> list[str]:
    """The labels of the ranked rows as they stand in plots: short, without what is common, no two alike."""
    differs = [row.differs.replace(TRAINING, "") for row in board.ranked]
    return distinct(
        [f"{row.method} ({text})" if text else row.method for row, text in zip(board.ranked, differs, strict=True)]
    )


def distinct(names: Sequence[str], width: float = NAME) -> list[str]:
    """Names on one line, cut where they are wider than so many points, and never two to the same text."""
    whole = [drawing.plain(name) for name in names]
    short = [drawing.shortened(name, width) for name in whole]
    for alike in sorted({name for name in short if short.count(name) > 1}):
        places = [place for place, name in enumerate(short) if name == alike]
        for place, text in zip(places, without_middle([whole[place] for place in places], width), strict=True):
            short[place] = text
    once = [short.count(name) == 1 for name in short]
    numbered = (drawing.shortened(f"{place} {name}", width) for place, name in enumerate(short, start=1))
    return [name if is_one else other for name, is_one, other in zip(short, once, numbered, strict=True)]


def starts_of_difference(names: Sequence[str]) -> list[int]:
    """Where the first part begins in which names differ, then where the words of that part begin that still differ.

    Parts stand in brackets, with commas between them; a decimal number is one word.
    """
    same = sum(1 for _ in takewhile(lambda letters: len({*letters}) == 1, zip(*names, strict=False)))
    common = names[0][:same]
    brackets = max(common.rfind(mark) + len(mark) for mark in (" (", ", "))
    part = brackets if "(" in common else common.rfind(" ") + 1
    return [part, *(word.end() for word in re.finditer(r"[ _]|\.(?=[^\W\d])", common) if word.end() > part)]


def without_middle(names: Sequence[str], width: float) -> list[str]:
    """Names with their beginnings, as far as there is room, and with what they differ in."""
    for start in starts_of_difference(names):
        ends = [drawing.shortened(name[start:], 0.75 * width) for name in names]
        if len({*ends}) == len(ends):
            break
    rooms = [width - drawing.measured(end, drawing.SIZE) for end in ends]
    return [drawing.shortened(name[:start], room) + end for name, room, end in zip(names, rooms, ends, strict=True)]


def comparable(board: Board, expense: Expense = THROUGHPUT) -> dict[int, Standing]:
    """The ranked rows that have an expense that compares, by place."""
    return {place: row for place, row in enumerate(board.ranked) if not excuse(row, expense)}


def excuse(row: Standing, expense: Expense = THROUGHPUT) -> str:
    """Why an expense of a row cannot be drawn; empty where it can."""
    if not (isfinite(row.means[expense.name]) and row.means[expense.name] > 0):
        return expense.lack
    if not expense.is_of_machine or len(row.machines) == 1:
        return ""
    return "its seeds ran on several machines" if row.machines else "no machine in the store"


def point_of(row: Standing, expense: Expense = THROUGHPUT) -> Point:
    return row.means[expense.name], row.means["rsum"]


def tradeoff(figure: Figure, board: Board, expense: Expense = THROUGHPUT) -> None:
    """Draw rows by an expense and rsum; those that no other one beats that compares are filled and joined."""
    axes = figure.subplots()
    rows = comparable(board, expense)
    fronts = []
    for place, machine in enumerate(board.machines if expense.is_of_machine else ("",)):
        alike = [row for row in rows.values() if row.machines == (machine,) or not expense.is_of_machine]
        if points := [point_of(row, expense) for row in alike]:
            best = front(points, expense.is_less_better)
            fronts.append(steps([points[one] for one in best], expense.is_less_better))
            draw_front(axes, points, best, fronts[-1], place)
    drawing.compare_ratios(axes, [row.means[expense.name] for row in rows.values()])
    axes.margins(y=0.12)
    marks, start = [point_of(row, expense) for row in rows.values()], tradeoff_start([*rows.values()])
    if start is not None:
        axes.set_ylim(bottom=start)
        beyond = [right for right, height in marks if height < start]
        axes.plot(beyond, [0.0] * len(beyond), "v", transform=axes.get_xaxis_transform(), **OFF_SCALE)
        marks = [(right, max(height, start)) for right, height in marks]
    axes.set_xlabel(expense.axis, loc="right")
    axes.set_ylabel("rsum")
    if expense.is_of_machine and len(board.machines) > 1:
        figure.legend(loc="outside lower left", ncols=4)
    names = names_of(board)
    versions = [(names[place], str(place + 1)) for place in rows]
    drawing.label_points(axes, marks, versions, fronts)


def draw_front(
    axes: Axes, points: Sequence[Point], unbeaten: Sequence[int], path: Sequence[Point], machine: int
) -> None:
    """Draw the rows of one machine: those that no other one beats filled and joined, the others hollow."""
    style = drawing.look(machine) | {"ms": 7, "mew": 1.4, "ls": "none"}
    axes.plot(*zip(*path, strict=True), color=style["color"], lw=1.6)
    best = [points[place] for place in unbeaten]
    others = [point for point in points if point not in best]
    axes.plot(*zip(*best, strict=True), **style | {"mfc": style["color"]}, label=f"machine {machine + 1}")
    if others:
        axes.plot(*zip(*others, strict=True), **style | {"mfc": "none"})


def steps(points: Sequence[Point], is_less_better: bool = False) -> list[Point]:
    """The path along a front: for every throughput the best rsum of the rows that are as fast, or for every cost."""
    first, *others = sorted(points)
    path = [first]
    for right, height in others:
        path += [(right, path[-1][1]) if is_less_better else (path[-1][0], height), (right, height)]
    return path


def front(points: Sequence[Point], is_less_better: bool = False) -> list[int]:
    """The places of the points that no other one beats: is as good in both numbers and better in one."""
    better = [(-x if is_less_better else x, y) for x, y in points]
    each = enumerate(better)
    return [n for n, (x, y) in each if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in better)]


def recall(figure: Figure, one: Assessed) -> None:
    board, evidence = one
    places = leading(evidence.profiles)
    panels = figure.subplots(1, len(DIRECTIONS), sharey=True)
    for way, axes in enumerate(panels):
        axes.set_xscale("log")
        for place in places:
            marks = [k - 1 for k in MARKED]
            values = evidence.profiles[place][way]
            axes.plot(range(1, LONGEST + 1), values, lw=1.6, ms=4, markevery=marks, **drawing.look(place))
        axes.set_xticks(MARKED, [str(k) for k in MARKED])
        axes.minorticks_off()
        axes.set_title(DIRECTIONS[way])
        axes.set_xlabel("K", loc="right")
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("R@K (%)")
    ends = [(float(LONGEST), float(evidence.profiles[place][-1][-1])) for place in places]
    name_lines(panels[-1], board, places, ends)


def learning(figure: Figure, one: Assessed, places: Sequence[int]) -> None:
    axes = figure.subplots()
    curves(axes, one, places)
    ends = [mean_curve(one.evidence.curves[place])[-1] for place in places]
    name_lines(axes, one.board, places, ends)


def curves(axes: Axes, one: Assessed, places: Sequence[int]) -> None:
    """Draw learning curves: of each row the mean over seeds, as far as all of them go, and each seed."""
    for place in places:
        seeds, style = one.evidence.curves[place], drawing.look(place)
        for curve in seeds if len(seeds) > 1 else ():
            axes.plot(*zip(*curve.points, strict=True), color=style["color"], lw=0.9, alpha=0.45)
        mean = mean_curve(seeds)
        axes.plot(*zip(*mean, strict=True), lw=2, ms=4.5, markevery=max(1, len(mean) // FEW), **style)
    axes.margins(x=0.03)
    epochs = {epoch for place in places for curve in one.evidence.curves[place] for epoch, _ in curve.points}
    if len(epochs) == 1:
        axes.set_xlim(max(epochs) - 1, max(epochs) + 1)
    drawing.count_whole(axes.xaxis)
    axes.set_xlabel("epoch", loc="right")
    axes.set_ylabel("val rsum")


def mean_curve(seeds: Sequence[LearningCurve]) -> list[Point]:
    """The mean over the epochs that every seed has."""
    each = [dict(curve.points) for curve in seeds]
    common = sorted(set.intersection(*(set(one) for one in each)))
    return [(float(epoch), fmean(one[epoch] for one in each)) for epoch in common]


def name_lines(axes: Axes, board: Board, places: Sequence[int], ends: Sequence[Point]) -> None:
    names = names_of(board)
    drawing.label_ends(
        axes, ends, [names[place] for place in places], [drawing.look(place)["color"] for place in places]
    )


def leading(known: Mapping[int, object]) -> list[int]:
    return [place for place in sorted(known) if place < MOST]
