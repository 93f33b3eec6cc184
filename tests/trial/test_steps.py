"""One trial in this process: what it writes, how it resumes, how it fails, and that it never looks at test early."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import methods
from harness.config.cards import MethodCard, read_card
from harness.config.project import Config
from harness.config.registry import discover, settings_for
from harness.config.sections import Training
from harness.config.sources import source_hash
from harness.errors import NonFiniteError, ResourceError, TrialError
from harness.evaluation.protocols import folds
from harness.evaluation.records import RANKS
from harness.evaluation.scoring import rank_split
from harness.layouts.opening import fingerprint, open_dataset
from harness.trial import models
from harness.trial.checkpoint import load_checkpoint, save_checkpoint
from harness.trial.device import choose_device
from harness.trial.environment import commit_of
from harness.trial.folder import (
    CHECKPOINT,
    EPOCHS,
    TRACEBACK,
    add_attempt,
    attempts,
    read_epochs,
    read_result,
    read_spec,
)
from harness.trial.models import build_method
from harness.trial.results import Assignment, Failure, State, StepReport, TrialResult, TrialSpec
from harness.trial.steps import explain, steps

CARDS = Path(methods.__path__[0])
TRAINING = Training(epochs=3, batch_size=32, schedule="constant")


@pytest.fixture
def assign(scenes_cache: Path, tmp_path: Path):
    """A tiny assignment of a method on scenes; keywords change its recipe."""
    scenes = discover(Config()).datasets["scenes"]

    def make(method: str = "vsepp", folder: str = "", **training: object) -> Assignment:
        card = read_card(MethodCard, CARDS / f"{method}.toml")
        small = {"dim": 16, "word_dim": 8}
        settings = settings_for(card, Config(settings={method: {k: v for k, v in small.items() if k in card.defaults}}))
        spec = TrialSpec(
            method=method,
            dataset="scenes",
            protocol="full",
            seed=0,
            settings=settings,
            training=TRAINING.model_copy(update=training),
            limit=40,
            data_fingerprint=fingerprint(scenes, tmp_path, scenes_cache),
            protocol_version=1,
            source=source_hash(card),
        )
        place = tmp_path / (folder or spec.key)
        return Assignment(
            spec=spec, method_card=card, dataset_card=scenes, data=tmp_path, folder=place, cache=scenes_cache
        )

    return make


def run(assignment: Assignment, stop_after: int | None = None) -> TrialResult | None:
    """To the end, or abandoned in mid-air after so many epochs as a killed process would."""
    life = steps(assignment)
    try:
        report = next(life)
        while stop_after is None or report.epoch < stop_after:
            report = life.send(True)
    except StopIteration as end:
        return end.value
    return None


@pytest.mark.slow
def test_a_trial_leaves_spec_epochs_checkpoint_ranks_and_result(assign) -> None:
    assignment = assign()
    result = run(assignment)
    assert result == read_result(assignment.folder) and result.state is State.DONE
    assert read_spec(assignment.folder) == assignment.spec
    reports = read_epochs(assignment.folder)
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert result.val == reports[result.best_epoch - 1].val
    assert result.val["rsum"] == max(report.val["rsum"] for report in reports)
    assert result.measures["rsum"] == pytest.approx(sum(result.measures[key] for key in trial_recalls()))
    assert result.cost["parameters"] > 0 and result.gallery["images"] == 40
    with np.load(assignment.folder / RANKS, allow_pickle=False) as arrays:
        assert len(arrays["i2t_rank"]) == len(arrays["pairs"])
    torch.load(assignment.folder / CHECKPOINT, weights_only=True)


def trial_recalls() -> list[str]:
    return [f"{way}_r{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]


def test_a_killed_trial_continues_and_ends_with_the_same_bits(assign) -> None:
    whole, broken = assign(folder="whole"), assign(folder="broken")
    expected = run(whole)
    assert run(broken, stop_after=2) is None and read_result(broken.folder) is None
    assert next(steps(broken)).epoch == 2  # it does not begin again
    actual = run(broken)
    assert actual.measures == expected.measures and actual.val == expected.val
    weights = [torch.load(a.folder / CHECKPOINT, weights_only=True)["trainer"]["method"] for a in (whole, broken)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_trial_that_says_how_far_its_epochs_are_is_the_same_trial(assign) -> None:
    silent, telling = assign(folder="silent"), assign(folder="telling")
    expected, life, parts = run(silent), steps(telling, pace=0.0), []
    try:
        report = next(life)
        while True:
            parts += [report] if isinstance(report, StepReport) else []
            report = life.send(not isinstance(report, StepReport))  # the answer to a part of an epoch stops nothing
    except StopIteration as end:
        actual = end.value
    assert actual.measures == expected.measures and actual.val == expected.val
    assert [part.epoch for part in parts if part.share == 1.0] == [0, 1, 2]
    assert all(part.pairs_per_second > 0 for part in parts if part.share) and parts[-1].val
    assert [len(read_epochs(trial.folder)) for trial in (silent, telling)] == [3, 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoint.pt", "epochs.jsonl"])
@pytest.mark.parametrize("how", ["cut", "flipped", "empty"])
def test_a_torn_file_is_never_trusted_and_the_trial_begins_again(assign, name: str, how: str) -> None:
    whole, broken = assign(folder="whole"), assign(folder="broken")
    expected = run(whole)
    run(broken, stop_after=2)
    file = broken.folder / name
    data = file.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 0x80]) + data[middle + 1 :]
    file.write_bytes({"cut": data[:middle], "flipped": flipped, "empty": b""}[how])
    assert next(steps(broken)).epoch == 0
    assert run(broken).measures == expected.measures


def other_key(state: dict[str, Any]) -> None:
    state["key"] = "0" * 16


def other_shape(state: dict[str, Any]) -> None:
    weights = state["trainer"]["method"]
    name = next(name for name, value in weights.items() if value.ndim)
    weights[name] = torch.cat([weights[name], weights[name]])


def other_best(state: dict[str, Any]) -> None:
    state["best"]["method"] = {"weight": torch.zeros(2)}


def other_moments(state: dict[str, Any]) -> None:
    moments = next(iter(state["trainer"]["optimizer"]["state"].values()))
    moments["exp_avg"] = torch.zeros(1)


def other_groups(state: dict[str, Any]) -> None:
    state["trainer"]["optimizer"]["param_groups"] = []


def no_trainer(state: dict[str, Any]) -> None:
    del state["trainer"]


def text_as_epoch(state: dict[str, Any]) -> None:
    state["trainer"]["epoch"] = "two"


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [other_key, other_shape, other_best, other_moments, other_groups, no_trainer, text_as_epoch]
)
def test_a_checkpoint_with_a_right_checksum_that_is_not_of_this_trial_begins_again(assign, change) -> None:
    whole, broken = assign(folder="whole"), assign(folder="broken")
    expected = run(whole)
    run(broken, stop_after=2)
    state = load_checkpoint(broken.folder / CHECKPOINT, torch.device("cpu"))
    assert state
    change(state)
    save_checkpoint(broken.folder / CHECKPOINT, state)
    first = next(steps(broken))
    assert first.epoch == 0 and "checkpoint.pt is damaged; the trial begins again" in first.note
    actual = run(broken)
    assert actual.state is State.DONE and actual.measures == expected.measures and actual.val == expected.val


@pytest.mark.parametrize("content", [b"no tensors", b""], ids=["text", "nothing"])
def test_a_checkpoint_that_torch_cannot_read_although_its_checksum_fits_begins_again(assign, content: bytes) -> None:
    broken = assign(folder="broken")
    run(broken, stop_after=2)
    (broken.folder / CHECKPOINT).write_bytes(content + hashlib.sha256(content).digest())
    assert next(steps(broken)).epoch == 0
    assert run(broken).state is State.DONE


def test_a_folder_in_place_of_a_checkpoint_makes_way(assign) -> None:
    broken = assign(folder="broken")
    (broken.folder / CHECKPOINT / "inside").mkdir(parents=True)
    assert run(broken).state is State.DONE and (broken.folder / CHECKPOINT).is_file()


@pytest.mark.slow
def test_epochs_of_another_trial_are_not_taken_for_its_own(assign) -> None:
    whole, broken = assign(folder="whole"), assign(folder="broken")
    expected = run(whole)
    run(broken, stop_after=2)
    run(assign(folder="other", lr=0.01), stop_after=2)
    shutil.copy(broken.folder.with_name("other") / EPOCHS, broken.folder / EPOCHS)
    assert next(steps(broken)).epoch == 0
    assert run(broken).measures == expected.measures


@pytest.mark.slow
def test_a_disk_that_is_full_in_a_checkpoint_leaves_the_one_before_whole(assign, monkeypatch) -> None:
    whole, full = assign(folder="whole"), assign(folder="full")
    expected = run(whole)
    run(full, stop_after=2)
    before = (full.folder / CHECKPOINT).read_bytes()
    replace = Path.replace

    def no_room(self: Path, target: Path) -> Path:
        if target.name == CHECKPOINT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", no_room)
    failed = run(full)
    assert failed.state is State.FAILED and "No space left on device" in failed.message
    assert (full.folder / CHECKPOINT).read_bytes() == before
    assert not [file for file in full.folder.iterdir() if file.name.endswith(".part")]
    monkeypatch.undo()
    assert run(full).measures == expected.measures


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that a trial opens, as it opens them."""
    opened: list[str] = []
    whole = open_dataset

    def watched(*arguments):
        dataset = whole(*arguments)
        split = dataset.split
        dataset.split = lambda name: opened.append(name) or split(name)
        return dataset

    monkeypatch.setattr(models, "open_dataset", watched)
    return opened


