"""Ensembles: the mean of members' scores as a row of its own, made of trained members and of nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from finished_projects import Finish
from sample_results import spec_of
from textbook_recalls import textbook
from tiny_project import Call

from harness.board.standings import Board, boards_of
from harness.campaign.plan import Plan, plan
from harness.config.project import load
from harness.config.registry import discover
from harness.config.selection import Selection, name_of_result
from harness.errors import DataError
from harness.evaluation.scoring import score_split
from harness.executors.file_transfer import RemoteWorker, unpack
from harness.layouts.opening import open_dataset
from harness.tracking.result_store import ResultStore
from harness.trial import combining
from harness.trial.device import choose_device
from harness.trial.ensembles import added_costs, ensemble_spec, is_ensemble
from harness.trial.folder import CHECKPOINT, RESULT, read_result
from harness.trial.models import build_method, load_best
from harness.trial.results import RECALLS, Assignment, EpochReport, Failure, State, TrialResult

Captured = pytest.CaptureFixture[str]
NAME = "chance+vsepp"
RUN = ("run", "--here", "--seeds", "0,1", "--methods")


@pytest.fixture
def singles(finish: Finish) -> Path:
    """A project in which both members are done, by themselves."""
    return finish((*RUN, "vsepp,chance"))


@pytest.fixture
def ensembles(finish: Finish) -> Path:
    """A project with two members of two seeds and their ensembles."""
    return finish((*RUN, "vsepp+chance"))


def planned(methods: str = NAME, seeds: tuple[int, ...] = (0, 1), **more: frozenset[Failure]) -> Plan:
    config = load()
    return plan(config, discover(config), Selection((methods,), seeds=seeds), **more)


def ensemble_of(trials: Plan, seed: int = 0) -> Assignment:
    (one,) = (trial.assignment for trial in trials.trials if is_ensemble(trial.spec) and trial.spec.seed == seed)
    return one


def result_of(assignment: Assignment) -> TrialResult:
    result = read_result(assignment.folder)
    assert result is not None
    return result


def board() -> Board:
    config = load()
    runs = ResultStore(f"sqlite:///{Path('runs/mlflow.db').absolute()}").runs()
    (one,) = boards_of(runs, discover(config).methods)
    return one


def written(assignments: Iterable[Assignment]) -> dict[Path, int]:
    """When each file of some trials was written."""
    return {file: file.stat().st_mtime_ns for one in assignments for file in one.folder.iterdir()}


def test_an_ensemble_is_the_mean_of_its_members_scores_as_numpy_has_it(ensembles: Path) -> None:
    for seed in (0, 1):
        one = ensemble_of(planned(), seed)
        dataset = open_dataset(one.dataset_card, one.data, one.cache)
        split, matrices = dataset.split("test"), []
        for member in one.members:
            method = build_method(member.method_card, member.spec.settings, dataset, seed)
            if member.spec.training.epochs:
                load_best(method, member.folder, member.name, member.spec.key)
            matrices.append(score_split(method, split, choose_device("cpu")).scores)
            own = textbook(matrices[-1], split)
            assert {name: result_of(member).measures[name] for name in RECALLS} == pytest.approx(own)
        expected = textbook(np.mean(matrices, axis=0), split)
        assert {name: result_of(one).measures[name] for name in RECALLS} == pytest.approx(expected)


@pytest.mark.slow
def test_members_that_are_done_are_not_trained_again_and_the_order_of_names_says_nothing(
    singles: Path, call: Call, capsys: Captured
) -> None:
    members = ensemble_members()
    before = written(members)
    assert call(*RUN, "vsepp+chance") == 0
    assert "2 trials to run, 4 done" in capsys.readouterr().out
    assert written(members) == before
    assert call(*RUN, "chance+vsepp,vsepp,vsepp+chance") == 0
    assert "nothing to do: 6 trials done" in capsys.readouterr().out


def ensemble_members() -> list[Assignment]:
    return [member for seed in (0, 1) for member in ensemble_of(planned(), seed).members]


def test_an_ensemble_stands_in_a_section_of_its_own_with_the_costs_of_all_members(ensembles: Path) -> None:
    (row,) = board().ensembles
    assert (row.method, row.n, row.is_composite) == (NAME, 2, True)
    assert sorted(other.method for other in board().ranked) == ["chance", "vsepp"]
    one = ensemble_of(planned())
    costs = [result_of(member).cost for member in one.members]
    cost = result_of(one).cost
    assert cost["parameters"] == sum(own["parameters"] for own in costs) > 0
    assert cost["seconds"] == pytest.approx(sum(own["seconds"] for own in costs))
    seconds = sum(1 / own["score_pairs_per_second"] for own in costs)
    assert cost["score_pairs_per_second"] == pytest.approx(1 / seconds)
    assert cost["peak_memory_mb"] == max(own["peak_memory_mb"] for own in costs)


def test_a_cost_that_a_member_lacks_is_left_out_and_one_that_trains_nothing_takes_no_time() -> None:
    costs = added_costs([{"parameters": 3.0, "train_pairs_per_second": 0.0}, {"train_pairs_per_second": 50.0}])
    assert costs == {"train_pairs_per_second": 50.0}


def test_the_plan_shows_ensembles_behind_their_members(project: Path, call: Call, capsys: Captured) -> None:
    assert call("run", "--methods", "vsepp+chance", "-n", "--json") == 0
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert [trial["label"] for trial in trials] == ["chance/tiny/s0", "vsepp/tiny/s0", "chance+vsepp/tiny/s0"]


@pytest.mark.slow
def test_an_ensemble_of_a_failed_member_is_not_made_and_names_it(project: Path, call: Call, capsys: Captured) -> None:
    words = ("run", "--here", "--methods", "chance+nan")
    assert call(*words) == 4
    out = " ".join(capsys.readouterr().out.split())
    assert "not made, as its member nan/tiny/s0 has failed (nonfinite)" in out and "2 failed" in out
    assert call(*words) == 4
    assert "2 failed, nothing else to do" in capsys.readouterr().out
    again = planned("chance+nan", (0,), retry=frozenset({Failure.NONFINITE}))
    assert [trial.state for trial in again.trials] == ["done", "retry", "retry"]
    (row,) = (row for row in board().incomplete if row.is_composite)
    assert "failed (member)" in row.reason


@pytest.mark.slow
def test_a_member_without_its_weights_is_named_and_not_trained_again(
    singles: Path, call: Call, capsys: Captured
) -> None:
    member = next(member for member in ensemble_members() if member.spec.method == "vsepp")
    (member.folder / CHECKPOINT).unlink()
    assert call(*RUN, NAME) == 4
    assert "run vsepp/tiny/s0 again with --force" in " ".join(capsys.readouterr().out.split())
    assert not (member.folder / CHECKPOINT).exists()


@pytest.mark.slow
def test_a_member_with_the_weights_of_another_trial_is_named(singles: Path, call: Call, capsys: Captured) -> None:
    mine, other = (member for member in ensemble_members() if member.spec.method == "vsepp")
    shutil.copyfile(other.folder / CHECKPOINT, mine.folder / CHECKPOINT)
    assert call(*RUN, NAME) == 4
    assert f"{CHECKPOINT} is damaged; run {mine.name} again" in " ".join(capsys.readouterr().out.split())
    assert call("retrieve", "--trial", mine.name, "--text", "a red square") == 3
    assert f"{CHECKPOINT} is damaged; run {mine.name} again" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_scores_that_are_too_many_to_hold_fail_the_ensemble_and_say_so(
    singles: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combining, "MATRIX_BYTES", 100)
    assert call(*RUN, NAME) == 4
    assert "8 x 32 scores are too many to hold" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_an_ensemble_that_was_cut_off_is_made_by_the_next_run(
    singles: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(combining, "ranked", cut_off)
        assert call(*RUN, NAME) == 130
    one = ensemble_of(planned())
    assert not (one.folder / RESULT).exists()
    capsys.readouterr()
    assert call(*RUN, NAME) == 0
    assert result_of(one).state is State.DONE


def cut_off(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_ensemble_on_another_node_gets_the_files_of_its_members(ensembles: Path, tmp_path: Path) -> None:
    one = ensemble_of(planned())
    there = one.model_copy(update={"folder": tmp_path / "there"})
    worker = RemoteWorker()
    reply = worker.begin(there, worker.files_for(there))
    while isinstance(reply.outcome, EpochReport):
        reply = worker.step(True)
    unpack(reply.files, there.folder)
    assert result_of(there).measures == result_of(one).measures


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vsepp+nosuch", "unknown method 'nosuch'"),
        ("vsepp+", "two or more methods with + between them"),
        ("vsepp+vsepp", "vsepp is named twice"),
        ("vsepp+chan*", "chan* is a glob; name each member of an ensemble in full"),
    ],
)
def test_a_wrong_ensemble_is_refused(project: Path, call: Call, capsys: Captured, name: str, words: str) -> None:
    assert call("run", "--methods", name) == 2
    assert words in capsys.readouterr().err
    assert not Path("runs/trials").exists()


def test_an_ensemble_is_not_searched_reproduced_or_explained(ensembles: Path, call: Call, capsys: Captured) -> None:
    for words, why in (
        (("search", "--methods", NAME), "an ensemble has no settings to search; search its members (chance,vsepp)"),
        (("reproduce", f"{NAME}/tiny/s0"), "reproduce its members (chance, vsepp)"),
        (("explain", "--method", NAME, "--image", "x"), f"{NAME} is an ensemble"),
    ):
        assert call(*words) == 2
        assert why in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"data_fingerprint": "ef" * 32}, {"protocol": "half"}, {"limit": 5}, {"seed": 3}])
def test_members_of_other_data_or_protocol_are_named(change: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"vsepp/scenes/s\d is no member of an ensemble or .* with caan/scenes/s0"):
        ensemble_spec([spec_of("caan"), spec_of("vsepp", **change)])  # type: ignore[arg-type]


def test_an_ensemble_is_another_one_where_a_member_has_changed() -> None:
    members = [spec_of("caan"), spec_of("vsepp")]
    key = ensemble_spec(members).key
    assert ensemble_spec(members[::-1]).key == key
    for change in ({"settings": {"dim": 1}}, {"source": "ef" * 32}):
        assert ensemble_spec([members[0], members[1].model_copy(update=change)]).key != key
    seeds = [ensemble_spec([spec.model_copy(update={"seed": seed}) for spec in members]) for seed in (0, 1)]
    assert seeds[0].key != seeds[1].key and seeds[0].recipe == seeds[1].recipe


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("b+a", "a+b"),
        ("b+a+c/scenes/s0", "a+b+c/scenes/s0"),
        ("b+a (dim 64)", "a+b (dim 64)"),
        ("external:x+a", "external:x+a"),
        ("CLIP L + B", "CLIP L + B"),
        ("vsepp/scenes/s0", "vsepp/scenes/s0"),
    ],
)
def test_a_name_has_its_members_in_any_order_but_what_is_no_ensemble_of_ours_as_it_stands(text: str, name: str) -> None:
    assert name_of_result(text) == name


@pytest.mark.parametrize("name", [NAME, "vsepp+chance"])
def test_other_commands_take_an_ensemble_by_its_name(ensembles: Path, call: Call, capsys: Captured, name: str) -> None:
    assert call("compare", name, "vsepp", "--json") == 0
    (comparison,) = json.loads(capsys.readouterr().out)
    assert comparison["sides"][0]["name"] == f"{NAME} (n = 2)"
    assert call("status", "--methods", name, "--seeds", "0", "--json") == 0
    assert [trial["state"] for trial in json.loads(capsys.readouterr().out)["trials"]] == ["done"] * 3
    assert call("export", name, "--format", "csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 2
    assert call("forget", f"{name}/tiny/s0", "-y") == 0
    states = {trial.spec.label: trial.state for trial in planned().trials}
    assert [label for label, state in states.items() if state == "new"] == [f"{NAME}/tiny/s0"]
