"""A tracking store that another version of MLflow wrote ends every command that opens it in one line of ours."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sample_results import log_ranked
from tiny_project import Call

from harness.tracking.tracker import Tracker

Captured = pytest.CaptureFixture[str]
OLDER, NEWER = "1b5f0d9ad7c1", "ffffffffffff"  # revisions of MLflow's tables
COMMANDS = [
    ("report",),
    ("report", "--check"),
    ("compare", "good", "worse"),
    ("export", "--format", "csv"),
    ("reproduce", "good/scenes/s0"),
    ("forget", "good", "-y"),
    ("run", "--here", "--methods", "chance"),
    ("search", "--here", "--methods", "chance"),
]


def rewrite(project: Path, revision: str, statement: str = "") -> Path:
    """Give the project's store the tables of another version."""
    database = project / "runs" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        if statement:
            connection.execute(statement)
        connection.commit()
    return database


@pytest.fixture
def stored(project: Path, migrated_store: Path, capsys: Captured) -> Path:
    """A project with a store that MLflow has not opened at this place, where it would not look at its schema again."""
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(migrated_store, elsewhere)
    tracker = Tracker(f"sqlite:///{elsewhere / 'mlflow.db'}")
    for method in ("good", "worse"):
        log_ranked(tracker, elsewhere, method, 0, worst=4)
    shutil.copytree(elsewhere, project / "runs", dirs_exist_ok=True)
    capsys.readouterr()
    return project


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_store_of_another_mlflow_is_told_with_its_file_and_what_to_do(
    stored: Path, call: Call, capsys: Captured, words: tuple[str, ...]
) -> None:
    database = rewrite(stored, NEWER)
    assert call(*words) == 6
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the tracking store sqlite:///{database} was written by another version of MLflow" in line
    assert f"its schema {NEWER} is not that of MLflow 3." in line
    assert f"`mlflow db upgrade sqlite:///{database}`" in line and f"move {database} away" in line
    assert "downtime" not in line, "MLflow's own advice"


@pytest.mark.parametrize(("revision", "statement"), [(OLDER, ""), (NEWER, "DROP TABLE webhooks")])
def test_an_older_store_and_a_newer_one_that_lacks_a_table_are_told_alike(
    stored: Path, call: Call, capsys: Captured, revision: str, statement: str
) -> None:
    rewrite(stored, revision, statement)
    assert call("report") == 6
    assert f"its schema {revision} is not that of MLflow 3." in capsys.readouterr().err
    assert not list((stored / "runs").glob("harness-error-*")), "no fault of harness"


def test_status_warns_of_such_a_store_and_shows_what_the_folders_have(
    stored: Path, call: Call, capsys: Captured
) -> None:
    rewrite(stored, NEWER)
    assert call("status", "--methods", "chance") == 0
    assert "warning: the tracking store" in (err := capsys.readouterr().err) and "another version of MLflow" in err
