"""What the commands about datasets print: findings, cards, downloads, region stores; as pages and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.filesize import decimal
from rich.table import Table

from harness.acquisition.download import Item
from harness.config.cards import DatasetCard
from harness.data.pictures import PictureFiles, PictureHead, unusual_pictures
from harness.data.region_store import WrittenStore
from harness.errors import count
from harness.extraction.placed_boxes import PlacedBoxes
from harness.preparation.card import CardRequest, MeasuredCard
from harness.preparation.findings import EXAMPLES, Finding, Report, Severity
from harness.terminal.output import Text, table

STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
SHORT = 12  # digits of a fingerprint that people read
ADVICE = {
    Severity.ERROR: "nothing can be scored: correct the files or the card, and look again",
    Severity.WARNING: "it can be scored; look at the warnings first, results may mean less than they seem",
    Severity.NOTE: "it can be scored",
}


def validation_page(reports: Sequence[Report]) -> Iterator[RenderableType]:
    for report in reports:
        yield from dataset_page(report)
    yield Text(last_line(reports))


def dataset_page(report: Report) -> Iterator[RenderableType]:
    mark = f"  fingerprint {report.fingerprint[:SHORT]}" if report.fingerprint else ""
    yield Text.assemble((report.dataset, "bold"), f"  {report.folder}{mark}")
    if report.splits:
        yield numbers("split", report.splits)
    if report.protocols:
        yield numbers("protocol", report.protocols)
    if report.findings:
        rows = table("", "findings")
        for one in report.findings:
            rows.add_row(Text(one.severity, style=STYLES[one.severity]), finding_text(one))
        yield rows
    yield ""


def numbers(kind: str, rows: Mapping[str, Mapping[str, int | float | str]]) -> Table:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    heads = [column.replace("_", "\n") for column in columns]
    lines = table(kind, *heads, right=heads)
    for name, row in rows.items():
        lines.add_row(Text(name, style="bold"), *(number(row.get(column, "")) for column in columns))
    return lines


def number(value: int | float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def finding_text(one: Finding) -> Text:
    location = "" if one.examples else str(one.location)
    head = " · ".join(filter(None, (one.code, one.split, location)))
    how_many = f"{one.count:,} × " if one.examples else ""
    more = ["…"] * (one.count > len(one.examples) > 0)
    body = "\n".join([f"{how_many}{one.message}", *(f"· {line}" for line in [*one.examples, *more])])
    return Text.assemble((head, "bold"), f"\n{body}")


def last_line(reports: Sequence[Report]) -> str:
    counts = sum((report.counts for report in reports), Counter[str]())
    worst = next((severity for severity in Severity if counts[severity]), Severity.NOTE)
    numbers = ", ".join(f"{counts[severity]} {severity}{'s' * (counts[severity] != 1)}" for severity in Severity)
    return f"{numbers}: {ADVICE[worst]}"


def validation_json(reports: Sequence[Report]) -> dict[str, Any]:
    counts = sum((report.counts for report in reports), Counter[str]())
    datasets = [{**asdict(report), "findings": [finding_json(one) for one in report.findings]} for report in reports]
    return {"datasets": datasets, **{f"{severity}s": counts[severity] for severity in Severity}}


def finding_json(one: Finding) -> dict[str, Any]:
    """One finding; file and entry are null where it is of no file."""
    return {
        **{"severity": str(one.severity), "code": one.code, "message": one.message, "split": one.split or None},
        **{"file": one.location.file or None, "entry": one.location.entry or None},
        **{"count": one.count, "examples": list(one.examples)},
    }


def card_json(request: CardRequest, measured: MeasuredCard) -> dict[str, Any]:
    return {
        **{"written": str(request.file), "folder": str(request.folder), "bytes": measured.size},
        **measured.card.model_dump(mode="json", include={"name", "layout", "feature_width", "max_regions", "splits"}),
    }


def card_page(request: CardRequest, measured: MeasuredCard, following: str) -> list[str]:
    """What was measured, and the command that is to follow."""
    card = measured.card
    of_split = (f"{split} {size.images:,} images, {size.captions:,} captions" for split, size in card.splits.items())
    return [
        f"{request.file} written: layout {card.layout}, {card.feature_width:,} numbers per region, at most "
        f"{card.max_regions:,} regions per image, {measured.size / 1e6:,.2f} MB in {count(len(card.files), 'file')}",
        " · ".join(of_split),
        *measured.remarks,
        f"say title, licence and origin in it; next: {following}",
    ]


def convert_page(store: WrittenStore) -> Iterator[str]:
    yield from store_page(store, "made of the same files")
    yield from store.remarks
    if store.skipped:
        yield f"{store.skipped:,} images stood in the sources once more, alike or cut, and were left out"
    if store.left_out:
        some = ", ".join(ascii(path.name)[1:-1] for path in store.left_out[:EXAMPLES])
        yield f"left out, as they are no arrays of regions: {len(store.left_out):,} files or folders, {some} first"


def convert_json(store: WrittenStore) -> dict[str, Any]:
    return {
        **store_json(store, "boxes", "sizes"),
        "skipped": store.skipped,
        "left_out": len(store.left_out),
        "remarks": list(store.remarks),
        "seconds": round(store.seconds, 3),
    }


def left_out(folder: Path, pictures: PictureFiles) -> Iterator[str]:
    if pictures.others:
        yield f"left out of {folder}, as they are no pictures: {pictures.others:,} files"


def pictures_page(heads: Mapping[str, PictureHead], placed: PlacedBoxes | None) -> Iterator[str]:
    """What becomes of pictures and of given boxes that are not as others are."""
    if odd := unusual_pictures(heads):
        yield f"converted to 8-bit RGB, of animations the first frame: {count(len(odd), 'picture')}, {odd[0]!a} first"
    if placed is None:
        return
    if placed.boxless:
        yield f"one region, as no box is given: {count(placed.boxless, 'picture')}"
    if placed.unused:
        yield f"boxes left out, as their pictures are not here: those of {count(placed.unused, 'image')}"


def extract_page(store: WrittenStore, placed: PlacedBoxes | None) -> Iterator[str]:
    origin = store.facts.origin
    unknown = "pictures of the same names; it does not say whether they have changed since"
    same = f"of the same model and {'pictures' if store.knows_sources else unknown}"
    yield from store_page(store, same, f", by {origin['class']} {origin['model']}")
    if placed is not None and placed.cut:
        yield f"cut at the edge of their pictures: {placed.cut:,} of {placed.total:,} boxes"


def extract_json(store: WrittenStore, heads: Mapping[str, PictureHead], placed: PlacedBoxes | None) -> dict[str, Any]:
    boxes = placed and {"given": placed.total, "cut": placed.cut, "boxless": placed.boxless, "unused": placed.unused}
    more = {"boxes": boxes, "converted": len(unusual_pictures(heads))}
    return {**store_json(store, "origin"), **more, "seconds": store.seconds}


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
    facts = store.facts.model_dump(include={"images", "regions", "width", "dtype", *more})
    return {"folder": str(store.folder), **facts, "bytes": store.bytes, "before": store.before}


def fetch_page(card: DatasetCard, items: list[Item]) -> Iterator[str]:
    yield f"{card.title}; licence: {card.licence}"
    for item in items:
        here = ", which is here already" * (not item.left)
        yield f"{item.address}, {decimal(item.download.bytes)}{here}"
        for target in item.download.targets:
            place = item.folder / target
            yield f"  becomes {place}" + ", in place of the file there" * place.exists()


def fetch_json(card: DatasetCard, all_items: list[Item], loaded: list[Item]) -> dict[str, Any]:
    files = {
        key: [str(item.folder / target) for item in group for target in item.download.targets]
        for key, group in (("files", all_items), ("loaded", loaded))
    }
    return {"dataset": card.name, **files}
