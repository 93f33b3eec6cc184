"""Matplotlib as every picture here uses it: legible on light and dark pages, labels that cover nothing, fixed bytes.

Text stays text, measured in the font that matplotlib brings; no clock, locale or setting of the machine has a say.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, islice, pairwise
from math import ceil, cos, dist, floor, hypot, log10, pi, sin
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from unicodedata import east_asian_width

from harness.foreign_text import line, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Figure

POINTS = 72.0  # an inch
SIZE = 9.0  # points of text
INK = "#757b82"  # of text and axes; contrast 4.3 to #ffffff and 4.4 to #0d1117
# Near those of Okabe and Ito; contrast 3.4 or more to both grounds.
BLUE, VERMILION, GREEN, PURPLE = COLOURS = ("#1a7fc0", "#d55e00", "#009e73", "#b3558f")
MARKERS = "os^D"
DASHES = ("-", (0, (4, 1.6)), (0, (1, 1.3)), (0, (5, 1.5, 1, 1.5)))
FONT = "DejaVu Sans"
STYLE: Any = {
    **{"svg.fonttype": "none", "svg.hashsalt": "itm-harness", "svg.image_inline": True},
    **{"text.parse_math": False, "text.hinting": "none", "text.hinting_factor": 1},
    **{"font.family": "sans-serif", "font.sans-serif": [FONT], "font.size": SIZE, "figure.dpi": POINTS},
    **{"figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none"},
    **{"text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.edgecolor": INK},
    **{"xtick.color": INK, "ytick.color": INK, "xtick.labelsize": 8, "ytick.labelsize": 8, "grid.color": INK},
    **{"axes.titlesize": SIZE, "axes.titleweight": "bold", "axes.titlelocation": "left"},
    **{"axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False, "axes.formatter.useoffset": False},
    **{"axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.25, "grid.linewidth": 0.8},
    **{"legend.frameon": False, "legend.fontsize": 8, "legend.borderaxespad": 0, "legend.handletextpad": 0.6},
    **{"figure.constrained_layout.h_pad": 0.08, "figure.constrained_layout.w_pad": 0.08},
}
ABOVE = (0, 11, "center")
SIDES = (  # of a mark, for its name: points right and up, and which part of the name is there
    *((8, 0, "left"), (-8, 0, "right"), ABOVE, (0, -11, "center")),
    *((4, 11, "left"), (4, -11, "left"), (-4, 11, "right"), (-4, -11, "right")),
)
TURNS = 24  # directions in which a name with a line to its mark is tried
NEAR, FAR = (20.0, 32.0, 46.0), range(20, 420, 12)  # points of such a line
BEAD = 3.0  # points of a piece of such a line, compared with what it must not touch
AROUND = 5.0  # points of a mark on each side of its middle
LETTERS = 5  # of a line to an em: thin ones are over a quarter of it
LEADING = 12.0  # points between names in a column
ASIDE = 22.0  # points between axes and a column of names
CROWD = 3.0  # powers of ten from which an axis has ticks at those alone
BESIDE: Any = {"textcoords": "offset points", "va": "center", "annotation_clip": False}
Point = tuple[float, float]
Extent = tuple[float, float, float, float]  # low x, low y, high x, high y
Side = tuple[float, float, str]  # of a mark: points right and up, and which part of the text is there


class Label(NamedTuple):
    """A text beside a mark, or further off with a line to it."""

    text: str
    side: Side
    extent: Extent
    end: Point | None = None  # of the line
    pieces: tuple[Extent, ...] = ()  # of the line


@contextmanager
def canvas(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Iterator[Figure]:
    """An empty figure of so many inches in the project's style, whatever matplotlibrc says."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of characters that the font lacks: the reader has another one
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield Figure(figsize=(width, height), layout=layout)


def svg(figure: Figure, title: str, description: str = "") -> bytes:
    """A figure as SVG, without a date and without the version of matplotlib; `savefig` would draw it twice."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    about = {"Title": plain(title), "Description": plain(description) or None, "Date": None, "Creator": None}
    out = io.BytesIO()
    surface: Any = FigureCanvasSVG(figure)
    surface.print_svg(out, metadata={**about, "Type": None, "Format": None})
    return visible(out.getvalue().decode()).encode()


def png(figure: Figure, scale: float) -> bytes:
    """A figure as PNG on white, with so many pixels per point."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=scale * POINTS, facecolor="white", metadata={"Software": None})
    return out.getvalue()


def look(place: int) -> dict[str, Any]:
    """Colour, marker and dashes of a line; sixteen differ, and no two by colour alone."""
    turn, shape = divmod(place, len(COLOURS))
    colour = COLOURS[(place + turn) % len(COLOURS)]
    face = "none" if turn % 2 else colour
    return {"color": colour, "marker": MARKERS[shape], "ls": DASHES[turn % len(DASHES)], "mfc": face}


def add_lines(axes: Axes, paths: Sequence[Sequence[Point]], **style: Any) -> None:
    from matplotlib.collections import LineCollection

    axes.add_collection(LineCollection(paths, **style))
    axes.autoscale_view()


