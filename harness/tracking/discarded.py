"""Files of artifacts whose run is deleted or gone from the tracking store."""

from __future__ import annotations

import re
from pathlib import Path

from harness.tracking.connection import Connection
from harness.tracking.store import artifacts_of, is_absent, sqlite_file

RUN = re.compile(r"[0-9a-f]{32}")  # an id of MLflow's, which names the folder of a run's artifacts
BESIDE = ("-wal", "-shm", "-journal")  # end the names of files of one database


def discarded_artifacts(uri: str) -> list[Path]:
    """The folders of artifacts beside a sqlite store that none of its runs has.

    None of a server's, which `mlflow gc` takes care of, and none where another database beside it may have them.
    """
    folder, database = artifacts_of(uri), sqlite_file(uri)
    if folder is None or is_absent(uri) or not folder.is_dir():
        return []
    others = [file for file in database.parent.glob("*.db*") if not file.name.endswith(BESIDE) and file != database]
    if others:
        return []
    connection = Connection(uri)
    with connection.errors():
        logged = {run.info.run_id for run in connection.runs("")}
    return [entry for entry in sorted(folder.iterdir()) if RUN.fullmatch(entry.name) and entry.name not in logged]
