"""Which of the selected methods run on a dataset, and how each is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from harness.config.cards import DatasetCard, MethodCard
from harness.config.papers import PaperRecipe
from harness.config.project import Config
from harness.config.registry import Registry, paper_recipe, paper_settings, settings_for, training_for
from harness.config.selection import Selection, members_named
from harness.errors import UsageError, unknown

RECIPE_TABLES = ("settings", "training", "per_dataset")  # of harness.toml; a recipe of a paper has all their values


def check_recipe(recipe: str, overridden: Iterable[str]) -> None:
    """UsageError for an unknown recipe, and for values of RECIPE_TABLES beside the recipe of a paper."""
    if recipe not in ("", "common", "paper"):
        raise UsageError(unknown("recipe", recipe, ("common", "paper")))
    if recipe == "paper" and (given := sorted(overridden)):
        keys = " and ".join(f"-s {key}" for key in given)
        raise UsageError(f"--recipe paper takes settings and training from the cards: leave {keys} out")


def suited(
    methods: Sequence[MethodCard], dataset: DatasetCard, has_text_tower: bool, selection: Selection
) -> list[MethodCard]:
    """The methods that a dataset has all inputs for.

    A glob takes those alone. UsageError for a method that was named and lacks one, and where none is left.
    """
    lacking = [] if has_text_tower else [method for method in methods if method.text_tower]
    named = [method.name for method in lacking if method.name in names_in(selection)]
    if named or (lacking and len(lacking) == len(methods)):
        name, own = named[0] if named else lacking[0].name, dataset.text.encoder
        has = f"has {own!r}, which is none" if own else "has no encoder"
        raise UsageError(
            f"{name} needs a dual encoder, such as CLIP or SigLIP, as text encoder, and {dataset.name} {has}; leave "
            'the method out, or run it on a dataset of image embeddings whose card has [text] encoder = "FOLDER", the '
            "Hugging Face folder of the model that made them (docs/guide/dual-encoders.md)"
        )
    return [method for method in methods if method not in lacking]


def names_in(selection: Selection) -> set[str]:
    """The methods that are named, be it as members of an ensemble, and not chosen by a glob."""
    return {name for pattern in selection.methods for name in members_named(pattern)}


def left_out(registry: Registry, selection: Selection, has_text_tower: Callable[[str], bool]) -> Iterator[str]:
    """A line for each dataset that some of the selected methods do not run on."""
    needing = [name for name in registry.select_methods(selection.methods) if registry.method(name).text_tower]
    for name in registry.select_datasets(selection.datasets):
        if needing and not has_text_tower(name):
            yield f"{name}: left out, as its [text] encoder is no dual encoder such as CLIP: {', '.join(needing)}"


def chosen_recipes(
    methods: Sequence[MethodCard], dataset: str, selection: Selection
) -> list[tuple[MethodCard, PaperRecipe | None]]:
    """Methods with the recipe of their papers on a dataset; None where all are trained alike.

    A glob takes those that have one. UsageError for a method that was named and has none, and where none is left.
    """
    if selection.recipe != "paper":
        return [(method, None) for method in methods]
    pairs = [(method, paper_recipe(method, dataset)) for method in methods]
    named = names_in(selection)
    for method, recipe in pairs:
        if recipe is None and method.name in named:
            known = ", ".join(sorted(one.dataset for one in method.recipes)) or "none"
            raise UsageError(
                f"{method.name} has no recipe of its paper for {dataset} (its card has: {known}); leave it out, run it "
                f"without --recipe paper, or add a [[recipe]] to {method.path}"
            )
    if not any(recipe for _, recipe in pairs):
        raise UsageError(f"none of these methods has a recipe of its paper for {dataset}; run without --recipe paper")
    return [(method, recipe) for method, recipe in pairs if recipe]


def trained_as_paper(card: MethodCard, recipe: PaperRecipe) -> dict[str, Any]:
    return {"settings": paper_settings(card, recipe), "training": recipe.training, "trained_as": "paper"}


def trained_as_configured(card: MethodCard, config: Config) -> dict[str, Any]:
    return {"settings": settings_for(card, config), "training": training_for(card, config)}
