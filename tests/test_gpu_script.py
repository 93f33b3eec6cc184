"""The script of `make gpu` runs on a CPU at toy size, so that a machine with a GPU only has to measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from gpu import PARTS, USUAL

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_the_gpu_script_rehearses_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--rehearse", "--parts", "large,reads", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "speed-gpu.json").read_text())
    assert {row["path"] for row in parts["speed"]} == {"torch", "textbook", "floor", "kernel"}
    assert all(row["seconds"] for row in parts["speed"])
    assert {row["task"] for row in parts["speed"]} == {"score", "ranks", "to ranks"}
    assert len(parts["reads"]) == 10
    assert "| bfan_equal | score | 4 x 12" in (tmp_path / "speed-gpu.md").read_text()
    assert not parts["problems"]


def test_the_gpu_script_ends_within_eight_minutes() -> None:
    assert sum(PARTS[part] for part in USUAL) <= 480
