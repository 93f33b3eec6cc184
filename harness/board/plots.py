"""The plots of a board as SVG: how sure its order is, what accuracy costs, R@K for every K, and learning curves."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.board import charts
from harness.board.cells import label, rsum, tenths
from harness.board.charts import INDEX_SIZE, QUERY_TIME, THROUGHPUT, Expense
from harness.board.drawing import canvas, svg
from harness.board.evidence import Assessed, Evidence, LearningCurve
from harness.board.standings import Board, Standing
from harness.evaluation.ranks import DIRECTIONS

if TYPE_CHECKING:
    from harness.board.drawing import Figure

WIDTH, TALL = 7.2, 3.2  # inches of a plot
LINE, AROUND = 0.3, 0.9  # inches of a row of intervals, and of what is above and below all
FEW, MORE, TALLEST = 8, 0.1, 6.0  # rows for which TALL is enough, inches of each further one, and of the tallest plot
ORDER, DEPTH, TRAINING = "How sure the order is", "How far down matches stand", "How training went"
INTERVALS = "On the right, the numbers of the rows that do not differ significantly from this one."
TRADEOFF = (
    "The line joins the rows that no other{} beats in both; the other marks are hollow. A number is the place of a row "
    "for whose name there is no room."
)
OFF_SCALE = "A triangle at the edge: an untrained row, far below the others."
SAME_MACHINE = " of the same machine"
RECALL = "R@K for K = 1 to 100, the mean over seeds."
LEARNING = "Val rsum after each epoch; the strong line is the mean over seeds, a thin one a seed."
NO_SPEED = "No row has the throughput of one machine."
NO_RANKS = "The store has no usable ranks of the first rows."
NO_EPOCHS = "The store has no epochs of the first rows."
Paint = Callable[["Figure"], None]


@dataclass(frozen=True)
class Plot:
    file: str
    heading: str
    title: str
    note: str  # below it; where there is no picture, why
    numbers: tuple[str, ...] = ()  # what is drawn, in words
    paint: Paint | None = None  # None where there is nothing to draw
    height: float = TALL

    @cached_property
    def svg(self) -> bytes:
        assert self.paint is not None
        with canvas(WIDTH, self.height) as figure:
            self.paint(figure)
            return svg(figure, self.title, "; ".join(self.numbers))

    @property
    def uri(self) -> str:
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"


class Pictures:
    """The plots of one board and of its rows, each drawn once, however many forms of the board show it."""

    def __init__(self, one: Assessed) -> None:
        self._one = one
        self._curves: dict[int, Plot] = {}

    @cached_property
    def of_board(self) -> list[Plot]:
        return plots(self._one)

    @property
    def files(self) -> dict[str, bytes]:
        """The files of a board's plots, by name."""
        return {plot.file: plot.svg for plot in self.of_board if plot.paint}

    def curve(self, place: int) -> Plot | None:
        """The learning curve of a row; None where the store has no epochs of it."""
        if place in self._one.evidence.curves and place not in self._curves:
            self._curves[place] = row_curve(self._one, place)
        return self._curves.get(place)

    @cached_property
    def of_ensembles(self) -> Pictures:
        return Pictures(self._one.of_ensembles)


def plots(one: Assessed) -> list[Plot]:
    """Every plot that a board can have, those without a picture, too; none without ranked rows.

    What queries and an index cost is left out where no row has it, as no result of earlier versions does.
    """
    if not one.board.ranked:
        return []
    throughput, *retrieval = (expense_plot(one.board, expense) for expense in (THROUGHPUT, QUERY_TIME, INDEX_SIZE))
    costs = [throughput, *(plot for plot in retrieval if plot.paint)]
    return [interval_plot(one), *costs, recall_plot(one), learning_plot(one)]


def interval_plot(one: Assessed) -> Plot:
    board, evidence = one
    numbers = tuple(interval_text(row, evidence, place) for place, row in enumerate(board.ranked))
    height = AROUND + LINE * len(board.ranked)
    title = f"rsum, {place_of(board)}"
    note = INTERVALS if charts.intervals_start(one) is None else f"{INTERVALS} {OFF_SCALE}"
    return Plot("rsum.svg", ORDER, title, note, numbers, lambda figure: charts.intervals(figure, one), height)


def interval_text(row: Standing, evidence: Evidence, place: int) -> str:
    ends = evidence.intervals.get(place)
    return f"{summary(row)}, 95 % {tenths(ends[0])} to {tenths(ends[1])}" if ends else summary(row)


