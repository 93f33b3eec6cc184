"""Trials on nodes without the results folder: the files arrive, and a trial goes on elsewhere to the same bits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from toy_trials import counting, toy_assignment

from harness.config.sections import Cluster
from harness.executors import file_transfer
from harness.executors.executor import InProcess, Reply
from harness.executors.file_transfer import RemoteWorker, unpack
from harness.executors.ray_cluster import RayExecutor
from harness.trial.checkpoint import load_checkpoint
from harness.trial.folder import CHECKPOINT, RESULT, read_epochs, read_result
from harness.trial.results import Assignment, EpochReport, Failure, State


def carried(assignment: Assignment, epochs: int = 99) -> Reply:
    """A trial on a node of its own, its files kept in the assignment's folder: to its end, or lost after an epoch."""
    worker = RemoteWorker()
    reply = worker.begin(assignment, worker.files_for(assignment))
    while True:
        unpack(reply.files, assignment.folder)
        if not isinstance(reply.outcome, EpochReport) or (reply.outcome.epoch == epochs):
            return reply
        reply = worker.step(True)


@pytest.fixture
def trial(project: Path) -> Assignment:
    """A real trial on the tiny dataset of a project."""
    from harness.campaign.plan import plan
    from harness.config.project import load
    from harness.config.registry import discover

    config = load(project / "harness.toml", ["training.epochs=4"])
    return plan(config, discover(config)).trials[0].assignment


@pytest.mark.slow
def test_a_trial_on_another_node_gives_the_same_files_and_leaves_nothing_on_its_node(
    trial: Assignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    there = trial.model_copy(update={"folder": tmp_path / "there"})
    result = carried(there).outcome
    (expected,) = InProcess().run([trial], lambda _report: True)
    assert result.measures == expected.measures  # type: ignore[union-attr]
    assert {file.name for file in there.folder.iterdir()} == {file.name for file in trial.folder.iterdir()}
    assert read_result(there.folder) == result
    assert [file.name for file in (tmp_path / "node").glob("itm-*")] == [f"itm-cache-{os.getuid()}"]


def test_a_cache_on_the_node_that_others_could_write_is_left_alone_and_stops_no_trial(
    trial: Assignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "node"))
    squatted = tmp_path / "node" / f"itm-cache-{os.getuid()}" / "scenes"
    squatted.mkdir(parents=True)
    squatted.parent.chmod(0o777)
    for split in ("train", "val", "test"):
        (squatted / f"{split}-tiny.npz").write_bytes(b"theirs")
    outcome = carried(trial.model_copy(update={"folder": tmp_path / "there"})).outcome
    assert outcome.state is State.DONE  # type: ignore[union-attr]
    assert {file.read_bytes() for file in squatted.iterdir()} == {b"theirs"}
    assert not list((tmp_path / "node").glob("itm-node-*"))


@pytest.mark.slow
def test_a_trial_whose_node_is_lost_goes_on_elsewhere_from_its_last_epoch(trial: Assignment, tmp_path: Path) -> None:
    whole = trial.model_copy(update={"folder": tmp_path / "whole"})
    expected = carried(whole).outcome
    carried(trial, epochs=2)
    first = RemoteWorker().begin(trial, RemoteWorker.files_for(trial)).outcome
    assert isinstance(first, EpochReport) and (first.phase, first.epoch) == ("start", 2)
    assert carried(trial).outcome.measures == expected.measures  # type: ignore[union-attr]
    weights = [load_checkpoint(t.folder / CHECKPOINT, torch.device("cpu"))["trainer"]["method"] for t in (trial, whole)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_only_what_has_changed_travels(trial: Assignment) -> None:
    worker = RemoteWorker()
    first = worker.begin(trial, worker.files_for(trial))
    second = worker.step(True)
    assert set(first.files) == {"spec.json"}
    assert set(second.files) == {"epochs.jsonl", CHECKPOINT}


def test_a_result_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(file_transfer, "write_atomic", lambda path, _data: written.append(path.name))
    unpack({RESULT: b"", "ranks.npz": b"", "../spec.json": b""}, tmp_path)
    assert written[-1] == RESULT and "spec.json" in written, "and nothing leaves the folder"


def elsewhere(trial: Assignment, class_: str) -> Assignment:
    """The trial with cards from another machine, whose files this one does not have."""
    method = trial.method_card.model_copy(update={"path": Path("/nowhere/mine.toml"), "class_": class_})
    dataset = trial.dataset_card.model_copy(update={"path": Path("/nowhere/tiny/card.toml")})
    return trial.model_copy(update={"method_card": method, "dataset_card": dataset})


def test_cards_travel_with_the_assignment_and_need_no_file_on_the_node(trial: Assignment) -> None:
    outcome = carried(elsewhere(trial, trial.method_card.class_)).outcome
    assert outcome.state is State.DONE and outcome.failure is None  # type: ignore[union-attr]


def test_a_method_whose_code_is_not_on_the_node_fails_its_trial(trial: Assignment) -> None:
    outcome = carried(elsewhere(trial, "mine:Mine")).outcome
    assert outcome.state is State.FAILED and outcome.failure is Failure.DATA  # type: ignore[union-attr]
    assert "is not on this node; install its package there" in outcome.message  # type: ignore[union-attr]
    assert read_result(trial.folder) == outcome


@pytest.mark.slow
def test_rays_workers_bring_their_files_to_the_driver(local_ray: None, tmp_path: Path) -> None:
    executor = RayExecutor(Cluster(shared=False), steps=counting)
    trials = [toy_assignment(tmp_path, seed, epochs=3) for seed in range(3)]
    results = list(executor.run(trials, lambda report: report.key != trials[2].spec.key or report.epoch < 2))
    assert {result.spec.seed: (result.state, result.epochs) for result in results} == {
        0: (State.DONE, 3),
        1: (State.DONE, 3),
        2: (State.PRUNED, 2),
    }
    for trial, epochs in zip(trials, (3, 3, 2), strict=True):
        assert len(read_epochs(trial.folder)) == epochs and read_result(trial.folder) in results
