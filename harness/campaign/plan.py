"""A campaign's plan: which trials, where each stands, and whether they can run. No torch, Ray or MLflow."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness.config.cards import SELECTION, DatasetCard, MethodCard, find_protocol, protocol_of
from harness.config.project import Config
from harness.config.registry import Registry, settings_for, training_for
from harness.config.sections import Campaign
from harness.config.sources import source_hash
from harness.errors import StoreError, UsageError
from harness.evaluation.positives import open_sets
from harness.evaluation.protocols import split_folds
from harness.layouts.opening import fingerprint, open_dataset
from harness.tracking.store import default_uri, is_logged
from harness.trial.folder import CHECKPOINT, read_result
from harness.trial.results import Assignment, Failure, State, TrialSpec

Standing = Literal["done", "resume", "failed", "retry", "new"]
ENDED = ("done", "failed")
LEAST_FREE_BYTES = 200_000_000


@dataclass(frozen=True)
class Planned:
    """One trial of a plan and where it stands."""

    assignment: Assignment
    state: Standing
    seconds: float = 0.0  # of training, where it is done

    @property
    def spec(self) -> TrialSpec:
        """What decides its result."""
        return self.assignment.spec

    @property
    def folder(self) -> Path:
        """Its durable truth."""
        return self.assignment.folder


@dataclass(frozen=True)
class Plan:
    """The trials of a campaign in their order: the first seed of every method, then the second."""

    name: str
    results: Path
    uri: str
    trials: tuple[Planned, ...]
    force: bool = False
    retry: frozenset[Failure] = frozenset()

    @property
    def todo(self) -> tuple[Planned, ...]:
        """What is to be run: what was begun first, then seed by seed, of each seed what is known to be short first."""
        took = {(done.spec.method, done.spec.dataset): done.seconds for done in self.trials if done.state == "done"}
        seeds = {seed: place for place, seed in enumerate(dict.fromkeys(t.spec.seed for t in self.trials))}

        def place(trial: Planned) -> tuple[bool, int, float]:
            seconds = took.get((trial.spec.method, trial.spec.dataset), 0.0)
            return trial.state != "resume", seeds[trial.spec.seed], seconds

        return tuple(sorted((trial for trial in self.trials if trial.state not in ENDED), key=place))

    @property
    def failed(self) -> tuple[Planned, ...]:
        """Trials that failed and are not to be tried again."""
        return tuple(trial for trial in self.trials if trial.state == "failed")

    @property
    def unlogged(self) -> tuple[Planned, ...]:
        """Trials that have ended but are not in the tracking store."""
        return tuple(trial for trial in self.trials if trial.state in ENDED and not is_logged(trial.folder, self.uri))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to run and nothing to log."""
        return not self.todo and not self.unlogged

    def refreshed(self) -> Plan:
        """The same plan as the folders stand now."""
        return replace(self, trials=tuple(stand(t.assignment, self.force, self.retry) for t in self.trials))


def plan(
    config: Config,
    registry: Registry,
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    protocol: str = "",
    limit: int | None = None,
    force: bool = False,
    retry: frozenset[Failure] = frozenset(),
) -> Plan:
    """What a campaign consists of and what of it is done; arguments override [campaign]; `retry` is tried again.

    Every split of a dataset with something to do is opened and held to its card, so that nothing starts that cannot
    be scored: UsageError, ConfigError, DataError, or StoreError where the results folder has no room.
    """
    check_writable(config.results)
    made = selected(config, registry, methods, datasets, seeds, protocol, limit, force, retry)
    if made.todo:
        check_room(config.results)
        check_data(registry, [trial.assignment for trial in made.todo])
    return made


def selected(
    config: Config,
    registry: Registry,
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    protocol: str = "",
    limit: int | None = None,
    force: bool = False,
    retry: frozenset[Failure] = frozenset(),
) -> Plan:
    """The same plan without a look at the data: enough to tell how things stand."""
    said = {"methods": methods, "datasets": datasets, "seeds": seeds, "protocol": protocol}
    campaign = config.campaign.model_copy(update={name: value for name, value in said.items() if value})
    check_numbers(campaign.seeds, limit)
    check_protocol(campaign.protocol)
    trials = [
        stand(trial, force, retry)
        for dataset in registry.select_datasets(campaign.datasets)
        for trial in assignments(config, campaign, registry, registry.datasets[dataset], limit)
    ]
    return Plan(campaign.name, config.results, default_uri(config), tuple(trials), force, retry)


