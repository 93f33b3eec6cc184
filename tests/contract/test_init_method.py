"""`harness init method` writes a method that passes the contract, and refuses what would hide or replace another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_project import Call

Captured = pytest.CaptureFixture[str]


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["embedding", "fragment"])
def test_what_is_written_passes_the_contract_by_the_command_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, capsys: Captured, scoring: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("init", "method", "my_own", "--scoring", scoring, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["written"] == [str(tmp_path / "my_own.py"), str(tmp_path / "my_own.toml")]
    assert answer["next"][1] == "harness run --methods my_own --plugin my_own.toml"
    assert call(*answer["next"][0].split()[1:], "--json") == 0
    method = json.loads(capsys.readouterr().out)["methods"][0]
    assert not method["broken"] and sum(rule["state"] == "passed" for rule in method["rules"]) == 18
    assert {file.name for file in tmp_path.iterdir()} <= {"my_own.py", "my_own.toml", "__pycache__"}


def test_without_plugin_the_message_says_where_the_card_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("init", "method", "mine") == 0
    for words in (("validate", "mine"), ("run", "--methods", "mine", "-n"), ("describe", "mine")):
        assert call(*words) == 2
        assert "its card lies here: --plugin mine.toml" in " ".join(capsys.readouterr().err.split())
    assert call("describe", "min") == 2 and "lies here" not in capsys.readouterr().err


def test_it_goes_where_harness_toml_keeps_methods(project: Path, call: Call, capsys: Captured) -> None:
    assert call("init", "method", "mine") == 0
    assert (project / "cards" / "mine.toml").is_file() and "--plugin" not in capsys.readouterr().out
    assert call("describe", "mine") == 0


def test_files_that_are_there_stay_unless_forced(project: Path, call: Call, capsys: Captured) -> None:
    assert call("init", "method", "mine") == 0
    file = project / "cards" / "mine.py"
    file.write_text("# my work")
    assert call("init", "method", "mine") == 2 and "--force" in capsys.readouterr().err
    assert file.read_text() == "# my work"
    assert call("init", "method", "mine", "--force") == 0 and "class Mine" in file.read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Mine", "is no name of a method"),
        ("../mine", "is no name of a method"),
        ("vsepp", "there is a method 'vsepp' already"),
        ("class", "a word or a module of Python"),
        ("torch", "a word or a module of Python"),
        ("random", "a word or a module of Python"),
        ("none", "its class would be None, which means something else; take another name"),
        ("true", "its class would be True, which"),
        ("false_", "its class would be False, which"),
        ("region_encoder", "its class would be RegionEncoder, which"),
    ],
)
def test_a_name_that_cannot_be_is_refused(project: Path, call: Call, capsys: Captured, name: str, message: str) -> None:
    assert call("init", "method", name) == 2
    assert message in capsys.readouterr().err and not list(project.rglob("Mine*"))
