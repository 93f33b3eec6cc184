"""Trials on nodes that do not see the results folder: their files travel with what they report."""

from __future__ import annotations

import os
from pathlib import Path

from harness.executors.executor import Files, Reply, Worker
from harness.files import write_atomic
from harness.trial.folder import RESULT
from harness.trial.private_folders import private_cache, private_folder, remove_left_behind, remove_private
from harness.trial.results import Assignment, EpochReport, TrialResult


class RemoteWorker(Worker):
    """A worker without the results folder: a trial works in a folder of its node, and its files travel both ways."""

    _place: Path | None = None  # of this trial on this node, its folder and its cache where that has no other place
    _folder: Path | None = None
    _sent: dict[str, int]  # name -> ns of the last change

    @staticmethod
    def files_for(folder: Path) -> Files:
        """The files of a trial's folder, none where it has not begun."""
        return {name: (folder / name).read_bytes() for name in changes(folder)}

    def begin(self, assignment: Assignment, files: Files) -> Reply:
        """Start a trial in a folder of this node with the files that travelled."""
        remove_left_behind()  # of workers that were killed on this node
        self._place = private_folder("node")
        self._folder = self._place / "trial"
        self._folder.mkdir()
        unpack(files, self._folder)
        self._sent = changes(self._folder)
        local = assignment.model_copy(update={"folder": self._folder})
        return super().begin(on_node(local, private_cache() or self._place / "cache"), files)

    def _advance(self, go: bool | None) -> Reply:
        return self._reply(super()._advance(go).outcome)

    def _reply(self, outcome: EpochReport | TrialResult) -> Reply:
        """An outcome with the files that have changed since the last one."""
        assert self._folder and self._place, "no trial has begun"
        now = changes(self._folder)
        files = {name: (self._folder / name).read_bytes() for name in now if self._sent.get(name) != now[name]}
        self._sent = now
        if isinstance(outcome, TrialResult):
            remove_private(self._place)
        return Reply(outcome, files)


def unpack(files: Files, folder: Path) -> None:
    """Write files into a trial's folder; the result last, because its presence means that all else is there."""
    for name in sorted(files, key=lambda name: name == RESULT):
        write_atomic(folder / Path(name).name, files[name])


def changes(folder: Path) -> dict[str, int]:
    """When each file of a folder was changed last, ns."""
    files = folder.iterdir() if folder.is_dir() else ()
    return {file.name: file.stat().st_mtime_ns for file in files if file.is_file() and not file.name.startswith(".")}


def on_node(assignment: Assignment, cache: Path) -> Assignment:
    """The assignment with the data and the cache of this node."""
    data = Path(os.environ.get("HARNESS_DATA", assignment.data))
    return assignment.model_copy(update={"data": data, "cache": cache})
