"""Validate a dataset: files, splits, captions, regions, pictures, protocols -> a Report.

A fault does not end it: what can still be opened is checked, so that all faults are seen at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import TypeAdapter

from harness.config.cards import DatasetCard
from harness.data.cache import broken_link, checked_sha256, forget_facts, present, save
from harness.data.content import Content, Place, Reader
from harness.data.dataset import Dataset, place_of, side_files
from harness.data.split import mismatches
from harness.errors import DataError, Location
from harness.evaluation.positives import open_sets
from harness.evaluation.protocols import split_folds
from harness.files import has_folder, read_own
from harness.layouts.opening import LAYOUTS, fingerprint, open_dataset
from harness.layouts.previews import FOLDER
from harness.preparation import caption_checks, image_checks, protocol_checks
from harness.preparation.findings import Finding, Report, Severity, findings_of
from harness.preparation.region_scan import Scan, copies, scan, twins

Value = TypeVar("Value")
Steps = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]  # a bar: what for, of how many images
VERSION = 1  # of the checks that are remembered
QUICK = 2**29  # bytes of regions that take less than a second
SAMPLE = 256  # images of a split, where all are more
GRAVE = {"caption-in-two-splits", "image-in-two-splits", "image-nearly-in-two-splits", "splits-differ", "unknown-words"}
GRAVE |= {"regions-all-zero", "constant-column", "boxes-wrong", "ids-alike"}
OPENED = {"splits-differ", "regions-all-zero"}  # errors of data that can be opened all the same
TEXT_FILES = (".txt", ".jsonl")


class Validation:
    """The checks of one dataset; nothing is written but facts about its files into the cache."""

    def __init__(self, card: DatasetCard, data: Path, cache: Path, steps: Steps) -> None:
        self.card, self.data, self.cache, self.steps = card, data, cache, steps
        self.contents: dict[str, Content] = {}
        self.report = Report(card.name, str(data / card.folder))

    def run(self) -> Report:
        place = self.tried("dataset-unreadable", lambda: place_of(self.card, self.data, self.cache))
        if place is not None:
            self.look(place)
        order = list(Severity)  # errors first
        self.report.findings.sort(key=lambda finding: order.index(finding.severity))
        with suppress(DataError):  # what has no fingerprint cannot be run either
            remember(self.card, self.data, self.cache, self.report.findings)
        return self.report

    def look(self, place: Place) -> None:
        names = self.tried("dataset-unreadable", lambda: file_names(place)) or ()
        others = self.tried("dataset-unreadable", lambda: side_files(place, self.data)) or {}
        homes = dict.fromkeys(names, place) | others
        paths = [home.folder / name for name, home in homes.items()]  # some may be links to other disks
        forget_facts(self.cache, [place.folder, *paths])  # a file can change and keep its size and times
        self.look_at_files(homes)
        reader = self.tried("dataset-unreadable", lambda: LAYOUTS[self.card.layout](place))
        for split in self.card.splits:
            self.open(reader, split)
        for check in caption_checks.CHECKS:
            self.report.findings += check(self.contents)
        self.report.findings += image_checks.of_one_id(self.contents)
        self.report.findings += image_checks.of_ids_that_look_alike(self.contents)
        self.look_at_regions()
        self.look_at_pictures(place)
        if {one.code for one in self.report.findings if one.severity is Severity.ERROR} <= OPENED:
            self.tried("dataset-unreadable", self.score)

    def tried(self, code: str, call: Callable[[], Value], split: str = "") -> Value | None:
        """The value of a call; an error becomes a finding, but not a second one of one file that is absent."""
        try:
            return call()
        except DataError as error:
            message, location = error.message, error.location
        except OSError as error:
            message, location = str(error), Location(str(error.filename or ""))
        finding = Finding(Severity.ERROR, code, message, self.within(location), split=split)
        known = {(one.message, one.location) for one in self.report.findings}
        absent = {one.location.file for one in self.report.findings if one.code == "file-absent"}
        if (finding.message, finding.location) not in known and finding.location.file not in absent:
            self.report.findings.append(finding)
        return None

    def within(self, location: Location) -> Location:
        """A location with its file named from the dataset's folder, where it lies in there."""
        folder, file = Path(os.path.realpath(self.data / self.card.folder)), Path(location.file)
        if not location.file or not file.is_relative_to(folder):
            return location._replace(file=str(location.file))
        return location._replace(file="" if file == folder else str(file.relative_to(folder)))

    def look_at_files(self, homes: Mapping[str, Place]) -> None:
        """Hash every file, with a bar of bytes: large sets take minutes."""
        sizes = {name: bytes_of(home.folder / name) for name, home in homes.items()}
        with self.steps(f"{self.card.name}: hashing files", sum(sizes.values())) as advance:
            for name, size in sizes.items():
                self.look_at_file(homes[name], name)
                advance(size)

    def look_at_file(self, place: Place, name: str) -> None:
        path = place.folder / name
        self.report.files[name] = {}
        is_present = self.tried("dataset-unreadable", lambda: present(place.folder, name))
        if is_present is None:
            return
        if not is_present:
            origin = next((file.origin for file in self.card.files if file.path == name and file.origin), "")
            message = f"{path} is not there{broken_link(path)}; get it from {origin or self.card.origin}"
            self.report.findings.append(Finding(Severity.ERROR, "file-absent", message, Location(name, "")))
            return
        sha256 = self.tried("file-changed", lambda: checked_sha256(place, name))
        self.report.files[name] = {"bytes": path.stat().st_size} | ({"sha256": sha256} if sha256 else {})
        if sha256 and path.suffix in TEXT_FILES:
            self.report.findings += self.tried("dataset-unreadable", lambda: [*line_ends(path, name)]) or []

    def open(self, reader: Reader | None, split: str) -> None:
        content = self.tried("split-unreadable", lambda: reader.read(split), split) if reader else None
        if content is None:
            return
        self.contents[split] = content
        self.report.splits[split] = facts(content)
        for one in mismatches(self.card, split, content):
            location = one.location if one.location.entry else Location("", f"split {split}")
            self.report.findings.append(Finding(Severity.ERROR, one.code, one.message, location, split=split))

    def look_at_regions(self) -> None:
        scans: dict[str, Scan] = {}
        for split, content in self.contents.items():
            with self.steps(f"{self.card.name}: regions of {split}", len(content.images)) as advance:
                scans[split] = scan(content.images, advance)
            self.report.splits[split] |= numbers_of(scans[split])
            self.report.findings += image_checks.of_regions(split, content, scans[split])
            self.report.findings += image_checks.of_boxes(split, content)
        widths = {content.images.width for content in self.contents.values()}
        if len(widths) == 1:  # else that is an error already, and nothing can be compared
            self.report.findings += image_checks.of_statistics(scans)
            self.report.findings += of_likeness(self.contents, scans)

    def look_at_pictures(self, place: Place) -> None:
        if not self.tried("dataset-unreadable", lambda: has_folder(place.folder / FOLDER)):
            return
        total = sum(len(content.images) for content in self.contents.values())
        with self.steps(f"{self.card.name}: pictures", total) as advance:
            self.report.findings += image_checks.of_pictures(self.card, self.data, self.cache, self.contents, advance)

    def score(self) -> None:
        dataset = open_dataset(self.card, self.data, self.cache)
        self.report.fingerprint = dataset.fingerprint
        self.tried("encoder-unreadable", dataset.load_encoder)
        shares = {}
        for split in self.card.splits:
            tokens = dataset.split(split).tokens
            shares[split] = caption_checks.unknown_shares(tokens)
            about = {"longest_caption": int(tokens.lengths.max()), "vocabulary": len(dataset.vocabulary)}
            self.report.splits[split] |= about
            if len(shares[split]):
                self.report.splits[split]["unknown_%"] = round(100 * float(shares[split].mean()), 2)
            self.report.findings += caption_checks.of_no_known_word(split, self.contents[split], tokens)
        self.report.findings += caption_checks.of_unknown_words(shares)
        self.report.findings += protocol_checks.of_selection(self.card)
        for split in dict.fromkeys(protocol.split for protocol in self.card.protocols):
            self.tried("protocol-refused", partial(self.play, dataset, split), split)

    def play(self, dataset: Dataset, name: str) -> None:
        """The protocols of one split, each with a scorer that knows everything and one that knows nothing."""
        split = dataset.split(name)
        own = [card for card in self.card.protocols if card.split == name]
        fitting = [card for card in own if self.tried("protocol-refused", partial(split_folds, card, split), name)]
        with self.steps(f"{self.card.name}: protocols of {name}", 4 * len(split.images)) as advance:
            played = protocol_checks.play(fitting, split, advance)
        self.report.findings += protocol_checks.faults(played)
        for one in played:
            self.report.protocols[one.protocol.name] = outcome(one)
            self.report.findings += protocol_checks.of_saturation(one)
            _, note = open_sets(self.card, one.protocol.name, self.data, split)
            if note:
                about = Location("", f"protocol {one.protocol.name}")
                self.report.findings.append(Finding(Severity.NOTE, "positives-absent", note, about, split=name))


