"""Which tracking store is meant, and whether a trial's result lies in it: what planning must know without MLflow."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from harness.addresses import shown
from harness.config.project import Config
from harness.trial.folder import read_result
from harness.trial.results import TrialResult

LOGGED = "logged.json"
SQLITE = "sqlite:///"
ENVIRONMENT = {  # of MLflow, where the user has set nothing else
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout belongs to the command line
}


def default_uri(config: Config) -> str:
    """Where results are tracked: [tracking] uri, else sqlite in the results folder; a sqlite path is absolute."""
    uri = config.tracking.uri
    if not uri:
        return f"{SQLITE}{(config.results / 'mlflow.db').as_posix()}"
    return f"{SQLITE}{config.path(Path(uri.removeprefix(SQLITE))).as_posix()}" if uri.startswith(SQLITE) else uri


def is_logged(folder: Path, uri: str) -> bool:
    """Whether the store at `uri` has the result that lies in a trial's folder."""
    mark, result = folder / LOGGED, read_result(folder)
    if result is None or not mark.is_file():
        return False
    logged = json.loads(mark.read_text(encoding="utf-8"))
    return (logged["uri"], logged["result"]) == (without_password(uri), digest(result))


def digest(result: TrialResult) -> str:
    """Differs between two results of one key, such as after --force."""
    return hashlib.sha256(result.model_dump_json().encode()).hexdigest()[:16]


def without_password(uri: str) -> str:
    """The uri of a store as it may be shown and stored."""
    return shown(uri)


def sqlite_file(uri: str) -> Path:
    """The file behind a sqlite uri."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def create_sqlite(file: Path) -> Path:
    """Make sure that a sqlite file is there, in WAL mode so that readers never wait; returns its artifact folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    return file.parent / "artifacts"
