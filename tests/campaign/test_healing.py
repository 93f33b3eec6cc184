"""Trial folders and the tracking store heal each other, through the real command line and a real sqlite store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished_projects import Finish
from fresh_process import Fresh
from mlflow import MlflowClient
from mlflow.entities import Run
from tiny_project import Call, in_a_new_process

from harness.tracking.connection import EXPERIMENT
from harness.tracking.logged import examine

RUN = ("run", "--here", "--methods", "vsepp,chance", "--seeds", "0,1")
Captured = pytest.CaptureFixture[str]
FILES = ("spec.json", "result.json", "epochs.jsonl", "ranks.npz", "rankings.npz")


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that went well has printed."""
    assert done.returncode == 0, done.stderr
    return done.stdout


def client(project: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{project / 'runs' / 'mlflow.db'}")


def runs(project: Path, kind: str = "trial") -> list[Run]:
    """The runs of a project's store, read from a copy: of a file that was replaced MLflow would read the old one."""
    copy = Path(tempfile.mkdtemp(dir=project))
    for file in (project / "runs").glob("mlflow.db*"):
        shutil.copy2(file, copy)
    own = MlflowClient(tracking_uri=f"sqlite:///{copy / 'mlflow.db'}")
    experiment = own.get_experiment_by_name(EXPERIMENT)
    assert experiment
    return list(own.search_runs([experiment.experiment_id], f"tags.`harness.kind` = '{kind}'"))


def keys(project: Path) -> list[str]:
    return sorted(run.data.tags["harness.key"] for run in runs(project))


def folders(project: Path) -> dict[str, Path]:
    return {folder.name: folder for folder in sorted((project / "runs" / "trials").iterdir())}


def boards(project: Path) -> dict[str, bytes]:
    """The leaderboards; the pages of their rows name runs by the ids that MLflow gives them."""
    return {file.name: file.read_bytes() for file in sorted((project / "reports").glob("*.md"))}


def results(project: Path) -> dict[str, bytes]:
    return {key: (folder / "result.json").read_bytes() for key, folder in folders(project).items()}


@pytest.fixture
def finished(finish: Finish) -> Path:
    """A project whose campaign of four trials is done, logged and reported."""
    return finish(RUN)


def gone(store: Path) -> None:
    for file in store.parent.glob("mlflow.db*"):
        file.unlink()


def gone_with_artifacts(store: Path) -> None:
    gone(store)
    shutil.rmtree(store.parent / "artifacts")


def emptied(store: Path) -> None:
    gone(store)
    store.touch()


def long_ones(*values: object) -> list[Any]:
    """Cases of a kind of which one is enough for the fast tests."""
    return [pytest.param(value, marks=pytest.mark.soak) for value in values]


@pytest.mark.slow
@pytest.mark.parametrize("loss", [gone, *long_ones(gone_with_artifacts, emptied)], ids=lambda loss: loss.__name__)
def test_a_store_that_was_lost_is_filled_again_from_the_folders(
    finished: Path, fresh: Fresh, loss: Callable[[Path], None]
) -> None:
    before, known, pages = results(finished), keys(finished), boards(finished)
    loss(finished / "runs" / "mlflow.db")
    shutil.rmtree(finished / "reports")
    status = ("status", "--json", *RUN[2:])
    assert not any(trial["logged"] for trial in json.loads(said(fresh(*status)))["trials"])
    assert "4 trials" in said(fresh(*RUN))
    assert keys(finished) == known and results(finished) == before, "logged once each, and nothing is trained again"
    assert boards(finished) == pages
    assert all(trial["logged"] for trial in json.loads(said(fresh(*status)))["trials"])


def halved(store: Path) -> None:
    os.truncate(store, store.stat().st_size // 2)


def zeroed(store: Path) -> None:
    store.write_bytes(bytes(store.stat().st_size))


def garbage(store: Path) -> None:
    store.write_bytes(bytes(range(255, -1, -1)) * (store.stat().st_size // 256))


def hole(store: Path) -> None:
    """Overwrite the middle half of a store, so that it still begins as a database."""
    size = store.stat().st_size
    with store.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xa5" * (size // 2))


@pytest.mark.slow
@pytest.mark.parametrize("damage", [halved, *long_ones(zeroed, garbage, hole)], ids=lambda damage: damage.__name__)
def test_a_damaged_store_is_moved_away_as_the_error_says_and_filled_again(
    finished: Path, fresh: Fresh, damage: Callable[[Path], None]
) -> None:
    before, known, pages = results(finished), keys(finished), boards(finished)
    store = finished / "runs" / "mlflow.db"
    damage(store)
    content = store.read_bytes()
    for words in (RUN, ("report",)):
        done = fresh(*words)
        assert done.returncode == 6, done.stderr
        assert f"it is damaged: move {store} away, and the next `harness run` fills another" in done.stderr
        assert len(done.stderr.splitlines()) == 1 and store.read_bytes() == content
    store.rename(finished / "damaged.db")
    done = fresh(*RUN)
    assert done.returncode == 0 and "4 trials" in done.stdout, done.stderr
    assert (keys(finished), results(finished), boards(finished)) == (known, before, pages), "and nothing is run again"


@pytest.mark.soak
def test_every_command_that_reads_a_damaged_store_says_what_to_do(finished: Path, fresh: Fresh) -> None:
    garbage(finished / "runs" / "mlflow.db")
    name = "vsepp/tiny/s0"
    commands = (
        ("reproduce", name, "-n"),
        ("compare", "vsepp", "chance"),
        ("export", name, "--format", "csv"),
        ("forget", name, "-y"),
        ("search", "--here", "--methods", "vsepp", "--trials", "1"),
    )
    for words in commands:
        done = fresh(*words)
        assert (done.returncode, "it is damaged: move " in done.stderr) == (6, True), (words, done.stderr)
    done = fresh("status", "--json")
    assert done.returncode == 0 and "it is damaged: move " in done.stderr, "the folders are shown"
    assert not any(trial["logged"] for trial in json.loads(done.stdout)["trials"])


@pytest.mark.slow
def test_a_store_replaced_by_an_older_one_gets_what_it_lacks(finished: Path, fresh: Fresh, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    shutil.copy2(finished / "runs" / "mlflow.db", backup)
    said(fresh(*RUN[:-1], "2"))
    known, pages = keys(finished), boards(finished)
    gone(finished / "runs" / "mlflow.db")
    shutil.copy2(backup, finished / "runs" / "mlflow.db")
    said(fresh(*RUN[:-1], "2"))
    assert keys(finished) == known and len(known) == 6
    said(fresh("report"))
    assert boards(finished) == pages


@pytest.mark.slow
def test_a_run_deleted_in_mlflow_is_logged_again(finished: Path, call: Call, capsys: Captured) -> None:
    run = runs(finished)[0]
    client(finished).delete_run(run.info.run_id)
    before = results(finished)
    assert call("report") == 0
    assert "the tracking store has lost 1 result;" in capsys.readouterr().err
    assert call(*RUN) == 0
    assert "1 trial" in capsys.readouterr().out
    (again,) = [other for other in runs(finished) if other.data.tags["harness.key"] == run.data.tags["harness.key"]]
    assert again.data.tags["harness.result"] == run.data.tags["harness.result"] and results(finished) == before


@pytest.mark.soak
def test_results_that_are_not_of_this_command_come_back_under_their_own_campaigns(finished: Path, fresh: Fresh) -> None:
    changes = ("-s", "settings.vsepp.margin=0.3", "-s", "campaign.name=other")
    said(fresh("run", "--here", "--methods", "vsepp", *changes))
    campaigns = sorted((run.data.tags["harness.key"], run.data.tags["harness.campaign"]) for run in runs(finished))
    gone(finished / "runs" / "mlflow.db")
    said(fresh("run", "--here", "--methods", "chance"))
    assert (
        sorted((run.data.tags["harness.key"], run.data.tags["harness.campaign"]) for run in runs(finished)) == campaigns
    )
    assert len(runs(finished, "campaign")) == 2


def test_a_dry_run_tells_what_the_store_lacks_and_writes_nothing(finished: Path, call: Call, capsys: Captured) -> None:
    gone(finished / "runs" / "mlflow.db")
    assert call("report") == 6
    assert "`harness run` makes it, and logs what lies in the folders" in capsys.readouterr().err
    assert call(*RUN, "-n") == 0
    assert "has lost 4 results" in capsys.readouterr().out
    assert not (finished / "runs" / "mlflow.db").exists()


@pytest.mark.slow
def test_a_store_that_was_left_as_it_is_now_is_not_asked(finished: Path) -> None:
    text, libraries = in_a_new_process(*RUN)
    assert "nothing to do" in text and not libraries & {"mlflow", "torch", "ray"}


@pytest.mark.slow
def test_a_store_that_another_program_wrote_to_is_asked_once(finished: Path) -> None:
    script = """
import sys
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=sys.argv[1])
run, *_ = client.search_runs(["1"])
client.set_tag(run.info.run_id, "mlflow.note.content", "read")
"""
    uri = f"sqlite:///{finished / 'runs' / 'mlflow.db'}"
    subprocess.run(
        [sys.executable, "-c", script, uri], check=True, env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    )
    _, first = in_a_new_process(*RUN)
    _, second = in_a_new_process(*RUN)
    assert "mlflow" in first and "mlflow" not in second


# --- artifacts


def artifacts(project: Path) -> list[Path]:
    return sorted((project / "runs" / "artifacts").glob("*/artifacts/*"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "garbage": lambda file: file.write_bytes(os.urandom(300)),
    "digit": lambda file: file.write_bytes(file.read_bytes()[:-1] + b"7"),
    "folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_artifacts_that_were_damaged_are_copied_again_from_the_folder(
    finished: Path, call: Call, damage: Callable[[Path], object]
) -> None:
    before = {file: file.read_bytes() for file in artifacts(finished)}
    known = keys(finished)
    for name in FILES:
        for file in [file for file in before if file.name == name][:1]:
            damage(file)
    assert call(*RUN) == 0
    assert {file: file.read_bytes() for file in artifacts(finished) if file.is_file()} == before
    assert keys(finished) == known


# --- folders


def test_folders_that_are_gone_come_back_from_the_store_and_nothing_is_trained_again(
    finished: Path, call: Call, capsys: Captured
) -> None:
    before, known, pages = results(finished), keys(finished), boards(finished)
    files = {
        (key, name): (folder / name).read_bytes()
        for key, folder in folders(finished).items()
        for name in FILES[2:]
        if (folder / name).exists()
    }
    shutil.rmtree(finished / "runs" / "trials")
    assert call(*RUN) == 0
    assert "taken from the tracking store" in capsys.readouterr().out
    assert results(finished) == before and keys(finished) == known and boards(finished) == pages
    for (key, name), content in files.items():
        assert (folders(finished)[key] / name).read_bytes() == content
    _, libraries = in_a_new_process(*RUN)
    assert not libraries & {"mlflow", "torch"}


@pytest.mark.slow
def test_a_folder_is_not_taken_from_a_store_that_has_lost_its_ranks(finished: Path, call: Call) -> None:
    before = json.loads(next(iter(results(finished).values())))
    shutil.rmtree(finished / "runs" / "trials")
    shutil.rmtree(finished / "runs" / "artifacts")
    assert call(*RUN) == 0
    after = json.loads(results(finished)[next(iter(folders(finished)))])
    assert all((folder / "ranks.npz").is_file() for folder in folders(finished).values()), "trained again"
    assert after["measures"].keys() == before["measures"].keys()


@pytest.mark.slow
def test_a_forced_run_is_not_answered_by_the_store(finished: Path, call: Call) -> None:
    folder = next(iter(folders(finished).values()))
    assert call(*RUN, "--force") == 0
    assert len(runs(finished)) == 8 and folder.with_name(f"{folder.name}.old-1").is_dir()


def measures(project: Path) -> dict[str, object]:
    return {key: json.loads(text)["measures"] for key, text in results(project).items()}


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["garbage", *long_ones("empty", "folder")])
def test_whatever_file_of_a_results_folder_is_damaged_the_same_command_gives_the_same_results(
    finished: Path, call: Call, damage: str
) -> None:
    before, known, pages = measures(finished), keys(finished), boards(finished)
    own = [finished / "runs" / "cache", *folders(finished).values()]
    files = sorted(file for folder in own for file in folder.rglob("*") if file.is_file())
    files += [finished / "runs" / name for name in ("commands.json", ".owner.json")]
    assert {file.name for file in files} > {"logged.json", "result.json", "checkpoint.pt", "store.json"}
    for file in files:
        DAMAGES[damage](file)
        assert call(*RUN) == 0, file
        assert measures(finished) == before, file
        assert call("status") == 0, file
    assert keys(finished) == known and boards(finished) == pages
    assert call(*RUN, "-n") == 0


# --- projects that move


@pytest.mark.slow
def test_a_project_that_was_moved_goes_on(
    finished: Path,
    call: Call,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    known, pages = keys(finished), boards(finished)
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    shutil.copytree(finished, moved)
    shutil.rmtree(finished / "runs")
    monkeypatch.chdir(moved)
    assert call("report", "--check") == 0, "intervals, groups and curves are there"
    assert call(*RUN) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert keys(moved) == known
    assert call("compare", "vsepp", "chance") == 0
    assert call("resume") == 0
    assert call(*RUN[:-1], "0,1,2") == 0
    assert len(keys(moved)) == 6 and len(artifacts(moved)) > len(artifacts(finished)) == 0
    assert call(*RUN[:-1], "0,1") == 0
    assert not set(boards(moved)) ^ set(pages)


def test_a_copy_with_new_times_lacks_nothing(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(finished, copy, copy_function=shutil.copy)
    assert {file.stat().st_mtime_ns for file in artifacts(copy)}.isdisjoint(
        file.stat().st_mtime_ns for file in artifacts(finished)
    )
    uri = f"sqlite:///{copy / 'runs' / 'mlflow.db'}"
    assert examine(copy / "runs", uri) == frozenset()
    damaged = next(file for file in artifacts(copy) if file.name == "ranks.npz")
    damaged.write_bytes(damaged.read_bytes() + b" ")
    assert len(examine(copy / "runs", uri)) == 1


@pytest.mark.slow
def test_a_copy_of_a_project_leaves_the_first_alone(
    finished: Path, call: Call, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, known = {file: file.read_bytes() for file in artifacts(finished)}, keys(finished)
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(finished, copy)
    monkeypatch.chdir(copy)
    assert call(*RUN, "--force") == 0
    assert {file: file.read_bytes() for file in artifacts(finished)} == before and keys(finished) == known
    assert len(artifacts(copy)) == 2 * len(before)
