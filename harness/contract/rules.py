"""Every rule of the contract, in the order in which it makes sense to mend them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from harness.config.cards import MethodCard
from harness.config.registry import Registry
from harness.contract import card_rules, gradients, learning, scores
from harness.contract.oracle import scores_are_those_of_the_oracle
from harness.contract.rule import SCORES, Rule
from harness.data.dataset import Dataset

Part = Callable[[MethodCard], None]
TILES = (1, 7, 128)


def rules_of(registry: Registry, folder: Path) -> tuple[Rule, ...]:
    """All rules; those of training draw pictures into a folder when they are first checked."""
    return (*of_cards(registry), *of_scores(), *of_pairs(), *of_losses(), *of_training(folder))


def of_cards(registry: Registry) -> Iterator[Rule]:
    """Rules of what the card says."""
    recipes = partial(card_rules.recipes_are_of_known_datasets_and_fit_the_settings, registry=registry)
    reported = partial(card_rules.reported_numbers_add_up_and_name_their_source, registry=registry)
    settings = card_rules.the_defaults_are_the_fields_of_settings
    yield Rule("card", "the card says what the method is", (card_rules.the_card_says_what_it_is,), ())
    yield Rule("settings", "defaults are the fields of Settings", (settings,), ())
    yield Rule("ranges", "tunable ranges hold the defaults", (card_rules.tunable_ranges_hold_the_defaults,), ())
    yield Rule("recipes", "recipes fit datasets and settings", (recipes,), ("settings",))
    yield Rule("reported", "reported numbers add up", (reported,), ())


def of_scores() -> Iterator[Rule]:
    """Rules without which no other score says anything."""
    yield Rule(
        "builds", "the class is built by its settings", (scores.the_class_is_built_by_its_settings,), ("settings",)
    )
    shapes = scores.encoded_sets_and_scores_have_their_shapes
    yield Rule("shapes", "encoded sets and scores have their shapes", (shapes,), ("builds",))
    yield Rule("finite", "scores are finite and differ", (scores.scores_are_finite_and_differ,), ("builds", "shapes"))


def of_pairs() -> Iterator[Rule]:
    """Rules of scores, attention and weights."""
    padding = (scores.padding_changes_no_score, scores.the_values_under_padding_change_no_score)
    tiles = tuple(partial(scores.tiles_of_any_size_give_the_same_scores, tile=tile) for tile in TILES)
    alone = scores.the_score_of_a_pair_depends_on_that_pair_alone
    seeds = scores.one_seed_gives_the_same_weights_and_another_does_not
    choices = scores.every_tunable_choice_and_bound_gives_finite_scores
    yield Rule("padding", "padding changes no score", padding)
    yield Rule("tiles", "tiles of any size give the same scores", tiles)
    yield Rule(
        "order", "permuted sets give permuted scores", (scores.permuted_captions_and_images_give_permuted_scores,)
    )
    yield Rule("pairs", "the score of a pair depends on it alone", (alone,), (*SCORES, "padding", "tiles", "order"))
    yield Rule("oracle", "scores are those of the oracle", (scores_are_those_of_the_oracle,))
    yield Rule(
        "attention", "attention is that of each pair", (scores.attention_is_that_of_each_pair_and_zero_for_padding,)
    )
    yield Rule("seeds", "a seed decides the weights", (seeds,), ("builds",))
    yield Rule("saving", "saved weights give equal scores", (scores.saved_weights_give_equal_scores,))
    yield Rule("choices", "every tunable choice gives finite scores", (choices,), (*SCORES, "ranges"))


def of_losses() -> Iterator[Rule]:
    """Rules of the loss of a batch."""
    half = gradients.a_step_in_bfloat16_has_its_loss_in_float32_close_to_the_exact_one
    yield Rule("gradients", "a gradient reaches every parameter", of_both(gradients.every_parameter_gets_a_gradient))
    yield Rule("negatives", "no true match is a negative", of_both(gradients.pushes_no_true_match_apart))
    yield Rule("bfloat16", "the loss of a step in bfloat16 is float32", (half,))


def of_both(part: Callable[[MethodCard, bool], None]) -> tuple[Part, ...]:
    """A part with the hardest negatives, and with all of them."""
    return tuple(lambda card, hardest=hardest: part(card, hardest) for hardest in (True, False))


def of_training(folder: Path) -> Iterator[Rule]:
    """Rules of training on pictures."""
    pictures = cache(partial(learning.pictures, folder))

    def on_pictures(part: Callable[[MethodCard, Dataset], None]) -> Part:
        return lambda card: part(card, pictures())

    reads = on_pictures(learning.a_training_step_reads_nothing_from_the_device)
    learns = on_pictures(learning.a_few_steps_on_the_embedded_data_leave_chance_behind)
    yield Rule("reads", "a step waits for no number", (reads,))
    yield Rule("learning", "training beats a random order", (learns,), (*SCORES, "gradients"))
