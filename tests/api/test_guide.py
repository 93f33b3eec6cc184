"""The page of the Python API: its blocks run one after another, as the cells of a notebook do."""

from __future__ import annotations

import linecache
import re
from pathlib import Path
from typing import Any

import pandas
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "python.md"


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
