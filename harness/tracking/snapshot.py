"""What a store that is one sqlite file held when it was read last, so that reading it again needs no MLflow.

MLflow takes seconds to import and to read a store. The copy lies in the results folder's cache and counts for the very
file that was read: size, times and inode of the database and of its write-ahead log are part of it. It may be deleted
at any time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from harness.config.project import CACHE
from harness.files import read_own, write_own
from harness.tracking.store import SQLITE, sqlite_file

FORMAT = 1  # raised where the lists below change
STEADY_SECONDS = 2  # since the last write: a later one has another time then, however coarse the clock of the files
FINE_SECONDS = 0.1  # instead, where the file system counts time more finely than COARSE
COARSE = 10_000_000  # ns
Marks = list[list[int]]


class RunInfo(NamedTuple):
    run_id: str
    run_name: str
    status: str
    start_time: int
    end_time: int | None
    artifact_uri: str


class RunData(NamedTuple):
    tags: dict[str, str]
    metrics: dict[str, float]


class KeptRun(NamedTuple):
    """A run with the names that MLflow has for its parts."""

    info: RunInfo
    data: RunData


def kept_runs(uri: str) -> list[KeptRun] | None:
    """The runs of a store from its copy; None where it was written since, or has none."""
    if not uri.startswith(SQLITE):
        return None
    database = sqlite_file(uri)
    return copied(copy_of(database), marks(database))


def read_runs(uri: str, read: Callable[[], Iterable[Any]]) -> list[KeptRun]:
    """The runs of a store that MLflow reads; copied where nothing was written meanwhile or a moment before."""
    database = sqlite_file(uri) if uri.startswith(SQLITE) else None
    before = steady_marks(database) if database else []
    runs = [stored(run) for run in read()]
    if database and before and before == marks(database):
        save(copy_of(database), before, runs)
    return runs


def copy_of(database: Path) -> Path:
    return database.parent / CACHE / f"{database.name}.json"


def stored(run: Any) -> KeptRun:
    """A run of MLflow's."""
    info = RunInfo(*(getattr(run.info, name) for name in RunInfo._fields))
    return KeptRun(info, RunData(dict(run.data.tags), dict(run.data.metrics)))


def marks(database: Path) -> Marks:
    """What tells one state of a database from every other; empty where there is none. An empty log says nothing."""
    states = [mark(file) for file in (database, database.with_name(f"{database.name}-wal"))]
    return [state for state in states if state and state[1]]


def mark(file: Path) -> list[int]:
    """Inode, size and times of a file; empty where there is none."""
    try:
        state = file.stat()
    except OSError:
        return []
    return [state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def steady_marks(database: Path) -> Marks:
    """The marks of a database; empty where it was written a moment ago, unless a short wait settles that."""
    states = marks(database)
    if not is_steady(states) and is_fine(states):
        time.sleep(FINE_SECONDS)  # little beside what MLflow takes
        states = marks(database)
    return states if is_steady(states) else []


def is_steady(marks: Marks) -> bool:
    """Whether nothing was written a moment ago."""
    newest: int = max((max(mark[2:]) for mark in marks if mark), default=0)
    return time.time() - newest / 1e9 > (FINE_SECONDS if is_fine(marks) else STEADY_SECONDS)


def is_fine(marks: Marks) -> bool:
    """Whether the times of files have digits that a coarse clock leaves out."""
    return all(time % COARSE for mark in marks for time in mark[2:])


def copied(copy: Path, marks: Marks) -> list[KeptRun] | None:
    """The runs of a copy; None where there is none of this state of the store, or none that can be read."""

    def parse(data: bytes) -> list[KeptRun] | None:
        content = json.loads(data)
        if (content["format"], content["marks"]) != (FORMAT, marks):
            return None
        return [KeptRun(RunInfo(*info), RunData(*data)) for info, data in content["runs"]]

    return read_own(copy, parse)


def save(copy: Path, marks: Marks, runs: Sequence[KeptRun]) -> None:
    """Keep runs; a results folder that cannot be written does without."""
    with suppress(OSError):
        write_own(copy, json.dumps({"format": FORMAT, "marks": marks, "runs": runs}))
