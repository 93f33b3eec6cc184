"""The files that the tracking store keeps of a trial."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from harness.diagnostics.looks import LOOKS, StoredLooks, parse_looks
from harness.evaluation.records import RANKINGS, RANKS, TrialRankings, TrialRanks, read_rankings, read_ranks
from harness.files import read_own, write_own
from harness.trial.folder import EPOCHS, RESULT, SPEC, TRACEBACK
from harness.trial.results import EpochReport, TrialResult, TrialSpec

ENVIRONMENT = "environment.json"
ARTIFACTS = (SPEC, RESULT, EPOCHS, RANKS, RANKINGS, LOOKS, TRACEBACK)
PARSERS: dict[str, Callable[[bytes], object]] = {
    SPEC: TrialSpec.model_validate_json,
    RESULT: TrialResult.model_validate_json,
    EPOCHS: lambda text: [*map(EpochReport.model_validate_json, text.splitlines())] or None,
    RANKS: read_ranks,
    RANKINGS: read_rankings,
    LOOKS: parse_looks,
}
Read = Callable[[str, str], bytes | None]  # the bytes of a run's file, by the run's id and the file's name


def collect(result: TrialResult, folder: Path, destination: Path) -> None:
    """Copy the files of a trial's folder that the store keeps into another folder, or a damaged one back from there."""
    for name in ARTIFACTS:
        ours, theirs = folder / name, destination / name
        if is_whole(ours):
            write_own(theirs, ours.read_bytes())
        elif is_whole(theirs):
            write_own(ours, theirs.read_bytes())
    write_own(destination / ENVIRONMENT, json.dumps(result.environment, indent=2))


def is_whole(file: Path) -> bool:
    """Whether a file of a trial can be read as what its name says."""
    return file.is_file() and read_own(file, PARSERS.get(file.name, bytes.decode)) is not None


def local_folder(location: str) -> Path | None:
    """The folder of artifacts that are files of this machine: through MLflow each file takes a millisecond more."""
    return Path(url2pathname(urlsplit(location).path)) if location.startswith("file:") else None


def ranks(read: Read, run: str, ties: bool = False) -> TrialRanks | None:
    """A run's ranks; None where they are gone, damaged, or lack the ties."""
    return read_ranks(read(run, RANKS), ties)


def rankings(read: Read, run: str, scores: bool = False) -> TrialRankings | None:
    """A run's rankings; None where they are gone, damaged, or lack the scores."""
    return read_rankings(read(run, RANKINGS), scores)


def looks(read: Read, run: str) -> StoredLooks:
    """The further looks that were kept of a run; empty where there are none that can be read."""
    try:
        return parse_looks(read(run, LOOKS) or b"{}")
    except ValueError:
        return StoredLooks()


def epochs(read: Read, run: str) -> tuple[EpochReport, ...]:
    """A run's epochs."""
    text = read(run, EPOCHS) or b""
    try:
        return tuple(EpochReport.model_validate_json(line) for line in text.splitlines())
    except ValueError:
        return ()
