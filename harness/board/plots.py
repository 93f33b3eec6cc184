"""The plots of a board as SVG files, for the pages in markdown. Pure: the same bytes from the same board."""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.board.cells import label
from harness.board.evidence import Assessed, Evidence
from harness.board.intervals import excuse, intervals, told, tradeoff
from harness.board.lines import Lines, learning, own_curve, recall
from harness.board.markup import markup
from harness.board.standings import Board

ORDER, COST = "How sure the order is", "What accuracy costs"
DEPTH, TRAINING = "How far down matches stand", "How training went"
INTERVALS = "The bar is the 95 % interval over images, the large dot the mean, each small dot a seed."
RECALL = "R@K for K = 1 to 100, the mean over seeds."
LEARNING = "Val rsum after each epoch; the strong line is the mean over seeds, a thin one a seed."
TRADEOFF = "The line joins the rows that no other of the same machine beats in both; the other marks are hollow."


class Plot(NamedTuple):
    """What is drawn, and what is said of it."""

    kind: str  # the macro of chart.svg.j2 that draws it
    chart: Any
    heading: str
    title: str
    detail: str  # for those who do not see it
    note: str
    several: bool = False  # machines


def plots(one: Assessed) -> dict[str, Plot]:
    """Every plot that a board can have, by its file's name; none without ranked rows."""
    board, evidence = one
    if not board.ranked:
        return {}
    rows, place = "; ".join(map(told, board.ranked)), place_of(board)
    found = {"rsum.svg": Plot("intervals", intervals(board, evidence), ORDER, f"rsum, {place}", rows, INTERVALS)}
    if costs := tradeoff(board):
        missing = "; ".join(f"{label(row)} ({excuse(row)})" for row in board.ranked if excuse(row))
        said = (f"rsum against throughput, {place}", rows, noted(TRADEOFF, missing))
        found["tradeoff.svg"] = Plot("tradeoff", costs, COST, *said, several=len(board.machines) > 1)
    if shares := recall(one):
        said = (f"R@K, {place}", words(shares), noted(RECALL, shares.left_out))
        found["recall.svg"] = Plot("lines", shares, DEPTH, *said)
    if epochs := learning(one):
        said = (f"Learning curves, {place}", words(epochs), noted(LEARNING, epochs.left_out))
        found["curves.svg"] = Plot("lines", epochs, TRAINING, *said)
    return found


def drawn(one: Assessed) -> dict[str, bytes]:
    """The files of a board's plots, by name."""
    return {name: picture(plot) for name, plot in plots(one).items()}


def curve(board: Board, evidence: Evidence, place: int) -> bytes:
    """The learning curve of one row as a file."""
    chart = own_curve(board, evidence, place)
    title = f"Learning curve of {label(board.ranked[place])}, {place_of(board)}"
    return picture(Plot("lines", chart, TRAINING, title, words(chart), LEARNING))


def picture(plot: Plot) -> bytes:
    """A plot as a file of its own, with its style."""
    return str(markup("picture.svg.j2").render(**plot._asdict())).encode()


def noted(text: str, missing: str) -> str:
    """What is drawn, and what is not."""
    return f"{text} Left out: {missing}." if missing else text


def words(chart: Lines) -> str:
    """A plot of lines for those who do not see it."""
    return "; ".join(line.detail for panel in chart.panels for line in panel.lines)


def place_of(board: Board) -> str:
    """Which board a plot is of."""
    return f"{board.dataset}, protocol {board.protocol}"