def test_a_trial_of_a_search_ends_with_its_measures_on_val_and_never_opens_test(assign, opened: list[str]) -> None:
    assignment = assign()
    spec = assignment.spec.model_copy(update={"protocol": "val"})
    result = run(assignment.model_copy(update={"spec": spec}))
    assert set(opened) == {"train", "val"}
    assert result.state is State.DONE and result.measures == result.val and 0 < result.measures["rsum"] <= 600


@pytest.mark.slow
def test_the_test_split_is_scored_with_the_weights_of_the_best_epoch(assign) -> None:
    result = run(assign(epochs=5, lr=0.05))
    assert 0 < result.best_epoch < 5
    assert run(assign(epochs=result.best_epoch, lr=0.05)).measures == result.measures
    assert result.measures != run(assign(epochs=5, lr=0.04)).measures


def test_a_pruned_trial_keeps_its_checkpoint_and_never_opens_test(assign, opened: list[str]) -> None:
    life = steps(assign())
    next(life), next(life)
    with pytest.raises(StopIteration) as end:
        life.send(False)
    assert end.value.value.state is State.PRUNED
    assert read_result(assign().folder) == end.value.value and (assign().folder / CHECKPOINT).is_file()
    assert set(opened) == {"train", "val"}


def test_early_stopping_waits_for_patience_epochs_without_a_better_val(assign) -> None:
    result = run(assign(epochs=12, lr=1e-12, patience=2))
    assert result.epochs == result.best_epoch + 2


