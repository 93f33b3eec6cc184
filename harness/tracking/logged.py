"""Which results the tracking store has: a mark in each trial's folder, and how the last command left the store."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from filecmp import cmp
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.config.project import CACHE, TRIALS
from harness.errors import StoreError
from harness.files import read_own, write_own
from harness.tracking.artifacts import ARTIFACTS
from harness.tracking.snapshot import Marks, marks
from harness.tracking.store import BUSY_SECONDS, SQLITE, digest, is_absent, sqlite_file, without_password
from harness.trial.folder import read_result

LOGGED = "logged.json"
MEMORY = "store.json"
State = tuple[int, ...]


class Mark(BaseModel):
    """What a trial's folder says of its run in the store; paths are relative to the folder, so that both may move."""

    model_config = ConfigDict(frozen=True)

    uri: str
    run_id: str
    result: str  # its digest
    campaign: str = ""
    artifacts: str = ""  # their folder, where it is one of this machine
    files: Mapping[str, State] = {}  # size and time of each artifact


class StoreMemory(BaseModel):
    """The store as a command left it, and the results that it lacked then."""

    model_config = ConfigDict(frozen=True)

    uri: str
    state: Marks
    lost: tuple[str, ...]


def is_logged(folder: Path, uri: str) -> bool:
    """Whether the store at `uri` was given the result of a trial's folder, and its artifacts are untouched."""
    mark, result = read_mark(folder), read_result(folder)
    if mark is None or result is None:
        return False
    return (mark.uri, mark.result) == (relative_uri(uri, folder), digest(result)) and has_artifacts(mark, folder)


def read_mark(folder: Path) -> Mark | None:
    """The mark of a folder; None where it is absent or damaged: then the store is asked before anything is logged."""
    return read_own(folder / LOGGED, Mark.model_validate_json)


def write_mark(folder: Path, uri: str, run_id: str, result: str, campaign: str, artifacts: Path | None) -> None:
    """Mark the result of a folder as logged."""
    present = [artifacts / name for name in ARTIFACTS if (artifacts / name).is_file()] if artifacts else []
    mark = Mark(
        uri=relative_uri(uri, folder),
        run_id=run_id,
        result=result,
        campaign=campaign,
        artifacts=os.path.relpath(artifacts, folder) if artifacts else "",
        files={file.name: state_of(file) for file in present},
    )
    write_own(folder / LOGGED, mark.model_dump_json(indent=2))


def has_artifacts(mark: Mark, folder: Path) -> bool:
    """Whether the artifacts on this machine are those that were put there; a copy of a project may have new times."""
    artifacts = folder / mark.artifacts
    try:
        return all(
            state_of(artifacts / name) == tuple(state) or cmp(artifacts / name, folder / name, shallow=False)
            for name, state in mark.files.items()
        )
    except OSError:
        return False


def state_of(file: Path) -> State:
    """Size and time of a file."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def relative_uri(uri: str, folder: Path) -> str:
    """A uri without its password; a file is named as seen from a folder, so that a project can be moved."""
    return f"{SQLITE}{os.path.relpath(sqlite_file(uri), folder)}" if uri.startswith(SQLITE) else without_password(uri)


def lost(results: Path, uri: str) -> frozenset[str]:
    """Keys of the results that were logged and that the store has no longer.

    The store is asked only where it is not as the last command has left it, which a server never tells.
    """
    memory = read_memory(results)
    if memory and memory.uri == relative_uri(uri, results) and memory.state == store_state(uri) != []:
        return frozenset(memory.lost)
    return examine(results, uri)


def read_memory(results: Path) -> StoreMemory | None:
    """What the last command has remembered of the store; None where that is absent or damaged."""
    return read_own(results / CACHE / MEMORY, StoreMemory.model_validate_json)


def examine(results: Path, uri: str) -> frozenset[str]:
    """Ask the store which logged results it has, and remember what it lacks; StoreError where it cannot be used."""
    marks_of = dict(marked(results, uri))  # before the store: what is logged meanwhile is not missed
    if not marks_of:
        return frozenset()
    settle(uri)
    state = store_state(uri)
    stored = digests(uri)
    keys = frozenset(
        folder.name
        for folder, mark in marks_of.items()
        if mark.result not in stored.get(folder.name, ()) or not has_artifacts(mark, folder)
    )
    if state:
        memory = StoreMemory(uri=relative_uri(uri, results), state=state, lost=tuple(sorted(keys)))
        with suppress(OSError):  # without it the store is asked again
            write_own(results / CACHE / MEMORY, memory.model_dump_json())
    return keys


def write_memory(results: Path, uri: str) -> None:
    """Write the memory of a store of one file, as a command leaves it."""
    if uri.startswith(SQLITE):
        with suppress(StoreError):  # then the next command asks
            examine(results, uri)


def marked(results: Path, uri: str) -> Iterator[tuple[Path, Mark]]:
    """The trials' folders whose result was logged to this store, with their marks."""
    for file in sorted((results / TRIALS).glob(f"*/{LOGGED}")):
        mark = read_mark(file.parent)
        if mark and mark.uri == relative_uri(uri, file.parent):
            yield file.parent, mark


def digests(uri: str) -> Mapping[str, set[str]]:
    """The digests of all results that the store has, by the keys of their trials."""
    from harness.tracking.result_store import ResultStore  # with MLflow, which most commands do without

    if is_absent(uri):
        return {}
    return ResultStore(uri).digests()


def store_state(uri: str) -> Marks:
    """What differs from every other state of a store that is one file; empty for a server, and where there is none."""
    return marks(sqlite_file(uri)) if uri.startswith(SQLITE) else []


def settle(uri: str) -> None:
    """Bring what was written to a database into its file, so that the end of this process does not change it."""
    if uri.startswith(SQLITE) and sqlite_file(uri).is_file():
        with suppress(sqlite3.Error), closing(sqlite3.connect(sqlite_file(uri), timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
