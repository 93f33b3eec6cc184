"""A board in every form that it can be written in. Pure: no clock, no path, the same bytes from the same board."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple
from urllib.parse import quote

from harness.board.cells import (
    LEFT,
    MEANINGS,
    Methods,
    ensemble_cells,
    ensemble_header,
    ensemble_rows,
    file_name,
    folder_name,
    header,
    headings,
    label,
    notes,
    pairs,
    published,
    recipe,
    rows,
    saturation,
)
from harness.board.charts import SPEED
from harness.board.evidence import Assessed, Evidence
from harness.board.markup import markup, template, tex_escaped
from harness.board.plots import Pictures
from harness.board.published import beside
from harness.board.row_page import SEEDS, RowFacts, curve_name, entry, facts, file_stem, method_page
from harness.board.standings import SECTIONS, Board, Standing
from harness.board.tables import all_measures, cost_table, grid, index_rows, more_measures, rows_across
from harness.errors import ConfigError
from harness.evaluation.measures import title
from harness.evaluation.ranks import DIRECTIONS
from harness.foreign_text import cell, json_text
from harness.tracking.columns import final_tags
from harness.tracking.runs import Run
from harness.tracking.store import digest
from harness.trial.results import HEADLINE, RECALLS

ASIDE = ("val rsum", "parameters", "notes", "train pairs/s", "score pairs/s")  # columns that a paper has no room for
DEFAULT = ("md", "html")  # forms that are written where none is named
INDEX = "index.html"  # the page of all boards
SUFFIXES = {"latex": "tex"}
MEASURES = {
    **{"rsum": "rsum", **{title(name): name for name in RECALLS}, "val rsum": "best_val_rsum"},
    **{"train pairs/s": "train_pairs_per_second", "score pairs/s": SPEED, "parameters": "parameters"},
}  # columns, and what they are the means of
ALWAYS = (*HEADLINE, "best_val_rsum", "epoch", "gallery.images", "gallery.captions", "gallery.folds")
NUMBERS = (*MEASURES, "n", "95 %")  # columns that are sorted with the largest first


def files(boards: Sequence[Assessed], methods: Methods, forms: Sequence[str] = ("md",)) -> dict[str, bytes]:
    """Every board in every form, by file name, and what lies beside it. ConfigError where two would share a file."""
    check_names([one.board for one in boards], forms)
    contents: dict[str, bytes] = {}
    for one in boards:
        pictures = Pictures(one)
        contents |= {page_name(one.board, form): FORMS[form](one, methods, pictures).encode() for form in forms}
        contents |= dict(attachments(one, methods, pictures)) if "md" in forms else {}
    return contents


def check_names(boards: Sequence[Board], forms: Sequence[str]) -> None:
    """ConfigError where two boards would share a file."""
    names: set[str] = set()
    for board in boards:
        own = {page_name(board, form) for form in forms}
        for name in sorted(own & names):
            raise ConfigError(f"two boards would be written to {name}: rename the protocol {board.protocol!r}")
        names |= own


def page_name(board: Board, form: str) -> str:
    """The file name of a board in a form."""
    return file_name(board.dataset, board.protocol, SUFFIXES.get(form, form))


def pages(boards: Sequence[Board]) -> set[str]:
    """The file names of boards in every form, and of the page of all."""
    return {page_name(board, form) for board in boards for form in FORMS} | {INDEX for _ in boards[:1]}


def index(boards: Sequence[Board]) -> dict[str, bytes]:
    """The page that leads to the pages of boards, by its file name; none where there is no board."""
    if not boards:
        return {}
    made = markup("index.html.j2").render(
        **{"lines": index_rows(boards), "across": rows_across(boards)},
        links=[quote(page_name(board, "html")) for board in boards],
    )
    return {INDEX: str(made).encode()}


def as_csv(one: Assessed, methods: Methods, pictures: Pictures | None = None) -> str:
    """One line per trial: where its row stands, every number that the store has of it, and its run."""
    board = {"saturated": " ".join(one.board.saturated), "val_images": one.board.val_images or None}
    lines = [{**at.position, **board, **flat(run)} for at in placed(one) for run in at.row.runs]
    about = ("section", "place", "row", "fidelity", "low", "high", "group")
    names = [*about, *sorted({name for line in lines for name in line} - {*about})]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(cell, names))
    writer.writerows(map(cell, map(line.get, names)) for line in lines)
    return out.getvalue()


def as_json(one: Assessed, methods: Methods, pictures: Pictures | None = None) -> str:
    return json_text(board_json(one, methods), indent=1, sort_keys=True) + "\n"


def board_json(one: Assessed, methods: Methods) -> dict[str, Any]:
    """All that is known of a board, for `json_text`."""
    board, evidence = one
    facts = ("dataset", "protocol", "version", "data", "gallery", "training", "val_images", "saturated")
    ranked = [label(row) for row in board.ranked]
    apart = [{**d._asdict(), "first": ranked[d.first], "second": ranked[d.second]} for d in evidence.differences]
    columns = dict.fromkeys(name for at in placed(one) for run in at.row.runs for name in flat(run))
    rows = [
        {**_whole(at.row, columns), **at.position, **_measured(at), "notes": notes(board, at.row)} for at in placed(one)
    ]
    whole = {name: getattr(board, name) for name in facts}
    whole |= {name: getattr(board, name) for name in ("tested_on", "tests") if board.tested_on}
    whole |= {"machines": board.machines, "rows": rows, "differences": apart, "least": evidence.least}
    whole["published"] = [
        {
            **{"row": label(part.ranked[one.place]), **one.reported.model_dump(), "difference": one.difference},
            **{"verdict": one.verdict, "unlike_paper": one.unlike},
        }
        for part in (board, board.of_ensembles)
        for one in beside(part, methods)
    ]
    return whole


def as_latex(one: Assessed, methods: Methods, pictures: Pictures | None = None) -> str:
    board, evidence = one
    names = header(board, methods)
    shown = [place for place, name in enumerate(names) if name not in ASIDE]
    lines = [[row[place] for place in shown] for row in rows(board, evidence, methods)]
    heads = [names[place] for place in shown]
    name = heads.index("method")
    for line, row in zip(lines, board.ranked, strict=True):
        if row.method in methods:
            line[name] = line[name].replace(row.method, methods[row.method].title, 1)
    apart = [[own.get(names[place], "") for place in shown] for own in ensemble_cells(board, evidence)]
    about: dict[str, Any] = {"ensembles": apart, "saturation": saturation(board), "recipe": recipe(board)}
    about["key"] = re.sub(r"[^a-zA-Z0-9.]+", "-", f"{board.dataset}-{board.protocol}")  # \ref takes no escapes
    first = heads.index(title(RECALLS[0]))  # of the six R@K, three under each direction
    short = [name.removeprefix("i2t ").removeprefix("t2i ") for name in headings(board, heads)]
    about |= {"columns": heads, "heads": short, "before": first, "after": len(heads) - first - len(RECALLS)}
    return str(tex_escaped().render(board=board, evidence=evidence, rows=lines, **about))


class PlacedRow(NamedTuple):
    """A row of a board with where it stands, and what the ranks of its section say; None where they are not read."""

    section: str
    place: int  # from 0
    row: Standing
    evidence: Evidence | None

    @property
    def position(self) -> dict[str, Any]:
        """Section, place, interval and group."""
        cells = {
            "section": self.section,
            "place": self.place + 1,
            "row": label(self.row),
            "fidelity": self.row.fidelity,
        }
        if not self.evidence:
            return cells
        low, high = self.evidence.intervals.get(self.place, (None, None))
        return {**cells, "low": low, "high": high, "group": self.evidence.groups.get(self.place)}


def placed(one: Assessed) -> Iterator[PlacedRow]:
    """Every row of a board."""
    known = {"ranked": one.evidence, "ensembles": one.evidence.of_ensembles}
    for section in SECTIONS:
        for place, row in enumerate(getattr(one.board, section)):
            yield PlacedRow(section, place, row, known.get(section))


def _whole(row: Standing, columns: Mapping[str, None]) -> dict[str, Any]:
    """A row with its runs as flat lines, which have the columns of the whole board."""
    about = {field.name: getattr(row, field.name) for field in fields(row)}
    about |= {"entry": dict(entry(row)), "verified": row.verified}
    return about | {"seeds": row.seeds, "runs": row.run_ids, "trials": [{**columns, **flat(run)} for run in row.runs]}


def flat(run: Run) -> dict[str, Any]:
    """A run as one line: its spec, its end and every number that the store has of it, each under a name of its own."""
    spec, result = run.spec, run.result
    tags = final_tags(result, digest(result)) if result else {}
    gallery = result.gallery if result else {}
    return {
        **dict.fromkeys(ALWAYS),
        **run.metrics,
        **run.choices,
        **{name.removeprefix("harness."): text for name, text in tags.items() if not name.startswith("mlflow.")},
        **{f"gallery.{name}": size for name, size in gallery.items()},
        **{name: value for name, value in spec if name not in ("settings", "training")},
        **{"key": run.key, "recipe": run.recipe, "label": run.label, "campaign": run.campaign, "run_id": run.run_id},
        **{"state": run.state.value, "failure": run.failure, "message": run.message},
        **{"started": run.started, "ended": run.ended, "kind": "trial" if run.run_id else None},
    }


def _measured(at: PlacedRow) -> dict[str, Any]:
    _, place, row, evidence = at
    if not evidence:
        return {"measures": all_measures(row, {})}
    profile, curves = evidence.profiles.get(place), evidence.curves.get(place, ())
    return {
        "measures": all_measures(row, evidence.lists.get(place, {})),
        "intervals": dict(zip(RECALLS, evidence.recalls.get(place, ()), strict=False)),
        "recall": {} if profile is None else dict(zip(DIRECTIONS, profile.tolist(), strict=True)),
        "looks": evidence.looks[place].as_json() if place in evidence.looks else {},
        "curves": [{"seed": curve.seed, "val_rsum": dict(curve.points)} for curve in curves],
    }


def board_page(one: Assessed, methods: Methods, pictures: Pictures | None = None) -> str:
    board, evidence = one
    pictures = pictures or Pictures(one)
    folder = folder_name(board)
    names = header(board, methods)
    page = template("board.md.j2").render(
        **{"board": board, "evidence": evidence, "methods": methods, "left": LEFT},
        **{"header": names, "heads": headings(board, names), "saturation": saturation(board), "recipe": recipe(board)},
        **{"rows": rows(board, evidence, methods), "pairs": pairs(board, evidence)},
        **{"published": published(board, methods), "measures": more_measures(board, evidence.lists)},
        **{"grid": grid(board), "costs": cost_table(board)},
        plots={f"{folder}/{plot.file}": plot for plot in pictures.of_board if plot.paint},
        **{"pages": row_pages(board), "ensemble_pages": row_pages(board.of_ensembles)},
        **{"ensemble_heads": ensemble_header(board), "ensembles": ensemble_rows(board, evidence)},
    )
    return str(page)


def row_pages(board: Board) -> list[str]:
    """The paths of the pages of ranked rows."""
    return [f"{folder_name(board)}/{file_stem(board, place)}.md" for place in range(len(board.ranked))]


def attachments(one: Assessed, methods: Methods, pictures: Pictures | None = None) -> Iterator[tuple[str, bytes]]:
    """The files that the page shows and links to, by their paths from it."""
    pictures = pictures or Pictures(one)
    for name, data in pictures.files.items():
        yield f"{folder_name(one.board)}/{name}", data
    yield from row_files(one, methods, pictures)
    yield from row_files(one.of_ensembles, methods, pictures.of_ensembles)


def row_files(one: Assessed, methods: Methods, pictures: Pictures) -> Iterator[tuple[str, bytes]]:
    """The pages of ranked rows with their learning curves."""
    board = one.board
    folder = folder_name(board)
    for place in range(len(board.ranked)):
        stem = file_stem(board, place)
        yield f"{folder}/{stem}.md", method_page(one, methods, place, pictures).encode()
        if curve := pictures.curve(place):
            yield f"{folder}/{curve_name(stem)}", curve.svg


def webpage(one: Assessed, methods: Methods, pictures: Pictures | None = None) -> str:
    board, evidence = one
    pictures = pictures or Pictures(one)
    names = header(board, methods)
    page = markup("board.html.j2").render(
        **{"board": board, "evidence": evidence, "header": names, "left": LEFT},
        **{"heads": headings(board, names), "saturation": saturation(board), "recipe": recipe(board)},
        **{"rows": sortable(one, methods), "pairs": pairs(board, evidence), "published": published(board, methods)},
        **{
            "facts": row_facts(one, methods, pictures),
            "ensemble_facts": row_facts(one.of_ensembles, methods, pictures.of_ensembles),
            "ensemble_heads": ensemble_header(board),
            "ensembles": ensemble_rows(board, evidence),
            "seeds": headings(board, SEEDS),
        },
        **{"measures": more_measures(board, evidence.lists), "grid": grid(board), "costs": cost_table(board)},
        **{"plots": pictures.of_board, "numbers": NUMBERS, "meanings": MEANINGS},
    )
    return str(page)


def row_facts(one: Assessed, methods: Methods, pictures: Pictures) -> list[RowFacts]:
    return [facts(one, methods, place, pictures) for place in range(len(one.board.ranked))]


def sortable(one: Assessed, methods: Methods) -> list[list[tuple[str, float | None]]]:
    """The ranked rows as cells, with numbers in full; an interval counts as its lower end."""
    board, evidence = one
    table = []
    for place, texts in enumerate(rows(board, evidence, methods)):
        row = board.ranked[place]
        known: dict[str, float] = {column: row.means[name] for column, name in MEASURES.items()}
        known |= {"#": place + 1, "n": row.n} | dict(zip(["95 %"], evidence.intervals.get(place, ()), strict=False))
        named = zip(header(board, methods), texts, strict=True)
        table.append([(text, None if text == "–" else known.get(name)) for name, text in named])
    return table


Form = Callable[[Assessed, Methods, Pictures], str]
FORMS: dict[str, Form] = {"md": board_page, "csv": as_csv, "json": as_json, "latex": as_latex, "html": webpage}
