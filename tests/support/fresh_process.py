"""Commands in processes of their own, forked from one that has imported the heavy libraries and opened no file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from harness.cli.main import main

HEAVY = ["torch", "mlflow", "mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store", "pandas"]
DRAWING = ["matplotlib.figure", "matplotlib.backends.backend_svg"]
Fresh = Callable[..., subprocess.CompletedProcess[str]]


def command(words: tuple[str, ...], folder: Path, streams: tuple[Path, Path]) -> None:
    """Run a command line in a folder, with stdout and stderr in files."""
    os.chdir(folder)
    for number, file in enumerate(streams, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    main(words)


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """Run a command line as a process that knows nothing of this one: MLflow keeps a deleted database open."""
    context = get_context("forkserver")
    context.set_forkserver_preload([*HEAVY, *DRAWING])

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        place = tmp_path_factory.mktemp("streams")
        streams = (place / "out", place / "err")
        process = context.Process(target=command, args=(words, Path.cwd(), streams))
        process.start()
        process.join()
        assert process.exitcode is not None
        return subprocess.CompletedProcess(words, process.exitcode, *(file.read_text() for file in streams))

    return run
