"""The files that the tracking store keeps of a trial."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from harness.evaluation.records import RANKINGS, RANKS
from harness.trial.folder import EPOCHS, RESULT, SPEC, TRACEBACK
from harness.trial.results import TrialResult

ENVIRONMENT = "environment.json"
ARTIFACTS = (SPEC, RESULT, EPOCHS, RANKS, RANKINGS, TRACEBACK)


def gather(result: TrialResult, folder: Path, place: Path) -> None:
    """Copy what is kept of a trial into one folder."""
    place.mkdir(parents=True, exist_ok=True)
    for path in (folder / name for name in ARTIFACTS):
        if path.is_file():
            shutil.copyfile(path, place / path.name)
    (place / ENVIRONMENT).write_text(json.dumps(result.environment, indent=2), encoding="utf-8")


def local_folder(place: str) -> Path | None:
    """Where artifacts lie that are files of this machine: MLflow's own way takes a millisecond for each."""
    return Path(url2pathname(urlsplit(place).path)) if place.startswith("file:") else None
