"""Facts about files that are worked out once: their memory is parsed once, and again after each change."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.data import cache
from harness.data.cache import MEMORY, file_fact, folder_sha256, forget_facts, sealed, unsealed


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
    facts = unsealed((tmp_path / MEMORY).read_bytes())
    new = tmp_path / "new"
    new.write_text(sealed(dict.fromkeys(facts, "b")))
    new.replace(tmp_path / MEMORY)
    assert file_fact(tmp_path, file, "text", Path.read_text) == "b"


def rewritten(file: Path, text: str) -> None:
    """Other content in a file of the same size and time, as `cp -p` and `rsync -t` make it."""
    status = file.stat()
    file.write_text(text)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_file_of_the_same_size_and_time_with_other_content_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "a.txt"
    file.write_text("a")
    assert file_fact(tmp_path, file, "text", Path.read_text) == "a"
    before = folder_sha256(tmp_path, folder)
    rewritten(file, "b")
    assert file_fact(tmp_path, file, "text", Path.read_text) == "b"
    assert folder_sha256(tmp_path, folder) != before


def test_facts_below_a_folder_can_be_forgotten_and_others_stay(tmp_path: Path) -> None:
    files = []
    for name in ("one", "oneself"):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "a.txt")
        files[-1].write_text("a")
        file_fact(tmp_path, files[-1], "text", Path.read_text)
    forget_facts(tmp_path, [tmp_path / "one"])
    facts = [file_fact(tmp_path, file, "text", lambda _: "read again") for file in files]
    assert facts == ["read again", "a"]
    forget_facts(tmp_path)
    assert file_fact(tmp_path, files[1], "text", lambda _: "read again") == "read again"