def summary(row: Standing) -> str:
    return f"{label(row)}: rsum {rsum(row)}, n = {row.n}"


def expense_plot(board: Board, expense: Expense) -> Plot:
    file, heading, title = expense.file, expense.heading, f"rsum against {expense.quantity}, {place_of(board)}"
    rows = charts.comparable(board, expense)
    excuses = [(label(row), charts.excuse(row, expense)) for row in board.ranked]
    missing = "; ".join(f"{name} ({why})" for name, why in excuses if why)
    if not rows:
        return Plot(file, heading, title, noted(NO_SPEED, missing))
    numbers = tuple(tradeoff_text(board, row, expense) for row in rows.values())
    text = TRADEOFF.format(SAME_MACHINE * expense.is_of_machine)
    is_whole = charts.tradeoff_start([*rows.values()]) is None
    note = noted(text if is_whole else f"{text} {OFF_SCALE}", missing)
    height = min(TALL + MORE * max(0, len(rows) - FEW), TALLEST)
    return Plot(file, heading, title, note, numbers, lambda figure: charts.tradeoff(figure, board, expense), height)


def tradeoff_text(board: Board, row: Standing, expense: Expense) -> str:
    is_timed = expense.is_of_machine
    machine = f", machine {board.machines.index(row.machines[0]) + 1}" if is_timed and len(board.machines) > 1 else ""
    beside = ", timed beside others" if is_timed and row.is_timed_beside_others else ""
    return f"{summary(row)}, {expense.text(row.means[expense.name])}{machine}{beside}"


def recall_plot(one: Assessed) -> Plot:
    board, evidence = one
    places, title = charts.leading(evidence.profiles), f"R@K, {place_of(board)}"
    if not places:
        return Plot("recall.svg", DEPTH, title, NO_RANKS)
    numbers = tuple(recall_text(one, place, way) for place in places for way in range(len(DIRECTIONS)))
    note = noted(RECALL, left_out(board, evidence.profiles, "usable ranks"))
    return Plot("recall.svg", DEPTH, title, note, numbers, lambda figure: charts.recall(figure, one))


def recall_text(one: Assessed, place: int, way: int) -> str:
    values = one.evidence.profiles[place][way]
    texts = ", ".join(f"R@{k} {values[k - 1]:.1f}" for k in charts.MARKED)
    return f"{label(one.board.ranked[place])}, {DIRECTIONS[way]}: {texts}"


def learning_plot(one: Assessed) -> Plot:
    board, evidence = one
    places, title = charts.leading(evidence.curves), f"Learning curves, {place_of(board)}"
    if not places:
        return Plot("curves.svg", TRAINING, title, NO_EPOCHS)
    numbers = tuple(learning_text(label(board.ranked[place]), evidence.curves[place]) for place in places)
    note = noted(LEARNING, left_out(board, evidence.curves, "epochs"))
    return Plot("curves.svg", TRAINING, title, note, numbers, lambda figure: charts.learning(figure, one, places))


def row_curve(one: Assessed, place: int) -> Plot:
    """The learning curve of one row, which needs no name in the picture."""
    board, evidence = one
    name = label(board.ranked[place])
    title = f"Learning curve of {name}, {place_of(board)}"
    numbers = (learning_text(name, evidence.curves[place]),)

    def paint(figure: Figure) -> None:
        charts.curves(figure.subplots(), one, [place])

    return Plot("curve.svg", TRAINING, title, LEARNING, numbers, paint)


def learning_text(name: str, seeds: Sequence[LearningCurve]) -> str:
    best, epoch = max((value, -epoch) for epoch, value in charts.mean_curve(seeds))
    of = f", mean of {len(seeds)} seeds" if len(seeds) > 1 else ""
    return f"{name}: val rsum {tenths(best)} after epoch {-epoch:.0f}, its best{of}"


def left_out(board: Board, known: Mapping[int, object], what: str) -> str:
    """Which rows are not drawn, and why."""
    rows = [row for place, row in enumerate(board.ranked[: charts.MOST]) if place not in known]
    reasons = [f"{label(row)} ({'not trained' if row.is_untrained else f'no {what} in the store'})" for row in rows]
    return "; ".join([*reasons, *([f"rows after the first {charts.MOST}"] * (len(board.ranked) > charts.MOST))])


def noted(text: str, missing: str) -> str:
    return f"{text} Left out: {missing}." if missing else text


def place_of(board: Board) -> str:
    return f"{board.dataset}, protocol {board.protocol}"
