"""From names to cards to classes. Cards are listed without importing methods; a class is loaded when it is used."""

from __future__ import annotations

import fnmatch
import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.config.cards import DatasetCard, MethodCard, read_card
from harness.config.noise import SEPARATOR, Noise, base_name, noise_of
from harness.config.papers import PaperRecipe
from harness.config.project import FILE, Config
from harness.config.sections import Scalar, SettingTables, Training
from harness.config.selection import JOIN, Reranking, member_names, members_named, reranking_named
from harness.config.sources import load_module, module_file, source_file
from harness.config.toml import override_value
from harness.errors import ConfigError, UsageError, unknown

if TYPE_CHECKING:
    from harness.method import Method

Card = TypeVar("Card", MethodCard, DatasetCard)
ENTRY_POINTS = "harness.methods"
HERE = Path(__file__).parents[1]  # the package harness
DATASETS = (HERE / "dataset_cards", HERE.parent / "datasets")  # as installed, and in a checkout
BUILT_IN = HERE.parent / "methods"  # both packages lie side by side, in the repository and in site-packages


class DatasetCards(Mapping[str, DatasetCard]):
    """The cards of datasets by name; of NAME.noise0.2-s1 and its like a card with that noise is made."""

    def __init__(self, cards: Mapping[str, DatasetCard]) -> None:
        self._cards = cards

    def __getitem__(self, name: str) -> DatasetCard:
        """The card of a name; KeyError where there is none."""
        if name in self._cards or (noise := noise_of(name)) is None:
            return self._cards[name]
        return self._cards[base_name(name)].model_copy(update={"name": name, "noise": noise})

    def __iter__(self) -> Iterator[str]:
        """The names of cards that lie in files."""
        return iter(self._cards)

    def __len__(self) -> int:
        """The number of cards that lie in files."""
        return len(self._cards)


