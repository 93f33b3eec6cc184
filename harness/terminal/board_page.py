"""Boards, comparisons, reproductions, scores and exports, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table

from harness.board.cells import (
    DEFAULT,
    HEADER,
    LEFT,
    SETTINGS,
    ensemble_header,
    ensemble_rows,
    header,
    headings,
    label,
    named,
    recipe,
    rows,
    rsum,
    saturation,
    tenths,
)
from harness.board.comparison import Comparison
from harness.board.evidence import Assessed, Evidence
from harness.board.export import Written
from harness.board.standings import SECTIONS, Board, Standing, overtaking
from harness.campaign.external_scores import RankedScores, RemadeScores
from harness.campaign.reproduction import Case, Repetition
from harness.errors import count
from harness.evaluation.measures import title
from harness.evaluation.ranks import DIRECTIONS
from harness.explain.explanation import Explanation, Explanations, notes
from harness.portable.results import ForeignTrial, ImportedResults
from harness.portable.weights_folder import TENSORS, WeightsFolder
from harness.terminal.output import Text, near, table
from harness.trial.external import recipe_of
from harness.trial.results import HEADLINE

INTERVAL = "95 %"
BELOW = ("val rsum", "parameters", "notes", SETTINGS)  # columns that a terminal has no room for
NARROW = (INTERVAL, *BELOW)  # those of a terminal of 80 columns
WIDE = 110  # columns from which a terminal shows intervals, too
COLUMNS = ("R@1", "R@5", "R@10", "median rank", "mean rank", "tied")
NO_TRIALS = "no trials in the tracking store yet; `harness run` makes them"


def tables(boards: Sequence[Assessed], width: int = 80) -> list[Table]:
    """Boards for a terminal of so many columns."""
    each = ((terminal_table(*one, width), ensembles_table(*one, width)) for one in boards)
    return [table for pair in each for table in pair if table]


def ensembles_table(board: Board, evidence: Evidence, width: int = 80) -> Table | None:
    """The ensembles of a board for the terminal; None where it has none."""
    if not board.ensembles:
        return None
    title = Text(f"{board.dataset}, protocol {board.protocol}: {board.composites.lower()}, never ranked", style="bold")
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=0)
    names, cells = ensemble_header(board), ensemble_rows(board, evidence)
    fill(table, names, names, cells, width)
    table.caption = Text("\n".join(f"{row[0]}: {row[-1]}" for row in cells), style="not italic")
    return table


def terminal_table(board: Board, evidence: Evidence, width: int = 80) -> Table:
    """A board for the terminal, its notes below the table, so that the numbers fit."""
    title = Text(f"{board.dataset}, protocol {board.protocol}", style="bold")
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=0)
    names, cells = header(board, {}), rows(board, evidence, {})
    fill(table, names, headings(board, names), cells, width)
    footnotes = [f"{row[0]}: {text}" for row in cells if (text := footnote(row))]
    machines = [f"machine {number}: {name}" for number, name in enumerate(board.machines, start=1)]
    trained = f"recipe: {text}" if (text := recipe(board)) else ""
    about = filter(None, [board.transfer, saturation(board), trained, board.overtaken])
    lines = [*footnotes, *about, *machines, *unranked(board)]
    table.caption = Text("\n".join(lines), style="not italic")
    return table


def fill(table: Table, names: Sequence[str], heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> None:
    """Add the columns for which a terminal of so many columns has room, under their heads, and the rows."""
    columns = [column for column, name in enumerate(names) if name not in (BELOW if width >= WIDE else NARROW)]
    for name, head in ((names[column], heads[column]) for column in columns):
        side: Any = "left" if name in LEFT else "right"
        words = head if head == INTERVAL else head.replace(" ", "\n")
        table.add_column(Text(words), justify=side, no_wrap=name not in LEFT, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[column]) for column in columns))


def unranked(board: Board) -> list[str]:
    sections = {"incomplete": board.incomplete, "stale": board.stale, "never ranked (--limit)": board.limited}
    return [f"{name}: {named(row)}  {row.reason}".rstrip() for name, part in sections.items() for row in part]


def footnote(row: Sequence[str]) -> str:
    return "; ".join(cell for cell in row[len(HEADER) - 1 :] if cell not in ("", DEFAULT))


def compare_page(comparisons: Sequence[Comparison]) -> Iterator[RenderableType]:
    for comparison in comparisons:
        first, second = comparison.sides
        columns = (first.name, second.name, "difference")
        grid = table(comparison.board, *columns, right=columns)
        for name, mine, other in zip(HEADLINE, *comparison.means, strict=True):
            grid.add_row(title(name), tenths(mine), tenths(other), f"{mine - other:+.1f}")
        yield grid
        yield comparison.outcome
        yield f"{comparison.verdict}\n"


def compare_json(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Comparisons as JSON; null where there are too few runs for a number."""
    return [
        {
            "board": comparison.board,
            "sides": [
                {"name": side.name, "runs": side.runs, **dict(zip(HEADLINE, means, strict=True))}
                for side, means in zip(comparison.sides, comparison.means, strict=True)
            ],
            "difference": comparison.difference,
            "interval": comparison.interval,
            "p": None if isnan(comparison.p) else comparison.p,
            "least": None if isnan(comparison.least) else comparison.least,
            "significant": None if isnan(comparison.p) else comparison.is_significant,
            "verdict": comparison.verdict,
        }
        for comparison in comparisons
    ]


