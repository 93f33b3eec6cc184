"""The process that writes to the tracking store: the same books, without MLflow in the driver, and not for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from sample_results import folder_of, reports_of, result_of, spec_of

from harness.errors import StoreError
from harness.tracking.log import Books, Logbook
from harness.tracking.log_process import Scribe
from harness.tracking.store import is_logged
from harness.tracking.tracker import Tracker
from harness.trial.results import State

SPECS = [spec_of(seed=seed) for seed in range(2)]


def campaign(books: Books, root: Path, warned: list[str]) -> str:
    """Two trials of three epochs."""
    books.open("main", SPECS, {"executor": "a test"}, warned.append)
    for spec in SPECS:
        books.begin(spec)
        for report in reports_of(spec):
            books.epoch(report)
        books.log([(result_of(spec), folder_of(root, result_of(spec)))])
    return books.close(State.DONE)


def test_a_process_of_its_own_keeps_the_books_that_this_one_would(store: str, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}"
    with Scribe(store) as apart:
        assert campaign(apart, tmp_path / "apart", []) == ""
    assert campaign(Logbook(Tracker(other)), tmp_path / "here", []) == ""
    frames = [Tracker(uri).frame() for uri in (store, other)]
    left, right = (frame.drop(columns=["run_id", "started", "ended"]).astype(str) for frame in frames)
    assert left.equals(right) and len(left) == len(SPECS)
    assert all(is_logged(folder, store) for folder in (tmp_path / "apart" / "trials").iterdir())


def test_a_store_that_cannot_be_used_is_told_before_anything_begins(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Scribe(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}") as books, pytest.raises(StoreError, match="tracking"):
        books.open("main", SPECS, {}, print)


def test_a_writing_process_that_is_killed_stops_no_trial_and_is_told_once(store: str, tmp_path: Path) -> None:
    warned: list[str] = []
    with Scribe(store) as books:
        books.open("main", SPECS, {}, warned.append)
        pid = writer_of(books)
        os.kill(pid, signal.SIGKILL)
        ended = [(result_of(spec), folder_of(tmp_path, result_of(spec))) for spec in SPECS]
        for one in ended * 50:
            books.log([one])
        why = books.close(State.DONE)
    assert warned == [why] and "exit code -9" in why and "logged by the next `harness run`" in why
    with Scribe(store) as books:
        books.open("main", SPECS, {}, warned.append)
        books.log(ended)
        assert books.close(State.DONE) == ""
    assert len(Tracker(store).frame()) == len(SPECS) and len(warned) == 1


def writer_of(books: Scribe) -> int:
    pid = books._process.pid
    assert pid is not None
    return pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_interrupts_a_terminals_whole_group_leaves_the_end_to_the_driver(
    store: str, tmp_path: Path, number: signal.Signals
) -> None:
    with Scribe(store) as books:
        books.open("main", SPECS, {}, print)
        os.kill(writer_of(books), number)
        books.log([(result_of(spec), folder_of(tmp_path, result_of(spec))) for spec in SPECS])
        assert books.close(State.INTERRUPTED) == ""
    assert len(Tracker(store).frame()) == len(SPECS)


DRIVER = """
import os, signal, sys
from harness.tracking.log_process import Scribe
if __name__ == "__main__":
    with Scribe(sys.argv[1]) as books:
        books.open("main", [], {}, print)
        print("mlflow" in sys.modules, books._process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_driver_imports_no_mlflow_and_the_process_ends_with_a_driver_that_is_killed(
    store: str, tmp_path: Path
) -> None:
    file = tmp_path / "drive.py"
    file.write_text(DRIVER)
    killed = subprocess.run([sys.executable, str(file), store], stdout=subprocess.PIPE, text=True, check=False)
    imported, writer = killed.stdout.split()
    until = time.monotonic() + 60
    while psutil.pid_exists(int(writer)) and time.monotonic() < until:
        time.sleep(0.05)
    assert killed.returncode == -signal.SIGKILL and imported == "False" and not psutil.pid_exists(int(writer))


def test_a_campaign_that_never_began_leaves_nothing_behind(store: str) -> None:
    with pytest.raises(KeyboardInterrupt), Scribe(store) as books:
        assert books._process.pid is None
        raise KeyboardInterrupt
    assert not Tracker(store).frame().shape[0]
