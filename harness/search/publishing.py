"""The pages and figures of searches as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.board.publishing import Published, written
from harness.config.project import Config
from harness.search.optuna_study import read_studies
from harness.search.page import search_page
from harness.search.plots import comparison_svg, study_svg
from harness.search.study_records import StudyRecord
from harness.trial.folder import read_epochs
from harness.trial.results import EpochReport


def publish_searches(config: Config, campaign: str | None = None) -> Published:
    return written(search_files(config, campaign), config.reports)


def search_files(config: Config, campaign: str | None = None) -> dict[str, bytes]:
    """The page and the figures of every search campaign of a results folder, or of one, by file name."""
    campaigns: dict[str, list[StudyRecord]] = {}
    for study in read_studies(config.studies, campaign):
        campaigns.setdefault(study.campaign, []).append(study)
    files: dict[str, bytes] = {}
    for studies in campaigns.values():
        page = search_page(studies, epochs_of(studies, config.trials))
        files[page.name] = page.text.encode()
        files |= {name: comparison_svg(numbers) for name, numbers in page.comparisons.items()}
        files |= {name: study_svg(numbers) for name, numbers in page.studies.items()}
    return files


def epochs_of(studies: Sequence[StudyRecord], trials: Path) -> dict[str, list[EpochReport]]:
    keys = {trial.notes["key"] for study in studies for trial in study.trials if "key" in trial.notes}
    epochs = {key: read_epochs(trials / key) for key in sorted(keys)}
    return {key: reports for key, reports in epochs.items() if reports}