def add_box(axes: Axes, box: Extent, **style: Any) -> None:
    """Add a rectangle to axes whose limits are set; `add_patch` would fit them to each, which takes longer."""
    from matplotlib.patches import Rectangle

    low_x, low_y, high_x, high_y = box
    axes.add_artist(Rectangle((low_x, low_y), high_x - low_x, high_y - low_y, **style))


def count_whole(axis: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def compare_ratios(axes: Axes, values: Sequence[float]) -> None:
    """Make the horizontal axis logarithmic, with round ticks on both sides of positive values."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    ticks = round_ratios(min(values), max(values))
    axes.set_xlim(min(ticks[0], min(values) / 1.3), max(ticks[-1], max(values) * 1.3))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))


def round_ratios(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten around positive numbers, powers of ten alone where these are many."""
    powers = range(floor(log10(low)) - 1, floor(log10(high)) + 3)
    factors = (1, 2, 5) if log10(high / low) < CROWD else (1,)
    rungs = [float(f"{factor}e{power}") for power in powers for factor in factors]
    first = max(place for place, rung in enumerate(rungs) if rung <= low)
    last = min(place for place, rung in enumerate(rungs) if rung >= high)
    return rungs[first - (first == last) : last + 1 + (first == last)]


def thousands(number: float) -> str:
    return f"{number / 1e6:,.6g} M" if number >= 1e6 else f"{number:,.6g}"


def label_points(
    axes: Axes, points: Sequence[Point], names: Sequence[Sequence[str]], paths: Sequence[Sequence[Point]] = ()
) -> None:
    """Write beside each point the first of its names that covers no point, path or name, or further off with a line.

    A point around which nothing is free stays without a name.
    """
    settle(axes)
    spots = [(float(x), float(y)) for x, y in axes.transData.transform(points)]
    marks = [(x - AROUND, y - AROUND, x + AROUND, y + AROUND) for x, y in spots]
    front = [extent_between(a, b) for path in paths for a, b in pairwise(axes.transData.transform(path))]
    texts, pieces, lines = list[Extent](), list[Extent](), list[tuple[Point, Point]]()
    for point, spot, mark, versions in zip(points, spots, marks, names, strict=True):
        others = [one for one in marks if not cover(one, mark)]  # a line may leave through marks that lie on its own
        room = Room(axes.bbox.extents, mark, others, [*marks, *front, *texts, *pieces])
        near = (one for one in labels_around(spot, versions, NEAR) if room.fits(one, [*others, *texts, *pieces]))
        far = (one for one in labels_around(spot, versions[-1:], FAR) if room.fits(one, texts))
        for label in islice(chain(near, far), 1):
            right, up, anchor = label.side
            axes.annotate(label.text, point, (right, up), ha=anchor, **BESIDE)
            texts.append(label.extent)
            pieces += label.pieces
            lines += [(spot, label.end)] if label.end else []
    add_leaders(axes, lines)


class Room(NamedTuple):
    """Where the name of a mark may stand."""

    frame: Extent
    mark: Extent
    others: Sequence[Extent]  # marks that do not lie on this one
    taken: Sequence[Extent]

    def fits(self, label: Label, barred: Sequence[Extent]) -> bool:
        """Whether a label covers nothing, nobody takes it for another mark's, and its line touches nothing barred."""
        least = AROUND if label.end else AROUND + gap(label.extent, self.mark)
        return (
            unoccupied([label.extent], self.taken, self.frame) is not None
            and all(gap(label.extent, other) > least for other in self.others)
            and not any(cover(piece, other) for piece in label.pieces for other in barred)
        )


def labels_around(spot: Point, versions: Sequence[str], reaches: Sequence[float]) -> Iterator[Label]:
    """Where a mark's name may stand, the best place first: beside it, else with a line to it."""
    for text in versions:
        yield from (Label(text, side, extent_of(text, spot, side)) for side in SIDES)
        yield from (led(text, spot, reach, turn) for reach in reaches for turn in range(TURNS))


def led(text: str, spot: Point, reach: float, turn: int) -> Label:
    """A text so many points from a mark, in one of the directions, with a line to it."""
    across, up = cos(2 * pi * turn / TURNS), sin(2 * pi * turn / TURNS)
    side = (reach * across, reach * up, "left" if across > 0.3 else "right" if across < -0.3 else "center")
    left, low, right, high = extent = extent_of(text, spot, side)
    end = min(max(spot[0], left), right), min(max(spot[1], low), high)
    count = max(1, ceil(dist(spot, end) / BEAD))
    steps = [tuple(a + (b - a) * n / count for a, b in zip(spot, end, strict=True)) for n in range(count + 1)]
    return Label(text, side, extent, end, tuple(extent_between(a, b) for a, b in pairwise(steps)))


def gap(one: Extent, two: Extent) -> float:
    """The distance between two extents, 0 where they meet."""
    return hypot(max(one[0] - two[2], two[0] - one[2], 0.0), max(one[1] - two[3], two[1] - one[3], 0.0))


def add_leaders(axes: Axes, lines: Sequence[tuple[Point, Point]]) -> None:
    """Add thin lines between places of the page, which change no limit of the axes."""
    from matplotlib.collections import LineCollection

    back = axes.transData.inverted()
    axes.add_artist(LineCollection([back.transform(line) for line in lines], colors=INK, lw=0.8, alpha=0.8))


def extent_between(one: Sequence[float], other: Sequence[float]) -> Extent:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[0], other[0]), max(one[1], other[1])


