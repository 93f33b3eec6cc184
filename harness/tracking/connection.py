"""The connection to a tracking store. The only module that imports MLflow."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.addresses import without_secrets
from harness.errors import StoreError
from harness.tracking.artifacts import local_folder
from harness.tracking.pages import EXPERIMENT_TAGS
from harness.tracking.store import (
    ENVIRONMENT,
    SQLITE,
    create_sqlite,
    is_damaged,
    is_folder,
    moved,
    sqlite_file,
    without_password,
)

EXPERIMENT = "harness"
ENDED = ("FINISHED", "FAILED")  # MLflow's states of a run that has a result
LONGEST = 300  # characters of a library's error
PAGE = 1000  # runs that the store is asked for at a time
FOREIGN_SCHEMA = re.compile(r"schema \(found version (\w+)|Can't locate revision identified by '(\w+)'")


class Connection:
    """MLflow's client for one store, its experiment, and a StoreError for whatever goes wrong there."""

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        """Connect, and make the store where it is a file that is not there; StoreError where it cannot be used."""
        if is_folder(uri):  # newer versions of MLflow refuse it themselves, older ones would lose runs to those
            what = f"{without_password(uri)} cannot be used: it is a folder of files, which MLflow keeps no longer"
            raise StoreError(f"the tracking store {what}; give a database or a server ([tracking] uri)")
        os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
        import alembic.util
        import mlflow
        import sqlalchemy.exc

        for name in ("alembic", "mlflow", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # StoreError says what goes wrong
        self.uri = uri
        self.entities = mlflow.entities
        self._version = mlflow.__version__
        self._exceptions = (
            *(mlflow.MlflowException, sqlalchemy.exc.SQLAlchemyError, alembic.util.CommandError),
            *(sqlite3.Error, OSError, ImportError),
        )
        with self.errors():
            if uri.startswith(SQLITE):
                artifacts = artifacts or create_sqlite(sqlite_file(uri))
            self.client = mlflow.MlflowClient(tracking_uri=uri)
            self._artifacts = artifacts
            self.experiment = self._experiment()

    def _experiment(self) -> str:
        """The id of our experiment, made where there is none; StoreError where somebody has deleted it."""
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            location = self._artifacts.absolute().as_uri() if self._artifacts else None
            return str(self.client.create_experiment(EXPERIMENT, location, EXPERIMENT_TAGS))
        if experiment.lifecycle_stage != "active":
            where = without_password(self.uri)
            raise StoreError(f"the experiment {EXPERIMENT!r} was deleted in {where}; restore it")
        return str(experiment.experiment_id)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn any error of the store into a StoreError that says what to do."""
        try:
            yield
        except self._exceptions as error:
            line = (str(self._root(error)).strip().splitlines() or [type(error).__name__])[0]
            if match := FOREIGN_SCHEMA.search(line):
                raise StoreError(self._foreign(match[1] or match[2])) from error
            what = f"{without_password(self.uri)} cannot be used: {without_secrets(line, self.uri)[:LONGEST]}"
            raise StoreError(f"the tracking store {what}; {self._remedy()}") from error

    def _remedy(self) -> str:
        """What to do about a store that cannot be used."""
        file = sqlite_file(self.uri).absolute()
        if self.uri.startswith(SQLITE) and is_damaged(file):
            return f"it is damaged: move {file} away, and the next `harness run` fills another from the trials' folders"
        advice = "finished trials are kept in their folders and logged by the next `harness run`"
        return f"{advice} once it is back ([tracking] uri)"

    def _foreign(self, schema: str) -> str:
        """What is wrong with a store whose tables are of another version of MLflow, and what to do."""
        uri, file = without_password(self.uri), sqlite_file(self.uri).absolute()
        copied, replaced = "keep a copy of it", ""
        if self.uri.startswith(SQLITE):
            copied = f"keep a copy of {file}"
            replaced = f"; or move {file} away, and the next `harness run` fills another from the trials' folders"
        return (
            f"the tracking store {uri} was written by another version of MLflow: its schema {schema} is not that of "
            f"MLflow {self._version}, which is installed here. If that version is older, {copied} and run "
            f"`mlflow db upgrade {uri}`; if it is newer, install it{replaced}"
        )

    def _root(self, error: BaseException) -> BaseException:
        """The error that the others were raised for: it says what is wrong in the fewest words."""
        below = error.__cause__ or error.__context__
        return self._root(below) if isinstance(below, self._exceptions) else error

    def runs(self, filter_string: str) -> Iterator[Any]:
        """All runs that a filter of MLflow's matches; only a page of them is in memory."""
        token: str | None = ""
        while token is not None:
            page = self.client.search_runs([self.experiment], filter_string, max_results=PAGE, page_token=token or None)
            yield from page
            token = page.token or None

    def artifact_folder(self, location: str) -> Path | None:
        """The folder of a run's artifacts, where they are files of this machine."""
        folder = local_folder(location)
        return moved(self._artifacts, folder) if folder else None

    def artifacts(self, location: str) -> Any:
        """MLflow's repository of the artifacts that lie at a location."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(location, tracking_uri=self.uri)


def age(run: Any) -> tuple[bool, int, str]:
    """Sorts runs of one key: the latest finished one is the last, else the latest."""
    return run.info.status == "FINISHED", run.info.start_time, run.info.run_id