def of_likeness(contents: Mapping[str, Content], scans: Mapping[str, Scan]) -> Iterator[Finding]:
    images = {split: content.images for split, content in contents.items()}
    exact = copies(images, {split: one.marks for split, one in scans.items()})
    yield from image_checks.of_copies(contents, exact)
    yield from image_checks.of_twins(
        contents, twins(images, {name: one.signatures for name, one in scans.items()}, exact)
    )


def warnings_of(card: DatasetCard, data: Path, cache: Path) -> list[str]:
    """What makes numbers of a dataset doubtful: as its last validation found, or a quick look where there was none.

    Both are remembered under the fingerprint, so that a second call costs next to nothing.
    """
    texts = _remembered(card, data, cache)
    if texts is None:
        texts = remember(card, data, cache, quick_look(open_dataset(card, data, cache)))
    return [*texts, *map(_line, protocol_checks.of_selection(card))]


def _remembered(card: DatasetCard, data: Path, cache: Path) -> list[str] | None:
    """What was found of these files; None where that is absent or damaged."""
    return read_own(_memory(card, data, cache), TypeAdapter(list[str]).validate_json)


def remember(card: DatasetCard, data: Path, cache: Path, findings: Iterable[Finding]) -> list[str]:
    texts = [_line(one) for one in findings if one.code in GRAVE and one.severity is not Severity.NOTE]
    save(_memory(card, data, cache), json.dumps(texts))
    return texts


