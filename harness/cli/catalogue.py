"""Cards in words and as JSON: what `harness list` and `harness describe` show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table

from harness.config.cards import DatasetCard, MethodCard, TextSettings
from harness.config.noise import base_name
from harness.config.project import Config
from harness.config.registry import Registry, choices, paper_settings, settings_for, training_for, unknown_card
from harness.config.sections import PerDataset
from harness.config.toml import override_value
from harness.errors import UsageError
from harness.terminal.output import Text, near, table

if TYPE_CHECKING:
    from harness.campaign.removal import StoredTrial

COUNTS = ("version", "images", "captions", "folds")  # columns of numbers


def methods_table(registry: Registry) -> Table:
    grid = table("method", "scoring", "fidelity", "paper", "summary")
    for card in registry.methods.values():
        paper = f"{card.paper.venue} {card.paper.year}" if card.paper else "–"
        grid.add_row(Text(card.name, style="bold"), card.scoring, card.fidelity, paper, card.summary)
    return grid


def datasets_table(registry: Registry) -> Table:
    grid = table("dataset", "images per split", "protocols", "title")
    for card in registry.datasets.values():
        sizes = " · ".join(f"{name} {size.images:,}" for name, size in card.splits.items())
        protocols = ", ".join(protocol.name for protocol in card.protocols)
        grid.add_row(Text(card.name, style="bold"), sizes, protocols, card.title)
    return grid


def protocols_table(registry: Registry) -> Table:
    grid = table("dataset", "protocol", "version", "split", "gallery", "images", "captions", "folds", right=COUNTS)
    for card in registry.datasets.values():
        for p in card.protocols:
            sizes = (str(p.version), p.split, p.gallery or "all", f"{p.images:,}", f"{p.captions:,}", str(p.folds))
            grid.add_row(card.name, Text(p.name, style="bold"), *sizes)
    return grid


TABLES = {"methods": methods_table, "datasets": datasets_table, "protocols": protocols_table}


def listing(registry: Registry, kind: str) -> list[dict[str, Any]]:
    if kind == "protocols":
        cards = registry.datasets.values()
        return [{"dataset": card.name, **p.model_dump(mode="json")} for card in cards for p in card.protocols]
    return [card_json(card) for card in (registry.methods if kind == "methods" else registry.datasets).values()]


def trials(config: Config) -> tuple[list[dict[str, Any]], RenderableType]:
    """The trials that have a folder, as JSON and in words."""
    from harness.campaign.removal import trials_in

    every = trials_in(config.trials)
    grid = table("trial", "protocol", "state", "rsum", "ended", "key", right=("rsum",))
    for one in every:
        spec = one.spec
        ended = f"{datetime.fromtimestamp(one.ended):%Y-%m-%d %H:%M}" if one.ended else "–"
        protocol = f"{spec.protocol}, limit {spec.limit}" if spec.limit else spec.protocol
        grid.add_row(Text(spec.label, style="bold"), Text(protocol), one.state, one.shown_rsum, ended, spec.key)
    return [trial_json(one) for one in every], grid if every else f"no trial in {near(config.trials)} yet"


def trial_json(one: StoredTrial) -> dict[str, Any]:
    names = ("method", "dataset", "protocol", "seed", "limit", "settings")
    return {**one.as_json(), **{name: getattr(one.spec, name) for name in names}, "ended": one.ended}


def card_json(card: MethodCard | DatasetCard) -> dict[str, Any]:
    return {**card.model_dump(mode="json", by_alias=True), "card": str(card.path)}


def schema(kind: str) -> dict[str, Any]:
    models: dict[str, type[BaseModel]] = {"method": MethodCard, "dataset": DatasetCard, "harness.toml": Config}
    return models[kind].model_json_schema()


def card_named(registry: Registry, name: str, kind: str | None = None) -> MethodCard | DatasetCard:
    """The card of a method or dataset; UsageError where a name means none, or both and no kind is given."""
    if kind:
        return registry.method(name) if kind == "method" else registry.dataset(name)
    method, dataset = registry.methods.get(name), registry.datasets.get(name)
    if method and dataset:
        raise UsageError(f"{name} is a method and a dataset; say which by --kind method or --kind dataset")
    if card := method or dataset:
        return card
    raise UsageError(unknown_card("method or dataset", name, [*registry.methods, *registry.datasets]))


def card_page(card: MethodCard | DatasetCard, config: Config) -> Iterator[RenderableType]:
    return method_page(card, config) if isinstance(card, MethodCard) else dataset_page(card, config)


def method_page(card: MethodCard, config: Config) -> Iterator[RenderableType]:
    yield from head(card.name, card.title, card.summary)
    about = {"scoring": card.scoring, "fidelity": card.fidelity, "paper": paper_of(card), "class": card.class_}
    batch = {"depends on its batch": card.batch_dependent} if card.batch_dependent else {}
    yield facts({**about, **batch, "card": str(card.path)})
    yield from part("Choices", bullets(card.choices))
    yield from part("Settings", settings_table(card, config))
    for name, changes in settings_by_dataset(card, config).items():
        yield Text(f"  on {name}: {changes}")
    yield from recipe_part(card, config)
    if card.reported:
        yield from part("Reported by the paper" if card.paper else "Reported by others", reported_table(card))


def dataset_page(card: DatasetCard, config: Config) -> Iterator[RenderableType]:
    yield from head(card.name, card.title, card.summary)
    changes = changes_for(card.name, config)
    yield facts(
        {
            "layout": card.layout,
            "features": f"{card.feature_width} wide, at most {card.max_regions} regions per image",
            **({"noise": card.noise.text} if card.noise.is_on else {}),
            "text": words_of(card.text),
            "options": ", ".join(f"{key} = {value}" for key, value in card.options.items()) or "none",
            **({"trained with": changes} if changes else {}),
            "folder": f"<data>/{card.folder}" if card.folder else "none, generated",
            "origin": card.origin,
            "licence": card.licence,
            "card": str(card.path),
        }
    )
    splits = table("split", "images", "captions", right=COUNTS)
    for name, size in card.splits.items():
        splits.add_row(name, f"{size.images:,}", f"{size.captions:,}")
    yield from part("Splits", splits)
    yield from part("Protocols", protocols_table(Registry({}, {card.name: card})))
    if card.files:
        yield from part("Files", bullets(f"{file.path}  {file.origin}" for file in card.files))


def words_of(text: TextSettings) -> str:
    """Where the words of captions come from, as `[text]` of a card says it."""
    if text.encoder:
        return f"encoder {text.encoder}"
    made = f"words seen {text.min_count} times or more in {', '.join(text.vocabulary_splits)}"
    return (text.vocabulary or made) + (f", vectors {text.vectors}" if text.vectors else "")


def changes_for(dataset: str, config: Config) -> str:
    """What [per_dataset] changes for a dataset, each as `-s` takes it."""
    own = config.per_dataset.get(base_name(dataset), PerDataset())
    tables = {"training": own.training, **{f"settings.{name}": table for name, table in own.settings.items()}}
    each = ((f"{name}.{key}", value) for name, table in tables.items() for key, value in table.items())
    return ", ".join(f"{key}={override_value(value)}" for key, value in each)


def head(name: str, title: str, summary: str) -> Iterator[Text]:
    yield Text.assemble((name, "bold"), f"  {title}")
    yield Text(" ".join(summary.split()))


def part(title: str, body: RenderableType) -> Iterator[RenderableType]:
    yield Text(f"\n{title}", style="bold")
    yield Padding(body, (0, 0, 0, 2))


def facts(pairs: Mapping[str, str]) -> Padding:
    grid = Table.grid(padding=(0, 2))
    for name, value in pairs.items():
        grid.add_row(Text(name, style="dim"), Text(value, overflow="fold"))
    return Padding(grid, (1, 0, 0, 2))


def bullets(lines: Iterable[str]) -> Table:
    grid = Table.grid(padding=(0, 1))
    for line in lines:
        grid.add_row("·", Text(line))
    return grid


def paper_of(card: MethodCard) -> str:
    if card.paper is None:
        return "–"
    paper = card.paper
    place = f"https://doi.org/{paper.doi}" if paper.doi else paper.url
    return f"{paper.authors}. {paper.title}. {paper.venue} {paper.year}. {place}".strip()


def settings_by_dataset(card: MethodCard, config: Config) -> dict[str, str]:
    """The settings that [per_dataset] changes from those of a run here, by the datasets that have them alike."""
    here = settings_for(card, config)
    datasets: dict[str, list[str]] = {}
    for dataset in config.per_dataset:
        own = settings_for(card, config.for_dataset(dataset))
        changes = [f"{name} {override_value(own[name])}" for name in own if own[name] != here[name]]
        datasets.setdefault(", ".join(changes), []).append(dataset)
    return {", ".join(names): changes for changes, names in datasets.items() if changes}


def settings_table(card: MethodCard, config: Config) -> Table:
    grid = table("setting", "default", "here", "tunable")
    for name, value in settings_for(card, config).items():
        default = card.defaults[name]
        cell = Text(override_value(value), style="bold" if value != default else "")
        grid.add_row(name, override_value(default), cell, range_of(card, name))
    return grid


def range_of(card: MethodCard, name: str) -> str:
    tunable = card.tunable.get(name)
    if tunable is None:
        return "–"
    if tunable.choices:
        return ", ".join(override_value(choice) for choice in tunable.choices)
    return f"{tunable.low:g} to {tunable.high:g}{', log' * tunable.log}"


def recipe_part(card: MethodCard, config: Config) -> Iterator[RenderableType]:
    """The recipe of the paper for each of its datasets; a line where it has one and the card does not know it."""
    if card.recipes:
        yield from part("The paper's recipe (--recipe paper), beside the common one", recipe_table(card, config))
        yield Padding(bullets(f"{one.dataset}: {'; '.join((one.source, *one.unlike))}" for one in card.recipes), (0, 2))
    elif card.paper and card.trainable:
        yield from part("The paper's recipe", Text("none on this card, so --recipe paper cannot train it"))


def recipe_table(card: MethodCard, config: Config) -> Table:
    """What the paper has otherwise than [training] and the settings of the card, for each of its datasets."""
    grid = table("dataset", "setting", "paper", "common")
    for recipe in card.recipes:
        own = config.for_dataset(recipe.dataset)
        common = choices(settings_for(card, own), training_for(card, own))
        paper = choices(paper_settings(card, recipe), recipe.training)
        for name in [name for name in paper if paper[name] != common[name]]:
            grid.add_row(recipe.dataset, name, paper[name], common[name])
    return grid


def reported_table(card: MethodCard) -> Table:
    """The paper's own numbers with the table they stand in; no number of this project."""
    grid = table("dataset", "protocol", "i2t R@1/5/10", "t2i R@1/5/10", "rsum", "source", right=("rsum",))
    for row in card.reported:
        i2t, t2i = (" ".join(f"{value:.1f}" for value in recalls) for recalls in (row.i2t, row.t2i))
        grid.add_row(row.dataset, row.protocol, i2t, t2i, f"{row.rsum:.1f}", row.remarks)
    return grid
