"""Shells complete commands, flags and names: the scripts are click's, the names are of the project, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_project import Call

from harness.cli.upkeep import SHELLS
from harness.config import names
from harness.config.project import load
from harness.config.registry import discover

Captured = pytest.CaptureFixture[str]
HEAVY = ("torch", "ray", "mlflow", "pandas", "pydantic", "numpy")
SCRIPT = f"""
import atexit, sys
from harness.cli.main import main
atexit.register(lambda: sys.stderr.write(' '.join(name for name in {HEAVY} if name in sys.modules)))
main()
"""


def completed(line: str, folder: Path) -> tuple[list[str], str]:
    """What is offered for the last word of a line, and which heavy libraries were imported for it."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_HARNESS_COMPLETE": "bash_complete"}
    command = [sys.executable, "-P", "-c", SCRIPT]
    done = subprocess.run(command, env={**os.environ, **words}, cwd=folder, capture_output=True, text=True)
    return [one.partition(",")[2] for one in done.stdout.split()], done.stderr


@pytest.fixture
def tried(project: Path) -> Path:
    """A project with one trial and one campaign."""
    folder = project / "runs" / "trials" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text('{"method": "vsepp", "dataset": "tiny", "seed": 3}')
    (project / "runs" / "trials" / "damaged").mkdir()
    (project / "runs" / "commands.json").write_text('{"spring": {}}')
    return project


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("harness fo", ["forget"]),
        ("harness run --methods signa", ["signalled"]),
        ("harness run --methods vsepp,signa", ["vsepp,signalled"]),
        ("harness run --methods vsepp+signa", ["vsepp+signalled"]),
        ("harness validate --dataset ti", ["tiny"]),
        ("harness describe ti", ["tiny"]),
        ("harness forget vsepp/", ["vsepp/tiny/s3"]),
        ("harness forget 012", ["0123456789abcdef"]),
        ("harness confirm s", ["spring"]),
        ("harness run --max-c", ["--max-concurrent"]),
        ("harness compare no-such", []),
    ],
)
def test_names_are_those_of_the_project_and_nothing_heavy_is_imported(
    line: str, offered: list[str], tried: Path
) -> None:
    assert completed(line, tried) == (offered, "")


def test_the_names_are_those_that_have_cards(project: Path) -> None:
    registry = discover(load())
    assert {*names.methods(names.ProjectPlace())} == {*registry.methods}
    assert {*names.datasets(names.ProjectPlace())} == {*registry.datasets}


def test_a_project_that_cannot_be_read_gives_the_built_in_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("[paths", "paths = 3", "[paths]\nresults = 3\nmethods = 4"):
        (tmp_path / "harness.toml").write_text(text)
        assert "vsepp" in names.fitting(names.results, None, "vse")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_printed_or_written_where_the_shell_looks(
    shell: str, call: Call, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("completion", shell) == 0
    script = capsys.readouterr().out
    assert "_HARNESS_COMPLETE" in script
    monkeypatch.setenv("HOME", str(tmp_path))
    assert call("completion", shell, "--install") == 0
    assert (tmp_path / SHELLS[shell][0]).read_text() == script
    assert str(tmp_path / SHELLS[shell][0]) in capsys.readouterr().out
    if program := shutil.which(shell):
        subprocess.run([program, "-n", tmp_path / SHELLS[shell][0]], check=True)
