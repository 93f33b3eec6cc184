"""From the tracking store and the studies to the files of reports, and which of them changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from harness import report
from harness.archive import Archived, read_studies
from harness.errors import StoreError
from harness.figures import Comparison, Figure
from harness.folders import read_epochs
from harness.planning import TRIALS, Plan
from harness.plots import drawn
from harness.registry import Registry
from harness.results import EpochReport
from harness.search_report import Page, page
from harness.searching import STUDIES
from harness.store import SQLITE, sqlite_file, without_password
from harness.tracking import Tracker

Boards = Collection[tuple[str, str]]  # (dataset, protocol)


@dataclass(frozen=True)
class Published:
    """What was written, and the boards as tables."""

    files: tuple[Path, ...] = ()
    changed: frozenset[Path] = frozenset()
    tables: tuple[Table, ...] = ()

    def __add__(self, other: Published) -> Published:
        """Both."""
        return Published(self.files + other.files, self.changed | other.changed, self.tables + other.tables)


def publish(tracker: Tracker, registry: Registry, folder: Path, only: Boards | None = None) -> Published:
    """Write every board of the store, or those in `only`; a file that is the same already is left alone."""
    frame = tracker.frame()
    if only is not None:
        frame = frame[[board in only for board in zip(frame["dataset"], frame["protocol"], strict=True)]]
    pages = {name: text.encode() for name, text in report.boards(frame, registry.methods).items()}
    tables = report.tables(frame, registry.methods)
    return Published(tuple(folder / name for name in pages), _write(pages, folder), tuple(tables))


def publish_searches(results: Path, folder: Path, campaign: str | None = None) -> Published:
    """Write the page and the figures of every search campaign of a results folder, or of one."""
    campaigns: dict[str, list[Archived]] = {}
    for study in read_studies(results / STUDIES, campaign):
        campaigns.setdefault(study.campaign, []).append(study)
    files: dict[str, bytes] = {}
    for studies in campaigns.values():
        made = page(studies, epochs_of(studies, results))
        files |= {made.name: made.text.encode(), **dict(_figures(made, folder))}
    return Published(tuple(folder / name for name in files), _write(files, folder))


def epochs_of(studies: Sequence[Archived], results: Path) -> dict[str, list[EpochReport]]:
    """The epochs that the folders of their trials have, by key."""
    keys = {trial.notes["key"] for study in studies for trial in study.trials if "key" in trial.notes}
    epochs = {key: read_epochs(results / TRIALS / key) for key in sorted(keys)}
    return {key: found for key, found in epochs.items() if found}


def boards_in(plan: Plan) -> frozenset[tuple[str, str]]:
    """The boards that a plan's trials stand on."""
    return frozenset((trial.spec.dataset, trial.spec.protocol) for trial in plan.trials)


def files_of(plan: Plan, folder: Path) -> list[Path]:
    """The files of those boards, written or not."""
    return [folder / report.file_name(dataset, protocol) for dataset, protocol in sorted(boards_in(plan))]


def open_store(uri: str) -> Tracker:
    """The tracking store to read from; StoreError where nothing was ever run."""
    if uri.startswith(SQLITE) and not sqlite_file(uri).is_file():
        raise StoreError(f"there is no tracking store {without_password(uri)}; `harness run` makes it")
    return Tracker(uri)


def _figures(page: Page, folder: Path) -> Iterator[tuple[str, bytes]]:
    figures: dict[str, Figure | Comparison] = {**page.comparisons, **page.studies}
    for name, data in figures.items():
        old = folder / name
        yield name, drawn(data, old.read_bytes() if old.is_file() else b"")


def _write(files: Mapping[str, bytes], folder: Path) -> frozenset[Path]:
    """Write those that are not the same already."""
    changed = {name: data for name, data in files.items() if not _is(folder / name, data)}
    return frozenset(report.write(changed, folder))


def _is(file: Path, data: bytes) -> bool:
    return file.is_file() and file.read_bytes() == data
