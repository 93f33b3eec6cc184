"""The pages and figures of searches as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.board.publishing import Published, written
from harness.config.project import STUDIES, TRIALS
from harness.search.figures import Comparison, Figure
from harness.search.page import Page, page
from harness.search.plots import drawn
from harness.search.study_records import Archived, read_studies
from harness.trial.folder import read_epochs
from harness.trial.results import EpochReport


def publish_searches(results: Path, folder: Path, campaign: str | None = None) -> Published:
    """Write the page and the figures of every search campaign of a results folder, or of one."""
    return written(search_files(results, folder, campaign), folder)


def search_files(results: Path, folder: Path, campaign: str | None = None) -> dict[str, bytes]:
    """The page and the figures of every search campaign of a results folder, or of one, by file name."""
    campaigns: dict[str, list[Archived]] = {}
    for study in read_studies(results / STUDIES, campaign):
        campaigns.setdefault(study.campaign, []).append(study)
    files: dict[str, bytes] = {}
    for studies in campaigns.values():
        made = page(studies, epochs_of(studies, results))
        files |= {made.name: made.text.encode(), **dict(_figures(made, folder))}
    return files


def epochs_of(studies: Sequence[Archived], results: Path) -> dict[str, list[EpochReport]]:
    """The epochs that the folders of their trials have, by key."""
    keys = {trial.notes["key"] for study in studies for trial in study.trials if "key" in trial.notes}
    epochs = {key: read_epochs(results / TRIALS / key) for key in sorted(keys)}
    return {key: found for key, found in epochs.items() if found}


def _figures(page: Page, folder: Path) -> Iterator[tuple[str, bytes]]:
    figures: dict[str, Figure | Comparison] = {**page.comparisons, **page.studies}
    for name, data in figures.items():
        old = folder / name
        yield name, drawn(data, old.read_bytes() if old.is_file() else b"")
