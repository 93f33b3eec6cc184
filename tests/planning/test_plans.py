"""What a plan is known from, what it assumes and says so, by command and in Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_results import log_ranked, two_methods
from tiny_project import Call

import harness
from harness.errors import UsageError
from harness.planning.plans import POWER, PUBLISHED_SD, PowerPlan
from harness.tracking.tracker import Tracker

METHODS = ["caan", "bssan"]


def store(root: Path) -> Tracker:
    return Tracker(f"sqlite:///{root / 'runs' / 'mlflow.db'}")


def planned(root: Path, **changes: object) -> PowerPlan:
    values: dict[str, object] = {"methods": METHODS, "datasets": "scenes", "seeds": [0, 1, 2], **changes}
    (plan,) = harness.open(root).plan(10, **values)  # type: ignore[arg-type]
    return plan


def test_a_store_without_rows_names_what_is_missing_and_flags_take_its_place(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no trained row of scenes/full .* --image-sd"):
        planned(tmp_path)
    plan = planned(tmp_path, image_sd=110)
    assert plan.known_from == ("images: --image-sd 110",)
    assert plan.components.training == PUBLISHED_SD**2 and "no row of two seeds" in plan.assumed[0]
    both = planned(tmp_path, image_sd=110, seed_sd=4)
    assert both.assumed == () and both.components.seed_sd(500) == pytest.approx(4)
    assert both.alone.power < plan.alone.power
    assert (plan.images, plan.seeds, plan.wanted, plan.among_all) == (500, 3, POWER, None)


@pytest.mark.slow
def test_rows_of_the_store_say_how_much_rsum_varies_and_how_few_they_are(tmp_path: Path) -> None:
    for seed in range(3):
        log_ranked(tracker := store(tmp_path), tmp_path, "caan", seed, worst=30)
        log_ranked(tracker, tmp_path, "bssan", seed, worst=40)
    plan = planned(tmp_path)
    assert plan.assumed == ()
    seeds, images = plan.known_from
    assert seeds.startswith("seeds: 6 runs of 2 rows of scenes/full; so few that the spread may well be 1.9 times")
    assert images == "images: 1 pair of rows of scenes/full"
    assert plan.components.luck > 0 and 0 < plan.alone.power < 1
    for given in (0.5, 40.0):
        assumed = planned(tmp_path, seed_sd=given)
        assert assumed.components.seed_sd(500) == pytest.approx(given), "not that of the store's rows"
        assert assumed.components.image_sd == plan.components.image_sd


@pytest.mark.slow
def test_one_row_and_rows_of_another_dataset_are_taken_only_with_a_word(tmp_path: Path) -> None:
    log_ranked(tracker := store(tmp_path), tmp_path, "caan", 0, worst=30)
    plan = planned(tmp_path)
    assert plan.known_from == () and "nothing in common" in plan.assumed[1]
    for seed in range(2):
        log_ranked(tracker, tmp_path, "caan", seed, worst=30)
        log_ranked(tracker, tmp_path, "bssan", seed, worst=40)
    other = planned(tmp_path, datasets="f30k")
    assert other.known_from == () and len(other.assumed) == 2
    assert all("of scenes/full, as no" in text for text in other.assumed)


def test_many_methods_have_a_second_line_as_their_board_corrects_for_all_pairs(tmp_path: Path) -> None:
    plan = planned(tmp_path, methods=[*METHODS, "vsepp", "chance"], image_sd=110, seed_sd=2)
    assert plan.pairs == 6 and plan.among_all
    assert plan.among_all.level == pytest.approx(0.05 / 6) and plan.among_all.power < plan.alone.power


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--detect", "0"], "--detect 0: give a difference"),
        (["--power", "1"], "--power 1: give a probability"),
        (["--seeds", "4"], "a row of one seed is never tested"),
        (["--methods", "caan"], "a difference is of two methods"),
        (["--image-sd", "-1"], "--image-sd -1: give a standard deviation"),
        (["--seed-sd", "0"], "--seed-sd 0: give a standard deviation of rsum from 0.001"),
        (["--seed-sd", "nan"], "--seed-sd nan: give a standard deviation"),
        (["--datasets", "scnes"], "unknown dataset"),
    ],
)
def test_numbers_that_make_no_plan_are_named(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert call("plan", "--image-sd", "100", "--seeds", "0,1", "--methods", "vsepp,chance", *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_prints_what_python_returns(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ["plan", "--detect", "10", "--methods", "caan,bssan", "--datasets", "scenes", "--seeds", "0-2"]
    assert call(*words, "--json") == 0
    (answer,) = json.loads(capsys.readouterr().out)
    plan = planned(tmp_path)
    assert answer["alone"] == plan.alone._asdict() and answer["among_all"] is None
    assert answer["components"]["seed_sd"] == plan.components.seed_sd(500)
    assert call(*words) == 0
    page = capsys.readouterr().out
    assert "two methods by themselves" in page and "known: images" in page
