"""The pages and figures of searches as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.board.publishing import Published, written
from harness.config.project import STUDIES, TRIALS
from harness.search.page import Page, page
from harness.search.plots import comparison_svg, study_svg
from harness.search.study_records import Archived, read_studies
from harness.trial.folder import read_epochs
from harness.trial.results import EpochReport


def publish_searches(results: Path, folder: Path, campaign: str | None = None) -> Published:
    """Write the page and the figures of every search campaign of a results folder, or of one."""
    return written(search_files(results, campaign), folder)


def search_files(results: Path, campaign: str | None = None) -> dict[str, bytes]:
    """The page and the figures of every search campaign of a results folder, or of one, by file name."""
    campaigns: dict[str, list[Archived]] = {}
    for study in read_studies(results / STUDIES, campaign):
        campaigns.setdefault(study.campaign, []).append(study)
    files: dict[str, bytes] = {}
    for studies in campaigns.values():
        each = page(studies, epochs_of(studies, results))
        files |= {each.name: each.text.encode(), **figures_of(each)}
    return files


def epochs_of(studies: Sequence[Archived], results: Path) -> dict[str, list[EpochReport]]:
    """The epochs that the folders of their trials have, by key."""
    keys = {trial.notes["key"] for study in studies for trial in study.trials if "key" in trial.notes}
    epochs = {key: read_epochs(results / TRIALS / key) for key in sorted(keys)}
    return {key: found for key, found in epochs.items() if found}


def figures_of(page: Page) -> dict[str, bytes]:
    """The figures of a page as files."""
    comparisons = {name: comparison_svg(numbers) for name, numbers in page.comparisons.items()}
    return comparisons | {name: study_svg(numbers) for name, numbers in page.studies.items()}
