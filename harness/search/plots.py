"""Figures of a search as SVG: the same bytes from the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.board import drawing
from harness.board.drawing import BESIDE, BLUE, DASHES, INK, PURPLE, VERMILION, add_lines, measured, shortened, wrapped
from harness.search.figures import BudgetComparison, BudgetStep, Coordinate, StudyFigure, in_units

if TYPE_CHECKING:
    from harness.board.drawing import Axes

WIDTH = 8.6  # inches: a page of markdown, with text of the size of its own
LONGEST = 150.0  # points of a name
TICK = 7.0  # points of the labels of a coordinate
CROWD = 10  # axes from which their names are set smaller
ACROSS = 590.0  # points across the page below parallel coordinates
UNUSED = -0.16  # where a line passes an axis whose setting its trial did not use
ROOM = 0.6  # of the space between two axes, at most, for the labels of the left one: no line covers them
CURVES: dict[str, dict[str, Any]] = {  # what lies below first
    "pruned": {"color": INK, "lw": 0.8, "alpha": 0.5, "zorder": 1},
    "failed": {"color": PURPLE, "lw": 1.0, "ls": DASHES[1], "zorder": 2},
    "complete": {"color": BLUE, "lw": 1.0, "alpha": 0.6, "zorder": 3},
    "best": {"color": VERMILION, "lw": 1.8, "zorder": 4},
}


class PanelRow(NamedTuple):
    height: float  # inches
    panels: Sequence[Callable[[Axes, StudyFigure], None]]


def study_svg(study: StudyFigure) -> bytes:
    levels = list(rows(study))
    heights = [row.height for row in levels]
    with drawing.canvas(WIDTH, sum(heights)) as figure:
        grid = figure.add_gridspec(len(levels), 2, height_ratios=heights)
        for level, row in enumerate(levels):
            for column, panel in enumerate(row.panels):
                panel(figure.add_subplot(grid[level, column] if len(row.panels) > 1 else grid[level, :]), study)
        return drawing.svg(figure, f"A search for settings: {', '.join(study.objective)}")


def comparison_svg(comparison: BudgetComparison) -> bytes:
    unit, size = in_units(max(steps[-1].seconds for _, steps in comparison.lines))
    with drawing.canvas(WIDTH, 3.0) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for place, (_, steps) in enumerate(comparison.lines):
            stairs(left, [step.trials for step in steps], steps, **drawing.look(place))
            stairs(right, [step.seconds / size for step in steps], steps, **drawing.look(place))
        name_axes(left, "Best so far over trials", "trials ended", comparison.objective)
        name_axes(right, "Best so far over training time", f"training time, added up ({unit})")
        fit_whole(left, [step.trials for _, steps in comparison.lines for step in steps])
        names = [shortened(method, LONGEST) for method, _ in comparison.lines]
        figure.legend(left.get_lines(), names, loc="outside lower left", ncols=4, handlelength=3)
        return drawing.svg(figure, f"Searches for settings by method: {comparison.objective}")


def rows(study: StudyFigure) -> Iterator[PanelRow]:
    if study.steps:
        yield PanelRow(2.6, [over_trials, over_seconds])
    elif len(study.objective) > 1 and study.front:
        yield PanelRow(2.6, [objectives])
    second = [panel for panel, known in ((importances, study.importances), (curves, study.curves)) if known]
    if second:
        yield PanelRow(max(2.6, 0.9 + 0.22 * len(study.importances)), second)
    if study.coordinates:
        yield PanelRow(3.0, [coordinates])


def over_trials(axes: Axes, study: StudyFigure) -> None:
    complete = [(trial.number, trial.values[0]) for trial in study.trials if trial.state == "complete"]
    axes.scatter(*columns(complete), s=14, color=BLUE, alpha=0.7, lw=0, label="complete")
    stairs(axes, [step.number for step in study.steps], study.steps, color=VERMILION, label="best so far")
    for state, marker, color in (("pruned", "|", INK), ("failed", "x", PURPLE)):
        numbers = [trial.number for trial in study.trials if trial.state == state]
        if numbers:
            bottom = [0.03] * len(numbers)
            where = axes.get_xaxis_transform()  # x in trials, y in shares of the height
            axes.scatter(numbers, bottom, s=26, lw=1.3, marker=marker, color=color, transform=where, label=state)
    name_axes(axes, "Best so far over trials", "trial #", study.objective[0])
    fit_whole(axes, [trial.number for trial in study.trials])
    legend(axes)


def over_seconds(axes: Axes, study: StudyFigure) -> None:
    unit, size = in_units(study.steps[-1].seconds)
    stairs(axes, [step.seconds / size for step in study.steps], study.steps, color=VERMILION)
    name_axes(axes, "Best so far over training time", f"training time, added up ({unit})", study.objective[0])
    axes.set_xlim(left=0)


def objectives(axes: Axes, study: StudyFigure) -> None:
    complete = [trial for trial in study.trials if trial.state == "complete"]
    best = [trial for trial in complete if trial.number in study.front]
    kinds = (complete, BLUE, "o", "complete"), (best, VERMILION, "D", "no other is better in all")
    for trials, color, marker, text in kinds:
        places = [(trial.values[0], trial.values[1]) for trial in trials]
        axes.scatter(*columns(places), s=26, marker=marker, color=color, lw=0, label=text)
    name_axes(axes, "Objectives", study.objective[0], study.objective[1])
    legend(axes)


def importances(axes: Axes, study: StudyFigure) -> None:
    names = [shortened(name, LONGEST, 8) for name, _ in study.importances]
    shares = [100 * share for _, share in study.importances]
    bars = axes.barh(range(len(names)), shares, height=0.6, color=BLUE)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.12 * max(shares))
    name_axes(axes, "Importance of settings", "share (%)")


def curves(axes: Axes, study: StudyFigure) -> None:
    kinds = ["best" if curve.number in study.front else curve.state for curve in study.curves]
    for kind, style in CURVES.items():
        paths = [curve.points for curve, other in zip(study.curves, kinds, strict=True) if other == kind]
        if paths:
            add_lines(axes, paths, **style, label=kind)
        if single := [points[0] for points in paths if len(points) == 1]:
            axes.scatter(*columns(single), s=14, lw=0, **{key: style[key] for key in ("color", "zorder")})
    name_axes(axes, "Learning curves", "epoch", study.measure)
    fit_whole(axes, [epoch for curve in study.curves for epoch, _ in curve.points])
    legend(axes)


def coordinates(axes: Axes, study: StudyFigure) -> None:
    *settings, _ = study.coordinates
    unused = any(None in coordinate.places for coordinate in settings)
    space = ACROSS / len(study.coordinates)
    ticks = [tick_labels(each, ROOM * space - 8) for each in study.coordinates]
    lines_through(axes, study, [(8 + max(measured(text, TICK) for _, text in labels)) / space for labels in ticks])
    for x, labels in enumerate(ticks):
        axes.plot([x, x], [0, 1], color=INK, lw=1)
        axes.scatter([x] * len(labels), [y for y, _ in labels], s=20, lw=1, marker="_", color=INK, zorder=2)
        for y, text in labels:
            axes.annotate(text, (x, y), (4, 0), fontsize=TICK, **BESIDE)
    size = 8 if len(study.coordinates) < CROWD else 6.5
    names = ["\n".join(wrapped(each.name, space - size, size, parts=r"[^._ ]*[._ ]?")) for each in study.coordinates]
    axes.set_xticks(range(len(names)), names, fontsize=size)
    axes.set_xlim(-0.15, len(settings) + 0.35)
    axes.set_ylim((UNUSED if unused else 0) - 0.05, 1.05)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.tick_params(axis="x", length=0)
    axes.spines[:].set_visible(False)
    best = ", the best is orange" * (len(study.objective) == 1)
    name_axes(axes, f"Settings of complete trials: stronger is better{best}")


def tick_labels(coordinate: Coordinate, room: float) -> list[tuple[float, str]]:
    ticks = [*coordinate.ticks, *([(UNUSED, "not used")] if None in coordinate.places else [])]
    return [(y, shortened(text, room, TICK)) for y, text in ticks]


def lines_through(axes: Axes, study: StudyFigure, gaps: Sequence[float]) -> None:
    """The lines of complete trials, each interrupted right of an axis, where the labels of its ticks stand."""
    through = zip(*(coordinate.places for coordinate in study.coordinates), strict=True)
    heights = [[UNUSED if y is None else y for y in places] for places in through]
    opacities = [0.25 + 0.65 * shade for shade in study.shades]
    for place, (line, opacity) in enumerate(zip(heights, opacities, strict=True)):
        best = place == len(heights) - 1 and len(study.objective) == 1
        style = {"color": VERMILION, "lw": 2.0} if best else {"color": BLUE, "lw": 1.0, "alpha": opacity}
        pieces = [[(x + gaps[x], line[x]), (x + 1, line[x + 1])] for x in range(len(line) - 1)]
        add_lines(axes, pieces, capstyle="round", **style)


def stairs(axes: Axes, at: Sequence[float], steps: Sequence[BudgetStep], **style: Any) -> None:
    values = [step.best for step in steps]
    style = {"lw": 1.8, "marker": "o", "ms": 5, "mew": 1.2, **style}
    axes.plot(at, values, drawstyle="steps-post", markevery=[-1], **style)


def columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def name_axes(axes: Axes, title: str, below: str = "", beside: str = "") -> None:
    axes.set_title(title)
    axes.set_xlabel(below)
    axes.set_ylabel("\n".join(wrapped(beside, LONGEST)))


def fit_whole(axes: Axes, values: Sequence[int]) -> None:
    """Let the horizontal axis reach from the lowest to the highest of whole numbers."""
    low, high = min(values), max(values)
    edge = 0.03 * (high - low) or 0.5
    axes.set_xlim(low - edge, high + edge)
    drawing.count_whole(axes.xaxis)


def legend(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.24), ncols=5, handletextpad=0.4, columnspacing=1.2)
