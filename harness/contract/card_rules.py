"""Rules of a method's card: what it is, its settings, their ranges, the paper's recipes and numbers."""

from __future__ import annotations

import dataclasses
import typing
from typing import Literal

from harness.config.cards import MethodCard
from harness.config.registry import Registry, load_class, paper_settings
from harness.config.sections import Scalar, Tunable
from harness.contract.rule import DoesNotApply, hold
from harness.errors import ConfigError, unknown

ROUNDING = 0.35  # of numbers with one decimal: six of 0.05 each, and one of the sum


def the_card_says_what_it_is(card: MethodCard) -> None:
    hold(bool(card.title), "title is empty")
    hold(bool(card.choices) and all(card.choices), "choices is empty; say what was chosen, if only the encoders")
    sentence = card.summary.endswith(".") and "\n" not in card.summary
    hold(sentence, f"summary is not one line that ends with a full stop: {card.summary!r}")
    cited = card.fidelity in ("baseline", "zero-shot") or card.paper
    hold(bool(cited), f'fidelity = "{card.fidelity}" needs a [paper]; what follows none is a "baseline"')
    as_it_is = card.fidelity != "zero-shot" or (card.text_tower and not card.trainable)
    hold(as_it_is, 'fidelity = "zero-shot" needs text_tower = true and trainable = false')
    hold(card.path.stem == card.name, f"the file is {card.path.name}, the name {card.name}; call it {card.name}.toml")


def the_defaults_are_the_fields_of_settings(card: MethodCard) -> None:
    kind = load_class(card).Settings
    frozen = dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    hold(frozen, "Settings is not a frozen dataclass: @dataclass(frozen=True)")
    fields, keys = [field.name for field in dataclasses.fields(kind)], list(card.defaults)
    hold(fields == keys, f"fields of Settings: {', '.join(fields)}; keys of [defaults]: {', '.join(keys)}")
    for name, hint in typing.get_type_hints(kind).items():
        default = card.defaults[name]
        fits = default in typing.get_args(hint) if typing.get_origin(hint) is Literal else type(default) is hint
        hold(fits, f"[defaults] {name} = {default!r} is not {hint}")


def tunable_ranges_hold_the_defaults(card: MethodCard) -> None:
    if not card.tunable:
        raise DoesNotApply("the card has no [tunable]")
    for name, tunable in card.tunable.items():
        hold(name in card.defaults, f"[tunable.{name}]: {unknown('setting', name, card.defaults)}")
        hold(inside(card.defaults[name], tunable), f"[defaults] {name} = {card.defaults[name]!r} is out of its range")


def inside(default: Scalar, tunable: Tunable) -> bool:
    """Whether a range has a default."""
    if tunable.type == "categorical":
        return default in tunable.choices
    assert tunable.low is not None and tunable.high is not None
    return isinstance(default, int | float) and tunable.low <= default <= tunable.high


def recipes_are_of_known_datasets_and_fit_the_settings(card: MethodCard, registry: Registry) -> None:
    if not card.recipes:
        raise DoesNotApply("the card has no [[recipe]]")
    for recipe in card.recipes:
        where = f"[[recipe]] of {recipe.dataset}"
        known = recipe.dataset in registry.datasets
        hold(known, f"{where}: {unknown('dataset', recipe.dataset, registry.datasets)}")
        hold(bool(recipe.source), f"{where}: source is empty")
        hold(card.fidelity == "paper", f'{where}: fidelity is "{card.fidelity}", not "paper"')
        try:
            settings = paper_settings(card, recipe)
        except ConfigError as error:
            hold(False, str(error))
        load_class(card).Settings(**settings)


def reported_numbers_add_up_and_name_their_source(card: MethodCard, registry: Registry) -> None:
    if not card.reported:
        raise DoesNotApply("the card has no [[reported]]")
    for reported in card.reported:
        where = f"[[reported]] of {reported.dataset}, {reported.protocol}"
        total = sum((*reported.i2t, *reported.t2i))
        hold(abs(total - reported.rsum) <= ROUNDING, f"{where}: the recalls add up to {total:.1f}, not {reported.rsum}")
        hold(bool(reported.source), f"{where}: source is empty")
        known = reported.dataset in registry.datasets
        hold(known, f"{where}: {unknown('dataset', reported.dataset, registry.datasets)}")
        protocols = [protocol.name for protocol in registry.datasets[reported.dataset].protocols]
        hold(reported.protocol in protocols, f"{where}: {unknown('protocol', reported.protocol, protocols)}")
        for name, recalls in (("i2t", reported.i2t), ("t2i", reported.t2i)):
            rising = list(recalls) == sorted(recalls) and 0 <= recalls[0] <= recalls[-1] <= 100
            hold(rising, f"{where}: {name} = {list(recalls)} are no R@1, R@5 and R@10 in percent")
