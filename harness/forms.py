"""A board in every form that it can be written in. Pure: no clock, no path, the same bytes from the same board."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from math import isnan
from typing import Any

from harness import board_page
from harness.board import SECTIONS, Standing
from harness.config.cards import MethodCard
from harness.errors import ConfigError
from harness.evaluation.queries import WAYS
from harness.evidence import Assessed, Evidence
from harness.more_measures import all_measures
from harness.published import beside
from harness.report import environment, file_name, header, label, notes, rows
from harness.trial.results import RECALLS
from harness.webpage import webpage

Methods = Mapping[str, MethodCard]
TEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--"},
}
ASIDE = ("val rsum", "parameters", "notes", "score pairs/s")  # columns that a paper has no room for


def files(found: Sequence[Assessed], methods: Methods, forms: Sequence[str] = ("md",)) -> dict[str, bytes]:
    """Every board in every form, by file name, and what lies beside it. ConfigError where two would share a file."""
    made: dict[str, bytes] = {}
    for one in found:
        for form in forms:
            name = file_name(one.board.dataset, one.board.protocol, SUFFIXES.get(form, form))
            if name in made:
                raise ConfigError(f"two boards would be written to {name}: rename the protocol {one.board.protocol!r}")
            made[name] = FORMS[form](one, methods).encode()
        made |= dict(board_page.beside(one, methods)) if "md" in forms else {}
    return made


def as_csv(one: Assessed, methods: Methods) -> str:
    """One line a trial: where its row stands, every number that the store has of it, and its run."""
    lines = [{**about, **trial} for about, row in _placed(one) for trial in row.trials]
    about = ("section", "place", "row", "low", "high", "group")
    names = [*about, *sorted({name for line in lines for name in line} - {*about})]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def as_json(one: Assessed, methods: Methods) -> str:
    """All of a board: rows with their statistics and trials, and the differences of rows."""
    board, evidence = one
    facts = ("dataset", "protocol", "version", "data", "gallery")
    ranked = [label(row) for row in board.ranked]
    apart = [{**d._asdict(), "first": ranked[d.first], "second": ranked[d.second]} for d in evidence.differences]
    rows = [
        {**asdict(row), **about, **_measured(evidence, about, row), "notes": notes(board, row)}
        for about, row in _placed(one)
    ]
    whole = {name: getattr(board, name) for name in facts}
    whole |= {"machines": board.machines, "rows": rows, "differences": apart, "least": evidence.least}
    whole["published"] = [
        {"row": ranked[one.place], **one.reported.model_dump(), "difference": one.difference, "verdict": one.verdict}
        for one in beside(board, methods)
    ]
    return json.dumps(_plain(whole), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def as_latex(one: Assessed, methods: Methods) -> str:
    """The ranked rows as a booktabs table, and what its columns mean."""
    board, evidence = one
    names = header(board, methods)
    shown = [place for place, name in enumerate(names) if name not in ASIDE]
    cells = [[row[place] for place in shown] for row in rows(board, evidence, methods)]
    heads = [names[place] for place in shown]
    return str(_tex().render(board=board, evidence=evidence, heads=heads, rows=cells))


FORMS: dict[str, Callable[[Assessed, Methods], str]] = {
    "md": board_page.board_page,
    "csv": as_csv,
    "json": as_json,
    "latex": as_latex,
    "html": webpage,
}
SUFFIXES = {"latex": "tex"}


def _placed(one: Assessed) -> Iterator[tuple[dict[str, Any], Standing]]:
    """Every row with where it stands."""
    board, evidence = one
    for section in SECTIONS:
        for place, row in enumerate(getattr(board, section)):
            about: dict[str, Any] = {"section": section, "place": place + 1, "row": label(row)}
            if section == "ranked":
                low, high = evidence.intervals.get(place, (None, None))
                about |= {"low": low, "high": high, "group": evidence.letters.get(place)}
            yield about, row


def _measured(evidence: Evidence, about: Mapping[str, Any], row: Standing) -> dict[str, Any]:
    """The measures of a row, their intervals, R@1 to R@100 and learning curves, where it is ranked and has them."""
    if about["section"] != "ranked":
        return {"measures": all_measures(row, {})}
    place = about["place"] - 1
    profile, curves = evidence.profiles.get(place), evidence.curves.get(place, ())
    return {
        "measures": all_measures(row, evidence.lists.get(place, {})),
        "intervals": dict(zip(RECALLS, evidence.recalls.get(place, ()), strict=False)),
        "recall": {} if profile is None else dict(zip(WAYS, profile.tolist(), strict=True)),
        "curves": [{"seed": curve.seed, "val_rsum": dict(curve.points)} for curve in curves],
    }


def _plain(value: Any) -> Any:
    """What JSON knows; what is not a number is null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    plain = value.item() if hasattr(value, "item") else value  # a number of NumPy's
    return None if isinstance(plain, float) and isnan(plain) else plain


def tex(value: Any) -> Any:
    """Text as LaTeX sets it unchanged."""
    if not isinstance(value, str):
        return value
    return "".join(TEX.get(mark, mark) for mark in " ".join(value.split()))


@cache
def _tex() -> Any:
    """The template of a LaTeX table: every value it prints is escaped."""
    marks = {"block_start_string": "<%", "block_end_string": "%>", "comment_start_string": "<#"}
    marks |= {"variable_start_string": "<<", "variable_end_string": ">>", "comment_end_string": "#>"}
    return environment(finalize=tex, **marks).get_template("board.tex.j2")
