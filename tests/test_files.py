"""Text files are read as what they are, and nothing that is no file is waited for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config.toml import read_toml
from harness.data.word_vectors import read_vectors
from harness.errors import DataError, HarnessError
from harness.files import LARGEST_TEXT, has_file, read_bytes, read_json, read_lines, read_text, sha256, write_atomic

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32")
READERS: dict[str, Callable[[Path], Any]] = {
    "bytes": read_bytes,
    "text": read_text,
    "lines": lambda path: read_lines(path, "is a line"),
    "json": read_json,
    "toml": read_toml,
    "sha256": sha256,
    "has_file": has_file,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "file"
    file.write_text('a = "é"\nb = 1\n', encoding=encoding)
    assert read_text(file) == 'a = "é"\nb = 1\n'
    assert read_lines(file, "is a line") == ['a = "é"', "b = 1"]
    assert read_toml(file) == {"a": "é", "b": 1}
    file.write_text('{"a": "é"}', encoding=encoding)
    assert read_json(file) == {"a": "é"}


def test_a_byte_order_mark_costs_no_word_its_vector(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("dog 1 2\ncat 3 4\n", encoding="utf-8-sig")
    assert read_vectors(file, {"dog": 0, "cat": 1}).known.tolist() == [True, True]


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_and_never_waited_for(
    tmp_path: Path, reader: Callable[[Path], Any], make: Callable[[Path], None]
) -> None:
    make(tmp_path / "file")
    with pytest.raises(HarnessError, match="must be a file"):
        reader(tmp_path / "file")


def test_a_text_larger_than_any_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(LARGEST_TEXT + 1)
    with pytest.raises(DataError, match="larger than the 2 GB"):
        read_lines(tmp_path / "sparse", "is a line")


def test_the_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one\ntwo\nth\xffree\n")
    with pytest.raises(DataError, match="line 3"):
        read_lines(tmp_path / "file", "is a line")


def test_a_file_is_never_written_through_a_link_that_somebody_has_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _bytes: "guessed")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".facts.json.{os.getpid()}-guessed.part").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "facts.json", "{}")
    assert victim.read_text() == "precious"


def test_a_key_that_stands_twice_is_refused_in_files_that_people_write_however_deep(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text('{"a": [{"b": 1, "c": {"b": 2}}], "b": 3}')
    assert read_json(file, unique=True) == read_json(file) == {"a": [{"b": 1, "c": {"b": 2}}], "b": 3}
    file.write_text('{"a": [{"b": 1, "c": {"é": 2, "é": 2, "é": 0}}]}')
    assert read_json(file) == {"a": [{"b": 1, "c": {"é": 0}}]}, "releases are read as they are"
    with pytest.raises(DataError, match=r"file\.json: the key 'é' stands 3 times; keep one of them"):
        read_json(file, unique=True)
