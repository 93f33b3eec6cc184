"""`harness gc`: what nothing needs goes, what a board or a command needs stays, and nothing goes unasked."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from finished_projects import Finish
from tiny_project import Call

from harness.campaign import removal
from harness.campaign.driver import only_driver
from harness.config.project import load
from harness.retention.inventory import needed
from harness.tracking.store import default_uri, sqlite_file
from harness.tracking.tracker import Tracker

Captured = pytest.CaptureFixture[str]
RUN = ("run", "--here", "--methods", "vsepp,signalled", "--seeds", "0")
SEARCH = ("search", "--here", "--methods", "vsepp", "--trials", "1", "--campaign", "spring")


@pytest.fixture
def finished(finish: Finish) -> Path:
    return finish(RUN)


@pytest.fixture(autouse=True)
def places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary folders of other tests' commands are none of these."""
    empty = tmp_path_factory.mktemp("places")
    monkeypatch.setattr("harness.trial.private_folders.PLACES", (str(empty),))
    monkeypatch.setattr("tempfile.tempdir", str(empty))


def gc(call: Call, capsys: Captured, *flags: str) -> dict[str, Any]:
    capsys.readouterr()
    assert call("gc", "--json", *flags) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def goes(told: dict[str, Any]) -> dict[str, list[str]]:
    return {heap["name"]: [Path(item["path"]).name for item in heap["items"]] for heap in told["goes"]}


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def folder_of(project: Path, method: str) -> Path:
    results = (project / "runs" / "trials").glob("*/result.json")
    return next(file.parent for file in results if json.loads(file.read_text())["spec"]["method"] == method)


def test_in_a_fresh_project_nothing_goes_but_what_is_asked_for(finished: Path, call: Call, capsys: Captured) -> None:
    told = gc(call, capsys)
    assert goes(told) == {} and told["bytes"] == 0
    assert {heap["name"] for heap in told["could_go"]} == {"checkpoints", "cache"}
    assert {heap["name"] for heap in told["stays"]} >= {"trials", "tracking store", "reports"}
    before = files(finished / "runs" / "trials")
    assert not gc(call, capsys, "--yes")["goes"]
    assert files(finished / "runs" / "trials") == before


@pytest.mark.slow
def test_old_attempts_and_stale_trials_go_and_the_boards_stay(finished: Path, call: Call, capsys: Captured) -> None:
    assert call(*RUN[:2], "--methods", "vsepp", "--seeds", "0", "--force") == 0
    stale = folder_of(finished, "signalled")
    source = finished / "cards" / "faulty.py"
    source.write_text(source.read_text() + "\n# another source\n")
    assert not goes(gc(call, capsys)).get("stale trials"), "the only result of its method stands on the board"
    assert call(*RUN) == 0
    current = [one for one in (finished / "runs" / "trials").iterdir() if ".old-" not in one.name and one != stale]
    assert call("report") == 0
    board = (finished / "reports" / "tiny-all.md").read_text()
    told = gc(call, capsys)
    (old,) = (one.name for one in (finished / "runs" / "trials").glob("*.old-*"))
    assert goes(told) == {"stale trials": [stale.name], "old attempts": [old]}
    assert told["bytes"] > 1000 and stale.is_dir(), "nothing goes without --yes"
    kept = {one: files(one) for one in current}
    told = gc(call, capsys, "--yes")
    assert told["removed"] and not stale.exists() and not [*(finished / "runs" / "trials").glob("*.old-*")]
    assert {one: files(one) for one in current} == kept and not (finished / "runs" / ".gc").exists()
    assert call("report", "--check") == 0
    assert (finished / "reports" / "tiny-all.md").read_text() == board, "the stale row is still listed"
    capsys.readouterr()
    assert call(*RUN) == 0
    said = capsys.readouterr()
    assert "nothing to do" in said.out and "logged again" not in said.out + said.err
    assert goes(gc(call, capsys)) == {}


