"""Settings <-> search space: what may be searched, checked against the card, [training] and [search]. Pure."""

from __future__ import annotations

import fnmatch
import graphlib
from collections.abc import Iterable, Iterator, Mapping

from harness.config.cards import MethodCard
from harness.config.project import Config
from harness.config.registry import Registry, settings_for
from harness.config.sections import Scalar, Search, Training, Tunable
from harness.config.toml import literal, validate
from harness.errors import ConfigError, unknown

PREFIX = "training."  # of a key that is no setting of the method but one of [training]
FITS = {  # the types of a range that suit a value of this type
    bool: ("categorical",),
    str: ("categorical",),
    int: ("int", "categorical"),
    float: ("float", "int", "categorical"),
}


def space_for(card: MethodCard, config: Config) -> dict[str, Tunable]:
    """The card's ranges but `search.fixed`, overlaid by matching globs of [search.space], then by the method's own.

    Keys are settings and `training.KEY`. A glob touches settings that the method has, and `training.KEY` of a method
    that is trained. Raises ConfigError for any other key, for a range that does not suit its setting and for a
    condition that cannot hold.
    """
    settings, space = settings_for(card, config), {}
    for where, key, tunable in _ranges(card, config):
        if key.startswith(PREFIX):
            space[key] = _checked(tunable, _trained(card, config, key, where), f"{where} {key}")
            _check_training(config.training, key, space[key], where)
        elif key in settings:
            space[key] = _checked(tunable, settings[key], f"{where} {key}")
        else:
            raise ConfigError(f"{where}: " + unknown("setting", key, [*settings, *_training_keys()]))
    _check_conditions(card.name, space)
    return space


def check_search(config: Config, registry: Registry) -> None:
    """ConfigError for what cannot be searched in [search.space], in [search.points] or in a card's ranges."""
    for pattern, table in config.search.space.items():
        cards = [card for card in registry.methods.values() if fnmatch.fnmatchcase(card.name, pattern)]
        if not cards:
            raise ConfigError(f"[search.space.{pattern}]: " + unknown("method", pattern, registry.methods))
        known = {key for card in cards for key in card.defaults} | set(_training_keys())
        for key in table:
            if key not in known and key != f"{PREFIX}epochs":  # which has a message of its own
                raise ConfigError(f"[search.space.{pattern}]: " + unknown("setting", key, known))
    settings = {key for card in registry.methods.values() for key in card.defaults}
    for key in config.search.fixed:
        if key not in {*settings, *Search().fixed}:
            raise ConfigError(f"search.fixed: {unknown('setting', key, settings)}")
    for name in config.search.points:
        if name not in registry.methods:
            raise ConfigError(f"[search.points] {name}: " + unknown("method", name, registry.methods))
    for card in registry.methods.values():
        points_in(space_for(card, config), card.name, config.search)


def ordered(space: Mapping[str, Tunable]) -> list[str]:
    """The keys of a space by name, conditions before what depends on them: the order of the file changes nothing."""
    graph = {key: sorted(space[key].when) for key in sorted(space)}
    return list(graphlib.TopologicalSorter(graph).static_order())


def applies(space: Mapping[str, Tunable], key: str, values: Mapping[str, Scalar]) -> bool:
    return all(other in values and values[other] == value for other, value in space[key].when.items())


def applied(
    values: Mapping[str, Scalar], settings: Mapping[str, Scalar], training: Training
) -> tuple[dict[str, Scalar], Training]:
    """Settings and recipe under searched values, each of its former type; ConfigError for a wrong key or value."""
    recipe, own = training.model_dump(), dict(settings)
    for key, value in values.items():
        table, name = (recipe, key.removeprefix(PREFIX)) if key.startswith(PREFIX) else (own, key)
        if name not in table:
            raise ConfigError("a searched value: " + unknown("setting", key, [*settings, *_training_keys()]))
        table[name] = _like(table[name], value)
    return own, validate(Training, recipe, "a searched value of [training]")


def default_point(
    space: Mapping[str, Tunable], settings: Mapping[str, Scalar], training: Training
) -> dict[str, Scalar] | None:
    """The configured values of all that is searched; None where one lies outside its range and so is no point of it."""
    point: dict[str, Scalar] = {}
    for key in ordered(space):
        if applies(space, key, point):
            now = getattr(training, key.removeprefix(PREFIX)) if key.startswith(PREFIX) else settings[key]
            value = within(space[key], now)
            if value is None:
                return None
            point[key] = value
    return point


def points_in(space: Mapping[str, Tunable], method: str, search: Search) -> list[dict[str, Scalar]]:
    """The points of [search.points] for a method; ConfigError for one that its space does not hold."""
    return [_point(point, space, f"[search.points] {method}") for point in search.points.get(method, ())]


def within(tunable: Tunable, value: Scalar) -> Scalar | None:
    """A value as its range has it; None where it lies outside."""
    if tunable.type == "categorical":
        same = (choice for choice in tunable.choices if choice == value and type(choice) is type(_like(choice, value)))
        return next(same, None)
    if isinstance(value, bool | str) or (tunable.type == "int" and value % 1):
        return None
    low, high = ends(tunable)
    number = type(low)(value)
    return number if low <= number <= high else None


def ends(tunable: Tunable) -> tuple[float, float]:
    """Low and high of a range of numbers, whole numbers for one of type int."""
    assert tunable.low is not None and tunable.high is not None
    return (int(tunable.low), int(tunable.high)) if tunable.type == "int" else (tunable.low, tunable.high)


