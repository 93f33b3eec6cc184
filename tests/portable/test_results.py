"""Results of other projects and machines: taken in whole, on the same boards, or refused by file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_projects import Finish
from tiny_project import Call

import harness
from harness.config.project import load
from harness.diagnostics.looks import LOOKS
from harness.errors import DataError
from harness.evaluation.measures import mean_measures
from harness.evaluation.records import RANKINGS, RANKS, fold_ranks
from harness.files import npz
from harness.portable.record_checks import ranks_of
from harness.portable.results import REST, check, foreign_trials
from harness.tracking.logged import LOGGED
from harness.tracking.result_store import ResultStore
from harness.trial.folder import CHECKPOINT, EPOCHS, RESULT, SPEC
from harness.trial.results import TrialResult

Captured = pytest.CaptureFixture[str]
RUN = ("run", "--here", "--methods", "vsepp,chance", "--seeds", "0")
REFERENCE = Path(__file__).parents[2] / "reports" / "reference"
BOARD = Path("reports/tiny-all.md")


@pytest.fixture
def other(finish: Finish, tmp_path: Path) -> Path:
    """Another machine's project; the working folder has the same files, and nothing was run in it."""
    project = finish(RUN)
    place = tmp_path / "other"
    shutil.copytree(project, place)
    shutil.rmtree(project / "runs")
    shutil.rmtree(project / "reports")
    return place


def trials(project: Path) -> dict[str, Path]:
    folders = (project / "runs" / "trials").iterdir()
    return {json.loads((folder / SPEC).read_text())["method"]: folder for folder in folders if (folder / SPEC).exists()}


