"""A training that has collapsed ends in its first epochs and says what to try; a slow start does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from harness.campaign.attempts import Retries
from harness.config.cards import SELECTION, MethodCard, read_card
from harness.config.project import Config
from harness.config.registry import discover, settings_for
from harness.config.sections import Failures, Training
from harness.config.sources import source_hash
from harness.evaluation.measures import measures
from harness.evaluation.ranks import rank
from harness.layouts.opening import fingerprint, open_dataset
from harness.trial.collapse import (
    CollapseWatch,
    LastEpoch,
    RandomOrder,
    costs_as_equal_scores,
    no_better,
    random_order,
    scores_alike,
    stuck,
)
from harness.trial.folder import CHECKPOINT, read_epochs, read_result
from harness.trial.results import Assignment, Failure, State, TrialResult, TrialSpec
from harness.trial.steps import steps

Assign = Callable[..., Assignment]
RIGGED = '''
from dataclasses import dataclass

import torch

from harness.blocks.losses import hinge
from methods.vsepp import VSEpp


class Rigged(VSEpp):
    """VSE++ that learns nothing, in a way that a setting names."""

    @dataclass(frozen=True)
    class Settings(VSEpp.Settings):
        fault: str

    def encode_images(self, regions, mask):
        images = super().encode_images(regions, mask)
        same = self.settings.fault == "alike"
        return images._replace(vectors=0 * images.vectors + 0.25) if same else images

    def loss(self, batch):
        images = self.encode_images(batch.regions, batch.region_mask)
        captions = self.encode_captions(batch.tokens, batch.token_mask)
        share = {"flat": 1e-4, "alike": 1.0, "deaf": 0.0}[self.settings.fault]
        scores = share * self.score(images, captions)
        if self.settings.fault == "deaf":
            return 3.0 * len(scores) + scores.sum()
        return hinge(scores, batch, self.settings.margin)
'''
CARD = """
name = "rigged"
title = "Rigged"
class = "rigged_for_collapse:Rigged"
summary = "For tests."
scoring = "embedding"
fidelity = "baseline"
choices = ["all of it"]
[defaults]
dim = 16
word_dim = 8
margin = 0.2
fault = "flat"
"""


@pytest.fixture
def assign(scenes_cache: Path, tmp_path: Path) -> Assign:
    """A trial of the rigged method, or of another, on the first scenes."""
    registry = discover(Config())
    scenes = registry.datasets["scenes"]
    (tmp_path / "rigged_for_collapse.py").write_text(RIGGED)
    (tmp_path / "rigged.toml").write_text(CARD)
    rigged = read_card(MethodCard, tmp_path / "rigged.toml")

    def make(fault: str = "", method: str = "", protocol: str = "full", **training: object) -> Assignment:
        card = registry.methods[method] if method else rigged
        settings = settings_for(card, Config(settings={"*": {"dim": 16, "word_dim": 8, "width": 8}}))
        spec = TrialSpec(
            method=card.name,
            dataset="scenes",
            protocol=protocol,
            seed=0,
            settings={**settings, **({"fault": fault} if fault else {})},
            training=Training(
                **{"epochs": 4, "batch_size": 16, "schedule": "constant", "all_negatives_epochs": 0, **training}
            ),
            limit=300,
            data_fingerprint=fingerprint(scenes, tmp_path, scenes_cache),
            protocol_version=1,
            source=source_hash(card),
        )
        places = {"data": tmp_path, "folder": tmp_path / spec.key, "cache": scenes_cache}
        return Assignment(spec=spec, method_card=card, dataset_card=scenes, random_epochs=3, **places)

    return make


def run(assignment: Assignment) -> TrialResult:
    life = steps(assignment)
    try:
        next(life)
        while True:
            life.send(True)
    except StopIteration as end:
        result: TrialResult = end.value
        return result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "epochs", "reason"),
    [
        ("flat", 1, "the loss of each of the last 87 steps was the hinge of equal scores"),
        ("alike", 1, "all images of val have the same scores"),
        ("deaf", 3, "at best after 3 epochs, where a random order has"),
    ],
)
def test_a_trial_that_learns_nothing_ends_in_its_first_epochs_and_says_what_to_try(
    assign: Assign, fault: str, epochs: int, reason: str
) -> None:
    result = run(assignment := assign(fault))
    assert (result.state, result.failure) == (State.FAILED, Failure.COLLAPSED)
    assert reason in result.message and "training.all_negatives_epochs" in result.message
    assert result.epochs == len(read_epochs(assignment.folder)) == epochs


@pytest.mark.slow
def test_a_search_takes_a_collapse_as_a_finding_on_its_settings(assign: Assign) -> None:
    result = run(assign("flat", protocol=SELECTION))
    assert (result.state, result.failure, result.epochs) == (State.PRUNED, None, 1)
    assert "the hinge of equal scores" in result.message and result.val["rsum"] >= 0


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["full", SELECTION])
def test_a_collapse_that_a_kill_kept_from_its_result_ends_the_trial_all_the_same(assign: Assign, protocol: str) -> None:
    undisturbed, assignment = run(assign("flat", protocol=protocol)), assign("flat", protocol=protocol, lr=0.002)
    life = steps(assignment)
    next(life)
    life.send(True)  # trains the epoch whose checkpoint holds the collapse
    life.close()
    assert (assignment.folder / CHECKPOINT).is_file() and read_result(assignment.folder) is None
    result = run(assignment)
    assert (result.state, result.failure, result.message) == (
        undisturbed.state,
        undisturbed.failure,
        undisturbed.message,
    )
    assert result.epochs == 1 and result.state is not State.DONE


@pytest.mark.slow
def test_a_collapsed_trial_that_is_tried_again_begins_again(assign: Assign) -> None:
    assignment = assign("alike")
    assert run(assignment).failure is Failure.COLLAPSED
    life = steps(assignment)
    assert next(life).epoch == 0
    life.close()
    assert run(assignment).failure is Failure.COLLAPSED


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["full", SELECTION])
def test_a_collapsed_trial_that_a_campaign_hands_out_again_begins_again(assign: Assign, protocol: str) -> None:
    """Its result is gone by then: the checkpoint alone says that it has collapsed."""
    assignment = assign("deaf", protocol=protocol)
    assert run(assignment).state is not State.DONE
    again = next(iter(Retries([assignment], Failures(), print)))
    assert again == assignment and read_result(assignment.folder) is None
    life = steps(assignment.model_copy(update={"random_epochs": 0}))
    assert next(life).epoch == 0
    life.close()
    assert run(assignment.model_copy(update={"random_epochs": 0})).state is State.DONE


def test_steps_at_the_hinge_of_equal_scores_are_counted_across_a_checkpoint(scenes_cache: Path, tmp_path: Path) -> None:
    val = partial(open_dataset(discover(Config()).datasets["scenes"], tmp_path, scenes_cache).split, "val")

    def looked(watch: CollapseWatch) -> CollapseWatch:
        rng = np.random.default_rng(0)
        watch.look(LastEpoch(rng.random((9, 9), np.float32), (0.4, 0.4), 90.0, 90.0, 2, 600, 1200))
        return watch

    def new() -> CollapseWatch:
        return CollapseWatch(val, Training(all_negatives_epochs=0), 0.2, 0)

    first = looked(new())
    assert not first.reason
    again = new()
    again.load(first.state)
    assert "the last 1200 steps" in looked(again).reason
    again.load({})
    assert not again.reason


@pytest.mark.slow
def test_a_random_order_ends_no_trial_where_it_is_told_not_to(assign: Assign) -> None:
    assignment = assign("deaf").model_copy(update={"random_epochs": 0})
    assert run(assignment).state is State.DONE


@pytest.mark.slow
def test_equal_scores_count_from_the_epochs_of_hardest_negatives_on(assign: Assign) -> None:
    assert run(assign("flat", all_negatives_epochs=2)).epochs == 3


@pytest.mark.slow
def test_a_slow_start_is_no_collapse(assign: Assign) -> None:
    slow = run(assign(method="vsepp", warmup_steps=150))
    assert slow.state is State.DONE and slow.val["rsum"] < 20, "no better than random, while the rate was still rising"
    assert run(assign(method="vsepp", epochs=3, lr=5e-3, all_negatives_epochs=3)).state is State.DONE


def test_the_random_order_and_its_spread_are_those_of_random_scores(scenes_cache: Path, tmp_path: Path) -> None:
    split = open_dataset(discover(Config()).datasets["scenes"], tmp_path, scenes_cache).split("val")
    of, rng = random_order(split), np.random.default_rng(0)
    shape = (len(split.images), len(split.captions))
    drawn = [measures(rank(rng.random(shape, np.float32), split.pairs))["rsum"] for _ in range(60)]
    assert abs(np.mean(drawn) - of.rsum) < 4 * of.deviation / 60**0.5
    assert np.std(drawn) < of.deviation and not no_better(drawn[0], 3, 199, of)
    assert all(no_better(rsum, 3, 200, of) for rsum in drawn) and not no_better(2 * max(drawn), 3, 200, of)


def test_few_images_do_not_tell_a_method_from_a_random_order() -> None:
    assert not no_better(0.0, 3, 200, RandomOrder(rsum=200.0, deviation=30.0))


@pytest.mark.parametrize(
    ("lowest", "highest", "margin", "is_collapse"),
    [
        *((0.4, 0.4, 0.2, True), (0.397, 0.403, 0.2, True), (0.39, 0.4, 0.2, False), (0.4, 0.41, 0.2, False)),
        *((0.4, 0.4, 0.1, False), (0.4, 0.4, None, False), (0.0, 0.0, 0.0, False)),
    ],
)
def test_every_step_must_cost_what_equal_scores_cost(
    lowest: float, highest: float, margin: float | None, is_collapse: bool
) -> None:
    assert costs_as_equal_scores(lowest, highest, margin) is is_collapse


@pytest.mark.parametrize(
    ("steps", "rsum", "is_collapse"), [(49, 5.0, 0), (50, 5.0, 1), (999, 90.0, 0), (1000, 90.0, 1)]
)
def test_a_plateau_is_a_collapse_where_val_is_random_or_it_is_very_long(
    steps: int, rsum: float, is_collapse: int
) -> None:
    assert bool(stuck(steps, rsum, RandomOrder(rsum=10.0, deviation=2.0))) == bool(is_collapse)


def test_scores_that_differ_in_both_directions_are_not_alike() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((5, 9), np.float32)
    assert not scores_alike(scores)
    assert "all images" in scores_alike(np.repeat(scores[:1], 5, axis=0))
    assert "all captions" in scores_alike(np.repeat(scores[:, :1], 9, axis=1))
    assert scores_alike(np.zeros((5, 9), np.float32))


def test_one_image_or_caption_is_like_no_other_and_the_largest_scores_differ() -> None:
    one = np.random.default_rng(0).random((1, 9), np.float32)
    assert not scores_alike(one) and not scores_alike(one.T)
    assert not scores_alike(np.array([[-3e38, 3e38], [3e38, -3e38]], np.float32))
