"""Figures of a search as SVG: the same bytes from the same numbers. Matplotlib lives here alone."""

from __future__ import annotations

import hashlib
import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.search.figures import Comparison, Figure, Step, in_units

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

MARK = b"<!-- "  # before the seal of a figure, at its end
WIDTH = 8.6  # inches: a page of markdown, with text of the size of its own
BLUE, VERMILLION, PURPLE, GREY, INK = "#0072b2", "#d55e00", "#cc79a7", "#b8b8b8", "#333333"  # after Okabe and Ito
CYCLE = (BLUE, VERMILLION, "#009e73", PURPLE, "#e69f00", "#56b4e9", "#000000")
DASHES = ("-", "--", ":")  # once the colours are used up
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "itm-harness",
    "text.parse_math": False,  # a dollar is a dollar
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.borderaxespad": 0,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
LONGEST = 28  # characters of a name, and of a line beside a panel
PAD = 0.08  # inches around panels
CROWD = 10  # axes from which their names are set smaller
ACROSS = 104  # characters across the page below parallel coordinates
UNUSED = -0.16  # where a line passes an axis whose setting its trial did not use
LINES: dict[str, dict[str, Any]] = {  # of learning curves, what lies below first
    "pruned": {"color": GREY, "lw": 0.7, "alpha": 0.6, "zorder": 1},
    "failed": {"color": PURPLE, "lw": 0.9, "ls": "--", "zorder": 2},
    "complete": {"color": BLUE, "lw": 0.8, "alpha": 0.45, "zorder": 3},
    "best": {"color": VERMILLION, "lw": 1.8, "zorder": 4},
}


class Row(NamedTuple):
    """Panels beside each other."""

    height: float  # inches
    panels: Sequence[Callable[[Axes, Figure], None]]


def drawn(data: Figure | Comparison, old: bytes) -> bytes:
    """The figure of these numbers; the old one, where it is just that: most figures of a report have not changed."""
    body, _, mark = old.rpartition(MARK)
    if mark == seal(body, data):
        return old
    body = study_svg(data) if isinstance(data, Figure) else comparison_svg(data)
    return body + MARK + seal(body, data)


def seal(body: bytes, data: Figure | Comparison) -> bytes:
    """What tells a figure from that of other numbers, of other code, and from one that was touched."""
    code = f"{Path(__file__).read_text(encoding='utf-8')} {version('matplotlib')} {data!r}"
    return f"{hashlib.sha256(body + code.encode()).hexdigest()} -->\n".encode()


def study_svg(figure: Figure) -> bytes:
    """All panels of a study below each other; there must be something to draw."""
    found = list(rows(figure))
    with canvas(sum(row.height for row in found)) as made:
        grid = made.add_gridspec(len(found), 2, height_ratios=[row.height for row in found])
        for level, row in enumerate(found):
            for column, panel in enumerate(row.panels):
                panel(made.add_subplot(grid[level, column] if len(row.panels) > 1 else grid[level, :]), figure)
        return svg(made)