def answer(call: Call, capsys: Captured, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert call(*words, "--json") == 0, capsys.readouterr()
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def labels(entries: list[dict[str, Any]]) -> list[str]:
    return sorted(entry["label"] for entry in entries)


@pytest.mark.slow
def test_a_board_of_imported_results_is_that_of_the_machine_that_made_them_and_nothing_is_trained_again(
    other: Path, call: Call, capsys: Captured
) -> None:
    imported = answer(call, capsys, "import", str(other))
    assert labels(imported["imported"]) == ["chance/tiny/s0", "vsepp/tiny/s0"]
    assert call("report") == 0
    assert BOARD.read_bytes() == (other / BOARD).read_bytes()
    for name in (SPEC, RESULT, RANKS, RANKINGS, EPOCHS, CHECKPOINT):
        assert (trials(Path())["vsepp"] / name).read_bytes() == (trials(other)["vsepp"] / name).read_bytes()
    capsys.readouterr()
    assert call(*RUN) == 0
    assert "to run" not in capsys.readouterr().out
    assert len(ResultStore(load(Path("harness.toml")).tracking.uri or "sqlite:///runs/mlflow.db").runs()) == 2


@pytest.mark.parametrize("place", [".", "runs", "runs/trials"])
def test_a_project_its_results_folder_and_its_trials_mean_the_same(
    other: Path, place: str, call: Call, capsys: Captured
) -> None:
    assert len(answer(call, capsys, "import", str(other / place), "-n")["imported"]) == 2
    assert not Path("runs/trials").exists(), "a dry run copies nothing"


def test_one_trial_is_taken_from_its_own_folder_and_a_second_import_leaves_what_is_known(
    other: Path, call: Call, capsys: Captured
) -> None:
    folder = str(trials(other)["vsepp"])
    assert labels(answer(call, capsys, "import", folder, folder)["imported"]) == ["vsepp/tiny/s0"]
    again = answer(call, capsys, "import", str(other))
    assert (labels(again["imported"]), labels(again["known"])) == (["chance/tiny/s0"], ["vsepp/tiny/s0"])


@pytest.mark.slow
def test_what_boards_need_is_enough(other: Path, call: Call, capsys: Captured) -> None:
    """Results that are handed on as numbers alone: no weights, no rankings, no epochs, no note of a store."""
    for folder in trials(other).values():
        for file in folder.iterdir():
            if file.name not in (SPEC, RESULT, RANKS):
                file.unlink()
    assert len(answer(call, capsys, "import", str(other))["imported"]) == 2
    assert call("report") == 0
    table = BOARD.read_text().partition("## ")[0]
    assert table == (other / BOARD).read_text().partition("## ")[0]


def test_a_result_that_this_project_has_already_with_other_numbers_stays(
    other: Path, call: Call, capsys: Captured
) -> None:
    assert call("import", str(other)) == 0
    file = trials(Path())["vsepp"] / RESULT
    result = json.loads(file.read_text())
    result["measures"]["i2t_mean_rank"] += 1
    file.write_text(json.dumps(result))
    own = file.read_bytes()
    imported = answer(call, capsys, "import", str(other))
    assert labels(imported["other"]) == ["vsepp/tiny/s0"]
    assert (trials(Path())["vsepp"] / RESULT).read_bytes() == own


def test_nothing_of_an_attempt_that_was_cut_off_here_stays_beside_a_result_from_elsewhere(
    other: Path, call: Call, capsys: Captured
) -> None:
    """A result that was handed on as numbers alone, over what this project had begun of the same trial."""
    folder = trials(other)["vsepp"]
    own = Path("runs/trials") / folder.name
    shutil.copytree(folder, own, ignore=shutil.ignore_patterns(RESULT, LOGGED))
    (own / LOOKS).write_text('{"category": {"i2t_map": 99.0}}')
    for name in (EPOCHS, CHECKPOINT, RANKINGS):
        (folder / name).unlink()
    assert labels(answer(call, capsys, "import", str(folder))["imported"]) == ["vsepp/tiny/s0"]
    kept = {file.name: file.read_bytes() for file in own.iterdir() if file.name in REST}
    assert kept == {file.name: file.read_bytes() for file in folder.iterdir() if file.name in REST}


def test_of_two_folders_with_other_numbers_of_one_trial_the_first_is_taken_and_the_other_named(
    other: Path, tmp_path: Path, call: Call, capsys: Captured
) -> None:
    shutil.copytree(trials(other)["vsepp"], again := tmp_path / "again")
    with np.load(again / RANKS, allow_pickle=False) as arrays:
        (again / RANKS).write_bytes(npz(**{**arrays, "t2i_rank": np.maximum(1, arrays["t2i_rank"] // 2)}))
    result = TrialResult.model_validate_json((again / RESULT).read_bytes())
    measures = mean_measures(fold_ranks(ranks_of(again)[0]))
    (again / RESULT).write_text(result.model_copy(update={"measures": measures}).model_dump_json())
    imported = answer(call, capsys, "import", str(other), str(again))
    assert labels(imported["imported"]) == ["chance/tiny/s0", "vsepp/tiny/s0"]
    assert labels(imported["other"]) == ["vsepp/tiny/s0"]
    assert (trials(Path())["vsepp"] / RESULT).read_bytes() == (trials(other)["vsepp"] / RESULT).read_bytes()


def test_a_result_of_a_later_version_is_named_with_what_to_do(
    finish: Finish, tmp_path: Path, call: Call, capsys: Captured
) -> None:
    """On its board those of this version are stale."""
    theirs = tmp_path / "later"
    shutil.copytree(trials(finish(RUN))["vsepp"], theirs)
    for name in (RESULT, SPEC):
        content = json.loads((theirs / name).read_text())
        (content["spec"] if name == RESULT else content)["training_version"] = 99
        (theirs / name).write_text(json.dumps(content))
    key = TrialResult.model_validate_json((theirs / RESULT).read_text()).key
    imported = answer(call, capsys, "import", str(theirs))
    assert f"vsepp/tiny/s0 (trial {key}); update harness, or remove them" in imported["later"]
    assert call("report") == 0 and f"(trial {key}); update harness" in BOARD.read_text()


def test_trials_that_have_not_ended_well_are_left_out_by_reason(other: Path, call: Call, capsys: Captured) -> None:
    (trials(other)["vsepp"] / RESULT).unlink()
    file = trials(other)["chance"] / RESULT
    file.write_text(json.dumps(json.loads(file.read_text()) | {"state": "failed", "failure": "bug"}))
    imported = answer(call, capsys, "import", str(other))
    assert imported["imported"] == [] and imported["left_out"] == {"failed": 1, "not ended": 1}


@pytest.mark.slow
def test_trials_of_a_search_stay_with_their_study(finish: Finish, tmp_path: Path, call: Call, capsys: Captured) -> None:
    project = finish(("search", "--here", "--methods", "vsepp", "--trials", "1"))
    shutil.move(project / "runs", tmp_path / "searched")
    imported = answer(call, capsys, "import", str(tmp_path / "searched"))
    assert imported["imported"] == [] and imported["left_out"] == {"of a search, which stays with its study": 1}


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def exchange_ranks(file: Path) -> None:
    with np.load(file, allow_pickle=False) as arrays:
        values = dict(arrays)
    values["i2t_rank"] = np.ones_like(values["i2t_rank"])
    np.savez_compressed(file, **values)


def another_seed(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"seed": 7}))


def better_numbers(file: Path) -> None:
    result = json.loads(file.read_text())
    result["measures"]["t2i_r1"] = 99.0
    file.write_text(json.dumps(result))


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "cut result": (RESULT, cut, "no result of a trial"),
    "cut ranks": (RANKS, cut, "damaged"),
    "no ranks": (RANKS, Path.unlink, "no such file"),
    "other ranks": (RANKS, exchange_ranks, "gives i2t_r1 100.000"),
    "other numbers": (RESULT, better_numbers, "has t2i_r1 99.000"),
    "spec of another trial": (SPEC, another_seed, "of another trial"),
    "cut rankings": (RANKINGS, cut, "damaged"),
    "cut epochs": (EPOCHS, cut, "damaged"),
    "a folder for a file": (RANKS, a_folder, "it is a folder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_damaged_or_does_not_fit_is_named_and_nothing_is_taken(
    other: Path, fault: str, call: Call, capsys: Captured
) -> None:
    name, damage, message = FAULTS[fault]
    file = trials(other)["vsepp"] / name
    damage(file)
    capsys.readouterr()
    assert call("import", str(other)) == 3
    error = " ".join(capsys.readouterr().err.split())
    assert message in error and str(file.parent) in error
    assert "copy the folder again" in error or "put the file itself there" in error
    assert not Path("runs/trials").exists()


@pytest.mark.parametrize("place", ["nothing", "cards"])
def test_a_folder_without_trials_is_refused(other: Path, place: str, call: Call, capsys: Captured) -> None:
    assert call("import", place) == 3
    assert place in capsys.readouterr().err


def test_a_script_imports_as_the_command_does(other: Path) -> None:
    project = harness.open()
    imported = project.import_results(other)
    assert sorted(trial.result.spec.label for trial in imported.taken) == ["chance/tiny/s0", "vsepp/tiny/s0"]
    assert repr(imported) == "<2 trials taken, 0 known, 0 other, 0 left out>"
    assert len(project.results()) == 2
    (trials(other)["vsepp"] / RESULT).write_text("{")
    with pytest.raises(DataError, match="no result of a trial"):
        project.import_results(other)


def test_the_results_that_are_kept_for_the_reference_boards_are_whole() -> None:
    trials, left = foreign_trials([REFERENCE / "results"])
    assert trials and not left
    for trial in trials:
        check(trial)
        spec = trial.result.spec
        assert trial.folder.name == spec.key and spec.limit is None
        assert (REFERENCE / f"{spec.test_dataset}-{spec.protocol}.md").is_file(), spec.label
        assert {file.name for file in trial.folder.iterdir()} <= {SPEC, RESULT, RANKS, EPOCHS}, "numbers alone"
