"""`harness run` from the command line to the leaderboard, and everything that may happen to it on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from finished_projects import Finish
from fresh_process import Fresh
from tiny_project import Call, in_a_new_process

from harness.campaign import driver
from harness.campaign.status import command_words
from harness.errors import ResourceError
from harness.executors.executor import InProcess
from harness.trial.results import Assignment

Captured = pytest.CaptureFixture[str]
METHODS = "chance,vsepp,nan"
REPORTS = ("tiny-all.md", "tiny-all.html", "index.html")


@pytest.fixture
def finished(finish: Finish) -> Path:
    """A project that was run once: two methods done, one failed."""
    return finish(("run", "--here", "--methods", METHODS), code=4)


def trial_folders(project: Path) -> dict[str, Path]:
    """The folder of each trial by its method."""
    folders = (project / "runs" / "trials").iterdir()
    return {json.loads((folder / "spec.json").read_text())["method"]: folder for folder in folders}


def test_a_run_ends_with_its_leaderboard_and_4_where_a_trial_failed(
    finished: Path,
    call: Call,
    capsys: Captured,
) -> None:
    assert call("run", "--here", "--methods", METHODS, "--retry", "failed") == 4
    out, err = capsys.readouterr()
    assert "main: 1 trial to run, 2 done · in this process" in out
    assert "✗ nan/tiny/s0" in out and "failed (nonfinite)" in out and "Traceback" not in out
    assert "tiny, protocol all" in out and "vsepp" in out
    assert "reports/tiny-all.md" in out
    assert "has a traceback" not in out
    assert out.strip().endswith("1 failed")
    assert err == ""
    board = (finished / "reports" / "tiny-all.md").read_text()
    assert "chance" in board and "nonfinite" in board


@pytest.mark.slow
def test_a_mistake_in_a_method_fails_its_trial_and_says_where_the_traceback_is(
    project: Path, call: Call, capsys: Captured
) -> None:
    assert call("run", "--here", "--methods", "buggy,chance") == 4
    out = capsys.readouterr().out
    trace = trial_folders(project)["buggy"] / "traceback.txt"
    assert str(trace.relative_to(project)) in out and "1 failed · 1 done" in out
    assert "ZeroDivisionError" in trace.read_text()


@pytest.mark.slow
def test_a_second_run_does_nothing_says_so_and_imports_nothing_heavy(finished: Path) -> None:
    out, imported = in_a_new_process("run", "--methods", "chance,vsepp")
    assert out == "main: nothing to do: 2 trials done, leaderboard in reports/tiny-all.md, shown by `harness board`\n"
    assert not imported & {"ray", "torch", "mlflow", "pandas", "optuna"}


@pytest.mark.slow
def test_status_counts_the_trials_of_the_last_command_and_not_those_of_the_file(
    finished: Path, call: Call, capsys: Captured
) -> None:
    def labels(*words: str) -> list[str]:
        assert call("status", *words, "--json") == 0
        return [trial["label"] for trial in json.loads(capsys.readouterr().out)["trials"]]

    assert call("status") == 0
    assert "main: 0 waiting · 0 running · 2 done · 1 failed" in capsys.readouterr().out
    assert call("run", "--here", "--methods", "chance", "--seeds", "3,4", "-s", "training.batch_size=4") == 0
    capsys.readouterr()
    assert labels() == labels("main") == ["chance/tiny/s3", "chance/tiny/s4"]
    assert labels("--methods", "vsepp") == ["vsepp/tiny/s0"]


@pytest.mark.slow
def test_json_stands_alone_on_stdout_and_everything_else_on_stderr(
    finished: Path,
    call: Call,
    capsys: Captured,
) -> None:
    assert call("run", "--here", "--methods", METHODS, "--retry", "nonfinite", "--json") == 4
    out, err = capsys.readouterr()
    run = json.loads(out)
    assert {trial["method"]: trial["state"] for trial in run["trials"]} == {
        "chance": "done",
        "vsepp": "done",
        "nan": "failed",
    }
    assert all(0 <= trial["measures"]["rsum"] <= 600 for trial in run["trials"] if trial["state"] == "done")
    assert run["reports"] == [str(finished / "reports" / name) for name in REPORTS]
    assert "nan/tiny/s0" in err
    assert call("run", "--methods", "chance", "--json") == 0
    assert json.loads(capsys.readouterr().out)["trials"][0]["state"] == "done"


@pytest.mark.slow
def test_a_missing_report_is_written_by_a_run_that_has_nothing_else_to_do(
    finished: Path,
    call: Call,
    capsys: Captured,
) -> None:
    file = finished / "reports" / "tiny-all.md"
    before = file.read_bytes()
    file.unlink()
    assert call("run", "--methods", "chance,vsepp") == 0
    assert "reports/tiny-all.md written" in capsys.readouterr().out
    assert file.read_bytes() == before


@pytest.mark.slow
def test_results_that_the_store_lacks_are_logged_without_running_anything(
    finished: Path,
    template: Path,
    call: Call,
    fresh: Fresh,
    capsys: Captured,
) -> None:
    shutil.copy(template / "runs" / "mlflow.db", finished / "runs" / "mlflow.db")
    for journal in ("mlflow.db-wal", "mlflow.db-shm"):
        (finished / "runs" / journal).unlink(missing_ok=True)
    for folder in trial_folders(finished).values():
        (folder / "logged.json").unlink()
    done = fresh("run", "--methods", "chance,vsepp")  # this process has the replaced file open
    assert done.returncode == 0 and "0 trials to run, 2 done, 2 to be logged · in this process" in done.stdout
    assert call("status", "--methods", "chance,vsepp", "--json") == 0
    assert all(trial["logged"] for trial in json.loads(capsys.readouterr().out)["trials"])


@pytest.mark.slow
def test_force_runs_trials_again_and_keeps_the_old_folder(
    finished: Path,
    call: Call,
    capsys: Captured,
) -> None:
    folder = trial_folders(finished)["chance"]
    assert call("run", "--here", "--methods", "chance", "--force") == 0
    assert "✓ chance/tiny/s0" in capsys.readouterr().out
    assert (folder / "result.json").is_file() and folder.with_name(f"{folder.name}.old-1").is_dir()


@pytest.mark.slow
def test_two_reports_are_the_same_bytes_and_the_command_says_so(
    finished: Path,
    call: Call,
    capsys: Captured,
) -> None:
    file = finished / "reports" / "tiny-all.md"
    before = file.read_bytes()
    assert call("report") == 0
    assert capsys.readouterr().out.splitlines() == [f"reports/{name} unchanged" for name in REPORTS]
    file.write_text("another")
    assert call("report", "--json") == 0
    same = [str(file.with_name(name)) for name in REPORTS[1:]]
    assert json.loads(capsys.readouterr().out) == {"written": [str(file)], "unchanged": same, "removed": []}
    assert file.read_bytes() == before


@contextmanager
def driver_at_work(project: Path, **entries: object) -> Iterator[None]:
    """Hold a project's results folder as a driver does whose file has these entries besides."""
    driver = {"words": ["run"], "folder": str(project), "pid": 77, "host": "here", "trials": [], **entries}
    (project / "runs" / ".owner.json").write_text(json.dumps(driver))
    with FileLock(project / "runs" / ".lock"):
        yield


