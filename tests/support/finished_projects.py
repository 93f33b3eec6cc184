"""Projects in which commands were run: once for all tests that begin alike, each of which gets a copy."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pytest
from dataset_files import write_files

from harness.cli.main import main
from harness.tracking.logged import write_memory

Words = Sequence[str]
Finish = Callable[..., Path]
COLUMNS = {"experiments": "artifact_location", "runs": "artifact_uri"}  # of MLflow's tables, with a folder's path


@pytest.fixture(scope="session")
def finished_projects(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Finish:
    """The folder of a project in which commands were run; nobody writes to it afterwards."""

    @cache
    def finished(*commands: tuple[str, ...], code: int, cards: tuple[tuple[str, str], ...]) -> Path:
        folder = tmp_path_factory.mktemp("finished") / "project"
        shutil.copytree(template, folder)
        write_files(folder / "cards", dict(cards))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            for words in commands:
                with pytest.raises(SystemExit) as end:
                    main(words)
                assert int(end.value.code or 0) == code
        return folder

    return finished


@pytest.fixture
def finish(project: Path, finished_projects: Finish, capsys: pytest.CaptureFixture[str]) -> Finish:
    """Make the working folder a project with such cards, in which commands were run that ended with a code."""

    def finish(*commands: Words, code: int = 0, cards: Mapping[str, str] = MappingProxyType({})) -> Path:
        source = finished_projects(*map(tuple, commands), code=code, cards=tuple(cards.items()))
        capsys.readouterr()
        shutil.copytree(source, project, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*-shm"))
        settle(project / "runs", source / "runs")
        return project

    return finish


def settle(results: Path, source: Path) -> None:
    """Make a copied store that of its own folder, as a command leaves it."""
    store = results / "mlflow.db"
    with closing(sqlite3.connect(store)) as connection, connection:
        for table, column in COLUMNS.items():
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (source.as_uri(), results.as_uri())
            )
    write_memory(results, f"sqlite:///{store}")
