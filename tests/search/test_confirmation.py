"""What confirms a search: the very recipe that won, once for each seed, and nothing that cannot be scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from driven_search import NAME, configured, drive, opened, result_of, settle
from tiny_project import Call

from harness.config.selection import Selection
from harness.errors import UsageError
from harness.search.confirmation import confirmation
from harness.search.optuna_study import open_storage
from harness.search.study_records import IDENTITY
from harness.trial.results import Assignment, TrialResult

Captured = pytest.CaptureFixture[str]
ONE = '[search.space.vsepp]\nmargin = { type = "categorical", choices = [0.2] }\n'
RANDOM = 'sampler = "random"\npruner = "none"'
ADAM = """
[search.space.vsepp]
"training.optimizer" = { type = "categorical", choices = ["adam", "adamw"] }
"training.weight_decay" = { type = "float", low = 1e-4, high = 0.1, when = { "training.optimizer" = "adamw" } }
"""
CAAN = """
[search.space.caan]
margin = { type = "categorical", choices = [0.2] }
affinity_scale = { type = "categorical", choices = [3.0] }
correlation = { type = "categorical", choices = ["semantic", "feature"] }
width = { type = "int", low = 4, high = 8, when = { correlation = "semantic" } }
"""
FEATURE = '[settings.caan]\nwidth = 6\ncorrelation = "feature"'


def confirmed(*overrides: str, given: tuple[str, ...] = (), **selection: Any) -> list[Assignment]:
    config, registry = configured(*overrides)
    return confirmation(config, registry, NAME, Selection(**selection), given)


def adam_wins(trial: Assignment) -> TrialResult:
    return result_of(trial, 100.0 + (trial.spec.training.optimizer == "adam"))


def feature_wins(trial: Assignment) -> TrialResult:
    return result_of(trial, 100.0 + (trial.spec.settings["correlation"] == "feature"))


def forget(project: Path, *names: str) -> None:
    """The study as an earlier harness wrote it, which did not note these."""
    storage = open_storage(project / "runs" / "studies.journal").journal
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    identity = {key: text for key, text in study.user_attrs[IDENTITY].items() if key not in names}
    study.set_user_attr(IDENTITY, identity)


def test_the_winner_is_confirmed_with_what_it_had_where_a_condition_did_not_hold(project: Path) -> None:
    settle(project, f"trials = 4\n{RANDOM}", ADAM)
    drive(opened(), adam_wins)
    (trial,) = confirmed()
    assert (trial.spec.training.optimizer, trial.spec.training.weight_decay) == ("adam", 0.0)
    with pytest.raises(UsageError, match=r"training\.weight_decay: 0\.0 -> 0\.5"):
        confirmed("training.weight_decay=0.5", given=("training.weight_decay",))
    (again,) = confirmed("training.weight_decay=0.5")  # as an edit of harness.toml
    assert again.spec == trial.spec


def test_a_search_does_not_go_on_with_another_value_where_a_condition_does_not_hold(project: Path) -> None:
    settle(project, f"trials = 3\n{RANDOM}", CAAN, FEATURE)
    drive(opened(method="caan"), feature_wins)
    with pytest.raises(UsageError, match=r"settings\.width: 6 -> 7"):
        opened("settings.caan.width=7", "search.trials=6", method="caan")
    assert len(drive(opened("search.trials=6", method="caan"), feature_wins)) <= 3


def test_a_study_that_does_not_say_what_its_winner_had_goes_on_and_confirms_no_other_recipe(project: Path) -> None:
    settle(project, f"trials = 3\n{RANDOM}", CAAN, FEATURE)
    drive(opened(method="caan"), feature_wins)
    forget(project, "settings.width")
    with pytest.raises(UsageError, match=r"settings\.width: 6 -> 7"):
        confirmed("settings.caan.width=7")
    (trial,) = confirmed()
    assert trial.spec.settings["width"] == 6
    opened(method="caan")
    with pytest.raises(UsageError, match=r"settings\.width: 6 -> 7"):
        opened("settings.caan.width=7", method="caan")


def test_a_winner_whose_recipe_nothing_tells_any_more_is_not_confirmed_by_another(project: Path) -> None:
    settle(project, f"trials = 3\n{RANDOM}", CAAN, FEATURE)
    drive(opened(method="caan"), feature_wins)
    forget(project, "settings.width")
    for file in (project / "runs" / "trials").glob("*/spec.json"):
        file.unlink()
    with pytest.raises(UsageError, match="nothing says any more how its best trial"):
        confirmed("settings.caan.width=7")
    assert confirmed()


def test_each_of_a_front_is_confirmed_once(project: Path) -> None:
    settle(project, f'trials = 5\nobjective = ["rsum", "-seconds"]\n{RANDOM}', ONE)
    drive(opened(), result_of)
    assert len(confirmed()) == len({trial.spec.key for trial in confirmed(seeds=(1, 2))}) / 2 == 1


def test_a_winner_is_confirmed_under_the_protocol_that_is_asked_for_or_configured(project: Path) -> None:
    card = project / "cards" / "tiny" / "card.toml"
    text = card.read_text()
    card.write_text(text + text[text.index("[[protocols]]") :].replace('"all"', '"whole"'))
    settle(project, f"trials = 1\n{RANDOM}", ONE)
    drive(opened(), result_of)
    assert {trial.spec.protocol for trial in confirmed()} == {"all"}
    assert {trial.spec.protocol for trial in confirmed("campaign.protocol=whole")} == {"whole"}
    assert {trial.spec.protocol for trial in confirmed("campaign.protocol=whole", protocol="all")} == {"all"}
    for overrides, flag in (((), "val"), (("campaign.protocol=val",), "")):
        with pytest.raises(UsageError, match="kept for `harness search`"):
            confirmed(*overrides, protocol=flag)


@pytest.mark.slow
def test_what_could_not_be_scored_is_refused_before_anything_is_trained(
    project: Path, call: Call, capsys: Captured
) -> None:
    settle(project, f"trials = 1\n{RANDOM}", ONE)
    drive(opened(), result_of)
    assert call("confirm", NAME, "-n", "--here") == 0
    assert call("confirm", NAME, "-n", "--here", "--protocol", "val") == 2
    assert "kept for `harness search`" in capsys.readouterr().err
    card = project / "cards" / "tiny" / "card.toml"
    (head, protocol) = card.read_text().split("[[protocols]]")
    card.write_text(f"{head}[[protocols]]{protocol.replace('captions = ', 'captions = 1')}")
    for words in (("-n",), ()):
        assert call("confirm", NAME, "--here", *words) == 3
        assert "captions" in capsys.readouterr().err
    assert len([*(project / "runs" / "trials").iterdir()]) == 1
    assert call("status", NAME, "--json") == 0, "it does not look at splits"
    assert json.loads(capsys.readouterr().out)["campaign"] == NAME


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("training.epochs=3", "training.epochs: 2 -> 3"),
        ("per_dataset.tiny.training.epochs=3", "training.epochs: 2 -> 3"),
        ("per_dataset.tiny.settings.vsepp.dim=5", "settings.dim: 8 -> 5"),
    ],
)
def test_a_value_that_the_search_did_not_have_is_refused_wherever_it_is_given(
    project: Path, call: Call, capsys: Captured, given: str, said: str
) -> None:
    settle(project, f"trials = 1\n{RANDOM}", ONE)
    drive(opened(), result_of)
    assert call("confirm", NAME, "-n", "--here", "-s", given) == 2
    assert said in capsys.readouterr().err


def test_the_recipes_of_papers_are_not_searched(project: Path, call: Call, capsys: Captured) -> None:
    settle(project, f"trials = 1\n{RANDOM}", ONE)
    for words in ((), ("-n",)):
        assert call("search", "--here", *words, "-s", "campaign.recipe=paper") == 2
        assert "-s campaign.recipe=common" in capsys.readouterr().err
    assert not (project / "runs" / "studies.journal").exists()
