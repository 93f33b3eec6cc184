"""What the commands about datasets print: findings, cards, downloads, region stores; as pages and as JSON."""

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
from harness.data.region_store import WrittenStore
from harness.preparation.card import CardRequest, MeasuredCard
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
    lines = table(kind, *heads, right=heads)
    for name, row in rows.items():
        lines.add_row(Text(name, style="bold"), *(number(row.get(column, "")) for column in columns))
    return lines


def number(value: int | float | str) -> str:
    """A number with commas and two decimals, as a cell of a table."""
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def findings_table(findings: Iterable[Finding]) -> Table:
    """A row per finding: how bad, its name and split, what it is, and the first examples."""
    rows = table("", "findings")
    for one in findings:
        rows.add_row(Text(one.severity, style=STYLES[one.severity]), finding_text(one))
    return rows


def finding_text(one: Finding) -> Text:
    """A finding in words."""
    location = "" if one.examples else str(one.location)
    head = " · ".join(filter(None, (one.code, one.split, location)))
    how_many = f"{one.count:,} × " if one.examples else ""
    more = ["…"] * (one.count > len(one.examples) > 0)
    body = "\n".join([f"{how_many}{one.message}", *(f"· {line}" for line in [*one.examples, *more])])
    return Text.assemble((head, "bold"), f"\n{body}")


def last_line(reports: list[Report]) -> str:
    """How many errors and warnings, and what to do."""
    counts = sum((report.counts for report in reports), Counter[str]())
    worst = next((severity for severity in Severity if counts[severity]), Severity.NOTE)
    numbers = ", ".join(f"{counts[severity]} {severity}{'s' * (counts[severity] != 1)}" for severity in Severity)
    return f"{numbers}: {ADVICE[worst]}"


def validation_json(reports: Iterable[Report]) -> dict[str, Any]:
    """The findings of every dataset, and their number by severity."""
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
        **{"file": one.location.file or None, "entry": one.location.entry or None},
        **{"count": one.count, "examples": list(one.examples)},
    }


def card_json(request: CardRequest, measured: MeasuredCard) -> dict[str, Any]:
    """The file of a new card, and its counts."""
    return {
        **{"written": str(request.file), "folder": str(request.folder), "bytes": measured.size},
        **measured.card.model_dump(mode="json", include={"name", "layout", "feature_width", "max_regions", "splits"}),
    }


def card_page(request: CardRequest, measured: MeasuredCard) -> list[str]:
    """The file of a new card, its counts, and what to do next."""
    card = measured.card
    of_split = (f"{split} {size.images:,} images, {size.captions:,} captions" for split, size in card.splits.items())
    return [
        f"{request.file} written: layout {card.layout}, {card.feature_width:,} numbers a region, at most "
        f"{card.max_regions:,} regions an image, {measured.size / 1e6:,.2f} MB in {len(card.files)} files",
        " · ".join(of_split),
        *measured.remarks,
        f"next: say title, licence and origin in it; harness run --datasets {card.name}",
    ]


def convert_page(store: WrittenStore) -> Iterator[str]:
    """The store that there is now, and how much of it is new."""
    yield from store_page(store, "made of the same files")
    if store.skipped:
        yield f"{store.skipped:,} images stood in the sources once more, alike, and were left out"


def convert_json(store: WrittenStore) -> dict[str, Any]:
    """The counts of a store made of features."""
    more = {"skipped": store.skipped, "seconds": round(store.seconds, 3)}
    return {**store_json(store, "boxes", "sizes"), **more}


def extract_page(store: WrittenStore) -> Iterator[str]:
    """The store that there is now, by which model, and how much of it is new."""
    origin = store.facts.origin
    yield from store_page(store, "of the same model and pictures", f", by {origin['class']} {origin['model']}")


def extract_json(store: WrittenStore) -> dict[str, Any]:
    """The counts and the origin of a store made of pictures."""
    return {**store_json(store, "origin"), "seconds": store.seconds}


def store_page(store: WrittenStore, same: str, by: str = "") -> Iterator[str]:
    """A store's counts; `same` says what an earlier call made it of, where it was there already."""
    facts = store.facts
    yield (
        f"{store.folder}: {facts.images:,} images, {facts.regions:,} regions of {facts.width:,} numbers, "
        f"{facts.dtype}, {decimal(store.bytes)}{by}, in {store.seconds:,.1f} s"
    )
    if store.before == facts.images:
        yield f"all of it was there already, {same}; --force makes it again"
    elif store.before:
        yield f"{store.before:,} of the images were there already"


def store_json(store: WrittenStore, *more: str) -> dict[str, Any]:
    """A store's counts, and more of its facts."""
    facts = store.facts.model_dump(include={"images", "regions", "width", "dtype", *more})
    return {"folder": str(store.folder), **facts, "bytes": store.bytes, "before": store.before}


def fetch_page(card: DatasetCard, items: list[Item]) -> Iterator[str]:
    """What is about to be loaded: from where, how much, under which licence, and what becomes of it."""
    yield f"{card.title}; licence: {card.licence}"
    for item in items:
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
