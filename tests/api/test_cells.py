"""A method that a notebook's cell defines: registered, run, changed, and what is wrong with one named."""

from __future__ import annotations

import linecache
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tiny_project import METHOD

import harness
from harness.errors import ConfigError


def run_cell(source: str, name: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run source as IPython runs a cell, in new names or given ones: its lines are known by a made-up file name."""
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    namespace: dict[str, Any] = {"__name__": "__main__"} if names is None else names
    python = "\n".join("" if line.startswith("%") else line for line in source.split("\n"))
    exec(compile(python, name, "exec"), namespace)
    return namespace


@pytest.mark.slow
def test_a_method_of_a_cell_is_run_and_a_changed_one_is_another(project: Path) -> None:
    opened = harness.open(project)
    cell = METHOD + "\nSTARTED = []\nSTARTED.append(print)\n"
    card = opened.register(run_cell(cell, "<cell-1>")["Faulty"], {"name": "mine"})
    assert card.defaults == {"dim": 8, "fault": "", "after": 0} and card.fidelity == "baseline"
    settings = {"training.epochs": 1, "settings.mine.dim": 4}
    (trial,) = opened.run("mine", settings=settings, here=True)
    assert trial.is_done and trial.settings["dim"] == 4
    opened.register(run_cell(cell.replace("+ 1).mean()", "+ 9).mean()"), "<cell-2>")["Faulty"], {"name": "mine"})
    (changed,) = opened.run("mine", settings=settings, here=True)
    assert changed.key != trial.key and changed.epochs()["loss"][0] > 2 * trial.epochs()["loss"][0]


def test_what_is_wrong_with_a_method_of_a_cell_is_named(project: Path) -> None:
    opened = harness.open(project)
    method = run_cell(METHOD, "<cell-3>")["Faulty"]
    with pytest.raises(ConfigError, match="name"):
        opened.register(method, {"name": "Not a name"})
    with pytest.raises(ConfigError, match="scoring"):
        opened.register(method, {"name": "mine", "scoring": "magic"})
    with pytest.raises(ConfigError, match=r"a subclass of harness\.method\.Method, not a str"):
        opened.register("mine", {"name": "mine"})  # type: ignore[arg-type]
    inside = f"def make():\n{textwrap.indent(METHOD, '    ')}\n    return Faulty\nFaulty = make()\n"
    with pytest.raises(ConfigError, match="Faulty is defined inside a function; define it at the top of a cell"):
        opened.register(run_cell(inside, "<cell-6>")["Faulty"], {"name": "mine"})


@pytest.mark.slow
def test_a_class_may_use_what_other_cells_define(project: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    imports, body = METHOD.split("class Faulty")
    run_cell(f"{imports}import functools as ft\nUNIT = 1\n", "<cell-7>", names)
    run_cell("@ft.cache\ndef one(by=UNIT):\n    return int(by)\n\ndef same(cls):\n    return cls\n", "<cell-8>", names)
    run_cell(f"%matplotlib inline\n@same\nclass Faulty{body.replace('+ 1).mean', '+ one()).mean')}", "<cell-9>", names)
    opened = harness.open(project)
    opened.register(names["Faulty"], {"name": "mine"})
    text = (project / "runs" / "written" / "mine.py").read_text()
    assert "import functools as ft" in text and text.index("UNIT = 1") < text.index("def one") < text.index(
        "class Faulty("
    )
    (trial,) = opened.run("mine", settings={"training.epochs": 1}, here=True)
    assert trial.is_done


def test_what_cannot_be_written_is_refused_by_name(project: Path) -> None:
    opened = harness.open(project)
    for before, message in (
        ("unit = object()", "Faulty uses unit, a value of type object, which cannot be written"),
        ("unit = (lambda: lambda: 1)()", "the source of unit is not known; define it by def or class"),
        ("", "Faulty uses unit, which is not defined; import or define it in a cell"),
    ):
        cell = f"{before}\n{METHOD.replace('+ 1).mean', '+ unit()).mean')}"
        with pytest.raises(ConfigError, match=message):
            opened.register(run_cell(cell, "<cell-10>")["Faulty"], {"name": "mine"})
