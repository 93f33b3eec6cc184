"""Trials from a script: details as arrays, the trained method, and any score matrix evaluated."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from finished_projects import Finish

import harness
from harness.api.project import Project
from harness.api.running import Progress
from harness.errors import DataError, NonFiniteError, UsageError


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
        ({"text": "a cat", "k": "3"}, "k '3' is no whole number"),
        ({"text": 5}, "give a text"),
        ({}, "give a text"),
    ):
        with pytest.raises(UsageError, match=message):
            method.retrieve(**wrong)
    assert len(method.retrieve("a red square", k=np.int64(2))) == 2


def test_weights_of_a_folder_retrieve_as_their_trial_and_refuse_what_it_refuses(
    opened: Project, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    trained = opened.load("vsepp/tiny/s0")
    opened.export("vsepp/tiny/s0", tmp_path / "w")
    method, ids = harness.load(tmp_path / "w"), trained.gallery.image_ids
    among = method.encode_images(trained.gallery.images[row] for row in range(len(ids)))
    recwarn.clear()
    own = method.retrieve(" a  red\nsquare ", among=among, k=np.int64(3))
    assert [ids[int(item)] for item in own["item"]] == [*trained.retrieve("a red square", k=3)["item"]]
    assert not len(recwarn)
    for one, more in ((trained, {}), (method, {"among": among})):
        with pytest.warns(UserWarning, match="not in the vocabulary, all one word to the method: zebra") as record:
            one.retrieve("a red zebra", **more)
        assert record[0].filename == __file__
        for text, message in (("zebra quagga", "no word of it is in the vocabulary of tiny"), (" ", "is empty")):
            with pytest.raises(UsageError, match=message):
                one.retrieve(text, **more)
    for wrong in ({"text": 5, "among": among}, {"text": "a circle", "among": ["a"]}, {"among": among}):
        with pytest.raises(UsageError, match="pass among, and a text"):
            method.retrieve(**wrong)


def test_texts_and_regions_are_taken_of_any_kind_and_refused_by_place(opened: Project) -> None:
    method = opened.load("vsepp/tiny/s0")
    texts = ["a red square", "a circle"]
    captions, images = method.encode_captions(texts), [method.gallery.images[row] for row in range(2)]
    scores = method.score(method.encode_images(images), captions)
    for kind in (np.array, pandas.Series, tuple, iter):
        assert method.encode_captions(kind(texts)).ids == captions.ids
    for kind in (tuple, iter, lambda some: [*map(torch.from_numpy, some)], lambda some: [one.tolist() for one in some]):
        assert np.allclose(method.score(method.encode_images(kind(images)), captions), scores, atol=1e-6)
    assert len(method.encode_images(method.gallery.images).ids) == len(method.gallery.images)
    graph = torch.zeros(2, method.width, requires_grad=True)
    holes = np.full((2, method.width), np.nan)
    for call, wrong, message in (
        (method.encode_captions, ["a", None], "captions: number 1 is None"),
        (method.encode_captions, pandas.Series(["a", " "]), "captions: number 1 is ' '"),
        (method.encode_captions, ["a", math.nan], "captions: number 1 is nan"),
        (method.encode_captions, "a circle", "give a list of texts"),
        (method.encode_captions, 5, "give a list of texts"),
        (method.encode_captions, [], "give a list of texts"),
        (method.encode_images, [images[0], holes], "image 1 has masked or infinite numbers or NaN"),
        (method.encode_images, [np.ma.masked_array(images[0], images[0] == images[0][0, 0])], "image 0 has masked"),
        (method.encode_images, [images[0], None], "image 1 is () of object"),
        (method.encode_images, [images[0][0]], "image 0 is (205,) of float32; give at least one image of one region"),
        (method.encode_images, [graph], "image 0: Can't call numpy()"),
        (method.encode_images, [], "give at least one image"),
        (method.encode_images, 5, "give at least one image"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            call(wrong)
    with pytest.raises(NonFiniteError, match="see that regions are as the dataset has them"):
        method.score(method.encode_images([np.full((2, method.width), 3e38, np.float32)]), captions)


def test_a_score_matrix_is_evaluated_with_intervals(opened: Project) -> None:
    split = opened.load("vsepp/tiny/s0").gallery
    perfect = np.zeros((len(split.images), len(split.captions)))
    perfect[tuple(split.pairs.T)] = 1
    result = harness.evaluate(perfect, "tiny", "all")  # of the working folder's project
    assert result.measures["rsum"] == 600 and result.intervals["rsum"] == (600, 600)
    noise = np.random.default_rng(0).normal(size=perfect.shape)
    low, high = harness.evaluate(noise, "tiny").intervals["rsum"]
    assert low < harness.evaluate(noise, "tiny").measures["rsum"] < high
    assert (
        harness.evaluate(np.ma.masked_array(noise, False), "tiny").measures == harness.evaluate(noise, "tiny").measures
    )
    assert "reversed order" in harness.evaluate(-perfect, "tiny").warnings[0]
    for wrong, message in (
        (perfect.T, "captions by images: save scores.T"),
        (np.full_like(perfect, np.nan), "has no rank"),
        (np.array(["a"]), "the array holds <U1 numbers"),
        (np.ma.masked_array(noise, noise > 1), "the array has masked scores, which have no rank"),
        (torch.from_numpy(noise).bfloat16(), r"of one of bfloat16 its \.float\(\) before"),
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
