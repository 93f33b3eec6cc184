"""A project from a script: opened, run, its results as frames, its boards, comparisons, and the errors of all that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest
from finished_projects import Finish
from toy_trials import toy_assignment

import harness
from harness.api.project import Project
from harness.api.running import Progress, ProgressView
from harness.errors import ConfigError, StoreError, UsageError
from harness.trial.results import EpochReport, StepReport

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def opened(finish: Finish) -> Project:
    """A project in which two methods were run with two seeds, and one that fails."""
    return harness.open(finish(("run", "--here", "--methods", "vsepp,chance,nan", "--seeds", "0,1"), code=4))


def test_a_project_lists_its_methods_and_datasets(project: Path) -> None:
    opened = harness.open(project)
    assert {"vsepp", "nan"} <= {*opened.methods()["name"]}
    row = opened.datasets().set_index("name").loc["tiny"]
    assert (row["protocol"], row["images"], row["split"]) == ("all", 8, "test")


def test_a_folder_without_a_file_has_the_built_in_defaults(tmp_path: Path) -> None:
    opened = harness.open(tmp_path)
    assert opened.file is None and opened.config.results == tmp_path / "runs"
    assert "scenes" in {*opened.datasets()["name"]}
    with pytest.raises(StoreError, match="no tracking store"):
        opened.results()


def test_what_cannot_be_opened_is_named(project: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such folder or file"):
        harness.open(project / "nowhere")
    with pytest.raises(ConfigError, match="epoch"):
        harness.open(project, settings={"training.epoch": 3})


@pytest.mark.slow
def test_run_returns_trials_prints_nothing_and_reports_its_progress(project: Path, capfd: Captured) -> None:
    steps: list[Progress] = []
    opened = harness.open(project)
    trials = opened.run("vsepp", seeds=[0, 1], settings={"training.epochs": 1}, here=True, progress=steps.append)
    assert [trial.name for trial in trials] == ["vsepp/tiny/s0", "vsepp/tiny/s1"]
    assert all(trial.is_done and trial.training.epochs == 1 for trial in trials)
    own = [step for step in steps if step.name == "vsepp/tiny/s1"]
    assert [(step.state, step.epoch) for step in own] == [("running", 0), ("running", 1), ("testing", 1), ("done", 1)]
    assert str(own[1]).startswith("vsepp/tiny/s1 running epoch 1/1 rsum ")
    assert (project / "reports" / "tiny-all.md").is_file()
    assert capfd.readouterr().out == ""
    again: list[Progress] = []
    same = opened.run("vsepp", seeds=range(2), settings={"training.epochs": 1}, here=True, progress=again.append)
    assert [trial.key for trial in same] == [trial.key for trial in trials] and not again


def test_each_tenth_of_a_long_epoch_is_reported_once(tmp_path: Path) -> None:
    heard: list[Progress] = []
    view, trial = ProgressView(heard.append), toy_assignment(tmp_path, 0, epochs=2)
    view.begin(trial)
    for epoch in range(2):
        for share in (0.02, 0.04, 0.11, 0.13, 0.35, 1.0):
            view.epoch(StepReport(key=trial.spec.key, epoch=epoch, epochs=2, seconds=9.0, share=share))
        view.epoch(EpochReport(key=trial.spec.key, epoch=epoch + 1, epochs=2))
    each = ["11% of the next", "35% of the next", "100% of the next"]
    assert [step.message for step in heard] == ["", *each, "", *each, ""]
    assert str(heard[1]) == "toy/none/s0 running epoch 0/2 11% of the next"


@pytest.mark.slow
def test_run_returns_a_trial_that_failed_with_its_message(project: Path) -> None:
    (trial,) = harness.open(project).run("nan", here=True)
    assert trial.state == "failed" and trial.message and not trial.is_done


def test_run_has_the_errors_of_the_command(project: Path) -> None:
    opened = harness.open(project)
    with pytest.raises(UsageError, match="did you mean vsepp"):
        opened.run("vsep", here=True)
    with pytest.raises(UsageError, match="seeds"):
        opened.run(seeds=-1, here=True)
    with pytest.raises(UsageError, match="--recipe paper takes settings"):
        opened.run("vsepp", recipe="paper", settings={"training.epochs": 1}, here=True)
    with pytest.raises(UsageError, match="unknown failure class 'oon'"):
        opened.run("vsepp", retry=["oon"], here=True)
    for wrong, message in (
        ({"seeds": "0-1"}, r"seeds: '0-1' is no whole number; give one such as 3, or several such as range\(3\)"),
        ({"seeds": [0, 1.5]}, r"seeds: 1\.5 is no whole number"),
        ({"seeds": None}, "seeds: None is no whole number"),
        ({"seeds": np.array([0.0, 1.0])}, "is no whole number"),
        ({"limit": "10"}, "limit '10' is no whole number"),
        ({"methods": 3}, "3 is no name; give a text"),
        ({"datasets": ["tiny", None]}, "None is no name"),
        ({"retry": 7}, "7 is no name"),
    ):
        with pytest.raises(UsageError, match=message):
            opened.run(**{"methods": "chance", "here": True, **wrong})


@pytest.mark.slow
def test_whole_numbers_of_numpy_and_pandas_are_whole_numbers(project: Path) -> None:
    opened = harness.open(project, settings={"training.epochs": np.int64(1)})
    both = opened.run(np.array(["chance"]), pandas.Series(["tiny"]), seeds=np.arange(2), limit=np.int32(8), here=True)
    assert [trial.name for trial in both] == ["chance/tiny/s0", "chance/tiny/s1"]
    for seeds in (np.int64(1), np.array(1), pandas.Series([1]), [1]):
        (one,) = opened.run("chance", seeds=seeds, limit=8, here=True)
        assert one.key == both[1].key
    (trial,) = opened.run(
        "vsepp", settings={"settings.vsepp.dim": np.int64(4), "training.drop_after": [np.int64(1)]}, here=True
    )
    assert trial.training.epochs == 1 and trial.settings["dim"] == 4


@pytest.mark.slow
def test_retry_takes_failed_as_the_command_does(project: Path) -> None:
    opened, steps = harness.open(project), list[Progress]()
    opened.run("nan", here=True)
    for retry in ("failed", ["failed"], "nonfinite"):
        steps.clear()
        opened.run("nan", here=True, retry=retry, progress=steps.append)
        assert "running" in {step.state for step in steps}


def test_results_are_one_typed_row_per_trial(opened: Project) -> None:
    frame = opened.results()
    assert len(frame) == 6 and frame["key"].is_unique
    assert {*frame.loc[frame["method"] == "nan", "state"]} == {"failed"}
    types = frame.dtypes
    assert pandas.api.types.is_integer_dtype(types["seed"]) and pandas.api.types.is_integer_dtype(types["settings.dim"])
    assert pandas.api.types.is_float_dtype(types["rsum"]) and pandas.api.types.is_string_dtype(types["method"])
    assert pandas.api.types.is_datetime64_any_dtype(types["ended"])
    done = frame[frame["state"] == "done"]
    means = done.groupby("method")["rsum"].mean()
    board = opened.board("tiny").set_index("method")
    assert board.loc["vsepp", "rsum"] == pytest.approx(means["vsepp"])


def test_a_board_is_a_frame_with_intervals(opened: Project) -> None:
    board = opened.board("tiny", "all")
    ranked = board[board["section"] == "ranked"]
    assert {*ranked["method"]} == {"vsepp", "chance"} and [*ranked["place"]] == [1, 2]
    assert (ranked["low"] <= ranked["rsum"]).all() and (ranked["rsum"] <= ranked["high"]).all()
    assert [*ranked["rsum"]] == sorted(ranked["rsum"], reverse=True)
    with pytest.raises(UsageError, match="unknown board 'tiny/al'; did you mean tiny/all"):
        opened.board("tiny", "al")


def test_two_rows_and_two_trials_are_compared(opened: Project) -> None:
    (rows,) = opened.compare("vsepp", "chance")
    assert rows.board == "tiny/all" and not rows.runs_only
    (runs,) = opened.compare("vsepp/tiny/s0", "chance/tiny/s0")
    assert runs.runs_only and 0 < runs.p <= 1
    first, second = (side.name for side in runs.sides)
    assert repr(runs).startswith(f"<{first} and {second} on tiny/all: rsum {runs.difference:+.1f}, 95 % by image ")
    assert repr(runs).endswith(f"{runs.verdict}>")
    with pytest.raises(UsageError, match="unknown row 'vsep'"):
        opened.compare("vsep", "chance")