def _memory(card: DatasetCard, data: Path, cache: Path) -> Path:
    return cache / "validation" / f"{fingerprint(card, data, cache)[:32]}-{VERSION}.json"


def _line(one: Finding) -> str:
    count = f"{one.count:,} " if one.examples else ""
    return f"{count}{one.message}"


def quick_look(dataset: Dataset) -> Iterator[Finding]:
    """The comparison of the splits, of some images where all are many."""
    contents = {name: dataset.split(name) for name in dataset.card.splits}
    yield from caption_checks.in_two_splits(contents)
    yield from caption_checks.of_unknown_words(
        {name: caption_checks.unknown_shares(split.tokens) for name, split in contents.items()}
    )
    regions = {name: split.images for name, split in contents.items()}
    size = sum(int(own.offsets[-1]) * own.width * own.dtype.itemsize for own in regions.values())
    if size > QUICK:
        regions = {
            name: own.choose(np.linspace(0, len(own) - 1, min(SAMPLE, len(own))).astype(np.int64))
            for name, own in regions.items()
        }
    scans = {name: scan(own, lambda _: None) for name, own in regions.items()}
    yield from image_checks.of_statistics(scans)
    if size <= QUICK:
        yield from of_likeness(contents, scans)


def bytes_of(path: Path) -> int:
    """The size of a file, or of the files in a folder; 0 where there is none."""
    try:
        files = [entry for entry in path.iterdir() if entry.is_file()] if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0


def file_names(place: Place) -> list[str]:
    own = LAYOUTS[place.card.layout].files(place)
    galleries = [protocol.gallery for protocol in place.card.protocols]
    return list(dict.fromkeys(filter(None, [*own, place.card.text.vocabulary, *galleries])))


def facts(content: Content) -> dict[str, int | float | str]:
    counts = content.images.counts
    return {
        "images": len(content.images),
        "captions": len(content.captions),
        "fewest_regions": int(min(counts, default=0)),
        "most_regions": int(counts.max(initial=0)),
        "width": content.images.width,
        "type": str(content.images.dtype),
    }


def numbers_of(one: Scan) -> dict[str, float]:
    return {"mean_norm": float(f"{one.norms.mean():.4g}"), "zeros_%": round(100 * float(one.zeros.mean()), 1)}


def outcome(one: protocol_checks.Played) -> dict[str, int | float]:
    reached = {"oracle": one.oracle["rsum"], "random": one.random["rsum"], "expected_random": one.expected["rsum"]}
    return {**one.gallery, **{name: round(value, 2) for name, value in reached.items()}}


def line_ends(path: Path, name: str) -> Iterator[Finding]:
    with path.open("rb") as file:
        numbers = [number for number, line in enumerate(file, 1) if line.endswith(b"\r\n")]
    places = [(Location(name, f"line {number}"), "") for number in numbers]
    message = "lines end in CR LF, as Windows has it; they are read without"
    yield from findings_of(Severity.NOTE, "windows-line-ends", message, places)