def test_an_old_attempt_without_a_newer_result_stays(finished: Path, call: Call, capsys: Captured) -> None:
    folder = folder_of(finished, "vsepp")
    folder.rename(folder.with_name(f"{folder.name}.old-1"))
    assert "old attempts" not in goes(gc(call, capsys))


def test_an_old_attempt_stays_where_the_newer_one_has_failed(finished: Path, call: Call, capsys: Captured) -> None:
    folder = folder_of(finished, "vsepp")
    old = folder.with_name(f"{folder.name}.old-1")
    shutil.copytree(folder, old)
    assert goes(gc(call, capsys)) == {"old attempts": [old.name]}
    result = json.loads((folder / "result.json").read_text())
    failed = {"state": "failed", "failure": "oom", "message": "no memory", "measures": {}}
    (folder / "result.json").write_text(json.dumps(result | failed))
    before = files(old)
    assert goes(gc(call, capsys, "--yes")) == {}
    assert files(old) == before, "the only result of its trial"


def test_nothing_goes_from_another_projects_folder_behind_a_link(
    finished: Path, tmp_path: Path, call: Call, capsys: Captured
) -> None:
    folder, theirs = folder_of(finished, "vsepp"), tmp_path / "another"
    folder.rename(theirs)
    folder.symlink_to(theirs)
    part = theirs / f".result.json.{2**22 + 1}-0123abcd.part"
    part.write_text("half")
    os.utime(part, (time.time() - 7200,) * 2)
    before = files(theirs)
    assert [len(items) for items in goes(gc(call, capsys, "--yes", "--checkpoints")).values()] == [1]
    assert files(theirs) == before and folder.is_symlink()
    assert not (folder_of(finished, "signalled") / "checkpoint.pt").exists(), "its own has gone"


def test_results_of_a_later_version_make_nothing_go_that_this_one_made(
    finished: Path, tmp_path: Path, call: Call, capsys: Captured
) -> None:
    """They make the others on their board stale, though a run of this version would make these again."""
    theirs = tmp_path / "later"
    shutil.copytree(folder_of(finished, "vsepp"), theirs)
    for name in ("result.json", "spec.json"):
        content = json.loads((theirs / name).read_text())
        (content["spec"] if name == "result.json" else content)["training_version"] = 99
        (theirs / name).write_text(json.dumps(content))
    assert call("import", str(theirs)) == 0 and call("report") == 0
    assert "trained by version 1 of the trainer" in (finished / "reports" / "tiny-all.md").read_text()
    assert goes(gc(call, capsys)) == {}


def test_trials_on_another_disk_behind_a_link_have_their_size(
    finished: Path, tmp_path: Path, call: Call, capsys: Captured
) -> None:
    trials = finished / "runs" / "trials"
    trials.rename(tmp_path / "disk")
    trials.symlink_to(tmp_path / "disk")
    told = gc(call, capsys)
    sizes = {heap["name"]: heap["bytes"] for heap in (*told["stays"], *told["could_go"])}
    whole = sum(file.stat().st_size for file in (tmp_path / "disk").rglob("*") if file.is_file())
    assert sizes["trials"] + sizes["checkpoints"] == whole > 1000


@pytest.mark.slow
def test_checkpoints_go_when_asked_for_and_those_of_searches_always(
    finish: Finish, call: Call, capsys: Captured
) -> None:
    project = finish(RUN, SEARCH)
    told = gc(call, capsys)
    assert {name: len(items) for name, items in goes(told).items()} == {"checkpoints of searches": 1}
    (mention,) = (heap["reason"] for heap in told["could_go"] if heap["name"] == "checkpoints")
    assert "explain" in mention and "ensembles" in mention
    gc(call, capsys, "--yes", "--checkpoints")
    assert not [*(project / "runs" / "trials").glob("*/checkpoint.pt")]
    assert len([*(project / "runs" / "trials").glob("*/result.json")]) == 3
    assert call(*SEARCH) == 0
    assert call(*RUN) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_what_is_unfinished_goes_only_where_no_command_would_continue_it(
    finished: Path, call: Call, capsys: Captured
) -> None:
    folder = folder_of(finished, "signalled")
    (folder / "result.json").unlink()
    assert "unfinished trials" not in goes(gc(call, capsys))
    source = finished / "cards" / "faulty.py"
    source.write_text(source.read_text() + "\n# another source\n")
    assert goes(gc(call, capsys))["unfinished trials"] == [folder.name]