def described(space: Mapping[str, Tunable]) -> dict[str, str]:
    """Each range as one line of text: equal spaces have equal texts."""
    return {key: _described(space[key]) for key in ordered(space)}


def _ranges(card: MethodCard, config: Config) -> Iterator[tuple[str, str, Tunable]]:
    """Where, key and range of all that applies to a method, what wins last."""
    searched = {key: tunable for key, tunable in card.tunable.items() if key not in config.search.fixed}
    yield from ((f"{card.path}: [tunable]", key, tunable) for key, tunable in searched.items())
    for pattern, table in config.search.space.items():
        if fnmatch.fnmatchcase(card.name, pattern):
            for key, tunable in table.items():
                if key in card.defaults or (key.startswith(PREFIX) and card.trainable):
                    yield f"[search.space.{pattern}]", key, tunable
    own = config.search.space.get(card.name, {})
    yield from ((f"[search.space.{card.name}]", key, tunable) for key, tunable in own.items())


def _training_keys() -> Iterable[str]:
    return (f"{PREFIX}{name}" for name in Training.model_fields if name != "epochs")


def _trained(card: MethodCard, config: Config, key: str, where: str) -> Scalar:
    """The configured value of a key of [training]; ConfigError where it cannot be searched."""
    name = key.removeprefix(PREFIX)
    if name == "epochs":
        raise ConfigError(f"{where} {key}: the trials of a study are compared epoch by epoch, so all have the same")
    if name not in Training.model_fields:
        raise ConfigError(f"{where}: " + unknown("key", key, _training_keys()))
    if not card.trainable:
        raise ConfigError(f"{where} {key}: {card.name} is not trained; leave it out")
    value: Scalar = getattr(config.training, name)
    if not isinstance(value, bool | int | float | str):
        raise ConfigError(f"{where} {key}: a list cannot be searched; leave it out")
    return value


def _checked(tunable: Tunable, now: Scalar, where: str) -> Tunable:
    """The range with choices of the setting's type; ConfigError where it does not suit the setting."""
    kind = type(now)
    if tunable.type not in FITS[kind]:
        raise ConfigError(
            f"{where}: a range of type {tunable.type} does not suit a value such as {literal(now)}; "
            f"give type = {' or '.join(FITS[kind])}"
        )
    choices = tuple(float(one) if kind is float and type(one) is int else one for one in tunable.choices)
    wrong = [literal(one) for one in choices if type(one) is not kind]
    if wrong:
        raise ConfigError(f"{where}: {', '.join(wrong)} of its choices is no {kind.__name__}, as {literal(now)} is")
    if len(set(choices)) < len(choices):
        raise ConfigError(f"{where}: give each choice once, not {', '.join(map(literal, choices))}")
    return tunable.model_copy(update={"choices": choices})


def _check_training(training: Training, key: str, tunable: Tunable, where: str) -> None:
    for value in tunable.choices or ends(tunable):
        validate(Training, {**training.model_dump(), key.removeprefix(PREFIX): value}, f"{where} {PREFIX[:-1]}")


def _check_conditions(name: str, space: Mapping[str, Tunable]) -> None:
    """ConfigError for a `when` that never holds: another key, a value it cannot have, or a circle."""
    for key, tunable in space.items():
        for other, value in tunable.when.items():
            where = f"the search space of {name}: {key} when {other} = {literal(value)}"
            if other not in space:
                raise ConfigError(f"{where}: " + unknown("searched setting", other, set(space) - {key}))
            if space[other].type == "float":
                raise ConfigError(f"{where}: a range of floats hardly ever hits one value; give {other} choices")
            if within(space[other], value) is None:
                raise ConfigError(f"{where}: {other} is searched in {_described(space[other])}, which never is that")
    try:
        ordered(space)
    except graphlib.CycleError as error:
        circle = " when ".join(error.args[1])
        raise ConfigError(f"the search space of {name}: conditions in a circle, {circle}; drop one `when`") from None


def _point(point: Mapping[str, Scalar], space: Mapping[str, Tunable], where: str) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    for key, value in point.items():
        if key not in space:
            raise ConfigError(f"{where}: " + unknown("searched setting", key, space))
        inside = within(space[key], value)
        if inside is None:
            raise ConfigError(f"{where}: {key} = {literal(value)} lies outside its range, {_described(space[key])}")
        values[key] = inside
    for key in values:
        if not applies(space, key, values):
            needs = ", ".join(f"{other} = {literal(value)}" for other, value in space[key].when.items())
            raise ConfigError(f"{where}: {key} is used only where {needs}; say so in the point, or leave {key} out")
    return values


def _like(old: object, value: Scalar) -> Scalar:
    if isinstance(value, bool | str):
        return value
    if type(old) is float:
        return float(value)
    return int(value) if type(old) is int else value


def _described(tunable: Tunable) -> str:
    if tunable.choices:
        text = f"one of {', '.join(map(literal, tunable.choices))}"
    else:
        low, high = ends(tunable)
        text = f"{tunable.type} {low!r} to {high!r}{' log' * tunable.log}"
    conditions = " and ".join(f"{other} = {literal(value)}" for other, value in sorted(tunable.when.items()))
    return f"{text} when {conditions}" if conditions else text
