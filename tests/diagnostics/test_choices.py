"""Two-way choices: what is right, the interval, wrong files, and the answers of a trained method."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from finished_projects import Finish
from tiny_project import Call

import harness
from harness.config.cards import ChoiceSet
from harness.diagnostics.choices import choice_measures, read_choices
from harness.diagnostics.table import Looks, mean_looks
from harness.errors import DataError, NonFiniteError

CARD = ChoiceSet(name="swap", folder="sets", file="swap.json", origin="nowhere")


def test_the_higher_score_is_right_and_equal_ones_are_wrong() -> None:
    own = choice_measures(np.array([0, 0, 1, 2]), np.array([2.0, 1, 1, 0]), np.array([1.0, 1, 0, 1]))
    assert (own["accuracy"], own["tied"], own["choices"]) == (50, 25, 4)
    assert own["low"] < 50 < own["high"]
    sure = choice_measures(np.arange(5), np.ones(5), np.zeros(5))
    assert (sure["low"], sure["accuracy"], sure["high"]) == (100, 100, 100)


def test_a_score_without_a_rank_is_no_answer() -> None:
    for right, wrong in (([1.0, np.nan], [0.0, 0.0]), ([1.0, 1.0], [0.0, -np.inf])):
        with pytest.raises(NonFiniteError, match="choice 2 is NaN or inf"):
            choice_measures(np.arange(2), np.array(right), np.array(wrong))


def test_of_several_runs_there_is_a_mean_and_no_interval() -> None:
    each = [choice_measures(np.arange(40), np.arange(40.0), np.full(40, level)) for level in (9.5, 19.5)]
    first, other = (Looks(choices={"swap": one}) for one in each)
    assert mean_looks([first]) == first and first.lines[0][1].startswith("75.0 (")
    assert mean_looks([first, other]).lines == [("two-way choices of swap, % right of 40", "62.5", "–")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "a list of"),
        ([{"image": "a", "right": "x"}], "expected an object with image, right, wrong"),
        ([{"image": "b", "right": "x", "wrong": "y"}], "image 'b' is not in the split"),
        ([{"image": "a", "right": " ", "wrong": "y"}], "one of them is empty"),
        ([{"image": "a", "right": "x", "wrong": "x"}], "the same caption"),
    ],
)
def test_a_wrong_file_is_named_by_its_entry(content: object, message: str, tmp_path: Path) -> None:
    assert read_choices(CARD, tmp_path, ["a"]) is None
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "swap.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_choices(CARD, tmp_path, ["a"])


@pytest.mark.slow
def test_a_trained_method_answers_them_as_its_scores_say(
    finish: Finish, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finish(("run", "--here", "--methods", "vsepp"))
    method = harness.open().load("vsepp/tiny/s0")
    ids, captions = method.gallery.image_ids, method.gallery.captions
    pairs = [(image, caption) for image, caption in method.gallery.pairs.tolist()]
    entries = [{"image": ids[i], "right": captions[c], "wrong": f"{captions[c - 3]} , no"} for i, c in pairs]
    data = harness.open().config.data / "sets"
    data.mkdir(parents=True)
    (data / "swap.json").write_text(json.dumps(entries))
    card = folder / "cards" / "tiny" / "card.toml"
    card.write_text(
        f'{card.read_text()}\n[[choices]]\nname = "swap"\nfolder = "sets"\nfile = "swap.json"\norigin = "x"\n'
    )
    assert call("looks", "vsepp/tiny/s0", "--score", "--json") == 0
    own = json.loads(capsys.readouterr().out)["choices"]["swap"]
    scores = method.score(
        method.encode_images(), method.encode_captions([e[side] for side in ("right", "wrong") for e in entries])
    )
    rows, size = [image for image, _ in pairs], np.arange(len(pairs))
    right = scores[rows, size] > scores[rows, len(pairs) + size]
    assert own["accuracy"] == pytest.approx(100 * right.mean()) and own["choices"] == len(pairs)
    assert call("report") == 0
    (page,) = Path("reports/tiny-all").glob("vsepp-*.md")
    assert "two-way choices of swap, % right of" in page.read_text()
