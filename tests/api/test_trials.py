"""Trials from a script: details as arrays, the trained method, and any score matrix evaluated."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from finished_projects import Finish

import harness
from harness.api.project import Project
from harness.api.running import Progress
from harness.errors import DataError, UsageError


@pytest.fixture
def opened(finish: Finish) -> Project:
    """A project in which one method was trained."""
    return harness.open(finish(("run", "--here", "--methods", "vsepp")))


def test_a_trial_has_its_settings_epochs_ranks_and_top_results(opened: Project) -> None:
    trial = opened.trial("vsepp/tiny/s0")
    assert trial.settings["dim"] == 8 and trial.training.epochs == 2 and trial.cost["parameters"] > 0
    epochs = trial.epochs()
    assert [*epochs["epoch"]] == [1, 2] and {"loss", "val_rsum"} <= {*epochs}
    for direction in ("i2t", "t2i"):
        ranks, top = trial.ranks(direction), trial.top(direction)
        assert trial.measures[f"{direction}_r5"] == pytest.approx(100 * np.mean(ranks.ranks <= 5))
        assert (ranks.ids == top.queries).all() and len(ranks.ids) == len(ranks.tied)
        first = np.where(top.is_match.any(axis=1), top.is_match.argmax(axis=1) + 1, 99)
        assert (first == np.where(ranks.ranks <= top.items.shape[1], ranks.ranks, 99)).all()
    with pytest.raises(UsageError, match="unknown direction 'i2i'"):
        trial.ranks("i2i")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="unknown run"):
        opened.trial("vsepp/tiny/s9")


def test_a_trained_method_scores_as_its_trial_did(opened: Project) -> None:
    trial = opened.trial("vsepp/tiny/s0")
    method = opened.load(trial)
    scores = method.score(method.encode_images(), method.encode_captions())
    assert opened.evaluate(scores, "tiny").measures["rsum"] == pytest.approx(trial.measures["rsum"])
    gallery = method.gallery
    by_hand = method.encode_images([gallery.images[0], gallery.images[1]])
    assert np.allclose(method.score(by_hand, method.encode_captions(gallery.captions[:3])), scores[:2, :3], atol=1e-5)


def test_what_encodes_reports_its_progress_and_the_time_left(
    opened: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[Progress] = []
    method = opened.load("vsepp/tiny/s0")
    regions = [method.gallery.images[0]] * 200
    method.encode_images(regions, progress=steps.append)
    method.encode_captions(["a red circle"] * 3, progress=steps.append)
    assert {step.name for step in steps} == {"vsepp/tiny/s0"} and {step.state for step in steps} == {"encoding"}
    images = [step for step in steps if step.total == 200]
    assert [step.done for step in images] == sorted({step.done for step in images}) and images[-1].done == 200
    assert str(steps[-1]) == "vsepp/tiny/s0 encoding 3 of 3 captions, 0 s left"
    assert capsys.readouterr() == ("", "")


def test_a_trained_method_retrieves(opened: Project) -> None:
    method = opened.load("vsepp/tiny/s0")
    images = method.retrieve("a red square", k=3)
    assert [*images["rank"]] == [1, 2, 3] and {*images["item"]} <= {*method.gallery.image_ids}
    assert images["score"].is_monotonic_decreasing
    captions = method.retrieve(image=method.gallery.image_ids[0], k=1)
    assert captions["item"][0] in method.gallery.captions
    with pytest.warns(UserWarning, match="not in the vocabulary, all one word to the method: zebra"):
        again = opened.load("vsepp/tiny/s0").retrieve("a red zebra")
    assert len(again) == 8, "the first ten, or all"
    for wrong, message in (
        ({"text": " ", "k": 1}, "the text to search for is empty"),
        ({"text": "a cat", "k": 9}, "k 9: give a number from 1 to 8"),
        ({"image": "nobody", "k": 1}, "unknown image 'nobody'"),
        ({}, "give a text"),
    ):
        with pytest.raises(UsageError, match=message):
            method.retrieve(**wrong)


def test_a_score_matrix_is_evaluated_with_intervals(opened: Project) -> None:
    split = opened.load("vsepp/tiny/s0").gallery
    perfect = np.zeros((len(split.images), len(split.captions)))
    perfect[tuple(split.pairs.T)] = 1
    result = harness.evaluate(perfect, "tiny", "all")  # of the working folder's project
    assert result.measures["rsum"] == 600 and result.intervals["rsum"] == (600, 600)
    noise = np.random.default_rng(0).normal(size=perfect.shape)
    low, high = harness.evaluate(noise, "tiny").intervals["rsum"]
    assert low < harness.evaluate(noise, "tiny").measures["rsum"] < high
    assert "reversed order" in harness.evaluate(-perfect, "tiny").warnings[0]
    for wrong, message in (
        (perfect.T, "captions by images: save scores.T"),
        (np.full_like(perfect, np.nan), "has no rank"),
        (np.array(["a"]), "the array holds <U1 numbers"),
    ):
        with pytest.raises(DataError, match=message):
            harness.evaluate(wrong, "tiny")


def test_import_harness_is_light() -> None:
    script = """import sys, time
known, t = {*sys.modules}, time.time()
import harness
print(time.time() - t, *{*sys.modules} - known)"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, *modules = run.stdout.split()
    assert float(seconds) < 0.15 and len(modules) < 20 and not {"harness.api", "numpy", "pydantic"} & {*modules}
    assert {"open", "evaluate"} <= {*dir(harness)}  # what a notebook completes
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        harness.opne  # type: ignore[attr-defined]  # noqa: B018
