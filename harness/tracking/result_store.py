"""MLflow runs -> data frame and files: what the tracking store holds, to read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import StoreError
from harness.tracking.artifacts import local_folder
from harness.tracking.columns import expected
from harness.tracking.connection import Age, Connection, age
from harness.tracking.frame import row_of, typed
from harness.tracking.store import SQLITE, sqlite_file, without_password
from harness.trial.results import State

if TYPE_CHECKING:
    import pandas


class ResultStore:
    """Reads trials and the files that were kept of them; StoreError when the store cannot be reached."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._connection = Connection(uri)
        self._locations: dict[str, str] = {}  # of artifacts, by run

    def frame(self) -> pandas.DataFrame:
        """Every trial that was run or is expected, one row per key: its latest finished run, else its latest run.

        Columns: `TEXTS` and `INTEGERS`, parameters `settings.*` and `training.*` as `-s` takes them, `env.*`, and a
        float column per metric. A trial that never began has the state "waiting". Sorted.
        """
        planned: dict[str, dict[str, Any]] = {}
        latest: dict[str, tuple[Age, dict[str, Any]]] = {}
        with self._connection.errors():
            for parent in self._connection.runs("tags.`harness.kind` = 'campaign'"):
                planned |= expected(parent.data.tags)
            for run in self._connection.runs("tags.`harness.kind` = 'trial'"):
                self._locations[run.info.run_id] = run.info.artifact_uri
                key = run.data.tags["harness.key"]
                if key not in latest or latest[key][0] < age(run):
                    latest[key] = age(run), row_of(run)
        rows = {key: {**row, "state": State.WAITING.value} for key, row in planned.items()}
        # over what was planned, because the params of a run follow it by a moment
        rows |= {key: {**planned.get(key, {}), **row} for key, (_, row) in latest.items()}
        return typed(list(rows.values()))

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """A file that was kept of a run; None where the store has lost it."""
        with self._connection.errors():
            location = self._locations.get(run_id) or self._connection.client.get_run(run_id).info.artifact_uri
            if (folder := local_folder(location)) is not None:
                file = folder / name
                return file.read_bytes() if file.exists() else None
            repository = self._connection.artifacts(location)
            if name not in {entry.path for entry in repository.list_artifacts()}:
                return None
            with tempfile.TemporaryDirectory() as copy:
                return Path(repository.download_artifacts(name, copy)).read_bytes()


def open_store(uri: str) -> ResultStore:
    """The tracking store to read from; StoreError where nothing was ever run."""
    if uri.startswith(SQLITE) and not sqlite_file(uri).is_file():
        raise StoreError(f"there is no tracking store {without_password(uri)}; `harness run` makes it")
    return ResultStore(uri)
