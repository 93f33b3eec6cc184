"""The page of the Python API: its blocks run one after another, as the cells of a notebook do."""

from __future__ import annotations

import inspect
import linecache
import re
from pathlib import Path
from typing import Any

import pandas
import pytest

from harness.api.project import Project

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "python.md"


@pytest.mark.slow
def test_the_blocks_of_the_guide_run(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cells: dict[str, Any] = {"__name__": "__main__"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for number, block in enumerate(blocks):
        name = f"<cell of the guide {number}>"
        linecache.cache[name] = (len(block), None, block.splitlines(True), name)
        exec(compile(block, name, "exec"), cells)
    assert len(blocks) == 9 and isinstance(cells["project"].results(), pandas.DataFrame)
    assert "mean/tiny/s0" in {*cells["project"].results()["name"]}
    assert cells["result"].measures["rsum"] == pytest.approx(cells["trial"].measures["rsum"])
    assert capfd.readouterr().out == ""


def test_the_guide_names_every_public_method_of_a_project_and_every_argument_of_run() -> None:
    page = PAGE.read_text(encoding="utf-8")
    names = [name for name in vars(Project) if not name.startswith("_") and callable(getattr(Project, name))]
    assert len(names) > 10 and not [name for name in names if f"project.{name}(" not in page]
    arguments = {*inspect.signature(Project.run).parameters} - {"self"}
    assert not [name for name in arguments if not re.search(rf"\b{name}\b", page)]
