"""What `harness validate` says of datasets: a page for people, and the same as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from harness.cli.output import table
from harness.config.cards import DatasetCard
from harness.data.region_store import Made
from harness.preparation.card import Measured, Request
from harness.preparation.download import Item
from harness.preparation.findings import Finding, Report, Severity

STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
SHORT = 12  # digits of a fingerprint that people read
ADVICE = {
    Severity.ERROR: "nothing can be scored: correct the files or the card, and look again",
    Severity.WARNING: "it can be scored; look at the warnings first, results may mean less than they seem",
    Severity.NOTE: "it can be scored",
}


def validation_page(reports: Iterable[Report]) -> Iterator[RenderableType]:
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


def validation_json(reports: Iterable[Report]) -> dict[str, Any]:
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


def card_json(asked: Request, found: Measured) -> dict[str, Any]:
    """What was written, for programs."""
    return {
        **{"written": str(asked.file), "folder": str(asked.folder), "bytes": found.size},
        **found.card.model_dump(mode="json", include={"name", "layout", "feature_width", "max_regions", "splits"}),
    }


def card_page(asked: Request, found: Measured) -> list[str]:
    """The same for people."""
    card = found.card
    of_split = (f"{split} {size.images:,} images, {size.captions:,} captions" for split, size in card.splits.items())
    return [
        f"{asked.file} written: layout {card.layout}, {card.feature_width:,} numbers a region, at most "
        f"{card.max_regions:,} regions an image, {found.size / 1e6:,.2f} MB in {len(card.files)} files",
        " · ".join(of_split),
        *found.remarks,
        f"next: say title, licence and origin in it; harness run --datasets {card.name}",
    ]


def convert_page(made: Made) -> Iterator[str]:
    """What there is now, in words."""
    facts = made.facts
    size = decimal(made.bytes)
    yield (
        f"{made.folder}: {facts.images:,} images, {facts.regions:,} regions of {facts.width:,} numbers, "
        f"{facts.dtype}, {size}, in {made.seconds:,.1f} s"
    )
    if made.before == facts.images:
        yield "all of it was there already, made of the same files; --force makes it anew"
    elif made.before:
        yield f"{made.before:,} of the images were there already"
    if made.skipped:
        yield f"{made.skipped:,} images stood in the sources once more, alike, and were left out"


def convert_json(made: Made) -> dict[str, Any]:
    """What there is now, for programs."""
    facts = made.facts.model_dump(include={"images", "regions", "width", "dtype", "boxes", "sizes"})
    more = {"before": made.before, "skipped": made.skipped, "seconds": round(made.seconds, 3)}
    return {"folder": str(made.folder), **facts, "bytes": made.bytes, **more}


def fetch_page(card: DatasetCard, wanted: list[Item]) -> Iterator[str]:
    """What is about to be loaded: from where, how much, under which licence, and what becomes of it."""
    yield f"{card.title}; licence: {card.licence}"
    for item in wanted:
        here = ", which is here already" * (not item.left)
        yield f"{item.download.url}, {decimal(item.download.bytes)}{here}"
        for target in item.download.targets:
            place = item.folder / target
            yield f"  becomes {place}" + ", in place of the file there" * place.exists()


def fetch_json(card: DatasetCard, all_items: list[Item], loaded: list[Item]) -> dict[str, Any]:
    """What there is now, and which of it is new."""
    files = {
        key: [str(item.folder / target) for item in group for target in item.download.targets]
        for key, group in (("files", all_items), ("loaded", loaded))
    }
    return {"dataset": card.name, **files}


def extract_page(made: Made) -> Iterator[str]:
    """What there is now, in words."""
    facts, origin = made.facts, made.facts.origin
    yield (
        f"{made.folder}: {facts.images:,} images, {facts.regions:,} regions of {facts.width:,} numbers, {facts.dtype}, "
        f"{decimal(made.bytes)}, by {origin['class']} {origin['model']}, in {made.seconds:,.1f} s"
    )
    if made.before == facts.images:
        yield "all of it was there already, of the same model and the same pictures' ids; --force makes it anew"
    elif made.before:
        yield f"{made.before:,} of the images were there already"


def extract_json(made: Made) -> dict[str, Any]:
    """What there is now, for programs."""
    facts = made.facts.model_dump(include={"images", "regions", "width", "dtype", "origin"})
    return {"folder": str(made.folder), **facts, "bytes": made.bytes, "before": made.before, "seconds": made.seconds}
