"""MLflow runs -> data frame and files: what the tracking store holds, to read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import StoreError
from harness.tracking.artifacts import local_folder
from harness.tracking.columns import expected
from harness.tracking.connection import Age, Connection, age
from harness.tracking.frame import row_of, typed
from harness.tracking.snapshot import KeptRun, kept_runs, read_runs
from harness.tracking.store import SQLITE, sqlite_file, without_password
from harness.trial.results import State

if TYPE_CHECKING:
    import pandas


class ResultStore:
    """Reads trials and the files that were kept of them; StoreError when the store cannot be reached."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._locations: dict[str, str] = {}  # of artifacts, by run

    @cached_property
    def _connection(self) -> Connection:
        return Connection(self.uri)

    def _runs(self) -> list[KeptRun]:
        """Campaigns and trials."""
        if (runs := kept_runs(self.uri)) is not None:
            return runs
        connection = self._connection  # opening it may write

        def read() -> Iterator[Any]:
            with connection.errors():
                yield from connection.runs("tags.`harness.kind` = 'campaign'")
                yield from connection.runs("tags.`harness.kind` = 'trial'")

        return read_runs(self.uri, read)

    def frame(self) -> pandas.DataFrame:
        """Every trial that was run or is expected, one row per key: its latest finished run, else its latest run.

        Columns: `TEXTS` and `INTEGERS`, parameters `settings.*` and `training.*` as `-s` takes them, `env.*`, and a
        float column per metric. A trial that never began has the state "waiting". Sorted.
        """
        planned: dict[str, dict[str, Any]] = {}
        latest: dict[str, tuple[Age, dict[str, Any]]] = {}
        for run in self._runs():
            if run.data.tags["harness.kind"] == "campaign":
                planned |= expected(run.data.tags)
                continue
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
        if (folder := local_folder(self._locations.get(run_id, ""))) is not None:
            return self._read(folder / name)
        with self._connection.errors():
            location = self._locations.get(run_id) or self._connection.client.get_run(run_id).info.artifact_uri
            if (folder := local_folder(location)) is not None:
                return self._read(folder / name)
            repository = self._connection.artifacts(location)
            if name not in {entry.path for entry in repository.list_artifacts()}:
                return None
            with tempfile.TemporaryDirectory() as copy:
                return Path(repository.download_artifacts(name, copy)).read_bytes()

    def _read(self, file: Path) -> bytes | None:
        try:
            return file.read_bytes() if file.exists() else None
        except OSError as error:
            raise StoreError(f"the tracking store's {file} cannot be read: {error}; see to its rights") from error


def open_store(uri: str) -> ResultStore:
    """The tracking store to read from; StoreError where nothing was ever run."""
    if uri.startswith(SQLITE) and not sqlite_file(uri).is_file():
        raise StoreError(f"there is no tracking store {without_password(uri)}; `harness run` makes it")
    return ResultStore(uri)
