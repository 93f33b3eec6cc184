"""The winners of a search campaign, to be trained with other seeds and scored on test.

Their settings and their recipe are those that the search was begun with, whatever harness.toml says by now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from harness.campaign.inputs import PlanInputs
from harness.campaign.plan import assignments, check_numbers
from harness.config.cards import SELECTION, DatasetCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.sections import Training
from harness.config.selection import CONFIGURED, Selection
from harness.config.toml import override_value, parse_override, validate
from harness.errors import UsageError, unknown
from harness.search.method_search import budget_of, spent_on, superseding
from harness.search.optuna_study import read_studies, study_names
from harness.search.plan import with_values
from harness.search.studies import difference
from harness.search.study_records import StudyRecord
from harness.tracking.columns import described, shown
from harness.trial.results import VERSIONS, Assignment, TrialSpec

Inputs = Callable[[int | None], PlanInputs]
FIXED = ("data_fingerprint", "protocol_version", "source", "limit", *VERSIONS)  # as they are now, or no confirmation


def confirmation(
    config: Config,
    registry: Registry,
    name: str,
    selection: Selection = CONFIGURED,
    overrides: Collection[str] = (),
) -> list[Assignment]:
    """The best trial of each search of a campaign under other seeds and a protocol of test, with what it has cost.

    overrides: keys of settings and recipe that were given for this confirmation, such as `training.epochs`: one that
    the search has had with another value is a UsageError, as are a campaign without a winner, data or code that have
    changed since, and the seed of the search.
    """
    studies = searched(config, name)
    seeds = seeds_for(selection.seeds, config.campaign.seeds, {seed_of(study) for study in studies})
    check_numbers(seeds, selection.limit)
    inputs = cache(lambda limit: PlanInputs(config, registry, limit))
    best = [trial for study in studies for trial in winners(config, registry, study, selection, overrides, inputs)]
    if not best:
        raise UsageError(f"no trial of the search campaign {name!r} has ended well; `harness search` goes on with it")
    return [
        seeded(config, trial, registry.dataset(trial.spec.dataset), selection.protocol, seed)
        for seed in dict.fromkeys(seeds)
        for trial in best
    ]


def searched(config: Config, name: str) -> list[StudyRecord]:
    """The studies of a campaign; UsageError where there is no such campaign."""
    known = campaigns(config)
    if name not in known:
        raise UsageError(unknown("search campaign", name, known))
    return read_studies(config.studies, name)


def campaigns(config: Config) -> set[str]:
    return {study.rsplit("/", 2)[0] for study in study_names(config.studies)}


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
    asked = Selection((study.method,), (study.dataset,), SELECTION, (0,), limit)
    (base,) = assignments(config, registry, asked, inputs(limit))
    check_unchanged(study, base.spec, overrides)
    base = base.model_copy(update={"spec": as_searched(study, base.spec)})
    cost = budget_of(spent_on(superseding(study.trials)), study.campaign)
    yield from (with_values(base, trial.values).model_copy(update={"search": cost}) for trial in study.front)


def check_unchanged(study: StudyRecord, spec: TrialSpec, overrides: Collection[str]) -> None:
    """UsageError where data, code, the limit or a value of `overrides` is another than the search has had."""
    now, begun = described(spec), study.identity
    gone = {name for name in begun if name.startswith("settings.") and name not in now}
    names = [name for name in begun.keys() | now.keys() if name in FIXED or name in gone]
    names += [name for name in overrides if name in begun]
    old, new = ({name: facts[name] for name in names if name in facts} for facts in (begun, now))
    if old != new:
        raise UsageError(difference(study.name, old, new))


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