def test_status_counts_every_state_and_starts_nothing(
    finished: Path,
    call: Call,
    capsys: Captured,
) -> None:
    begun = trial_folders(finished)["vsepp"]
    (begun / "result.json").unlink()
    words = ("status", "--methods", f"{METHODS},scan_t2i")
    assert call(*words, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    states = {trial["label"].split("/")[0]: trial["state"] for trial in status["trials"]}
    assert states == {"chance": "done", "vsepp": "interrupted", "nan": "failed", "scan_t2i": "waiting"}
    assert status["counts"] == {"waiting": 1, "running": 0, "done": 1, "failed": 1, "interrupted": 1}
    for under_way, state in ((begun.name, "1 running"), ("another", "1 interrupted")):
        with driver_at_work(finished, trials=[under_way]):
            assert call(*words) == 0
        page = capsys.readouterr().out
        assert state in page and "2/2" in page and "nonfinite" in page
    assert not (begun / "result.json").exists()


def test_status_shows_the_driver_at_work_and_the_trials_of_its_command_from_wherever_that_was_given(
    finished: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", "-c", "harness.toml", "--methods", "scan_t2i", "--seeds", "5,6"]
    (finished / "below").mkdir()
    monkeypatch.chdir(finished / "below")
    with driver_at_work(finished, words=words):
        assert call("status") == 0
        page = capsys.readouterr().out
        assert call("status", "--json") == 0
        status = json.loads(capsys.readouterr().out)
        assert call("status", "--methods", "vsepp") == 0
        assert "at work: `harness run -c" in capsys.readouterr().out
    assert "at work: `harness run -c harness.toml --methods scan_t2i --seeds 5,6`, process 77 on here" in page
    assert [trial["label"] for trial in status["trials"]] == ["scan_t2i/tiny/s5", "scan_t2i/tiny/s6"]
    driver = {"words": words, "folder": str(finished), "pid": 77, "host": "here", "trials": []}
    assert status["driver"] == driver
    assert call("status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["driver"] is None, "what a killed driver left says nothing"


@pytest.mark.parametrize("owner", ["", "{}", '{"words": ["resume"], "pid": 1, "host": "h"}', '{"words": 1}'])
def test_status_of_a_driver_whose_command_says_nothing_is_that_of_the_last_command(
    finished: Path, call: Call, capsys: Captured, owner: str
) -> None:
    (finished / "runs" / ".owner.json").write_text(owner)
    with FileLock(finished / "runs" / ".lock"):
        assert call("status") == 0
    page = capsys.readouterr().out
    assert "2 done" in page and "at work: " in page


def write_paces(folder: Path, seconds: float, epochs: int) -> None:
    """Have the first epochs of a trial taken so many seconds each, and no other ended."""
    file = folder / "epochs.jsonl"
    reports = [json.loads(line) | {"seconds": seconds} for line in file.read_text().splitlines()[:epochs]]
    file.write_text("".join(f"{json.dumps(report)}\n" for report in reports))


def test_status_says_what_is_left_while_a_driver_is_at_work(finished: Path, call: Call, capsys: Captured) -> None:
    begun = trial_folders(finished)["vsepp"]
    (begun / "result.json").unlink()
    write_paces(begun, 1800.0, epochs=1)
    os.utime(begun / "epochs.jsonl", (time.time() - 600,) * 2)
    words = ("status", "--methods", "chance,vsepp,slow", "--seeds", "0,1")
    with driver_at_work(finished, trials=[begun.name]):
        assert call(*words, "--json") == 0
        status = json.loads(capsys.readouterr().out)
        assert call(*words) == 0 and call(*words[:-2], "--seeds", "0", "--methods", "vsepp") == 0
        page = capsys.readouterr().out
    left = {one["label"]: one["seconds_left"] for one in status["trials"]}
    assert left.pop("vsepp/tiny/s0") == pytest.approx(1200, abs=60), "one epoch, less what has passed of it"
    rest = dict.fromkeys(("slow/tiny/s0", "slow/tiny/s1", "chance/tiny/s0"))
    assert left == {**rest, "chance/tiny/s1": 0.0, "vsepp/tiny/s1": 3600.0} and status["seconds_left"] is None
    assert re.search(r"vsepp/tiny/s0 +running +1/2 +val [\d.]+ +(20:00|19:\d\d) ", page)
    assert "left: ? 2 trials unknown until the first epoch; by earlier trials of the same settings" in page
    assert re.search("left: about (20:00|19:..); by earlier trials of the same settings", page)
    assert call(*words, "--json") == 0
    alone = json.loads(capsys.readouterr().out)
    assert {one["seconds_left"] for one in alone["trials"]} == {None}, "nobody is at work"


def test_a_dry_run_says_how_long_by_earlier_trials_of_the_same_method(
    finished: Path, call: Call, capsys: Captured
) -> None:
    def planned(*words: str) -> dict[str, Any]:
        assert call("run", "-n", "--json", "--here", *words) == 0
        plan: dict[str, Any] = json.loads(capsys.readouterr().out)
        return plan

    write_paces(trial_folders(finished)["vsepp"], 1800.0, epochs=2)
    same = planned("--methods", "vsepp", "--seeds", "0-2", "-s", "training.epochs=4")
    assert [(one["seconds"], one["seconds_from"]) for one in same["trials"]] == [(7200.0, "same")] * 3
    assert (same["seconds"], same["device_seconds"], same["unknown"]) == (21600.0, 21600.0, 0)
    other = planned("--methods", "vsepp", "-s", "settings.vsepp.word_dim=9", "--seeds", "1")
    assert [(one["seconds"], one["seconds_from"]) for one in other["trials"]] == [(3600.0, "settings")]
    limited = planned("--methods", "vsepp", "--seeds", "1", "--limit", "8")
    assert [(one["seconds"], one["seconds_from"]) for one in limited["trials"]] == [(1800.0, "dataset")]
    some = planned("--methods", "vsepp,slow", "--seeds", "1")
    assert (some["seconds"], some["device_seconds"], some["unknown"]) == (None, 3600.0, 1)
    assert call("run", "-n", "--here", "--methods", "vsepp,slow,chance", "--seeds", "0,1") == 0
    page = capsys.readouterr().out
    assert "time: 1 device-hours; ? 2 trials unknown until the first epoch; by earlier trials of the same" in page
    assert call("run", "-n", "--here", "--methods", "slow") == 0
    assert "time: unknown until the first epoch" in capsys.readouterr().out
    assert call("run", "-n", "--here", "--methods", "vsepp", "--seeds", "1,2") == 0
    assert "time: about 2:00:00 in all, 2 device-hours; by earlier trials" in capsys.readouterr().out


def test_a_second_driver_is_refused_with_2_and_resume_still_means_the_first(
    finished: Path, call: Call, capsys: Captured
) -> None:
    def last_words() -> list[str]:
        return command_words(finished / "runs")

    assert call("run", "--here", "--methods", "chance", "--seeds", "0,1") == 0
    first = last_words()
    with FileLock(finished / "runs" / ".lock"):
        assert call("run", "--here", "--methods", "nan", "--retry", "failed") == 2
    assert "another harness is running" in capsys.readouterr().err
    assert last_words() == first == ["run", "--here", "--methods", "chance", "--seeds", "0,1"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_keeps_its_state_and_the_same_command_continues(
    project: Path,
    call: Call,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    words = ("run", "--here", "--methods", "signalled", "-s", "training.epochs=3")
    monkeypatch.setenv("TEST_SIGNAL", str(number.value))  # in the second epoch
    assert call(*words) == code
    out, err = capsys.readouterr()
    assert "state saved; the same command continues" in err and "Traceback" not in err
    monkeypatch.delenv("TEST_SIGNAL")
    assert call(*words) == 0
    out = capsys.readouterr().out
    assert "1 trial to run, 1 of them continued" in out
    assert "signalled/tiny/s0  starts after epoch 1" in out and "✓ signalled/tiny/s0" in out


@pytest.mark.slow
def test_quiet_says_one_line_a_result(project: Path, call: Call, capsys: Captured) -> None:
    assert call("run", "--here", "--methods", "chance", "--seeds", "5", "-q") == 0
    result, *reports, counts = capsys.readouterr().out.splitlines()
    assert result.startswith("✓ chance/tiny/s5") and counts == "1 done"
    assert reports == [f"reports/{name} written" for name in REPORTS]


@pytest.mark.slow
def test_sigterm_in_the_middle_of_a_wait_for_ray_ends_with_143(
    project: Path, call: Call, capsys: Captured, local_ray: None
) -> None:
    def terminate_in_the_second_epoch() -> None:
        while not list((project / "runs").glob("trials/*/epochs.jsonl")):
            time.sleep(0.1)
        time.sleep(1)  # by now the driver has nothing to do but wait
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate_in_the_second_epoch, daemon=True).start()
    assert call("run", "--methods", "slow") == 143
    assert "state saved; the same command continues" in capsys.readouterr().err
    assert call("status", "--methods", "slow", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"]["interrupted"] == 1


@pytest.mark.slow
def test_every_executor_is_closed_once(project: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run, a run, one with nothing to do, and one that is refused before it begins."""
    closed: list[Counter[str]] = []

    class Counted(InProcess):
        def __init__(self) -> None:
            super().__init__()
            self.number = len(closed)
            closed.append(Counter())

        def check(self, assignments: Sequence[Assignment]) -> None:
            if refused:
                raise ResourceError("no such device")

        def close(self) -> None:
            closed[self.number]["closed"] += 1

    refused = False
    monkeypatch.setattr(driver, "choose_executor", lambda *_: Counted())
    words = ("run", "--methods", "chance", "-q")
    assert [call(*words, "-n"), call(*words), call(*words), call("search", "--methods", "chance", "-n", "-q")] == [
        0
    ] * 4
    refused = True
    assert call(*words, "--seeds", "7") == 2
    assert closed == [{"closed": 1}] * len(closed) and len(closed) >= 5
