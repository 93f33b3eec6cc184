"""harness.toml: the file that `harness init` writes, and the one of this repository."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from harness.config import Config, built_in, literal, load
from harness.init import template

ROOT = Path(__file__).parents[1]
FREE = {"settings", "per_dataset"}  # whose keys are names of methods and datasets


def keys_of(table: dict[str, object]) -> set[str]:
    sections = {name: value for name, value in table.items() if isinstance(value, dict)}
    return {f"{section}.{key}" for section, inner in sections.items() for key in inner}


def test_the_template_loads_back_into_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    (tmp_path / "harness.toml").write_text(template())
    assert load(tmp_path / "harness.toml") == built_in().model_copy(update={"root": tmp_path.resolve()})


def test_every_key_is_there_in_its_section_and_says_what_it_means() -> None:
    known = Config().model_dump(mode="json", exclude=FREE)
    assert keys_of({name: table for name, table in tomllib.loads(template()).items() if name not in FREE}) == keys_of(
        known
    )
    lines = [line for line in template().splitlines() if " = " in line and not line.startswith("#")]
    fixed = lines[: next(number for number, line in enumerate(lines) if line.startswith("uri"))]
    bare = [line for line in fixed if "#" not in line]
    assert not bare, "a key of config.py without a description"


def test_the_file_of_this_repository_has_the_keys_of_the_template() -> None:
    text = (ROOT / "harness.toml").read_text()
    if text != template():  # it may differ on purpose, in values and comments
        assert keys_of(tomllib.loads(template())) == keys_of(tomllib.loads(text))
        load(ROOT / "harness.toml")


@pytest.mark.parametrize("value", [True, 3, 0.001, "plain", 'a "quote"', "über\n", "", (1, 2), ("a", "b"), Path("x/y")])
def test_a_literal_is_read_back_by_toml(value: object) -> None:
    read = tomllib.loads(f"key = {literal(value)}")["key"]
    expected = str(value) if isinstance(value, Path) else value
    assert read == (list(expected) if isinstance(expected, tuple) else expected)