def comparison_svg(comparison: Comparison) -> bytes:
    """The methods of one dataset against each other, over trials and over seconds."""
    unit, size = in_units(max(steps[-1].seconds for _, steps in comparison.lines))
    with canvas(2.9) as made:
        left, right = made.subplots(1, 2, sharey=True)
        for place, (method, steps) in enumerate(comparison.lines):
            style = {"color": CYCLE[place % len(CYCLE)], "ls": DASHES[place // len(CYCLE) % len(DASHES)]}
            stairs(left, [step.trials for step in steps], steps, label=clean(method), **style)
            stairs(right, [step.seconds / size for step in steps], steps, **style)
        named(left, "Best so far over trials", "trials", comparison.objective)
        named(right, "Best so far over training time", f"training time, added up ({unit})")
        counted(left, max(steps[-1].trials for _, steps in comparison.lines))
        made.legend(loc="outside lower left", ncols=6)
        return svg(made)


def rows(figure: Figure) -> Iterator[Row]:
    """The rows of a study's figure, without what there is nothing to draw for."""
    if figure.steps:
        yield Row(2.6, [over_trials, over_seconds])
    elif len(figure.objective) > 1 and figure.front:
        yield Row(2.6, [objectives])
    second = [panel for panel, known in ((importances, figure.importances), (curves, figure.curves)) if known]
    if second:
        yield Row(max(2.6, 0.9 + 0.22 * len(figure.importances)), second)
    if figure.axes:
        yield Row(3.0, [coordinates])


def over_trials(axes: Axes, figure: Figure) -> None:
    """Complete trials as dots, the best so far as stairs; what was pruned or failed is marked at the bottom."""
    complete = [(count, dot.values[0]) for count, dot in enumerate(figure.dots, 1) if dot.state == "complete"]
    axes.scatter(*columns(complete), s=10, color=BLUE, alpha=0.6, lw=0, label="complete")
    stairs(axes, [step.trials for step in figure.steps], figure.steps, color=VERMILLION, label="best so far")
    for state, marker, color in (("pruned", "|", GREY), ("failed", "x", PURPLE)):
        found = [count for count, dot in enumerate(figure.dots, 1) if dot.state == state]
        if found:
            bottom = [0.03] * len(found)
            where = axes.get_xaxis_transform()  # x in trials, y in shares of the height
            axes.scatter(found, bottom, s=22, lw=1.1, marker=marker, color=color, transform=where, label=state)
    named(axes, "Best so far over trials", "trials", figure.objective[0])
    counted(axes, len(figure.dots))
    legend(axes)


def over_seconds(axes: Axes, figure: Figure) -> None:
    """The best so far after so much training."""
    unit, size = in_units(figure.steps[-1].seconds)
    stairs(axes, [step.seconds / size for step in figure.steps], figure.steps, color=VERMILLION)
    named(axes, "Best so far over training time", f"training time, added up ({unit})", figure.objective[0])
    axes.set_xlim(left=0)


def objectives(axes: Axes, figure: Figure) -> None:
    """The first two of several objectives against each other."""
    complete = [dot for dot in figure.dots if dot.state == "complete"]
    best = [dot for dot in complete if dot.number in figure.front]
    for dots, color, size, text in (
        (complete, BLUE, 12, "complete"),
        (best, VERMILLION, 26, "no other is better in all"),
    ):
        places = [(dot.values[0], dot.values[1]) for dot in dots]
        axes.scatter(*columns(places), s=size, color=color, lw=0, label=text)
    named(axes, "Objectives", figure.objective[0], figure.objective[1])
    legend(axes)


def importances(axes: Axes, figure: Figure) -> None:
    """A bar a setting, the most important on top."""
    names = [clean(name) for name, _ in figure.importances]
    shares = [100 * share for _, share in figure.importances]
    bars = axes.barh(range(len(names)), shares, height=0.6, color=BLUE)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.12 * max(shares))
    named(axes, "Importance of settings", "share (%)")


def curves(axes: Axes, figure: Figure) -> None:
    """A line a trial; one that ended after a single epoch is a dot."""
    from matplotlib.collections import LineCollection

    kinds = ["best" if curve.number in figure.front else curve.state for curve in figure.curves]
    for kind, style in LINES.items():
        found = [curve.points for curve, other in zip(figure.curves, kinds, strict=True) if other == kind]
        if found:
            axes.add_collection(LineCollection(found, **style, label=kind))
        if single := [points[0] for points in found if len(points) == 1]:
            axes.scatter(*columns(single), s=9, lw=0, **{key: style[key] for key in ("color", "zorder")})
    axes.autoscale_view()
    named(axes, "Learning curves", "epoch", figure.measure)
    counted(axes, max(curve.points[-1][0] for curve in figure.curves))
    legend(axes)


def coordinates(axes: Axes, figure: Figure) -> None:
    """A line a complete trial through its settings to its objective; darker is better, the best stands out."""
    from matplotlib.collections import LineCollection

    *settings, _ = figure.axes
    unused = any(None in axis.places for axis in settings)
    heights = zip(*(axis.places for axis in figure.axes), strict=True)
    lines = [[(x, UNUSED if y is None else y) for x, y in enumerate(places)] for places in heights]
    colours: list[Any] = [shaded(shade) for shade in figure.shades]
    widths = [0.8] * len(lines)
    if alone := len(figure.objective) == 1:
        colours[-1], widths[-1] = VERMILLION, 1.8
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=widths, capstyle="round"))
    for x, axis in enumerate(figure.axes):
        ticks = [*axis.ticks, *([(UNUSED, "not used")] if None in axis.places else [])]
        axes.plot([x, x], [0, 1], color=INK, lw=0.8)
        axes.scatter([x] * len(ticks), [y for y, _ in ticks], s=20, lw=0.8, marker="_", color=INK, zorder=2)
        for y, text in ticks:
            tick(axes, x, y, clean(text, 12))
    names = [folded(clean(axis.name, 2 * LONGEST), ACROSS // len(figure.axes) - 1) for axis in figure.axes]
    axes.set_xticks(range(len(names)), names, fontsize=8 if len(names) < CROWD else 6.5)
    axes.set_xlim(-0.15, len(settings) + 0.35)
    axes.set_ylim((UNUSED if unused else 0) - 0.05, 1.05)
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0)
    axes.spines[:].set_visible(False)
    named(axes, f"Settings of complete trials: darker is better{', the best is orange' * alone}")


def tick(axes: Axes, x: float, y: float, text: str) -> None:
    """A tick's label, on a ground of its own, as lines run through it."""
    ground = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
    axes.annotate(text, (x, y), (4, 0), textcoords="offset points", va="center", fontsize=7, bbox=ground)


def stairs(axes: Axes, at: Sequence[float], steps: Sequence[Step], **style: Any) -> None:
    """The best so far, which stays until a better one comes; a dot at its end."""
    values = [step.best for step in steps]
    axes.plot(at, values, drawstyle="steps-post", lw=1.6, marker="o", ms=4, mew=0, markevery=[-1], **style)


def columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Points as the two lists that matplotlib takes."""
    return [x for x, _ in points], [y for _, y in points]


def shaded(share: float) -> tuple[float, ...]:
    """From a light blue for 0 to a dark one for 1."""
    light, dark = (0.80, 0.87, 0.93), (0.0, 0.25, 0.45)
    return tuple(a + (b - a) * share for a, b in zip(light, dark, strict=True))


def named(axes: Axes, title: str, below: str = "", beside: str = "") -> None:
    """Title and labels of a panel."""
    axes.set_title(title)
    axes.set_xlabel(below)
    axes.set_ylabel(textwrap.fill(beside, LONGEST))


def counted(axes: Axes, most: int) -> None:
    """From 0 to the last of what is counted, ticks at whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0, 1.03 * most)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def legend(axes: Axes) -> None:
    """Below the panel, where it hides nothing."""
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.24), ncols=5, handletextpad=0.4, columnspacing=1.2)


def folded(name: str, width: int) -> str:
    """A name on lines of some width, cut where its words end."""
    lines = [""]
    for word in re.findall(r"[^._ ]*[._ ]?", name):
        if lines[-1] and len(lines[-1] + word.rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return "\n".join(lines)


def clean(text: str, longest: int = LONGEST) -> str:
    """Text that XML can hold, cut to a length."""
    plain = "".join(mark if mark.isprintable() else " " for mark in text)
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


@contextmanager
def canvas(height: float) -> Iterator[Canvas]:
    """An empty figure in our style, whatever matplotlibrc says."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of marks that the font lacks: whoever shows the text has another font
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield Canvas(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(h_pad=PAD, w_pad=PAD))


def svg(made: Canvas) -> bytes:
    """A figure as bytes, without a date."""
    file = io.BytesIO()
    made.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()
