"""The contract of a method, held by every card that is found and by the example of docs/guide/adding-a-method.md.

HARNESS_CONTRACT=path/to/card.toml adds a card of your own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from costs import cost

from harness.config.cards import MethodCard
from harness.config.project import Config
from harness.config.registry import discover
from harness.contract import card_rules, gradients, learning, samples, scores
from harness.contract.rule import DoesNotApply
from harness.data.dataset import Dataset

GUIDE = Path(__file__).parents[1] / "docs" / "guide" / "adding-a-method.md"
EXAMPLE = "bag"  # the method of the guide
FOUND = discover(Config(), [Path(path) for path in os.environ.get("HARNESS_CONTRACT", "").split(os.pathsep) if path])


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> MethodCard:
    """The guide's example, written out beside its card and found by path."""
    blocks = dict(re.findall(r"^```(python|toml)\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE))
    folder = tmp_path_factory.mktemp("third_party")
    (folder / f"{EXAMPLE}.py").write_text(blocks["python"])
    (folder / f"{EXAMPLE}.toml").write_text(blocks["toml"])
    return discover(Config(), [folder / f"{EXAMPLE}.toml"]).methods[EXAMPLE]


@pytest.fixture(params=[*FOUND.methods, EXAMPLE])
def card(request: pytest.FixtureRequest) -> MethodCard:
    name = request.param
    return FOUND.methods[name] if name in FOUND.methods else request.getfixturevalue("example")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with samples.one_thread():
        yield


def holds(check: Callable[..., None], *of: Any) -> None:
    """The check holds, or has nothing to say."""
    try:
        check(*of)
    except DoesNotApply as reason:
        pytest.skip(str(reason))


def test_encoded_sets_and_scores_have_the_shapes_of_the_interface(card: MethodCard) -> None:
    holds(scores.encoded_sets_and_scores_have_their_shapes, card)
    holds(scores.scores_are_finite_and_differ, card)


def test_attention_of_words_to_regions_is_that_of_each_pair_and_zero_for_padding(card: MethodCard) -> None:
    holds(scores.attention_is_that_of_each_pair_and_zero_for_padding, card)


@pytest.mark.parametrize("check", scores.HELD_BY_ALL)
def test_a_method_holds_what_all_must(card: MethodCard, check: Callable[[MethodCard], None]) -> None:
    holds(check, card)


@pytest.mark.parametrize("tile", [1, 7, 128])
def test_tiles_of_any_size_give_the_same_scores(card: MethodCard, tile: int) -> None:
    holds(scores.tiles_of_any_size_give_the_same_scores, card, tile)


@pytest.mark.parametrize("hardest", [True, False])
def test_every_parameter_gets_a_gradient(card: MethodCard, hardest: bool) -> None:
    holds(gradients.every_parameter_gets_a_gradient, card, hardest)


def test_a_step_in_bfloat16_has_its_loss_in_float32_close_to_the_exact_one(card: MethodCard) -> None:
    holds(gradients.a_step_in_bfloat16_has_its_loss_in_float32_close_to_the_exact_one, card)


@pytest.mark.parametrize("hardest", [True, False])
def test_the_loss_treats_no_true_match_as_a_negative(card: MethodCard, hardest: bool) -> None:
    holds(gradients.pushes_no_true_match_apart, card, hardest)


def test_every_tunable_choice_and_bound_builds_a_method_that_scores(card: MethodCard) -> None:
    holds(scores.every_tunable_choice_and_bound_gives_finite_scores, card)


def test_the_defaults_are_the_fields_of_settings(card: MethodCard) -> None:
    holds(card_rules.the_defaults_are_the_fields_of_settings, card)


def test_tunable_ranges_hold_the_defaults(card: MethodCard) -> None:
    holds(card_rules.tunable_ranges_hold_the_defaults, card)


def test_reported_numbers_add_up_and_name_their_source(card: MethodCard) -> None:
    holds(card_rules.reported_numbers_add_up_and_name_their_source, card, FOUND)


def test_recipes_are_of_known_datasets_and_build_the_method(card: MethodCard) -> None:
    holds(card_rules.recipes_are_of_known_datasets_and_fit_the_settings, card, FOUND)


@pytest.mark.slow
def test_the_cost_on_the_card_is_what_is_measured(card: MethodCard) -> None:
    if card.name == EXAMPLE:
        assert card.cost is None
        return
    assert card.formula and card.cost == cost(card), "python benchmarks/costs.py prints it"


def test_the_card_says_what_it_is(card: MethodCard) -> None:
    holds(card_rules.the_card_says_what_it_is, card)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return learning.pictures(tmp_path_factory.mktemp("pictures"))


def test_a_training_step_reads_nothing_from_the_device(card: MethodCard, pictures: Dataset) -> None:
    holds(learning.a_training_step_reads_nothing_from_the_device, card, pictures)


@pytest.mark.slow
def test_a_few_steps_on_the_embedded_data_leave_chance_behind(card: MethodCard, pictures: Dataset) -> None:
    holds(learning.a_few_steps_on_the_embedded_data_leave_chance_behind, card, pictures)
