"""`--recipe paper`: each method is trained as its card says that its paper did, and such rows are of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_project import Call

from harness.campaign.plan import plan
from harness.config.project import load
from harness.config.registry import discover
from harness.config.selection import Selection

CARD = """
name = "{name}"
title = "VSE++ with a recipe"
class = "methods.vsepp:VSEpp"
summary = "For tests."
scoring = "embedding"
fidelity = "baseline"
choices = ["all"]
[defaults]
dim = 8
word_dim = 8
margin = 0.2
[[recipe]]
dataset = "{dataset}"
source = "table 3"
selected_on = "test"
settings = {{ margin = {margin} }}
[recipe.training]
epochs = 1
batch_size = 16
lr = 0.02
schedule = "step"
drop_after = [1]
"""
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def cards(project: Path) -> Path:
    """A project with a method that has its paper's recipe for the tiny dataset."""
    (project / "cards" / "papered.toml").write_text(CARD.format(name="papered", dataset="tiny", margin=0.3))
    return project


def run(call: Call, *words: str) -> int:
    return call("run", "--here", "--datasets", "tiny", "--seeds", "0", *words)


def test_settings_and_training_are_those_of_the_card_whatever_harness_toml_says(cards: Path) -> None:
    config = load(cards / "harness.toml", ["settings.*.margin=0.1", "training.epochs=7"])
    registry = discover(config)
    paper, common = (
        plan(config, registry, Selection(("papered",), ("tiny",), seeds=(0,), recipe=recipe)).trials[0].spec
        for recipe in ("paper", "common")
    )
    assert (paper.settings["margin"], paper.training.lr, paper.training.epochs) == (0.3, 0.02, 1)
    assert (common.settings["margin"], common.training.epochs) == (0.1, 7)
    assert (paper.trained_as, common.trained_as) == ("paper", "")
    same = common.model_copy(update={"settings": paper.settings, "training": paper.training})
    assert same.key != paper.key, "the same numbers by another name are another trial"
    assert paper.model_copy(update={"trained_as": ""}).key == same.key


@pytest.mark.slow
def test_both_recipes_are_rows_of_a_board_and_the_command_beside_each_is_its_own(
    cards: Path, call: Call, capsys: Captured
) -> None:
    assert run(call, "--methods", "papered", "--recipe", "paper") == 0
    assert run(call, "--methods", "papered") == 0
    page = (cards / "reports" / "tiny-all.md").read_text()
    assert "papered (the paper's recipe)" in page and "--recipe paper" in page
    capsys.readouterr()
    assert run(call, "--methods", "papered", "--recipe", "paper") == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--methods", "vsepp"), "vsepp has no recipe of its paper for tiny (its card has: none)"),
        (("--methods", "vsepp,papered"), "vsepp has no recipe of its paper for tiny"),
        (("--methods", "chance*"), "none of these methods has a recipe of its paper for tiny"),
        (("--methods", "papered", "-s", "training.epochs=2"), "leave -s training.epochs out"),
        (("--methods", "papered", "-s", "settings.*.margin=0.2"), "leave -s settings.margin out"),
    ],
)
def test_what_cannot_be_trained_as_its_paper_did_is_told(
    cards: Path, call: Call, capsys: Captured, words: tuple[str, ...], said: str
) -> None:
    assert run(call, *words, "--recipe", "paper") == 2
    assert said in capsys.readouterr().err


def test_a_glob_takes_the_methods_that_have_a_recipe(cards: Path, call: Call, capsys: Captured) -> None:
    assert run(call, "--methods", "*", "--recipe", "paper", "-n") == 0
    assert "papered/tiny/s0" in (out := capsys.readouterr().out) and "vsepp/tiny" not in out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("settings = { margin = 0.3 }", "settings = { margn = 0.3 }"), "did you mean margin"),
        (("settings = { margin = 0.3 }", "settings = { margin = 'wide' }"), "margin"),
        (("lr = 0.02", "rate = 0.02"), "rate"),
        (("epochs = 1", "epochs = -1"), "epochs"),
        (("[[recipe]]", '[[recipe]]\ndataset = "tiny"\nsource = "twice"\n[[recipe]]'), "two recipes are of 'tiny'"),
    ],
)
def test_a_recipe_with_a_slip_is_refused_by_its_card(
    cards: Path, call: Call, capsys: Captured, change: tuple[str, str], said: str
) -> None:
    file = cards / "cards" / "papered.toml"
    file.write_text(file.read_text().replace(*change))
    assert run(call, "--methods", "papered", "--recipe", "paper", "-n") == 2
    err = capsys.readouterr().err
    assert said in err and "papered.toml" in err


def test_describe_shows_the_recipe_beside_the_common_one(cards: Path, call: Call, capsys: Captured) -> None:
    assert call("describe", "papered") == 0
    out = capsys.readouterr().out
    assert "training.lr" in out and "0.02" in out and "its epoch was chosen on test" in out


@pytest.mark.slow
def test_members_of_an_ensemble_are_trained_as_their_papers_did(cards: Path, call: Call, capsys: Captured) -> None:
    (cards / "cards" / "other.toml").write_text(CARD.format(name="other", dataset="tiny", margin=0.4))
    assert run(call, "--methods", "papered+other", "--recipe", "paper") == 0
    config = load(cards / "harness.toml")
    selection = Selection(("papered+other",), ("tiny",), seeds=(0,), recipe="paper")
    *members, ensemble = plan(config, discover(config), selection).trials
    assert [(one.spec.settings["margin"], one.spec.training.lr, one.state) for one in members] == [
        (0.4, 0.02, "done"),
        (0.3, 0.02, "done"),
    ]
    assert (ensemble.spec.method, ensemble.spec.trained_as, ensemble.state) == ("other+papered", "paper", "done")
    capsys.readouterr()
    assert run(call, "--methods", "papered+vsepp", "--recipe", "paper") == 2
    assert "vsepp has no recipe of its paper for tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--methods", "vsepp", "--recipe", "paper"), "vsepp has no recipe of its paper for f30k"),
        (("--methods", "zero_shot"), "zero_shot needs a dual encoder"),
    ],
)
def test_a_method_that_cannot_run_on_a_dataset_is_told_before_files_are_missed(
    project: Path, call: Call, capsys: Captured, words: tuple[str, ...], said: str
) -> None:
    """Whoever is told of the files first fetches them in vain."""
    assert call("run", "--here", "--datasets", "f30k,tiny", "--seeds", "0", *words, "-n") == 2
    assert said in capsys.readouterr().err


def test_describe_says_the_source_of_a_recipe_once_and_that_a_card_has_none(
    cards: Path, call: Call, capsys: Captured
) -> None:
    assert call("describe", "papered") == 0
    assert capsys.readouterr().out.count("table 3") == 1
    assert call("describe", "vsepp") == 0
    assert "none on this card, so --recipe paper cannot train it" in capsys.readouterr().out


def test_describe_says_in_a_line_what_datasets_have_otherwise(cards: Path, call: Call, capsys: Captured) -> None:
    with (cards / "harness.toml").open("a") as file:
        file.write("\n".join(f"[per_dataset.{name}.settings.'*']\ndim = 32" for name in ("tiny", "f30k")))
    assert call("describe", "papered") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if " on " in line and "dim 32" in line)
    assert "tiny, f30k: dim 32" in line and "margin" not in line