def export_page(written: Written) -> Iterator[str]:
    yield from written.notes
    yield from (f"{near(file)} written" for file in written.files)
    yield f"{count(written.runs, 'run')} exported"


def export_json(written: Written) -> dict[str, Any]:
    return {"files": [str(file) for file in written.files], "runs": written.runs, "notes": written.notes}


def weights_page(written: WeightsFolder) -> Iterator[str]:
    facts, spec = written.facts, written.spec
    yield f"{near(written.folder)} written: {spec.label}, trial {facts.key}, {count(1 + len(facts.files), 'file')}"
    size = (written.folder / TENSORS).stat().st_size
    yield f"{TENSORS}: {size / 1e6:,.1f} MB, sha256 {facts.files[TENSORS]}"
    yield f"next: `harness score --weights {near(written.folder)} --dataset NAME`, or harness.load in Python"


def weights_json(written: WeightsFolder) -> dict[str, Any]:
    facts, spec = written.facts, written.spec
    identity = {"key": facts.key, "label": spec.label, "source": spec.source, "best_epoch": facts.best_epoch}
    return {**identity, "folder": str(written.folder), "files": facts.files, "measures": facts.measures}


def import_page(imported: ImportedResults, dry_run: bool) -> Iterator[RenderableType]:
    if imported.taken:
        grid = table("trial", "protocol", "rsum", "key", right=("rsum",))
        for trial in imported.taken:
            result, spec = trial.result, trial.result.spec
            grid.add_row(spec.label, spec.protocol, tenths(result.measures["rsum"]), result.key)
        yield grid
    yield f"{count(len(imported.taken), 'trial')} {'to be imported' if dry_run else 'imported'}"
    if imported.known:
        yield f"{count(len(imported.known), 'trial')} left out: this project has them"
    for trial in imported.other:
        yield f"{trial.result.spec.label} left out: this project or an earlier folder has another result of its key"
    yield from (f"{count(number, 'trial')} left out: {reason}" for reason, number in sorted(imported.left.items()))
    if later := overtaking(trial.result.spec for trial in imported.taken):
        yield later
    if imported.taken and not dry_run:
        yield "next: `harness report`"


def import_json(imported: ImportedResults, dry_run: bool) -> dict[str, Any]:
    def named(trials: Sequence[ForeignTrial]) -> list[dict[str, Any]]:
        return [
            {"key": one.result.key, "label": one.result.spec.label, "rsum": one.result.measures["rsum"]}
            for one in trials
        ]

    parts = {"imported": imported.taken, "known": imported.known, "other": imported.other}
    later = overtaking(trial.result.spec for trial in imported.taken)
    lists = {name: named(trials) for name, trials in parts.items()}
    return {"dry_run": dry_run, **lists, "left_out": imported.left, "later": later}


class BoardPlace(NamedTuple):
    section: str
    place: int  # from 1
    rows: int  # of the section
    row: Standing


def place_of(boards: Sequence[Board], key: str) -> BoardPlace:
    """The place of the trial of a key; every trial of the store has one."""
    sections = [(name, getattr(board, name)) for board in boards for name in SECTIONS]
    return next(
        BoardPlace(name, number, len(rows), row)
        for name, rows in sections
        for number, row in enumerate(rows, start=1)
        if any(run.key == key for run in row.runs)
    )


def score_page(scores: RankedScores, place: BoardPlace) -> Iterator[RenderableType]:
    measures, spec = scores.result.measures, scores.result.spec
    grid = table(spec.label, *COLUMNS, right=COLUMNS)
    for direction in DIRECTIONS:
        names = ("r1", "r5", "r10", "median_rank", "mean_rank")
        cells = (tenths(measures[f"{direction}_{name}"]) for name in names)
        grid.add_row(direction, *cells, f"{tenths(measures[f'{direction}_tied'])} %")
    yield grid
    yield f"rsum {tenths(measures['rsum'])}{'; this file was ranked before' if scores.records is None else ''}"
    yield standing(place, f"{spec.dataset}/{spec.protocol}")


