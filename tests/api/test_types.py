"""A typed script of a user: mypy knows what the calls of the API take and give."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import harness

project = harness.open(".")
trials = project.run(["vsepp"], "tiny", seeds=[0], here=True, progress=print)
name: str = trials[0].name
verdict: str = project.compare("vsepp", "chance")[0].verdict
bounds: tuple[float, float] = harness.evaluate([[1.0]], "tiny").intervals["rsum"]
project.plot("tiny").save("board.png")
"""
# Without the libraries of the harness, whose analysis takes minutes.
OPTIONS = "[mypy]\nfollow_imports = silent\nignore_missing_imports = True\nno_site_packages = True\n"


def test_a_script_is_checked_by_its_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "right.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(SCRIPT.replace("name: str = trials[0].name", "name: int = trials[0].name"))
    (tmp_path / "mypy.ini").write_text(OPTIONS)
    words = [sys.executable, "-m", "mypy", "right.py", "wrong.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    end = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    lines = [line for line in end.stdout.splitlines() if "error" in line and line.startswith(("right", "wrong"))]
    assert len(lines) == 1 and lines[0].startswith("wrong.py:6:"), end.stdout + end.stderr