@dataclass(frozen=True)
class Registry:
    methods: Mapping[str, MethodCard]
    datasets: Mapping[str, DatasetCard]
    noise: Noise = field(default_factory=Noise)  # of [noise]: every dataset that is selected is trained on with it

    def method(self, name: str) -> MethodCard:
        """The card of a method; UsageError with the nearest names where there is none."""
        return _card("method", name, self.methods)

    def dataset(self, name: str) -> DatasetCard:
        return _card("dataset", name, self.datasets)

    def select_methods(self, patterns: Sequence[str]) -> tuple[str, ...]:
        """Method names for names, globs and members of ensembles, in their order; UsageError for an unknown one."""
        return _select("method", [name for pattern in patterns for name in members_named(pattern)], self.methods)

    def select_ensembles(self, patterns: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """The members of every ensemble that is named, each ensemble once."""
        return tuple(dict.fromkeys(members_named(pattern) for pattern in patterns if JOIN in pattern))

    def select_rerankings(self, patterns: Sequence[str]) -> tuple[Reranking, ...]:
        """The rerankings that are named, each once; UsageError for methods whose scoring is not that of their stage."""
        named = tuple(dict.fromkeys(filter(None, map(reranking_named, patterns))))
        for one in named:
            if self.method(one.by).scoring != "embedding":
                raise UsageError(
                    f"{one}: {one.by} is a fragment method, which scores every pair before it can propose any; "
                    "an embedding method proposes"
                )
            if self.method(one.method).scoring != "fragment":
                raise UsageError(
                    f"{one}: {one.method} is an embedding method, which orders a whole gallery as cheaply; "
                    "a fragment method orders what is proposed"
                )
        return named

    def select_datasets(self, patterns: Sequence[str]) -> tuple[str, ...]:
        """Dataset names for names and globs, with the noise of [noise] where the name says none."""
        own = [pattern for pattern in patterns if SEPARATOR in pattern and pattern in self.datasets]
        others = [pattern for pattern in patterns if pattern not in own]
        selection = [*own, *(f"{name}{self.noise.suffix}" for name in _select("dataset", others, self.datasets))]
        return tuple(dict.fromkeys(selection))


def discover(config: Config, plugins: Sequence[Path] = ()) -> Registry:
    """All cards: built in, from [paths], from `--plugin` files and from installed packages.

    Two different method cards of one name raise ConfigError naming both files; of two dataset cards the first wins.
    """
    methods: dict[str, MethodCard] = {}
    for path in _method_cards(config, plugins):
        card = read_card(MethodCard, path)
        other = methods.setdefault(card.name, card)
        if other.path != card.path:
            raise ConfigError(f"two method cards are named {card.name!r}: {other.path} and {card.path}; rename one")
    _check_settings("settings", config.settings, methods)
    datasets: dict[str, DatasetCard] = {}
    for path in _dataset_cards(config):
        dataset = read_card(DatasetCard, path)
        datasets.setdefault(dataset.name, dataset)
    _check_per_dataset(config, methods, datasets)
    cards = DatasetCards(dict(sorted(datasets.items())))
    return Registry(dict(sorted(methods.items())), cards, config.noise)


def built_in_dataset(name: str) -> DatasetCard | None:
    """The card of a dataset that comes with harness, also where a project has its own of this name."""
    files = (place / name / "card.toml" for place in DATASETS)
    return next((read_card(DatasetCard, file) for file in files if file.is_file()), None)


def load_class(card: MethodCard) -> type[Method]:
    """The card's class; the only place that imports a method. ConfigError names the card's file and the class."""
    from harness.method import Method

    name = card.class_.partition(":")[2]
    method = getattr(load_module(card), name, None)
    if method is None:
        raise ConfigError(f"{card.path}: class = {card.class_!r}: {source_file(card)} has no {name}")
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise ConfigError(f"{card.path}: class = {card.class_!r} is not a subclass of harness.method.Method")
    if not hasattr(method, "Settings"):
        raise ConfigError(f"{card.path}: class = {card.class_!r} has no Settings dataclass (see harness.method.Method)")
    return method


def choices(settings: Mapping[str, Scalar], training: Training) -> dict[str, str]:
    """`settings.NAME` and `training.NAME`, with their values as `-s` takes them."""
    return {
        **{f"settings.{name}": override_value(value) for name, value in settings.items()},
        **{f"training.{name}": override_value(value) for name, value in training.model_dump().items()},
    }


def settings_for(card: MethodCard, config: Config) -> dict[str, Scalar]:
    """The card's defaults, overlaid by the matching globs of every source of settings, then by the method's own tables.

    A glob only touches settings that the method has. ConfigError for a setting that the named method has not,
    and for a value of another type than the default's (an int will do for a float).
    """
    tables = [(source.place, *item) for source in config.sources for item in source.settings.items()]
    matching = [one for one in tables if fnmatch.fnmatchcase(card.name, one[1])]
    globs = [(*one[:2], *item) for one in matching for item in one[2].items() if item[0] in card.defaults]
    own = [(*one[:2], *item) for one in matching for item in one[2].items() if one[1] == card.name]
    for place, _, key, _ in own:
        if key not in card.defaults:
            raise ConfigError(f"[{place}.{card.name}]: " + unknown("setting", key, card.defaults))
    values = {key: (f"{place}.{pattern}.{key}", value) for place, pattern, key, value in [*globs, *own]}
    return {
        key: _like_default(card, values[key][0], key, values[key][1]) if key in values else default
        for key, default in card.defaults.items()
    }


def training_for(card: MethodCard, config: Config) -> Training:
    """Without epochs where there is nothing to train; a frozen text tower reads each caption whole, and so once."""
    changes = {} if card.trainable else {"epochs": 0}
    return config.training.model_copy(update={**changes, **({"drop_words": 0.0} if card.text_tower else {})})


def paper_recipe(card: MethodCard, dataset: str) -> PaperRecipe | None:
    """How its paper trained a method on a dataset; None where its card does not say."""
    return next((recipe for recipe in card.recipes if recipe.dataset == base_name(dataset)), None)


def paper_settings(card: MethodCard, recipe: PaperRecipe) -> dict[str, Scalar]:
    """The card's defaults under the settings of a recipe; ConfigError for a value of another type."""
    where = f"{card.path}: the recipe of {recipe.dataset}"
    own = {key: _like_default(card, f"{where}: {key}", key, value) for key, value in recipe.settings.items()}
    return {**card.defaults, **own}


def _check_settings(place: str, tables: SettingTables, methods: Mapping[str, MethodCard]) -> None:
    """ConfigError for a table of settings that no method answers to, and for a key that none of its methods has."""
    for name, table in tables.items():
        cards = [card for card in methods.values() if fnmatch.fnmatchcase(card.name, name)]
        if not cards:
            raise ConfigError(f"[{place}.{name}]: " + unknown("method", name, methods))
        known = {key for card in cards for key in card.defaults}
        for key in table:
            if key not in known:
                raise ConfigError(f"[{place}.{name}]: " + unknown("setting", key, known))


def _check_per_dataset(config: Config, methods: Mapping[str, MethodCard], datasets: Mapping[str, DatasetCard]) -> None:
    for name, own in config.per_dataset.items():
        if name not in datasets:
            raise ConfigError(f"[per_dataset.{name}]: " + unknown("dataset", name, datasets))
        _check_settings(f"per_dataset.{name}.settings", own.settings, methods)
        config.for_dataset(name)  # its keys of [training]


def _card(kind: str, name: str, cards: Mapping[str, Card]) -> Card:
    if name not in cards:
        raise UsageError(unknown_card(kind, name, cards))
    return cards[name]


def unknown_card(kind: str, name: str, known: Iterable[str]) -> str:
    """A message for an unknown method or dataset; of a method with its card, where that lies in the working folder.

    Of an ensemble or a reranking it names the members, which have the cards and the weights.
    """
    if kind.startswith("method") and (members := member_names(name)):
        what = "an ensemble" if JOIN in name else "a reranking"
        return f"{name} is {what} and has no card and no weights of its own; name a member: {' or '.join(members)}"
    file = Path(f"{name}.toml")
    hint = f"; its card lies here: --plugin {file}" if kind.startswith("method") and file.is_file() else ""
    return unknown(kind, name, known) + hint


def _select(kind: str, patterns: Sequence[str], known: Mapping[str, object]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for pattern in patterns:
        matches = fnmatch.filter(known, pattern)
        if not matches:
            raise UsageError(unknown_card(kind, pattern, known))
        names.update(dict.fromkeys(matches))
    return tuple(names)


def _like_default(card: MethodCard, where: str, key: str, value: Scalar) -> Scalar:
    kind = type(card.defaults[key])
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{where}: expected {kind.__name__} as in {card.path.name}, got {value!r}")
    return value


def _method_cards(config: Config, plugins: Sequence[Path]) -> Iterator[Path]:
    places = [BUILT_IN, *map(config.path, config.paths.methods)]
    files = [file for place in places for file in _card_files(place)]
    files += map(_plugin, plugins)
    files += map(_entry_card, importlib.metadata.entry_points(group=ENTRY_POINTS))
    yield from dict.fromkeys(file.resolve() for file in files)


def _card_files(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(file for file in place.glob("*.toml") if file.name != FILE)
    if place.is_file():
        return [place]
    raise ConfigError(f"[paths] methods: {place} does not exist")


def _plugin(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"--plugin {path}: no such file; name a method card (docs/guide/adding-a-method.md)")
    return path


def _entry_card(point: importlib.metadata.EntryPoint) -> Path:
    """The card NAME.toml of an entry point `NAME = "package"`, inside that package."""
    package = point.value.strip()
    init = module_file(f"{package}.__init__")
    card = init.parent / f"{point.name}.toml" if init else None
    if card is None or not card.is_file():
        raise ConfigError(f"entry point {ENTRY_POINTS}: {point.name} = {package!r}: no {point.name}.toml in {package}")
    return card


def _dataset_cards(config: Config) -> Iterable[Path]:
    places = (*map(config.path, config.paths.datasets), *DATASETS)
    return [card for place in places for card in sorted(place.glob("*/card.toml"))]
