"""What `harness validate` says of datasets: a page for people, and the same as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.output import table
from harness.preparation.findings import Finding, Report, Severity

STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
SHORT = 12  # digits of a fingerprint that people read
ADVICE = {
    Severity.ERROR: "nothing can be scored: correct the files or the card, and look again",
    Severity.WARNING: "it can be scored; look at the warnings first, results may mean less than they seem",
    Severity.NOTE: "it can be scored",
}


def page(reports: Iterable[Report]) -> Iterator[RenderableType]:
    """Every dataset, and how many findings there are in all."""
    every = list(reports)
    for report in every:
        yield from dataset_page(report)
    yield Text(last_line(every))


def dataset_page(report: Report) -> Iterator[RenderableType]:
    """One dataset: where it lies, its numbers, its findings."""
    mark = f"  fingerprint {report.fingerprint[:SHORT]}" if report.fingerprint else ""
    yield Text.assemble((report.dataset, "bold"), f"  {report.folder}{mark}")
    if report.splits:
        yield numbers("split", report.splits)
    if report.protocols:
        yield numbers("protocol", report.protocols)
    if report.findings:
        yield findings_table(report.findings)
    yield ""


def numbers(kind: str, rows: dict[str, dict[str, int | str]] | dict[str, dict[str, int | float]]) -> Table:
    """A line a split or a protocol."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    heads = [column.replace("_", "\n") for column in columns]
    made = table(kind, *heads, right=heads)
    for name, row in rows.items():
        made.add_row(Text(name, style="bold"), *(number(row.get(column, "")) for column in columns))
    return made


def number(value: int | float | str) -> str:
    """A number for people."""
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def findings_table(findings: Iterable[Finding]) -> Table:
    """What was found: how bad, its name and split, what it is, and the first examples."""
    made = table("", "findings")
    for one in findings:
        made.add_row(Text(one.severity, style=STYLES[one.severity]), told(one))
    return made


def told(one: Finding) -> Text:
    """A finding in words."""
    where = "" if one.examples or str(one.spot) in one.message else str(one.spot)
    head = " · ".join(filter(None, (one.code, one.split, where)))
    how_many = f"{one.count:,} × " if one.examples else ""
    more = ["…"] * (one.count > len(one.examples) > 0)
    body = "\n".join([f"{how_many}{one.message}", *(f"· {line}" for line in [*one.examples, *more])])
    return Text.assemble((head, "bold"), f"\n{body}")


def last_line(reports: list[Report]) -> str:
    """How many errors and warnings, and what to do."""
    counts = sum((report.counts for report in reports), Counter[str]())
    worst = next((severity for severity in Severity if counts[severity]), Severity.NOTE)
    said = ", ".join(f"{counts[severity]} {severity}{'s' * (counts[severity] != 1)}" for severity in Severity)
    return f"{said}: {ADVICE[worst]}"


def as_json(reports: Iterable[Report]) -> dict[str, Any]:
    """The same as JSON."""
    every = list(reports)
    counts = sum((report.counts for report in every), Counter[str]())
    return {
        "datasets": [dataset_json(report) for report in every],
        **{f"{severity}s": counts[severity] for severity in Severity},
    }


def dataset_json(report: Report) -> dict[str, Any]:
    """One dataset."""
    return {**asdict(report), "findings": [finding_json(one) for one in report.findings]}


def finding_json(one: Finding) -> dict[str, Any]:
    """One finding; file and entry are null where it is of no file."""
    about = {"severity": str(one.severity), "code": one.code, "message": one.message, "split": one.split or None}
    return {
        **about,
        **{"file": one.spot.file or None, "entry": one.spot.entry or None},
        **{"count": one.count, "examples": list(one.examples)},
    }
