"""Boards, comparisons, reproductions, scores and exports, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan, nan
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.board.cells import HEADER, LEFT, SETTINGS, header, label, probability, rows, rsum, tenths
from harness.board.comparison import Comparison
from harness.board.evidence import Assessed, Evidence
from harness.board.export import Written
from harness.board.standings import SECTIONS, Board, Standing
from harness.campaign.external_scores import RankedScores
from harness.campaign.reproduction import Again, Case
from harness.cli.output import count, near, table
from harness.trial.results import HEADLINE, RECALLS

UNSHOWN = ("95 %", "val rsum", "parameters", "notes", SETTINGS)  # in the terminal, so that a table fits 80 columns
COLUMNS = ("R@1", "R@5", "R@10", "median rank", "mean rank", "tied")


def tables(found: Sequence[Assessed]) -> list[Table]:
    """The same boards for the terminal, one table each; what is not ranked stands in the caption."""
    return [terminal_table(*each) for each in found]


def terminal_table(board: Board, evidence: Evidence) -> Table:
    """One board for the terminal: notes stand below, so that the numbers fit."""
    title = Text(f"{board.dataset}, protocol {board.protocol}", style="bold")
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=0)
    names = header(board, {})
    shown = [place for place, name in enumerate(names) if name not in UNSHOWN]
    for name in (names[place] for place in shown):
        side: Any = "left" if name in LEFT else "right"
        table.add_column(Text(name.replace(" ", "\n")), justify=side, no_wrap=name not in LEFT, overflow="fold")
    found = rows(board, evidence, {})
    for row in found:
        table.add_row(*(Text(row[place]) for place in shown))
    noted = [f"{row[0]}: {text}" for row in found if (text := told(row))]
    machines = [f"machine {place}: {name}" for place, name in enumerate(board.machines, start=1)]
    table.caption = Text("\n".join([*noted, *machines, *unranked(board)]), style="not italic")
    return table


def unranked(board: Board) -> list[str]:
    """A line for each recipe that is not ranked."""
    sections = {"incomplete": board.incomplete, "stale": board.stale, "never ranked (--limit)": board.limited}
    return [f"{name}: {label(row)}  {row.reason}".rstrip() for name, part in sections.items() for row in part]


def told(row: Sequence[str]) -> str:
    """What the terminal says of a row below its table: notes, and where its settings are from."""
    return "; ".join(cell for cell in row[len(HEADER) - 1 :] if cell)


def compare_page(found: Sequence[Comparison]) -> Iterator[RenderableType]:
    """For people."""
    for one in found:
        first, second = one.sides
        made = table(one.board, first.name, second.name, "difference", right=(first.name, second.name, "difference"))
        for name, mine, other in zip(HEADLINE, *one.means, strict=True):
            made.add_row(name.replace("_r", " R@"), tenths(mine), tenths(other), f"{mine - other:+.1f}")
        yield made
        low, high = one.interval
        yield f"rsum {one.difference:+.1f}, 95 % by image {low:+.1f} to {high:+.1f}; p {probability(one.p)}"
        yield f"{one.verdict}\n"


def compare_json(found: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The same as JSON; what cannot be told is null."""
    return [
        {
            "board": one.board,
            "sides": [
                {"name": side.name, "runs": side.runs, **dict(zip(HEADLINE, means, strict=True))}
                for side, means in zip(one.sides, one.means, strict=True)
            ],
            "difference": one.difference,
            "interval": one.interval,
            "p": None if isnan(one.p) else one.p,
            "least": None if isnan(one.least) else one.least,
            "verdict": one.verdict,
        }
        for one in found
    ]


def export_page(found: Written) -> Iterator[str]:
    """For people."""
    yield from found.notes
    yield from (f"{near(file)} written" for file in found.files)
    yield f"{count(found.runs, 'run')} exported"


def export_json(found: Written) -> dict[str, Any]:
    """The same as JSON."""
    return {"files": [str(file) for file in found.files], "runs": found.runs, "notes": found.notes}


class Place(NamedTuple):
    """Where a trial stands on its board."""

    section: str
    place: int  # from 1
    rows: int  # of the section
    row: Standing


def place_of(boards: Sequence[Board], key: str) -> Place:
    """Where the trial of a key stands; every trial of the store stands somewhere."""
    sections = [(name, getattr(board, name)) for board in boards for name in SECTIONS]
    return next(
        Place(name, number, len(rows), row)
        for name, rows in sections
        for number, row in enumerate(rows, start=1)
        if any(trial["key"] == key for trial in row.trials)
    )


def score_page(of: RankedScores, place: Place) -> Iterator[RenderableType]:
    """The measures, and where they stand."""
    found, spec = of.result.measures, of.result.spec
    made = table(spec.label, *COLUMNS, right=COLUMNS)
    for way in ("i2t", "t2i"):
        names = ("r1", "r5", "r10", "median_rank", "mean_rank")
        cells = (tenths(found[f"{way}_{name}"]) for name in names)
        made.add_row(way, *cells, f"{tenths(found[f'{way}_tied'])} %")
    yield made
    yield f"rsum {tenths(found['rsum'])}{'; this file was ranked before' if of.again else ''}"
    yield standing(place, f"{spec.dataset}/{spec.protocol}")


def standing(place: Place, board: str) -> str:
    """Where a row stands, in words."""
    name = label(place.row)
    if place.section != "ranked":
        return f"{name} is not ranked on {board}, it is {place.section}: {place.row.reason}"
    return f"{name} stands {place.place} of {place.rows} on {board}: rsum {rsum(place.row)}, n = {place.row.n}"


def score_json(of: RankedScores, place: Place) -> dict[str, Any]:
    """The same as JSON."""
    result = of.result
    about = result.spec.model_dump(mode="json", include={"method", "dataset", "protocol", "seed", "source"})
    stands = {"section": place.section, "place": place.place, "rows": place.rows, "n": place.row.n}
    return {
        **{"key": result.key, "label": result.spec.label, **about},
        **{"measures": dict(result.measures), "gallery": dict(result.gallery)},
        **{"board": {**stands, "row": label(place.row), "reason": place.row.reason}, "warnings": of.warnings},
    }


def drift_page(case: Case) -> Iterator[RenderableType]:
    """What has changed, for people."""
    if not case.drift:
        yield f"{case.name}: code, data, versions and machine are as they were"
        return
    made = table("changed since", "then", "now")
    for one in case.drift:
        made.add_row(one.name, one.then, one.now)
    yield made
    yield f"{case.name}: its data and protocol are as they were"


def drift_json(case: Case) -> dict[str, Any]:
    """The same as JSON."""
    return {"run": case.name, "key": case.then.key, "drift": [vars(one) for one in case.drift]}


def reproduction_page(found: Again) -> Iterator[RenderableType]:
    """Both results, and the verdict."""
    made = table("measure", "then", "now", right=("then", "now"))
    for name in HEADLINE:
        then, now = (result.measures.get(name, nan) for result in (found.case.then, found.now))
        made.add_row(name.replace("_r", " R@") if name in RECALLS else name, tenths(then), tenths(now))
    yield made
    yield found.verdict


def reproduction_json(found: Again) -> dict[str, Any]:
    """The same as JSON."""
    then, now = found.case.then, found.now
    measures = {"then": dict(then.measures), "now": dict(now.measures)}
    folder = str(found.case.assignment.folder)
    return {**drift_json(found.case), **measures, "verdict": found.verdict, "folder": folder}
