"""From the tracking store to the files of the leaderboards, and which of them changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from harness import report
from harness.errors import StoreError
from harness.planning import Plan
from harness.registry import Registry
from harness.tracking import SQLITE, Tracker, sqlite_file, without_password

Boards = Collection[tuple[str, str]]  # (dataset, protocol)


@dataclass(frozen=True)
class Published:
    """What was written, and the boards as tables."""

    files: tuple[Path, ...] = ()
    changed: frozenset[Path] = frozenset()
    tables: tuple[Table, ...] = ()


def publish(tracker: Tracker, registry: Registry, folder: Path, only: Boards | None = None) -> Published:
    """Write every board of the store, or those in `only`; a file that is the same already is left alone."""
    frame = tracker.frame()
    if only is not None:
        frame = frame[[board in only for board in zip(frame["dataset"], frame["protocol"], strict=True)]]
    pages = report.boards(frame, registry.methods)
    changed = {name: text for name, text in pages.items() if not _is(folder / name, text)}
    written = report.write(changed, folder)
    tables = report.tables(frame, registry.methods)
    return Published(tuple(folder / name for name in pages), frozenset(written), tuple(tables))


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


def _is(file: Path, text: str) -> bool:
    return file.is_file() and file.read_bytes() == text.encode()
