"""Facts about files that are worked out once: their memory is parsed once, and again after each change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.data import cache
from harness.data.cache import MEMORY, file_fact


def test_the_memory_is_parsed_once_however_many_files_are_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{number}.txt" for number in range(4)]
    for file in files:
        file.write_text(file.name)
        file_fact(tmp_path, file, "text", Path.read_text)
    parsed: list[str] = []
    loads = json.loads
    monkeypatch.setattr(cache.json, "loads", lambda text: parsed.append(text) or loads(text))
    for file in files * 2:
        assert file_fact(tmp_path, file, "text", lambda _: "worked out again") == file.name
    assert len(parsed) <= 1


def test_what_another_process_remembers_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("a")
    assert file_fact(tmp_path, file, "text", Path.read_text) == "a"
    facts = json.loads((tmp_path / MEMORY).read_text())
    new = tmp_path / "new"
    new.write_text(json.dumps(dict.fromkeys(facts, "b")))
    new.replace(tmp_path / MEMORY)
    assert file_fact(tmp_path, file, "text", Path.read_text) == "b"
