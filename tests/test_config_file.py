"""harness.toml: the file that `harness init` writes, and the one of this repository."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from harness.config import Config, literal, load
from harness.init import template

ROOT = Path(__file__).parents[1]


def keys_of(table: dict[str, object]) -> set[str]:
    sections = {name: value for name, value in table.items() if isinstance(value, dict)}
    return {f"{section}.{key}" for section, inner in sections.items() for key in inner}


def test_the_template_loads_back_into_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    (tmp_path / "harness.toml").write_text(template())
    loaded = load(tmp_path / "harness.toml")
    assert loaded.model_copy(update={"settings": {}}) == Config(root=tmp_path)
    assert loaded.settings


def test_every_key_is_there_in_its_section_and_says_what_it_means() -> None:
    table = tomllib.loads(template())
    known = Config().model_dump(mode="json", exclude={"settings"})
    assert keys_of(table) - keys_of({"settings": table["settings"]}) == keys_of(known)
    lines = [line for line in template().splitlines() if " = " in line and not line.startswith("#")]
    bare = [line for line in lines if "#" not in line]
    assert not bare, "a key of config.py without a description"


def test_the_file_of_this_repository_has_the_keys_of_the_template() -> None:
    text = (ROOT / "harness.toml").read_text()
    if text != template():  # it may differ on purpose, in values and comments
        assert keys_of(tomllib.loads(template())) <= keys_of(tomllib.loads(text))
        load(ROOT / "harness.toml")


@pytest.mark.parametrize("value", [True, 3, 0.001, "plain", 'a "quote"', "über\n", "", (1, 2), ("a", "b"), Path("x/y")])
def test_a_literal_is_read_back_by_toml(value: object) -> None:
    read = tomllib.loads(f"key = {literal(value)}")["key"]
    expected = str(value) if isinstance(value, Path) else value
    assert read == (list(expected) if isinstance(expected, tuple) else expected)