@pytest.mark.slow
def test_artifacts_of_deleted_runs_and_half_written_files_go(finished: Path, call: Call, capsys: Captured) -> None:
    config = load(folder=finished)
    Tracker(default_uri(config)).forget([folder_of(finished, "signalled").name])
    shutil.rmtree(folder_of(finished, "signalled"))
    part = finished / "runs" / f".result.json.{2**22 + 1}-0123abcd.part"
    part.write_text("half")
    os.utime(part, (time.time() - 7200,) * 2)
    told = goes(gc(call, capsys))
    assert len(told["deleted runs"]) == 1 and told["half-written files"] == [part.name]
    (finished / "runs" / "older.db").write_text("")
    assert "deleted runs" not in goes(gc(call, capsys)), "another store may have them"
    (finished / "runs" / "older.db").unlink()
    assert call("report") == 0
    before = len([*(finished / "runs" / "artifacts").iterdir()])
    gc(call, capsys, "--yes")
    assert not part.exists() and len([*(finished / "runs" / "artifacts").iterdir()]) == before - 1 >= 1
    assert call("report", "--check") == 0


@pytest.mark.slow
def test_an_interrupted_removal_leaves_no_half_trial_and_the_next_one_goes_on(
    finished: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*RUN, "--force") == 0

    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(removal.shutil, "rmtree", interrupted)
        assert call("gc", "--yes") == 130
    assert len([*(finished / "runs" / "trials").glob("*.old-*")]) == 1
    assert len([*(finished / "runs" / removal.GRAVEYARD).iterdir()]) == 1
    assert {name: len(items) for name, items in goes(gc(call, capsys)).items()} == {
        "half-written files": 1,
        "old attempts": 1,
    }
    gc(call, capsys, "--yes")
    assert not (finished / "runs" / removal.GRAVEYARD).exists()
    assert goes(gc(call, capsys)) == {}


def test_nothing_is_removed_while_a_driver_is_at_work(finished: Path, call: Call, capsys: Captured) -> None:
    with only_driver(finished / "runs"):
        assert call("gc") == 0
        assert "another command is at work" in capsys.readouterr().out
        assert call("gc", "--yes", "--checkpoints") == 2
        assert "another harness is running" in capsys.readouterr().err
    assert len([*(finished / "runs" / "trials").glob("*/checkpoint.pt")]) == 2


@pytest.mark.slow
def test_the_page_says_sizes_reasons_and_the_next_command(finished: Path, call: Call, capsys: Captured) -> None:
    assert call(*RUN, "--force") == 0
    capsys.readouterr()
    assert call("gc") == 0
    out = capsys.readouterr().out
    assert "old attempts" in out and "kept by --force" in out and "--checkpoints" in out and "stays" in out
    assert "nothing was removed; harness gc --yes frees" in out


@pytest.mark.parametrize("uri", ["", "sqlite:///elsewhere/tracked.db"])
def test_the_tracking_store_has_its_size_wherever_it_lies(project: Path, uri: str) -> None:
    config = load(None, [f"tracking.uri={uri}"])
    database = sqlite_file(default_uri(config))
    database.parent.mkdir(parents=True, exist_ok=True)
    database.write_bytes(bytes(5000))
    database.with_name(f"{database.name}-wal").write_bytes(bytes(70))
    assert [(pile.name, pile.bytes) for pile in needed(config, ())] == [("tracking store", 5070)]


def test_where_nothing_was_ever_run_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("gc", "--yes") == 0
    assert not [*tmp_path.iterdir()]