def extent_of(text: str, spot: Point, side: Side) -> Extent:
    """The room that a text takes beside a spot, in points."""
    right, up, anchor = side
    width = measured(text, SIZE)
    left = spot[0] + right - {"left": 0.0, "center": 0.5, "right": 1.0}[anchor] * width
    return left, spot[1] + up - SIZE / 2 - 1, left + width, spot[1] + up + SIZE / 2 + 1


def unoccupied(options: Iterable[Extent], taken: Sequence[Extent], frame: Extent) -> Extent | None:
    """The first extent that lies within a frame and covers no other; None where there is none."""
    return next((one for one in options if is_within(one, frame) and not any(cover(one, two) for two in taken)), None)


def is_within(one: Extent, frame: Extent) -> bool:
    return one[0] >= frame[0] and one[1] >= frame[1] and one[2] <= frame[2] and one[3] <= frame[3]


def cover(one: Extent, two: Extent) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def label_ends(axes: Axes, ends: Sequence[Point], names: Sequence[str], colours: Sequence[str]) -> None:
    """Write names in a column right of the axes, each joined to the end of its line, none on another."""
    where = axes.get_yaxis_transform()  # x in shares of the width, y in data
    heads = [
        axes.annotate(name, (1, y), (ASIDE, 0), xycoords=where, **BESIDE)
        for name, (_, y) in zip(names, ends, strict=True)
    ]
    settle(axes)
    _, bottom, right, top = axes.bbox.extents
    spots = axes.transData.transform(ends)
    heights = spread([y for _, y in spots], bottom, top)
    for head, end, (x, y), height, colour in zip(heads, ends, spots, heights, colours, strict=True):
        head.set_position((ASIDE, height - y))
        arrow = {"arrowstyle": "-", "color": colour, "lw": 0.8, "alpha": 0.7, "shrinkA": 0, "shrinkB": 2}
        axes.annotate("", end, (right - x + ASIDE - 3, height - y), arrowprops=arrow, **BESIDE)


def settle(axes: Axes) -> None:
    """Fix the layout of a figure, so that positions within its axes stay what they are."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    if engine := figure.get_layout_engine():
        engine.execute(figure)  # without the drawing that draw_without_rendering adds
    figure.set_layout_engine("none")


def spread(heights: Sequence[float], bottom: float, top: float) -> list[float]:
    """Heights moved apart as little as a column of names needs, between bottom and top; the first of equals on top."""
    gap = min(LEADING, (top - bottom) / max(1, len(heights) - 1))
    order = sorted(range(len(heights)), key=lambda place: (heights[place], -place))
    moved = dict.fromkeys(order, 0.0)
    least, most = bottom, top
    for place in order:
        moved[place] = least = max(heights[place], least)
        least += gap
    for place in reversed(order):
        moved[place] = most = min(moved[place], most)
        most -= gap
    return [moved[place] for place in range(len(heights))]


def plain(text: str) -> str:
    """Text on one line, with an escape for every character that is not seen."""
    return line(text)


def shortened(text: str, width: float, size: float = SIZE, bold: bool = False) -> str:
    """Text on one line, cut where it is wider than so many points."""
    text = plain(text)
    most = int(width / size * LETTERS)  # a caption may have thousands, which take long to measure
    if len(text) <= most and measured(text, size, bold) <= width:
        return text
    low, high = 0, min(len(text), most)
    while low < high:
        middle = (low + high + 1) // 2
        fits = measured(f"{text[:middle].rstrip()}…", size, bold) <= width
        low, high = (middle, high) if fits else (low, middle - 1)
    return f"{text[:low].rstrip()}…"


def wrapped(text: str, width: float, size: float = SIZE, bold: bool = False, parts: str = r"\S+\s*") -> list[str]:
    """Text in lines that are no wider than so many points, broken between `parts`, a regular expression."""
    lines = [""]
    for part in re.findall(parts, plain(text)):
        if lines[-1] and measured((lines[-1] + part).rstrip(), size, bold) > width:
            lines.append("")
        lines[-1] += part
    return [shortened(line, width, size, bold) for line in lines]


@lru_cache(maxsize=10_000)
def measured(text: str, size: float, bold: bool = False) -> float:
    """The width of a text in points; letters of East Asia count as wide, though the font lacks them."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    known = "".join("W" if east_asian_width(mark) in "WF" else mark for mark in text)
    font = FontProperties(family=[FONT], weight="bold" if bold else "normal", size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(text_to_path.get_text_width_height_descent(known, font, False)[0])
