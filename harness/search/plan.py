"""What is to be searched: a plan for each method and dataset, checked before any study is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.campaign.composites import refuse_composites
from harness.campaign.inputs import PlanInputs, check_data
from harness.campaign.plan import assignments, check_numbers, check_places, check_room
from harness.config.cards import SELECTION
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.sections import Scalar, Search, Tunable
from harness.config.selection import Selection
from harness.config.toml import shortly
from harness.errors import UsageError, unknown
from harness.search.optuna_study import read_studies
from harness.search.space import applied, check_search, default_point, points_in, space_for
from harness.search.studies import StudyDesign, check_sampler, named
from harness.tracking.columns import described
from harness.trial.results import RECALLS, Assignment, TrialSpec

MEASURES = ("rsum", *RECALLS, *(f"{way}_{kind}_rank" for way in ("i2t", "t2i") for kind in ("median", "mean")))
COSTS = ("seconds", "train_pairs_per_second", "peak_memory_mb", "parameters")
MORE = ("train_pairs_per_second",)  # costs of which more is better


@dataclass(frozen=True)
class SearchPlan:
    base: Assignment  # with the configured settings
    design: StudyDesign
    note: str = ""

    @property
    def method(self) -> str:
        return self.base.spec.method

    @property
    def dataset(self) -> str:
        return self.base.spec.dataset

    @property
    def label(self) -> str:
        return f"{self.method}/{self.dataset}"

    def study(self, campaign: str) -> str:
        return f"{campaign}/{self.dataset}/{self.method}"

    def trial(self, values: Mapping[str, Scalar], label: str = "") -> Assignment:
        return with_values(self.base, values).model_copy(update={"label": label})


def measured(name: str, value: float) -> str:
    """An objective as a reader sees it."""
    return f"{value:.4g}" if name.removeprefix("-") in COSTS else f"{value:.1f}"


def prunes(search: Search) -> bool:
    """Whether a pruner has anything to judge by: one objective that is measured after every epoch."""
    return search.pruner != "none" and len(search.objective) == 1 and search.objective[0].removeprefix("-") in MEASURES


def settings_line(values: Mapping[str, Scalar]) -> str:
    """Tried values in a table."""
    return ", ".join(f"{key} = {shortly(value)}" for key, value in values.items())


def with_values(base: Assignment, values: Mapping[str, Scalar]) -> Assignment:
    """A trial under the values of what is searched; ConfigError for a wrong key or value."""
    settings, training = applied(values, base.spec.settings, base.spec.training)
    spec = base.spec.model_copy(update={"settings": settings, "training": training})
    return base.model_copy(update={"spec": spec, "folder": base.folder.parent / spec.key})


def search_plans(config: Config, registry: Registry, selection: Selection, inputs: PlanInputs) -> list[SearchPlan]:
    """One per dataset and method, with the seed and protocol of searches; an error says what cannot be searched."""
    check_objective(config.search.objective)
    check_search(config, registry)
    check_searched_recipe(config.campaign.recipe)
    selection = replace(selection, protocol=SELECTION, seeds=(config.search.seed,)).completed(config.campaign)
    refuse_composites(selection.methods)
    check_numbers(selection.seeds, selection.limit)
    trials = assignments(config, registry, selection, inputs)
    return [search_plan(trial, config.for_dataset(trial.spec.dataset), registry) for trial in trials]


def search_plan(trial: Assignment, config: Config, registry: Registry) -> SearchPlan:
    """What is searched around the configured settings of one method; `config` is that of its dataset."""
    spec, search = trial.spec, config.search
    space, note = space_for(registry.methods[spec.method], config), ""
    points = points_in(space, spec.method, search)
    if search.defaults_first:
        if (first := default_point(space, spec.settings, spec.training)) is not None:
            points = [first, *points]
        else:
            note = "its configured settings lie outside of the space and are not tried first"
    search = search if space else search.model_copy(update={"trials": 1})
    return SearchPlan(trial, StudyDesign(search, space, spec.training.epochs, tuple(points), frozen(spec, space)), note)


def frozen(spec: TrialSpec, space: Mapping[str, Tunable]) -> dict[str, str]:
    """What decides results beside what is searched; a key with a condition has its configured value elsewhere."""
    others = {named(key) for key, tunable in space.items() if not tunable.when}
    others |= {"key", "recipe", "label", "seed"}
    return {name: text for name, text in described(spec).items() if name not in others}


def check_searched_recipe(recipe: str) -> None:
    """UsageError for the recipes of papers, which have values of their own for all that a search begins with."""
    if recipe == "paper":
        raise UsageError(
            '[campaign] recipe = "paper": a search begins with [settings] and [training] of harness.toml, which the '
            "recipes of papers replace; search with -s campaign.recipe=common"
        )


def check_objective(names: Sequence[str]) -> None:
    """UsageError for an objective that no trial gives, and for one by which the worst trial would win."""
    known = (*MEASURES, *COSTS)
    for name in names:
        plain = name.removeprefix("-")
        if plain not in known:
            raise UsageError(f"search.objective: {unknown('measure', plain, known)}")
        if name.startswith("-") != is_less_better(plain):
            how, right = ("minimised", plain) if name.startswith("-") else ("maximised", f"-{plain}")
            raise UsageError(f"search.objective: {name} is {how}, so that the worst trial would win; write {right}")
    if not names:
        raise UsageError(f"search.objective is empty; known: {', '.join(known)}")


def is_less_better(name: str) -> bool:
    return name.endswith("_rank") or (name in COSTS and name not in MORE)


def check_startable(config: Config, plans: Sequence[SearchPlan], inputs: PlanInputs) -> None:
    """An error where a search cannot start: no place, other data than the cards', another design than its study's.

    Nothing is made, and only train and val are opened.
    """
    name = config.campaign.name
    check_places(config)
    check_room(config.results)
    check_data([plan.base for plan in plans], inputs)
    begun = {study.name: study.identity for study in read_studies(config.studies, name)}
    for plan in plans:
        study = plan.study(name)
        check_sampler(study, plan.design.space, plan.design.search)
        if study in begun:
            plan.design.check(study, begun[study])
