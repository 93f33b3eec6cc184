"""Trials on nodes that do not see the results folder: their files travel with what they report."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from harness.executors.executor import Files, Reply, Worker
from harness.files import write_atomic
from harness.trial.folder import CHECKPOINT, EPOCHS, RESULT
from harness.trial.private_folders import private_cache, private_folder, remove_left_behind, remove_private
from harness.trial.results import Assignment, EpochReport, TrialResult

MEMBERS_FILES = (CHECKPOINT, EPOCHS, RESULT)  # what a trial needs of one that it is made of


class RemoteWorker(Worker):
    """A worker without the results folder: a trial works in a folder of its node, and its files travel both ways."""

    _place: Path | None = None  # of this trial on this node, its folder and its cache where that has no other place
    _folder: Path | None = None
    _sent: dict[str, int]  # name -> ns of the last change

    @staticmethod
    def files_for(assignment: Assignment) -> Files:
        """The files of a trial's folder, none where it has not begun, and those of the trials that it is made of."""
        files = contents(assignment.folder)
        for member in members_of(assignment):
            own = contents(member.folder, MEMBERS_FILES)
            files |= {f"{member.spec.key}/{name}": data for name, data in own.items()}
        return files

    def begin(self, assignment: Assignment, files: Files) -> Reply:
        """Start a trial in a folder of this node with the files that travelled."""
        remove_left_behind()  # of workers that were killed on this node
        self._place = private_folder("node")
        self._folder = self._place / "trial"
        self._folder.mkdir()
        unpack({name: data for name, data in files.items() if "/" not in name}, self._folder)
        self._sent = changes(self._folder)
        members = tuple(self._unpacked(member, files) for member in assignment.members)
        local = assignment.model_copy(update={"folder": self._folder, "members": members})
        return super().begin(on_node(local, private_cache() or self._place / "cache"), files)

    def _unpacked(self, member: Assignment, files: Files) -> Assignment:
        """A trial that another one is made of, with its files in a folder of this node."""
        assert self._place
        folder = self._place / member.spec.key
        folder.mkdir(exist_ok=True)
        unpack({name: data for name, data in files.items() if name.startswith(f"{member.spec.key}/")}, folder)
        members = tuple(self._unpacked(one, files) for one in member.members)
        return member.model_copy(update={"folder": folder, "members": members})

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


def members_of(assignment: Assignment) -> Iterator[Assignment]:
    """The trials that one is made of, and those that these are made of."""
    for member in assignment.members:
        yield member
        yield from members_of(member)


def unpack(files: Files, folder: Path) -> None:
    """Write files into a trial's folder; the result last, because its presence means that all else is there."""
    for name in sorted(files, key=lambda name: name == RESULT):
        write_atomic(folder / Path(name).name, files[name])


def contents(folder: Path, names: Collection[str] | None = None) -> Files:
    """The files of a folder by name, of these names where some are given."""
    return {name: (folder / name).read_bytes() for name in changes(folder) if names is None or name in names}


def changes(folder: Path) -> dict[str, int]:
    """When each file of a folder was changed last, ns."""
    files = folder.iterdir() if folder.is_dir() else ()
    return {file.name: file.stat().st_mtime_ns for file in files if file.is_file() and not file.name.startswith(".")}


def on_node(assignment: Assignment, cache: Path) -> Assignment:
    """The assignment with the data and the cache of this node."""
    data = Path(os.environ.get("HARNESS_DATA", assignment.data))
    return assignment.model_copy(update={"data": data, "cache": cache})