def assignments(
    config: Config, campaign: Campaign, registry: Registry, dataset: DatasetCard, limit: int | None
) -> Iterator[Assignment]:
    """One trial a seed and method on one dataset; with the protocol `val`, trials that never open test."""
    config = config.for_dataset(dataset.name)
    name, version = protocol_of(dataset, campaign.protocol)
    data = fingerprint(dataset, config.data, config.cache)
    methods = [registry.methods[name] for name in registry.select_methods(campaign.methods)]
    sources = {method.name: source_hash(method) for method in methods}
    for seed, method in itertools.product(dict.fromkeys(campaign.seeds), methods):
        spec = TrialSpec(
            method=method.name,
            dataset=dataset.name,
            protocol=name,
            seed=seed,
            settings=settings_for(method, config),
            training=training_for(method, config),
            limit=limit,
            data_fingerprint=data,
            protocol_version=version,
            source=sources[method.name],
        )
        yield assignment(config, spec, method, dataset)


def assignment(config: Config, spec: TrialSpec, method: MethodCard, dataset: DatasetCard) -> Assignment:
    """A spec with the places that a worker needs, every path absolute."""
    asked, card = config.resources, method.resources
    cpus = asked.cpus_per_trial if asked.cpus_per_trial > 0 else card.cpus
    return Assignment(
        spec=spec,
        method_card=method.path,
        dataset_card=dataset.path,
        data=config.data,
        folder=config.trials / spec.key,
        cache=config.cache,
        device=asked.device,
        threads=max(1, int(cpus)),
        cpus=cpus,
        gpus=asked.gpus_per_trial if asked.gpus_per_trial >= 0 else card.gpus,
        custom=asked.custom,
        seconds=config.failures.trial_seconds,
    )


def stand(assignment: Assignment, force: bool = False, retry: frozenset[Failure] = frozenset()) -> Planned:
    """Where a trial stands, read from its folder; with `force` everything is new, `retry` is what is tried again."""
    result = None if force else read_result(assignment.folder)
    if result is not None and result.failure is not None:
        return Planned(assignment, "retry" if result.failure in retry else "failed")
    if result is not None and result.state is State.DONE:
        return Planned(assignment, "done", result.cost.get("seconds", 0.0))
    begun = not force and (assignment.folder / CHECKPOINT).is_file()
    return Planned(assignment, "resume" if begun else "new")


def check_numbers(seeds: Sequence[int], limit: int | None) -> None:
    """UsageError for seeds that no generator takes and for a limit that leaves nothing."""
    wrong = [seed for seed in seeds if not 0 <= seed < 2**32]
    if wrong or not seeds:
        raise UsageError(f"seeds {wrong or 'none'}: give whole numbers from 0 to 2**32 - 1, for example --seeds 0,1,2")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: give at least 1 image a split")


def check_protocol(name: str) -> None:
    """UsageError for the protocol that a search alone uses."""
    if name == SELECTION:
        raise UsageError(f"protocol {SELECTION!r} is kept for `harness search`, whose trials never open test")


def check_writable(results: Path) -> None:
    """StoreError where the results folder cannot be written."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results) as probe:
            probe.write(bytes(4096))
    except OSError as error:
        raise StoreError(f"the results folder {results} cannot be written: {error}; set [paths] results") from error


def check_room(results: Path) -> None:
    """StoreError where the disk of the results folder is nearly full."""
    free = shutil.disk_usage(results).free
    if free < LEAST_FREE_BYTES:
        raise StoreError(
            f"the disk of the results folder {results} has {free // 10**6} MB left, checkpoints need at least "
            f"{LEAST_FREE_BYTES // 10**6} MB; make room or set [paths] results"
        )


def check_data(registry: Registry, todo: Sequence[Assignment]) -> None:
    """Open every split that is about to be used and hold it to its card and protocol: DataError with both numbers."""
    for trial in {trial.spec.dataset: trial for trial in todo}.values():
        card, limit = registry.datasets[trial.spec.dataset], trial.spec.limit
        dataset = open_dataset(card, trial.data, trial.cache, limit)
        if trial.spec.protocol == SELECTION:
            for name in ("train", "val"):
                dataset.split(name)
            continue
        splits = {name: dataset.split(name) for name in card.splits}
        protocol = find_protocol(card, trial.spec.protocol)
        scored = splits.get(protocol.split) or dataset.split(protocol.split)
        split_folds(protocol, scored, limited=limit is not None)
        open_sets(card, protocol.name, trial.data, scored, limit)
