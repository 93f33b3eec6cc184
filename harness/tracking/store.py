"""Which tracking store is meant: what planning must know without MLflow."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from harness.addresses import shown
from harness.config.project import Config
from harness.trial.results import TrialResult

SQLITE = "sqlite:///"
ARTIFACTS = "artifacts"  # folder of a run's files, beside the sqlite file
BUSY_SECONDS = 0.5  # that others who have a database open are waited for
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


def digest(result: TrialResult) -> str:
    """Differs between two results of one key, such as after --force."""
    return hashlib.sha256(result.model_dump_json().encode()).hexdigest()[:16]


def without_password(uri: str) -> str:
    """The uri of a store as it may be shown and stored."""
    return shown(uri)


def is_folder(uri: str) -> bool:
    """Whether a store would be a folder of files, as MLflow kept runs before it had databases."""
    return urlsplit(uri).scheme in ("", "file") and not uri.startswith("databricks")


def sqlite_file(uri: str) -> Path:
    """The file behind a sqlite uri."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def is_absent(uri: str) -> bool:
    """Whether a store is a file that is not there."""
    return uri.startswith(SQLITE) and not sqlite_file(uri).is_file()


def is_damaged(file: Path) -> bool:
    """Whether a file is no sqlite database, or one that lacks parts of itself; False where that cannot be seen."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def artifacts_of(uri: str) -> Path | None:
    """The folder of all artifacts of a sqlite store, beside its file; None of a server's."""
    return sqlite_file(uri).parent / ARTIFACTS if uri.startswith(SQLITE) else None


def moved(artifacts: Path | None, folder: Path) -> Path:
    """A run's folder of artifacts, of which a database keeps the absolute path that it had at first."""
    return Path(artifacts, *folder.parts[-2:]) if artifacts else folder


def create_sqlite(file: Path) -> Path:
    """Make sure that a sqlite file is there, in WAL mode so that readers never wait; returns its artifact folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as connection:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:  # while others have it open it stays as it is, and works
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
    return file.parent / ARTIFACTS
