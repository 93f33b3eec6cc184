"""A method that a notebook's cell defines: registered, run, changed, and what is wrong with one named."""

from __future__ import annotations

import linecache
import math
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tiny_project import METHOD

import harness
from harness.config.cards import MethodCard, read_card
from harness.errors import ConfigError, HarnessError, StoreError


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


def files_below(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*")}


REPORTED = {
    "dataset": "tiny",
    "protocol": "all",
    "source": "Table \U0001d7cf",
    "i2t": [1.0, 2.0, 3.0],
    "t2i": [1.0, 2.0, 3.0],
    "rsum": 12.0,
}


def test_a_card_may_hold_any_character_and_tables_in_lists(project: Path) -> None:
    cell = METHOD.replace("Means of regions and words;", "Means \U0001d42f \U0001f642 \\\\ 'a' \x7f of \u00e9;")
    method = run_cell(cell, "<cell-11>")["Faulty"]
    choices = ['"quotes", tabs\t and\nlines', "\U0001f642"]
    extra = {"choices": choices, "reported": [REPORTED], "tunable": {"dim": {"type": "int", "low": 4, "high": 8}}}
    card = harness.open(project).register(method, {"name": "mine", **extra})
    again = read_card(MethodCard, project / "runs" / "written" / "mine.toml")
    assert again == card and card.summary.startswith("Means \U0001d42f \U0001f642 \\ 'a' \x7f of \u00e9;")
    assert [*card.choices] == choices and card.reported[0].source == "Table \U0001d7cf" and "dim" in card.tunable


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, None, 1j])
def test_what_a_card_cannot_hold_is_refused_by_its_key(project: Path, value: object) -> None:
    method = run_cell(METHOD, "<cell-12>")["Faulty"]
    opened = harness.open(project)
    for card, key in (
        ({"defaults": {"dim": 8, "fault": "", "after": value}}, "defaults.after"),
        ({"reported": [{**REPORTED, "rsum": value}]}, r"reported\[0\].rsum"),
    ):
        with pytest.raises(ConfigError, match=f"the card of Faulty: {key}: .* cannot stand in a card; give a finite"):
            opened.register(method, {"name": "mine", **card})
    assert not (project / "runs" / "written").exists()


def test_after_a_failed_register_the_project_is_as_it_was(project: Path) -> None:
    opened = harness.open(project)
    good = run_cell(METHOD, "<cell-13>")["Faulty"]
    opened.register(good, {"name": "mine", "title": "First"})
    before, folder = opened.methods(), project / "runs" / "written"
    files = files_below(folder)
    raising = run_cell(METHOD.replace("    def loss", "    assert __name__ == '__main__'\n\n    def loss"), "<cell-14>")
    for method, card in (
        (good, {"name": "vsepp"}),
        (good, {"name": "mine", "summary": "\ud800"}),
        (raising["Faulty"], {"name": "mine"}),
        (raising["Faulty"], {"name": "other"}),
    ):
        with pytest.raises(HarnessError):
            opened.register(method, card)
        assert files_below(folder) == files and opened.methods().equals(before)
    assert opened.config.for_dataset("tiny") and opened.registry.method("mine").title == "First"
    opened.register(good, {"name": "mine", "title": "Second"})
    assert opened.registry.method("mine").title == "Second"


def test_a_class_without_settings_and_a_folder_that_cannot_be_written_are_named(project: Path) -> None:
    opened = harness.open(project)
    bare = run_cell(METHOD.replace("    @dataclass(frozen=True)\n", ""), "<cell-15>")["Faulty"]
    with pytest.raises(ConfigError, match="Faulty has no Settings dataclass"):
        opened.register(bare, {"name": "mine"})
    (project / "runs" / "written").write_text("a file in its place")
    with pytest.raises(StoreError, match=r"mine\.py cannot be written"):
        opened.register(run_cell(METHOD, "<cell-16>")["Faulty"], {"name": "mine"})


HELPERS = {
    "a dataclass": (
        "from dataclasses import dataclass\n@dataclass(frozen=True, slots=True)\nclass Unit:\n    by: int = 1",
        "Unit().by",
    ),
    "a NamedTuple": ("from typing import NamedTuple\nclass Unit(NamedTuple):\n    by: int = 1", "Unit().by"),
    "an Enum": ("from enum import Enum\nclass Unit(Enum):\n    by = 1", "Unit.by.value"),
    "constants": ("class Unit:\n    by = 1", "Unit.by"),
    "nothing of its own": ("class One:\n    by = 1\nclass Unit(One):\n    pass", "Unit.by"),
}


@pytest.mark.parametrize("kind", HELPERS)
def test_a_helper_class_without_a_function_is_written_from_its_own_cell(project: Path, kind: str) -> None:
    helper, use = HELPERS[kind]
    names: dict[str, Any] = {"__name__": "__main__"}
    run_cell(helper.replace("1", "7"), "<cell-17>", names)  # an earlier state of it
    run_cell(helper, "<cell-18>", names)
    run_cell(METHOD.replace("+ 1).mean", f"+ {use}).mean"), "<cell-19>", names)
    harness.open(project).register(names["Faulty"], {"name": "mine"})
    text = (project / "runs" / "written" / "mine.py").read_text()
    assert text.index("class Unit") < text.index("class Faulty(") and "7" not in text


def test_of_two_cells_that_define_a_helper_the_one_that_it_is_of_is_written(project: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    first, second = "class Unit:\n    by = 1\n", "class Unit:\n    by = 1\n    more = 2\n"
    run_cell(first, "<cell-20>", names)
    run_cell(second, "<cell-21>", names)
    run_cell(METHOD.replace("+ 1).mean", "+ Unit.by).mean"), "<cell-22>", names)
    opened, file = harness.open(project), project / "runs" / "written" / "mine.py"
    opened.register(names["Faulty"], {"name": "mine"})
    assert "more = 2" in file.read_text()
    exec(compile(first, "<cell-20>", "exec"), names)  # the first cell is run again
    opened.register(names["Faulty"], {"name": "mine"})
    assert "more = 2" not in file.read_text()


def test_a_module_within_a_module_is_imported_where_the_method_runs(project: Path) -> None:
    uses = "1 + len(xml.dom.minidom.parseString('<a/>').childNodes) - mail.message.Message().__len__()"
    imports = "import email as mail\nimport email.message\nimport xml.dom.minidom\n"
    cell = METHOD.replace("self.steps = 0", f"self.steps = {uses} - 2")
    harness.open(project).register(run_cell(imports + cell, "<cell-23>")["Faulty"], {"name": "mine"})
    text = (project / "runs" / "written" / "mine.py").read_text()
    own = "\n".join(line for line in text.splitlines() if line.startswith("import ") and "torch" not in line)
    end = subprocess.run([sys.executable, "-c", f"{own}\nprint({uses})"], capture_output=True, text=True)
    assert end.stdout == "2\n", end.stderr