def standing(place: BoardPlace, board: str) -> str:
    name = label(place.row)
    if place.section == "ensembles":
        return f"{name} is an ensemble on {board}, never ranked: rsum {rsum(place.row)}, n = {place.row.n}"
    if place.section != "ranked":
        return f"{name} is not ranked on {board}, it is {place.section}: {place.row.reason}"
    return f"{name} stands {place.place} of {place.rows} on {board}: rsum {rsum(place.row)}, n = {place.row.n}"


def score_json(scores: RankedScores, place: BoardPlace) -> dict[str, Any]:
    result = scores.result
    about = result.spec.model_dump(mode="json", include={"method", "dataset", "protocol", "seed", "source"})
    position = {"section": place.section, "place": place.place, "rows": place.rows, "n": place.row.n}
    return {
        **{"key": result.key, "label": result.spec.label, **about},
        **{"measures": dict(result.measures), "gallery": dict(result.gallery)},
        **{"board": {**position, "row": label(place.row), "reason": place.row.reason}, "warnings": scores.warnings},
    }


def drift_page(case: Case) -> Iterator[RenderableType]:
    yield f"{case.name}: {case.identity}"
    if not case.drift:
        yield f"{case.name}: code, data, versions and machine are as they were"
        return
    grid = table("changed since", "then", "now")
    for drift in case.drift:
        grid.add_row(drift.name, drift.then, drift.now)
    yield grid
    yield f"{case.name}: its data and protocol are as they were"


def drift_json(case: Case) -> dict[str, Any]:
    identity = {"run": case.name, "key": case.then.key, "recipe": recipe_of(case.then.spec)}
    return {**identity, "rsum": case.then.measures["rsum"], "drift": [vars(drift) for drift in case.drift]}


def reproduction_page(repetition: Repetition) -> Iterator[RenderableType]:
    grid = table("measure", "then", "now", right=("then", "now"))
    for name in HEADLINE:
        then, now = (result.measures.get(name, nan) for result in (repetition.case.then, repetition.now))
        grid.add_row(title(name), tenths(then), tenths(now))
    yield grid
    yield repetition.verdict


def reproduction_json(repetition: Repetition) -> dict[str, Any]:
    then, now = repetition.case.then, repetition.now
    measures = {"then": dict(then.measures), "now": dict(now.measures)}
    folder = str(repetition.case.assignment.folder)
    return {**drift_json(repetition.case), **measures, "verdict": repetition.verdict, "folder": folder}


def remade_page(remade: RemadeScores) -> Iterator[RenderableType]:
    grid = table(remade.result.spec.label, "ranked", "made again", right=("ranked", "made again"))
    for name in HEADLINE:
        grid.add_row(title(name), tenths(remade.result.measures[name]), tenths(remade.measures[name]))
    yield grid
    yield remade.verdict


def remade_json(remade: RemadeScores) -> dict[str, Any]:
    spec = remade.result.spec
    about = {"run": spec.label, "key": spec.key, "verified": remade.is_verified, "verdict": remade.verdict}
    measures = {"then": dict(remade.result.measures), "now": dict(remade.measures)}
    apart = None if isnan(remade.difference) else remade.difference
    return {**about, **measures, "same_file": remade.is_same_file, "difference": apart, "by": remade.by}


def explained_page(several: Explanations, file: Path) -> str:
    specs = [(one.trial.spec, one.score) for one in several.ones]
    trials = (f"{spec.label}, trial {spec.key}, score {score:.3f}" for spec, score in specs)
    return f"{near(file)} written: {'; '.join(trials)}"


def explained_json(several: Explanations, file: Path, is_alone: bool) -> dict[str, Any]:
    """The explanation of one method that was named, or those of several, as JSON."""
    ones = [explain_json(one, file) for one in several.ones]
    return ones[0] if is_alone else {"methods": ones, "left_out": dict(several.left_out), "file": str(file)}


def explain_json(one: Explanation, file: Path) -> dict[str, Any]:
    spec = one.trial.spec
    best = one.trial.result.best_epoch
    return {
        **{"method": spec.method, "dataset": spec.dataset, "protocol": spec.protocol, "split": one.split},
        **{"trial": spec.key, "best_epoch": best, "image": one.image, "caption": one.caption},
        "seed": spec.seed,
        "licence": one.card.licence,
        "score": one.score,
        "rank": one.rank._asdict() if one.rank else None,
        "boxes": one.boxes or None,
        "labels": one.look.labels or None,
        "words": [{"word": word.text, "known": word.is_known, "weights": word.weights} for word in one.words],
        "notes": notes(one),
        "file": str(file),
    }
