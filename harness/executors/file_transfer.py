"""Trials on nodes that do not see the results folder: their files travel with what they report."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from harness.executors.executor import Worker
from harness.files import write_atomic
from harness.trial.folder import RESULT
from harness.trial.results import Assignment, EpochReport, TrialResult

Files = dict[str, bytes]  # of a trial's folder, by name
CACHE = "itm-cache"  # below the node's temporary folder: generated data, fingerprints


class Parcel(NamedTuple):
    """What a trial reports, with the files that it has written since."""

    outcome: EpochReport | TrialResult
    files: Files


class Courier(Worker):
    """A worker that works in a folder of its node, from files that it is handed, and hands back what changes there."""

    _folder: Path | None = None
    _sent: dict[str, int]  # name -> ns of the last change

    def start(self, assignment: Assignment, files: Files) -> Parcel:
        """Begin a trial with the files of its folder."""
        self._folder = Path(tempfile.mkdtemp(prefix="itm-trial-"))
        unpack(files, self._folder)
        self._sent = changes(self._folder)
        local = assignment.model_copy(update={"folder": self._folder})
        return self._parcel(self.begin(at_home(local)))

    def answer(self, go: bool) -> Parcel:
        """Go on with the answer to the last report."""
        return self._parcel(self.step(go))

    def _parcel(self, outcome: EpochReport | TrialResult) -> Parcel:
        assert self._folder is not None, "no trial has begun"
        now = changes(self._folder)
        files = {name: (self._folder / name).read_bytes() for name in now if self._sent.get(name) != now[name]}
        self._sent = now
        if isinstance(outcome, TrialResult):
            shutil.rmtree(self._folder, ignore_errors=True)
        return Parcel(outcome, files)


def pack(folder: Path) -> Files:
    """The files of a trial's folder, none where it has not begun."""
    return {name: (folder / name).read_bytes() for name in changes(folder)}


def unpack(files: Files, folder: Path) -> None:
    """Write files into a trial's folder; the result last, because its presence means that all else is there."""
    for name in sorted(files, key=lambda name: name == RESULT):
        write_atomic(folder / Path(name).name, files[name])


def changes(folder: Path) -> dict[str, int]:
    """When each file of a folder was changed last, ns."""
    found = folder.iterdir() if folder.is_dir() else ()
    return {file.name: file.stat().st_mtime_ns for file in found if file.is_file() and not file.name.startswith(".")}


def at_home(assignment: Assignment) -> Assignment:
    """An assignment with this node's own data and cache."""
    data = Path(os.environ.get("HARNESS_DATA", assignment.data))
    return assignment.model_copy(update={"data": data, "cache": Path(tempfile.gettempdir()) / CACHE})
