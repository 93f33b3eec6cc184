"""The files that the tracking store keeps of a trial."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from harness.evaluation.records import RANKINGS, RANKS, TrialRankings, TrialRanks, read_rankings, read_ranks
from harness.trial.folder import EPOCHS, RESULT, SPEC, TRACEBACK
from harness.trial.results import EpochReport, TrialResult

ENVIRONMENT = "environment.json"
ARTIFACTS = (SPEC, RESULT, EPOCHS, RANKS, RANKINGS, TRACEBACK)
Read = Callable[[str, str], bytes | None]  # the bytes of a run's file, by the run's id and the file's name


def collect(result: TrialResult, folder: Path, destination: Path) -> None:
    """Copy the files of a trial's folder that the store keeps into another folder."""
    destination.mkdir(parents=True, exist_ok=True)
    for path in (folder / name for name in ARTIFACTS):
        if path.is_file():
            shutil.copyfile(path, destination / path.name)
    (destination / ENVIRONMENT).write_text(json.dumps(result.environment, indent=2), encoding="utf-8")


def local_folder(location: str) -> Path | None:
    """The folder of artifacts that are files of this machine: through MLflow each file takes a millisecond more."""
    return Path(url2pathname(urlsplit(location).path)) if location.startswith("file:") else None


def ranks(read: Read, run: str, ties: bool = False) -> TrialRanks | None:
    """A run's ranks; None where they are gone, damaged, or lack the ties."""
    return read_ranks(read(run, RANKS), ties)


def rankings(read: Read, run: str, scores: bool = False) -> TrialRankings | None:
    """A run's rankings; None where they are gone, damaged, or lack the scores."""
    return read_rankings(read(run, RANKINGS), scores)


def epochs(read: Read, run: str) -> tuple[EpochReport, ...]:
    """A run's epochs."""
    text = read(run, EPOCHS) or b""
    try:
        return tuple(EpochReport.model_validate_json(line) for line in text.splitlines())
    except ValueError:
        return ()
