"""The copy of what a store held: read instead of the store where nothing was written since, and never otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sample_results import log_ranked

from harness.tracking import result_store, snapshot
from harness.tracking.logged import settle
from harness.tracking.result_store import ResultStore
from harness.tracking.store import sqlite_file
from harness.tracking.tracker import Tracker


@pytest.fixture
def tracker(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    for name in ("STEADY_SECONDS", "FINE_SECONDS"):
        monkeypatch.setattr(snapshot, name, 0)
    tracker = Tracker(store, tmp_path / "artifacts")
    log_ranked(tracker, tmp_path, "good", 0, 4)
    return tracker


def copy_of(tracker: Tracker) -> Path:
    return snapshot.copy_of(sqlite_file(tracker.uri))


def never(uri: str) -> None:
    raise AssertionError("MLflow was asked")


def test_a_store_that_is_as_it_was_is_read_without_mlflow(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ResultStore(tracker.uri)
    runs = first.runs()
    ranks = first.artifact(runs[0].run_id, "ranks.npz")
    monkeypatch.setattr(result_store, "Connection", never)
    again = ResultStore(tracker.uri)
    assert again.runs() == runs and ranks and again.artifact(runs[0].run_id, "ranks.npz") == ranks


def test_what_was_written_since_is_there(tracker: Tracker, tmp_path: Path) -> None:
    assert len(ResultStore(tracker.uri).runs()) == 1
    for seed in (1, 2):
        log_ranked(tracker, tmp_path, "good", seed, 4)
        assert len(ResultStore(tracker.uri).runs()) == 1 + seed


def test_another_store_of_the_same_size_and_time_is_read(tracker: Tracker) -> None:
    ResultStore(tracker.uri).runs()
    database = sqlite_file(tracker.uri)
    before = database.stat()
    os.utime(database, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    os.utime(database, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (
        database.stat().st_mtime_ns == before.st_mtime_ns and snapshot.copied(copy_of(tracker), marks(tracker)) is None
    )


def marks(tracker: Tracker) -> list[list[int]]:
    return snapshot.marks(sqlite_file(tracker.uri))


def test_a_store_that_was_written_a_moment_ago_is_not_copied(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system whose clock is coarse."""
    monkeypatch.setattr(snapshot, "STEADY_SECONDS", 3600)
    monkeypatch.setattr(snapshot, "is_fine", lambda _: False)
    ResultStore(tracker.uri).runs()
    assert not copy_of(tracker).exists(), "one more write might leave size and time as they are"


def test_a_store_just_written_is_copied_where_the_clock_of_its_files_is_fine(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(store, tmp_path / "artifacts")
    log_ranked(tracker, tmp_path, "good", 0, 4)
    settle(store)  # as a command does at its end
    runs = ResultStore(store).runs()
    monkeypatch.setattr(result_store, "Connection", never)
    assert ResultStore(store).runs() == runs


@pytest.mark.parametrize(("time", "fine"), [(1_700_000_000_123_456_789, True), (1_700_000_000_120_000_000, False)])
def test_times_of_ten_milliseconds_and_more_are_of_a_coarse_clock(time: int, fine: bool) -> None:
    assert snapshot.is_fine([[1, 1, time, 1_700_000_000_123_456_789]]) is fine


def test_a_write_while_a_store_is_read_leaves_no_copy(tracker: Tracker) -> None:
    def read() -> Iterator[Any]:
        yield from ()
        sqlite_file(tracker.uri).touch()

    snapshot.read_runs(tracker.uri, read)
    assert not copy_of(tracker).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b'{"runs": [[1]]}', b"\xff"])
def test_a_damaged_copy_is_made_again(tracker: Tracker, content: bytes) -> None:
    runs = ResultStore(tracker.uri).runs()
    whole = copy_of(tracker).read_bytes()
    copy_of(tracker).write_bytes(content)
    assert ResultStore(tracker.uri).runs() == runs and copy_of(tracker).read_bytes() == whole


def test_a_results_folder_that_cannot_be_written_does_without(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(snapshot, "write_own", full)
    assert len(ResultStore(tracker.uri).runs()) == 1 and not copy_of(tracker).exists()


def test_what_stands_in_the_place_of_the_copy_is_renamed(tracker: Tracker) -> None:
    copy_of(tracker).parent.write_text("a file in place of the cache")
    assert len(ResultStore(tracker.uri).runs()) == 1 and copy_of(tracker).is_file()
    copy_of(tracker).unlink()
    copy_of(tracker).mkdir()
    assert len(ResultStore(tracker.uri).runs()) == 1 and copy_of(tracker).is_file()
