"""Results are removed by a command of their own, from folders and store, and are not healed back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from finished_projects import Finish
from tiny_project import Call

from harness.campaign.driver import only_driver

Captured = pytest.CaptureFixture[str]
RUN = ("run", "--here", "--methods", "vsepp,chance", "--seeds", "0,1")


@pytest.fixture
def finished(finish: Finish) -> Path:
    return finish(RUN)


def labels(project: Path) -> list[str]:
    results = (json.loads(file.read_text()) for file in (project / "runs" / "trials").glob("*/result.json"))
    return sorted(f"{one['spec']['method']}/s{one['spec']['seed']}" for one in results)


@pytest.mark.slow
def test_a_method_is_removed_from_folders_store_and_boards_and_run_again_when_asked_for(
    finished: Path, call: Call, capsys: Captured
) -> None:
    assert call("forget", "chance", "--yes") == 0
    assert labels(finished) == ["vsepp/s0", "vsepp/s1"]
    assert call("report") == 0
    assert "chance" not in (finished / "reports" / "tiny-all.md").read_text().partition("\n## ")[0]
    assert call("run", "--here", "--methods", "vsepp", "--seeds", "0,1") == 0
    assert labels(finished) == ["vsepp/s0", "vsepp/s1"], "nothing brings it back"
    capsys.readouterr()
    assert call(*RUN) == 0
    out = capsys.readouterr().out
    assert "2 trials to run" in out and "taken from" not in out and "logged again" not in out
    assert len(labels(finished)) == 4


def test_a_trial_is_removed_by_its_name_or_the_start_of_its_key(finished: Path, call: Call) -> None:
    assert call("forget", "vsepp/tiny/s0", "-y") == 0
    assert labels(finished) == ["chance/s0", "chance/s1", "vsepp/s1"]
    (key,) = [
        folder.name
        for folder in (finished / "runs" / "trials").iterdir()
        if (spec := json.loads((folder / "spec.json").read_text())) and (spec["method"], spec["seed"]) == ("vsepp", 1)
    ]
    assert call("forget", key[:8], "-y") == 0
    assert labels(finished) == ["chance/s0", "chance/s1"]


@pytest.mark.slow
def test_trials_are_listed_with_state_rsum_and_the_key_that_other_commands_take(
    finished: Path, call: Call, capsys: Captured
) -> None:
    capsys.readouterr()
    assert call("list", "trials", "--json") == 0
    trials = json.loads(capsys.readouterr().out)
    assert [one["label"] for one in trials] == ["chance/tiny/s0", "chance/tiny/s1", "vsepp/tiny/s0", "vsepp/tiny/s1"]
    result = json.loads((finished / "runs" / "trials" / trials[2]["key"] / "result.json").read_text())
    assert trials[2]["rsum"] == result["measures"]["rsum"] and trials[2]["state"] == "done"
    assert call("list", "trials") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("vsepp/tiny/s0" in line and trials[2]["key"] in line for line in lines)
    assert call("forget", trials[2]["key"], "-y") == 0
    capsys.readouterr()
    assert call("list", "trials", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert call("list", "--json") == 0
    assert "trials" not in json.loads(capsys.readouterr().out), "cards alone"


def test_a_folder_without_trials_says_so(
    tmp_path: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("list", "trials") == 0
    assert "no trial in runs/trials yet" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_nothing_is_removed_before_the_answer_and_what_would_be_is_listed(
    finished: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("forget", "chance", "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [trial["label"] for trial in told["trials"]] == ["chance/tiny/s0", "chance/tiny/s1"]
    assert all(trial["in_store"] and len(trial["folders"]) == 1 for trial in told["trials"])
    assert call("forget", "chance") == 2
    assert "say yes with --yes" in capsys.readouterr().err, "nobody is there"
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda *_args, **_more: False)
    assert call("forget", "chance") == 2
    assert "nothing was removed" in capsys.readouterr().err
    assert len(labels(finished)) == 4


@pytest.mark.slow
def test_old_folders_of_forced_runs_go_too(finished: Path, call: Call) -> None:
    assert call("run", "--here", "--methods", "chance", "--force") == 0
    assert list((finished / "runs" / "trials").glob("*.old-1"))
    assert call("forget", "chance", "-y") == 0
    assert not list((finished / "runs" / "trials").glob("*.old-1"))


def test_a_result_that_lies_in_the_store_alone_or_in_a_folder_alone_is_removed(finished: Path, call: Call) -> None:
    for folder in (finished / "runs" / "trials").iterdir():
        if json.loads((folder / "spec.json").read_text())["method"] == "chance":
            shutil.rmtree(folder)
    assert call("forget", "chance", "-y") == 0
    for file in (finished / "runs").glob("mlflow.db*"):
        file.unlink()
    assert call("forget", "vsepp", "-y") == 0
    assert labels(finished) == []


def test_the_cache_is_removed_alone(finished: Path, call: Call) -> None:
    assert call("forget", "--cache", "-y") == 0
    assert not (finished / "runs" / "cache").exists() and len(labels(finished)) == 4
    assert call(*RUN) == 0


def test_the_cache_goes_under_the_lock_of_the_results_folder_alone(
    finished: Path, call: Call, capsys: Captured
) -> None:
    with only_driver(finished / "runs"):
        assert call("forget", "--cache", "--yes") == 2
    assert "another harness is running" in capsys.readouterr().err and [*(finished / "runs" / "cache").iterdir()]
    assert call("forget", "--cache", "--yes") == 0
    out = capsys.readouterr().out
    assert "kB of cache removed" in out and "boards" not in out
    assert call("forget", "--cache", "--yes") == 0
    assert "nothing was removed: the cache is empty" in capsys.readouterr().out


def test_a_cache_on_another_disk_is_emptied_and_stays_where_it_is(
    finished: Path, call: Call, tmp_path_factory: pytest.TempPathFactory
) -> None:
    far, cache = tmp_path_factory.mktemp("far") / "cache", finished / "runs" / "cache"
    shutil.move(cache, far)
    cache.symlink_to(far)
    assert [*far.iterdir()] and call("forget", "--cache", "--yes") == 0
    assert cache.is_symlink() and not [*far.iterdir()]


def test_a_trial_whose_folder_is_a_link_to_another_disk_is_removed_and_not_logged_again(
    finished: Path, call: Call, capsys: Captured, tmp_path_factory: pytest.TempPathFactory
) -> None:
    far = tmp_path_factory.mktemp("far")
    for result in [*(finished / "runs" / "trials").glob("*/result.json")]:
        if json.loads(result.read_text())["spec"]["method"] == "chance":
            shutil.move(result.parent, far)
            result.parent.symlink_to(far / result.parent.name)
    assert call("forget", "chance", "--yes") == 0
    assert "2 trials removed; `harness report` writes the boards without them" in capsys.readouterr().out
    assert labels(finished) == ["vsepp/s0", "vsepp/s1"] and len([*far.iterdir()]) == 2, "the link, not what it leads to"
    assert call("run", "--here", "--methods", "vsepp", "--seeds", "0,1") == 0
    assert "logged again" not in capsys.readouterr().out
    assert call("forget", "chance", "--yes") == 2, "the store has it no longer"


def test_a_name_that_means_nothing_is_refused_with_its_neighbours(finished: Path, call: Call, capsys: Captured) -> None:
    assert call("forget", "chanse", "-y") == 2
    assert "did you mean chance" in capsys.readouterr().err
    assert call("forget") == 2
    assert len(labels(finished)) == 4
