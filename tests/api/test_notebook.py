"""The worked notebook of the guide: its cells run one after another, and each shows what its stored output shows."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

FILE = Path(__file__).parents[2] / "docs" / "guide" / "notebook.ipynb"
PNG = b"\x89PNG"


def shown(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last expression, which a notebook shows."""
    *body, last = ast.parse(source).body
    exec(compile(ast.Module(body if isinstance(last, ast.Expr) else [*body, last], []), "<cell>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if isinstance(last, ast.Expr) else None


def forms(value: Any) -> set[str]:
    """The MIME types in which a notebook would show a value."""
    methods = {"_repr_html_": "text/html", "_repr_png_": "image/png"}
    return {"text/plain", *(form for name, form in methods.items() if hasattr(value, name))}


def test_the_notebook_of_the_guide_runs_and_is_short(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cells = [cell for cell in json.loads(FILE.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    assert len([line for source in sources for line in source.splitlines() if line.strip()]) <= 25
    names: dict[str, Any] = {"__name__": "__main__"}
    values = [shown(source.replace('"scenes"', '"tiny"'), names) for source in sources]
    for cell, value in zip(cells, values, strict=True):
        stored = [set(output["data"]) for output in cell["outputs"]]
        assert stored == ([] if value is None else [forms(value)])
    assert all(trial.is_done for trial in names["trials"]) and names["trials"][0].name in values[1]._repr_html_()
    assert values[3]._repr_png_().startswith(PNG) and values[-1]._repr_png_().startswith(PNG)
    assert capfd.readouterr().out == ""
