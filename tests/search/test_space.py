"""What may be searched, checked against cards, [training] and [search]; what samplers and grids make of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.cards import MethodCard
from harness.config.project import Config, load
from harness.config.registry import Registry, discover, settings_for
from harness.config.sections import Scalar, Search, Training, Tunable
from harness.errors import ConfigError, UsageError
from harness.search.space import applied, check_search, default_point, described, ordered, points_in, space_for, within
from harness.search.studies import StudyDesign, cells_of, check_sampler, difference, grid_of

ROOT = Path(__file__).parents[2]
DEFAULTS = {"dim": 8, "scale": 0.5, "pooling": "avg", "deep": False}
WIDE = {"type": "float", "low": 0.1, "high": 0.9}
LR = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}
POOLING = {"type": "categorical", "choices": ["avg", "lse"]}


def card(name: str = "mine", **own: Any) -> MethodCard:
    fields = {
        **{"name": name, "title": name, "class": "mine:Mine", "summary": "of a test", "scoring": "embedding"},
        **{"fidelity": "baseline", "choices": ["none"], "defaults": DEFAULTS, "path": Path("mine.toml")},
    }
    return MethodCard.model_validate({**fields, **own})


def config(space: Mapping[str, Any] | None = None, points: Mapping[str, Any] | None = None, **tables: Any) -> Config:
    return Config.model_validate({"search": {"space": space or {}, "points": points or {}}, **tables})


def registry(*cards: MethodCard) -> Registry:
    return Registry({one.name: one for one in cards or (card(),)}, {})


def ranges(**tables: Mapping[str, Any]) -> dict[str, Tunable]:
    return {key: Tunable.model_validate(table) for key, table in tables.items()}


def test_a_cards_ranges_are_its_space() -> None:
    own = card(tunable={"scale": WIDE, "pooling": POOLING})
    assert space_for(own, config()) == ranges(scale=WIDE, pooling=POOLING)


def test_globs_lie_over_the_card_and_the_exact_name_over_globs_wherever_it_stands() -> None:
    own = card(tunable={"scale": WIDE, "pooling": POOLING})
    narrow, narrower = {**WIDE, "high": 0.8}, {**WIDE, "high": 0.7}
    space = {"mine": {"scale": narrower}, "m*": {"scale": narrow, "dim": {"type": "int", "low": 4, "high": 16}}}
    space_of_mine = space_for(own, config(space))
    assert (space_of_mine["scale"].high, space_of_mine["dim"].high) == (0.7, 16)
    assert space_of_mine["pooling"] == own.tunable["pooling"]


def test_a_glob_touches_what_the_method_has_and_any_key_of_training() -> None:
    both = config({"*": {"scale": WIDE, "training.lr": LR}})
    assert set(space_for(card(defaults={"dim": 8}), both)) == {"training.lr"}
    assert set(space_for(card(), both)) == {"scale", "training.lr"}


def test_a_glob_of_training_passes_a_method_by_that_is_not_trained() -> None:
    untrained = card(trainable=False)
    assert space_for(untrained, config({"*": {"training.lr": LR}})) == {}
    with pytest.raises(ConfigError, match="mine is not trained"):
        space_for(untrained, config({"mine": {"training.lr": LR}}))


def test_a_nested_table_of_training_is_the_same_key() -> None:
    assert set(space_for(card(), config({"mine": {"training": {"lr": LR}}}))) == {"training.lr"}


def test_whole_numbers_among_the_choices_of_a_float_become_floats() -> None:
    space = space_for(card(), config({"mine": {"scale": {"type": "categorical", "choices": [1, 0.5]}}}))
    assert [type(choice) for choice in space["scale"].choices] == [float, float]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"scael": WIDE}, ["search.space.mine", "'scael'", "did you mean scale"]),
        ({"training.lrr": LR}, ["search.space.mine", "did you mean training.lr"]),
        ({"training.epochs": {"type": "int", "low": 2, "high": 9}}, ["training.epochs", "epoch by epoch"]),
        ({"training.drop_after": {"type": "int", "low": 2, "high": 9}}, ["training.drop_after", "list"]),
        ({"training.lr": {**LR, "log": False, "low": 0.0}}, ["lr", "greater than 0"]),
        ({"training.drop_words": {"type": "float", "low": 0.0, "high": 1.0}}, ["drop_words", "less than 1"]),
        ({"training.batch_size": {"type": "int", "low": 1, "high": 64}}, ["batch_size", "greater than or equal to 2"]),
        ({"training.schedule": {"type": "categorical", "choices": ["cosine", "cosign"]}}, ["cosign"]),
        ({"dim": {"type": "float", "low": 4, "high": 16}}, ["dim", "float", "8", "int or categorical"]),
        ({"deep": {"type": "int", "low": 0, "high": 1}}, ["deep", "false", "categorical"]),
        ({"pooling": {"type": "float", "low": 0, "high": 1}}, ["pooling", "categorical"]),
        ({"deep": {"type": "categorical", "choices": [0, 1]}}, ["0, 1", "no bool"]),
        ({"dim": {"type": "categorical", "choices": [8, 16.0]}}, ["16.0", "no int"]),
        ({"dim": {"type": "categorical", "choices": [8, True]}}, ["true", "no int"]),
        ({"pooling": {"type": "categorical", "choices": ["avg", "avg"]}}, ["once"]),
        ({"scale": {**WIDE, "when": {"pooling": "lse"}}}, ["scale when pooling", "unknown searched setting"]),
        ({"pooling": POOLING, "scale": {**WIDE, "when": {"pooling": "max"}}}, ["scale when pooling", "never is that"]),
        ({"scale": WIDE, "pooling": {**POOLING, "when": {"scale": 0.5}}}, ["pooling when scale", "hardly ever"]),
        (
            {
                "pooling": {**POOLING, "when": {"deep": True}},
                "deep": {"type": "categorical", "choices": [True, False], "when": {"pooling": "avg"}},
            },
            ["circle", "pooling", "deep"],
        ),
    ],
)
def test_a_range_that_cannot_be_searched_is_refused_by_name(table: Mapping[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_search(config({"mine": table}), registry())
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("scale", {"type": "int", "low": 0, "high": 3}),
        ("dim", {"type": "categorical", "choices": [8, 16]}),
        ("deep", {"type": "categorical", "choices": [True, False]}),
        ("training.lr", LR),
        ("training.drop_words", {"type": "float", "low": 0.0, "high": 0.99}),
        ("training.optimizer", {"type": "categorical", "choices": ["adam", "adamw"]}),
        ("training.batch_size", {"type": "int", "low": 2, "high": 512, "log": True}),
    ],
)
def test_a_range_that_suits_its_setting_is_taken(key: str, table: Mapping[str, Any]) -> None:
    both = config({"mine": {key: table}})
    check_search(both, registry())
    assert set(space_for(card(), both)) == {key}


def test_a_wrong_range_of_a_card_names_the_cards_file() -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml: \[tunable\].*scael"):
        check_search(config(), registry(card(tunable={"scael": WIDE})))


def test_a_table_that_no_method_answers_to_and_a_key_that_none_of_them_has_are_refused() -> None:
    cards = registry(card("mine"), card("mint", defaults={"dim": 8}))
    check_search(config({"mi*": {"scale": WIDE}}), cards)
    with pytest.raises(ConfigError, match=r"search\.space\.minee.*did you mean mine"):
        check_search(config({"minee": {"scale": WIDE}}), cards)
    with pytest.raises(ConfigError, match=r"search\.space\.mi\*.*'scael'.*did you mean scale"):
        check_search(config({"mi*": {"scael": WIDE}}), cards)


def test_the_default_campaign_and_every_built_in_card_can_be_searched() -> None:
    here = load(ROOT / "harness.toml")
    cards = discover(here)
    check_search(here, cards)
    assert any(space_for(one, here) for one in cards.methods.values())


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ({"minee": [{}]}, ["search.points", "did you mean mine"]),
        ({"mine": [{"scael": 0.5}]}, ["search.points", "did you mean scale"]),
        ({"mine": [{"dim": 8}]}, ["'dim'", "searched setting"]),
        ({"mine": [{"scale": 0.95}]}, ["scale = 0.95", "float 0.1 to 0.9"]),
        ({"mine": [{"scale": True}]}, ["scale = true"]),
        ({"mine": [{"pooling": "avg", "training.lr": 1e-3}]}, ["training.lr", 'pooling = "lse"']),
        ({"mine": [{"training.lr": 1e-3}]}, ["training.lr", 'pooling = "lse"']),
    ],
)
def test_a_point_that_the_space_does_not_hold_is_refused(points: Mapping[str, Any], words: list[str]) -> None:
    space = {"scale": WIDE, "pooling": POOLING, "training.lr": {**LR, "when": {"pooling": "lse"}}}
    with pytest.raises(ConfigError) as caught:
        check_search(config({"mine": space}, points), registry())
    assert all(word in str(caught.value) for word in words), caught.value


def test_points_have_the_types_of_their_ranges() -> None:
    space = {"scale": {"type": "float", "low": 0, "high": 2}, "dim": {"type": "categorical", "choices": [8, 16]}}
    both = config({"mine": space}, {"mine": [{"scale": 1, "dim": 16}, {"scale": 0.5}]})
    points = points_in(space_for(card(), both), "mine", both.search)
    assert points == [{"scale": 1.0, "dim": 16}, {"scale": 0.5}]
    assert type(points[0]["scale"]) is float


def test_the_default_point_is_what_is_configured() -> None:
    space = ranges(scale=WIDE, pooling=POOLING, **{"training.lr": LR})
    both = config(settings={"mine": {"scale": 0.3}}, training={"lr": 0.002})
    point = default_point(space, settings_for(card(), both), both.training)
    assert point == {"scale": 0.3, "pooling": "avg", "training.lr": 0.002}


@pytest.mark.parametrize("outside", [{"scale": 0.95}, {"scale": 0.05}, {"pooling": "max"}])
def test_there_is_no_default_point_where_a_configured_value_lies_outside(outside: dict[str, Scalar]) -> None:
    space = ranges(scale=WIDE, pooling=POOLING)
    assert default_point(space, {**DEFAULTS, **outside}, Training()) is None


def test_the_default_point_has_a_conditional_key_only_where_its_condition_holds() -> None:
    space = ranges(scale={**WIDE, "when": {"pooling": "lse"}}, pooling=POOLING)
    assert default_point(space, {**DEFAULTS, "scale": 5.0}, Training()) == {"pooling": "avg"}
    assert default_point(space, {**DEFAULTS, "pooling": "lse"}, Training()) == {"pooling": "lse", "scale": 0.5}


def numbers(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    whole = st.integers(1, 400)
    bound = whole if kind == "int" else st.floats(1e-6, 1e3)
    pairs = st.tuples(bound, bound).filter(lambda pair: pair[0] < pair[1])
    return st.builds(
        lambda pair, log: {"type": kind, "low": pair[0], "high": pair[1], "log": log}, pairs, st.booleans()
    )


TABLES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "dim": numbers("int"),
    "scale": numbers("float") | numbers("int"),
    "pooling": st.just(POOLING),
    "deep": st.just({"type": "categorical", "choices": [False, True]}),
    "training.lr": numbers("float"),
    "training.warmup_steps": numbers("int"),
}


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Tunable]:
    keys = draw(st.sets(st.sampled_from(sorted(TABLES)), min_size=1))
    return space_for(card(), config({"mine": {key: draw(TABLES[key]) for key in sorted(keys)}}))


@given(spaces())
def test_a_grid_lies_in_its_ranges_and_holds_both_ends(space: dict[str, Tunable]) -> None:
    for key, values in grid_of(space).items():
        tunable = space[key]
        assert all(within(tunable, value) == value for value in values)
        assert len(set(values)) == len(values) <= 10
        if not tunable.choices:
            assert (values[0], values[-1]) == (tunable.low, tunable.high)
            assert values == sorted(values)


@given(spaces(), st.randoms(use_true_random=False))
def test_applied_keeps_every_type_and_all_that_is_not_searched(space: dict[str, Tunable], rng: Any) -> None:
    values = {key: rng.choice(choices) for key, choices in grid_of(space).items()}
    settings, training = applied(values, DEFAULTS, Training())
    old = {**DEFAULTS, **{f"training.{key}": value for key, value in Training().model_dump().items()}}
    new = {**settings, **{f"training.{key}": value for key, value in training.model_dump().items()}}
    assert new == {**old, **values}
    assert {key: type(value) for key, value in new.items()} == {key: type(value) for key, value in old.items()}


@given(spaces(), st.randoms(use_true_random=False))
def test_the_order_of_a_space_changes_neither_its_order_of_asking_nor_its_description(
    space: dict[str, Tunable], rng: Any
) -> None:
    keys = list(space)
    rng.shuffle(keys)
    other = {key: space[key] for key in keys}
    assert ordered(other) == ordered(space)
    assert list(described(other).items()) == list(described(space).items())


def test_applied_refuses_a_key_that_is_not_there_and_a_value_that_training_does_not_allow() -> None:
    with pytest.raises(ConfigError, match="did you mean scale"):
        applied({"scael": 0.5}, DEFAULTS, Training())
    with pytest.raises(ConfigError, match=r"lr.*greater than 0"):
        applied({"training.lr": -1.0}, DEFAULTS, Training())


def test_a_condition_comes_before_what_depends_on_it() -> None:
    when = {"when": {"z": "avg"}}
    space = ranges(a={**WIDE, "when": {"m": "lse"}}, m={**POOLING, **when}, z=POOLING, b=WIDE)
    for keys in itertools.permutations(space):
        order = ordered({key: space[key] for key in keys})
        assert order == ordered(space)
        assert order.index("z") < order.index("m") < order.index("a")


def test_what_a_grid_takes_of_each_range() -> None:
    grid = grid_of(
        ranges(
            choice={"type": "categorical", "choices": [256, 32]},
            few={"type": "int", "low": 1, "high": 10},
            many={"type": "int", "low": 0, "high": 100},
            many_log={"type": "int", "low": 1, "high": 256, "log": True},
            share={"type": "float", "low": 0, "high": 1},
            rate={"type": "float", "low": 0.0001, "high": 1, "log": True},
        )
    )
    assert grid["choice"] == [256, 32]
    assert grid["few"] == list(range(1, 11))
    assert grid["many"] == [0, 25, 50, 75, 100]
    assert grid["many_log"] == [1, 4, 16, 64, 256]
    assert grid["share"] == [0, 0.25, 0.5, 0.75, 1]
    assert grid["rate"] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])
    assert all(type(value) is int for value in grid["many_log"])


def test_a_grid_knows_no_conditions_and_not_too_many_cells() -> None:
    with pytest.raises(ConfigError, match="scale has a condition"):
        grid_of(ranges(scale={**WIDE, "when": {"pooling": "lse"}}, pooling=POOLING))
    with pytest.raises(ConfigError, match="390625 cells"):
        grid_of(ranges(**{f"s{index}": WIDE for index in range(8)}))


def test_the_cells_of_a_grid_are_all_its_combinations_in_an_order_of_the_seed() -> None:
    space = ranges(pooling=POOLING, dim={"type": "int", "low": 1, "high": 4})
    cells = cells_of(space, 0)
    assert sorted((cell["dim"], cell["pooling"]) for cell in cells) == [
        (dim, pooling) for dim in (1, 2, 3, 4) for pooling in ("avg", "lse")
    ]
    assert cells == cells_of(space, 0) != cells_of(space, 1)
    assert cells_of({}, 0) == [{}]


@pytest.mark.parametrize(
    ("changed", "table"),
    [
        ("low", {**WIDE, "low": 0.2}),
        ("log", {**WIDE, "log": True}),
        ("type", {"type": "categorical", "choices": [0.1, 0.9]}),
        ("condition", {**WIDE, "when": {"pooling": "lse"}}),
    ],
)
def test_another_space_has_another_description(changed: str, table: Mapping[str, Any]) -> None:
    assert described(ranges(scale=table, pooling=POOLING)) != described(ranges(scale=WIDE, pooling=POOLING))


def test_descriptions_read_well() -> None:
    space = ranges(
        **{"training.lr": LR},
        dim={"type": "int", "low": 4, "high": 16},
        pooling=POOLING,
        scale={**WIDE, "when": {"pooling": "lse"}},
    )
    assert described(space) == {
        "training.lr": "float 0.0001 to 0.01 log",
        "dim": "int 4 to 16",
        "pooling": 'one of "avg", "lse"',
        "scale": 'float 0.1 to 0.9 when pooling = "lse"',
    }


CONDITIONAL = ranges(scale={**WIDE, "when": {"pooling": "lse"}}, pooling=POOLING)
TWO = ranges(scale=WIDE, dim={"type": "int", "low": 4, "high": 16})


@pytest.mark.parametrize("sampler", ["grid", "gp", "cmaes"])
def test_samplers_that_know_no_conditions_are_refused_for_them(sampler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.search.studies.NEEDS", {})
    with pytest.raises(ConfigError, match=f"main/mine.*{sampler}.*tpe or random"):
        check_sampler("main/mine", CONDITIONAL, Search(sampler=sampler))
    check_sampler("main/mine", TWO, Search(sampler=sampler))
    check_sampler("main/mine", {}, Search(sampler=sampler))


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_tpe_and_random_search_everything(sampler: Any) -> None:
    check_sampler("main/mine", CONDITIONAL, Search(sampler=sampler, objective=("rsum", "-seconds")))


@pytest.mark.parametrize(
    ("space", "objective"),
    [(ranges(scale=WIDE), ("rsum",)), ({**TWO, **ranges(pooling=POOLING)}, ("rsum",)), (TWO, ("rsum", "-seconds"))],
    ids=["one range", "choices", "two objectives"],
)
def test_cmaes_is_refused_what_it_cannot_search(
    space: dict[str, Tunable], objective: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.search.studies.NEEDS", {})
    with pytest.raises(ConfigError, match=r"two or more ranges.*tpe or gp"):
        check_sampler("main/mine", space, Search(sampler="cmaes", objective=objective))


def test_a_sampler_whose_package_is_absent_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.search.studies.NEEDS", {"cmaes": ("no_such_package",)})
    with pytest.raises(UsageError, match=r"cmaes.*pip install no_such_package"):
        check_sampler("main/mine", TWO, Search(sampler="cmaes"))


@pytest.mark.parametrize(
    "other",
    [{"sampler": "random"}, {"seed": 7}, {"startup": 3}, {"pruner": "none"}, {"min_epochs": 2}, {"objective": ("-x",)}],
    ids=str,
)
def test_what_decides_the_trials_of_a_study_is_its_identity(other: dict[str, Any]) -> None:
    assert StudyDesign(Search(**other), TWO, 9, []).identity != StudyDesign(Search(), TWO, 9, []).identity


def test_epochs_points_and_space_are_of_the_identity_and_budgets_are_not() -> None:
    one = StudyDesign(Search(), TWO, 9, [{"scale": 0.5}]).identity
    assert one == StudyDesign(Search(trials=500, epochs=7, seconds=1.0), TWO, 9, [{"scale": 0.5}]).identity
    others = [
        StudyDesign(Search(), TWO, 8, [{"scale": 0.5}]).identity,
        StudyDesign(Search(), TWO, 9, [{"scale": 0.6}]).identity,
        StudyDesign(Search(), ranges(scale=WIDE), 9, [{"scale": 0.5}]).identity,
    ]
    assert all(one != other for other in others)


def test_startup_is_of_no_study_that_does_not_use_it() -> None:
    blind = {"sampler": "random", "pruner": "none"}
    assert (
        StudyDesign(Search(**blind, startup=3), TWO, 9, []).identity
        == StudyDesign(Search(**blind), TWO, 9, []).identity
    )


def test_a_difference_shows_what_changed_and_nothing_else() -> None:
    text = difference("main/mine", {"a": "1", "b": "2", "old": "3"}, {"a": "1", "b": "5", "new": "4"})
    lines = text.splitlines()
    assert lines[1:-1] == ["  b: 2 -> 5", "  new: none -> 4", "  old: 3 -> none"]
    assert "main/mine" in lines[0]
    assert "--campaign" in lines[-1]


def test_a_value_lies_within_a_range_or_it_does_not() -> None:
    number, whole, choice = Tunable(**WIDE), Tunable(type="int", low=1, high=5), Tunable(**POOLING)
    assert [within(number, value) for value in (0.1, 0.9, 1, True, "0.5")] == [0.1, 0.9, None, None, None]
    assert [within(whole, value) for value in (1, 5.0, 6, 2.5, False)] == [1, 5, None, None, None]
    assert [within(choice, value) for value in ("avg", "max", 1)] == ["avg", None, None]
    assert type(within(whole, 5.0)) is int
    assert math.isclose(float(within(Tunable(type="float", low=0, high=2), 1) or 0), 1.0)
