"""A board as markdown, with its plots and the pages of its rows in a folder beside it. Pure: the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.board_plots import curve, drawn, plots
from harness.config.cards import MethodCard
from harness.evidence import Assessed
from harness.grid import grid
from harness.method_page import curve_name, file_stem, method_page
from harness.more_measures import more_measures
from harness.report import LEFT, folder_name, header, pairs, published, rows, template

Methods = Mapping[str, MethodCard]


def board_page(one: Assessed, methods: Methods) -> str:
    """A board as markdown."""
    board, evidence = one
    folder = folder_name(board)
    made = template("board.md.j2").render(
        **{"board": board, "evidence": evidence, "methods": methods, "left": LEFT},
        **{"header": header(board, methods), "rows": rows(board, evidence, methods), "pairs": pairs(board, evidence)},
        **{
            "published": published(board, methods),
            "measures": more_measures(board, evidence.lists),
            "grid": grid(board),
        },
        plots={f"{folder}/{name}": plot for name, plot in plots(one).items()},
        pages=[f"{folder}/{file_stem(board, place)}.md" for place in range(len(board.ranked))],
    )
    return str(made)


def beside(one: Assessed, methods: Methods) -> Iterator[tuple[str, bytes]]:
    """The files that the page shows and links to, by their paths from it."""
    board, evidence = one
    folder = folder_name(board)
    for name, data in drawn(one).items():
        yield f"{folder}/{name}", data
    for place in range(len(board.ranked)):
        stem = file_stem(board, place)
        yield f"{folder}/{stem}.md", method_page(one, methods, place).encode()
        if place in evidence.curves:
            yield f"{folder}/{curve_name(stem)}", curve(board, evidence, place)
