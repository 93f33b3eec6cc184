"""A method that a notebook's cell defines: registered, run, changed, and what is wrong with one named."""

from __future__ import annotations

import linecache
from pathlib import Path
from typing import Any

import pytest
from tiny_project import METHOD

import harness
from harness.errors import ConfigError


def run_cell(source: str, name: str) -> dict[str, Any]:
    """Run source as IPython runs a cell: its lines are known by a made-up file name."""
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), namespace)
    return namespace


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
    head, body = METHOD.split("class Faulty")
    elsewhere = {**run_cell(head, "<cell-4>")}
    linecache.cache["<cell-5>"] = (0, None, f"class Faulty{body}".splitlines(True), "<cell-5>")
    exec(compile(f"class Faulty{body}", "<cell-5>", "exec"), elsewhere)
    with pytest.raises(ConfigError, match="'Method' is not defined; import or define it in the cell of the class"):
        opened.register(elsewhere["Faulty"], {"name": "mine"})