def test_a_trial_without_training_is_scored_with_its_first_weights(assign) -> None:
    result = run(assign("chance", epochs=0))
    assert result.state is State.DONE and result.epochs == 0 and result.best_epoch == 0


@pytest.mark.parametrize("where", ["loss", "score"])
def test_nan_fails_the_trial_as_nonfinite_and_leaves_its_traceback(assign, monkeypatch, where: str) -> None:
    from harness.blocks.families import EmbeddingMethod

    method = getattr(EmbeddingMethod, where)
    monkeypatch.setattr(EmbeddingMethod, where, lambda *arguments: method(*arguments) * float("nan"))
    assignment = assign()
    result = run(assignment)
    assert (result.state, result.failure) == (State.FAILED, Failure.NONFINITE)
    assert NonFiniteError.__name__ in (assignment.folder / TRACEBACK).read_text()
    assert read_result(assignment.folder) == result


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (lambda scores: scores[:, :1], "of torch.float32"),
        (lambda scores: scores.T[:1], "of torch.float32"),
        (lambda scores: scores > 0, "of torch.bool"),
        (lambda scores: scores + 0j, "of torch.complex64"),
        (lambda scores: scores.tolist(), "a list"),
    ],
)
@pytest.mark.parametrize("matrix_bytes", [2**40, 0])
def test_scores_of_another_shape_or_kind_are_never_spread_over_a_gallery(
    assign, monkeypatch, wrong: Callable[[Tensor], object], kind: str, matrix_bytes: int
) -> None:
    plan = assign()
    dataset = open_dataset(plan.dataset_card, plan.data, plan.cache, plan.spec.limit)
    method, split = build_method(plan.method_card, plan.spec.settings, dataset, seed=0), dataset.split("test")
    score = method.score_sides
    monkeypatch.setattr(method, "score_sides", lambda *sides: wrong(score(*sides)))
    parts = folds(dataset.card.protocols[0], len(split.images), split.pairs, limited=True)
    with pytest.raises(TrialError, match=rf"scores of \d+ images with \d+ captions are .*{kind}.*harness validate"):
        rank_split(method, split, torch.device("cpu"), parts, matrix_bytes=matrix_bytes)


def test_out_of_memory_is_classified_and_says_what_to_set(assign, monkeypatch) -> None:
    from harness.blocks.families import EmbeddingMethod

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(EmbeddingMethod, "loss", full)
    result = run(assign())
    assert result.failure is Failure.OOM and "training.batch_size" in result.message


def test_an_attempt_counts_once_whatever_its_message_is_made_of(assign, monkeypatch) -> None:
    from harness.blocks.families import EmbeddingMethod

    def broken(*_: object) -> None:
        raise ValueError("caption a\u2028b\x85c")

    monkeypatch.setattr(EmbeddingMethod, "loss", broken)
    assignment = assign()
    for number in (1, 2, 3):
        add_attempt(assignment.folder, run(assignment))
        assert attempts(assignment.folder) == number


