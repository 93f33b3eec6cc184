"""A folder that git ignores, for pages with pictures and captions which may be licensed for research only."""

from __future__ import annotations

from pathlib import Path

from harness.config.cards import DatasetCard
from harness.errors import StoreError
from harness.files import write_atomic

FOLDER = "private"  # below that of the reports
REASON = "pictures and captions may be licensed for research only; publish a page only where the licence allows it"
IGNORE = f"# Git ignores all files here: {REASON}.\n*\n"


def is_private(card: DatasetCard) -> bool:
    """Whether pages show what others made: of every dataset but those that the project itself generates."""
    return bool(card.folder)


def private_folder(reports: Path) -> Path:
    """The folder, made with its .gitignore if need be; one that somebody has changed stays as it is."""
    folder = reports / FOLDER
    try:
        if not (folder / ".gitignore").exists():
            write_atomic(folder / ".gitignore", IGNORE)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error}; set [paths] reports") from error
    return folder
