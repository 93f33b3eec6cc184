"""The winners of a search campaign, to be trained with other seeds and scored on test.

Their settings and their recipe are those that the search was begun with, whatever harness.toml says by now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from harness.campaign.inputs import PlanInputs, check_data, doubtful_pairs
from harness.campaign.plan import assignments, check_numbers, check_places, check_protocol, check_room
from harness.config.cards import SELECTION, DatasetCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.sections import Training
from harness.config.selection import CONFIGURED, Selection
from harness.config.toml import override_value, parse_override, validate
from harness.errors import UsageError, unknown
from harness.search.method_search import budget_of, spent_on
from harness.search.optuna_study import read_studies, study_names
from harness.search.plan import frozen, with_values
from harness.search.studies import difference
from harness.search.study_records import StudyRecord, campaign_of
from harness.tracking.columns import described, shown
from harness.trial.folder import read_spec
from harness.trial.results import VERSIONS, Assignment, TrialSpec

Inputs = Callable[[int | None], PlanInputs]
AFRESH = "search again under another name (--campaign)"
FIXED = ("data_fingerprint", "protocol_version", "source", "limit", *VERSIONS)  # as they are now, or no confirmation


def confirmation(
    config: Config,
    registry: Registry,
    name: str,
    selection: Selection = CONFIGURED,
    overrides: Collection[str] = (),
    inputs: Inputs | None = None,
) -> list[Assignment]:
    """The best trial of each search of a campaign under other seeds and a protocol of test, with what it has cost.

    overrides: keys of settings and recipe that were given for this confirmation, such as `training.epochs`: one that
    the search has had with another value is a UsageError, as are a campaign without a winner, data or code that have
    changed since, protocol `val`, and the seed of the search. inputs: by limit, where they are used again.
    """
    protocol = selection.protocol or config.campaign.protocol
    check_protocol(protocol)
    studies = searched(config, name)
    seeds = seeds_for(selection.seeds, config.campaign.seeds, {seed_of(study) for study in studies})
    check_numbers(seeds, selection.limit)
    inputs = inputs or inputs_by_limit(config, registry)
    best = [trial for study in studies for trial in winners(config, registry, study, selection, overrides, inputs)]
    if not best:
        raise UsageError(f"no trial of the search campaign {name!r} has ended well; `harness search` goes on with it")
    trials = [
        seeded(config, trial, registry.dataset(trial.spec.dataset), protocol, seed)
        for seed in dict.fromkeys(seeds)
        for trial in best
    ]
    return [*{trial.spec.key: trial for trial in trials}.values()]


def inputs_by_limit(config: Config, registry: Registry, tell: Callable[[str], object] = lambda _: None) -> Inputs:
    """What trials are made of, opened once for each limit that searches have had; `tell` as for PlanInputs."""
    return cache(lambda limit: PlanInputs(config, registry, limit, None, tell))


def check_confirmable(config: Config, trials: Sequence[Assignment], inputs: Inputs) -> list[str]:
    """Lines on what is doubtful; an error, as of `harness run`, where trials could not begin or not be scored."""
    check_places(config)
    if trials:
        check_room(config.results)
    notes: list[str] = []
    for limit in dict.fromkeys(trial.spec.limit for trial in trials):
        some = [trial for trial in trials if trial.spec.limit == limit]
        check_data(some, inputs(limit))
        notes += doubtful_pairs(some, inputs(limit))
    return notes


def searched(config: Config, name: str) -> list[StudyRecord]:
    """The studies of a campaign; UsageError where there is no such campaign."""
    known = campaigns(config)
    if name not in known:
        raise UsageError(unknown("search campaign", name, known))
    return read_studies(config.studies, name)


def campaigns(config: Config) -> set[str]:
    return {campaign_of(study) for study in study_names(config.studies)}


def seeds_for(flag: Sequence[int], configured: Sequence[int], used: Collection[int]) -> Sequence[int]:
    """The seeds of the flag, which may not be the search's; else as many as are configured, that it has not used."""
    if wrong := [seed for seed in flag if seed in used]:
        raise UsageError(f"--seeds {wrong[0]}: the search has used this seed (search.seed); give others")
    others = dict.fromkeys([*configured, *range(len(configured) + len(used))])
    return flag or [seed for seed in others if seed not in used][: len(configured)]


def seed_of(study: StudyRecord) -> int:
    seed = re.search(r"\bseed = (\d+)", study.identity.get("sampler", ""))
    return int(seed[1]) if seed else -1


def winners(
    config: Config,
    registry: Registry,
    study: StudyRecord,
    selection: Selection,
    overrides: Collection[str],
    inputs: Inputs,
) -> Iterator[Assignment]:
    """The best trial of a search, of several objectives all that no other beats, as the search has trained them."""
    limit = selection.limit or int(study.identity.get("limit", 0)) or None
    asked = Selection((study.method,), (study.dataset,), SELECTION, (seed_of(study),), limit)
    (base,) = assignments(config, registry, asked, inputs(limit))
    check_unchanged(study, base.spec, overrides)
    base = base.model_copy(update={"spec": as_searched(study, base.spec)})
    cost = budget_of(spent_on(study.counted), study.campaign)
    for trial in study.front:
        winner = with_values(base, trial.values)
        check_recipe(study, winner.spec, config.trials / trial.notes["key"])
        yield winner.model_copy(update={"search": cost})


def check_unchanged(study: StudyRecord, spec: TrialSpec, overrides: Collection[str]) -> None:
    """UsageError where data, code, the limit or a value of `overrides` is another than the search has had."""
    now, begun = described(spec), study.identity
    gone = {name for name in begun if name.startswith("settings.") and name not in now}
    names = [name for name in begun.keys() | now.keys() if name in FIXED or name in gone]
    names += [name for name in overrides if name in begun]
    old, new = ({name: facts[name] for name in names if name in facts} for facts in (begun, now))
    if old != new:
        raise UsageError(difference(study.name, old, new))


def check_recipe(study: StudyRecord, spec: TrialSpec, folder: Path) -> None:
    """UsageError where the best trial, in this folder, was trained by another recipe than it would be confirmed by.

    A study of an earlier harness does not say all of it.
    """
    if spec.key == folder.name:
        return
    trained, now = read_spec(folder), frozen(spec, {})
    if trained is None:
        raise UsageError(f"{study.name}: nothing says any more how its best trial, {folder}, was trained; {AFRESH}")
    raise UsageError(difference(study.name, frozen(trained, {}), now))


def as_searched(study: StudyRecord, spec: TrialSpec) -> TrialSpec:
    settings = values_of(study, "settings", spec.settings)
    training = validate(Training, values_of(study, "training", spec.training.model_dump()), study.name)
    return spec.model_copy(update={"settings": settings, "training": training})


def values_of(study: StudyRecord, table: str, now: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a table as the search was begun with them; those of today for what it searched."""
    texts = {key: shown(override_value(value)) for key, value in now.items()}
    begun = {key: study.identity.get(f"{table}.{key}", text) for key, text in texts.items()}
    return {
        key: value if texts[key] == begun[key] else parse_override(f"{key}={begun[key]}")[1]
        for key, value in now.items()
    }


def seeded(config: Config, trial: Assignment, dataset: DatasetCard, protocol: str, seed: int) -> Assignment:
    name, version = dataset.protocol_identity(protocol)
    spec = trial.spec.model_copy(update={"protocol": name, "protocol_version": version, "seed": seed})
    return trial.model_copy(update={"spec": spec, "folder": config.trials / spec.key})