@pytest.mark.parametrize("fill", [lambda: torch.empty(2**58, dtype=torch.uint8), lambda: np.empty(2**58, np.uint8)])
def test_a_full_memory_of_the_machine_is_no_bug(assign, monkeypatch, fill: Callable[[], object]) -> None:
    from harness.blocks.families import EmbeddingMethod

    monkeypatch.setattr(EmbeddingMethod, "loss", lambda *_: fill())
    result = run(assign())
    assert result.failure is Failure.OOM_HOST and "--max-concurrent" in result.message


def test_a_bug_is_a_failed_result_with_one_line_and_not_an_exception(assign, monkeypatch) -> None:
    from harness.blocks.families import EmbeddingMethod

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(EmbeddingMethod, "loss", broken)
    result = run(assign())
    assert (result.failure, result.message) == (Failure.BUG, "ZeroDivisionError: by hand")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AssertionError(), "AssertionError"),
        (NonFiniteError(" \n"), "NonFiniteError"),
        (NonFiniteError("nan in the loss\nof epoch 2"), "nan in the loss"),
        (RuntimeError("\nfirst\nsecond"), "RuntimeError: first"),
        (NonFiniteError("x" * 100_000), "x" * 1000 + "…"),
    ],
)
def test_the_message_of_a_failure_is_one_line_and_never_empty(error: Exception, message: str) -> None:
    assert explain(error) == message


def test_data_that_changed_since_planning_is_refused(assign) -> None:
    assignment = assign()
    spec = assignment.spec.model_copy(update={"data_fingerprint": "0" * 64})
    result = run(assignment.model_copy(update={"spec": spec}))
    assert result.failure is Failure.DATA and "changed" in result.message


@pytest.mark.parametrize("when", ["planned", "changed", "absent"])
def test_a_source_that_is_not_the_planned_one_is_refused(assign, tmp_path: Path, when: str) -> None:
    assignment = assign()
    code = tmp_path / "mine.py"
    code.write_text("from methods.vsepp import VSEpp as Mine\n")
    mine = {"path": tmp_path / "mine.toml", "class_": "mine:Mine"}
    card = assignment.method_card.model_copy(update=mine)
    spec = assignment.spec.model_copy(update={"source": source_hash(card)})
    if when == "changed":
        code.write_text("from methods.vsepp import VSEpp as Mine  # another\n")
    elif when == "absent":
        code.unlink()
    result = run(assignment.model_copy(update={"spec": spec, "method_card": card}))
    words = {"planned": "", "changed": "the source of vsepp changed", "absent": "vsepp is not on this node"}
    assert words[when] in result.message
    assert result.failure is (None if when == "planned" else Failure.DATA)


def test_a_trial_needs_no_file_of_its_cards(assign, tmp_path: Path) -> None:
    assignment = assign()
    gone = {"path": tmp_path / "gone" / "card.toml"}
    cards = {name: getattr(assignment, name).model_copy(update=gone) for name in ("method_card", "dataset_card")}
    assert run(assignment.model_copy(update=cards)).state is State.DONE


@pytest.mark.slow
def test_another_seed_gives_other_weights_and_the_same_seed_the_same(assign) -> None:
    first = run(assign(folder="a"))
    again = run(assign(folder="b"))
    assignment = assign(folder="c")
    other = run(assignment.model_copy(update={"spec": assignment.spec.model_copy(update={"seed": 1})}))
    assert first.measures == again.measures != other.measures


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_words() -> None:
    with pytest.raises(ResourceError, match="no CUDA device"):
        choose_device("cuda")


def test_a_package_inside_a_foreign_repository_has_no_commit(tmp_path: Path) -> None:
    import subprocess

    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("")
    assert commit_of(tmp_path / "harness") == ("", "")


@pytest.mark.parametrize("name", ["scan_t2i", "bssan"])
def test_a_split_whose_scores_are_too_many_to_hold_has_the_same_ranks(assign, name: str) -> None:
    plan = assign(name)
    dataset = open_dataset(plan.dataset_card, plan.data, plan.cache, plan.spec.limit)
    method = build_method(plan.method_card, plan.spec.settings, dataset, seed=0)
    split = dataset.split("test")
    parts = folds(dataset.card.protocols[0], len(split.images), split.pairs, limited=True)
    held = rank_split(method, split, torch.device("cpu"), parts)
    streamed = rank_split(method, split, torch.device("cpu"), parts, matrix_bytes=0)
    assert streamed.cost["score_pairs_per_second"] > 0
    assert all(np.array_equal(*both) for both in zip(held.ranks.folds[0], streamed.ranks.folds[0], strict=True))
    for whole, parted in zip(held.ranks.shortlists, streamed.ranks.shortlists, strict=True):
        np.testing.assert_allclose(whole.image_scores, parted.image_scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(whole.caption_scores, parted.caption_scores, rtol=1e-4, atol=1e-5)
