"""A campaign's plan: which trials, how far each is, and whether they can run. No torch, Ray or MLflow."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness.campaign.composites import Composites
from harness.campaign.inputs import PlanInputs, check_data, doubtful_pairs, transfer_notes
from harness.config.cards import SELECTION, DatasetCard, MethodCard
from harness.config.choice import chosen_recipes, left_out, suited, trained_as_configured, trained_as_paper
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.sections import SEEDS
from harness.config.selection import CONFIGURED, Selection
from harness.errors import StoreError, UsageError
from harness.tracking.logged import is_logged
from harness.tracking.store import default_uri
from harness.trial.folder import CHECKPOINT, attempts, result_of
from harness.trial.results import (
    EVALUATION_VERSION,
    TRAINING_VERSION,
    Assignment,
    Failure,
    State,
    TrialResult,
    TrialSpec,
)

Progress = Literal["done", "resume", "failed", "retry", "new"]
ENDED = ("done", "failed")
LEAST_FREE_BYTES = 200_000_000


@dataclass(frozen=True)
class Planned:
    assignment: Assignment
    state: Progress
    seconds: float = 0.0  # of training, where it is done

    @property
    def spec(self) -> TrialSpec:
        return self.assignment.spec

    @property
    def folder(self) -> Path:
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
    notes: tuple[str, ...] = ()  # what whoever asked for it should know

    @property
    def todo(self) -> tuple[Planned, ...]:
        """Trials to run: those begun first, then by seed, of each seed the short ones first; ensembles last of all."""
        took = {(done.spec.method, done.spec.dataset): done.seconds for done in self.trials if done.state == "done"}
        seeds = {seed: place for place, seed in enumerate(dict.fromkeys(t.spec.seed for t in self.trials))}

        def place(trial: Planned) -> tuple[bool, bool, int, float]:
            seconds = took.get((trial.spec.method, trial.spec.dataset), 0.0)
            return bool(trial.assignment.members), trial.state != "resume", seeds[trial.spec.seed], seconds

        return tuple(sorted((trial for trial in self.trials if trial.state not in ENDED), key=place))

    @property
    def failed(self) -> tuple[Planned, ...]:
        """Trials that failed and are not to be tried again."""
        return tuple(trial for trial in self.trials if trial.state == "failed")

    @property
    def boards(self) -> frozenset[tuple[str, str]]:
        """Dataset and protocol of every board that the trials are of."""
        return frozenset((trial.spec.dataset, trial.spec.protocol) for trial in self.trials)

    @property
    def unlogged(self) -> tuple[Planned, ...]:
        return tuple(trial for trial in self.trials if trial.state in ENDED and not is_logged(trial.folder, self.uri))

    @property
    def idle(self) -> bool:
        return not self.todo and not self.unlogged

    def refreshed(self) -> Plan:
        return replace(self, trials=tuple(state_of(t.assignment, self.force, self.retry) for t in self.trials))


def plan(
    config: Config,
    registry: Registry,
    selection: Selection = CONFIGURED,
    force: bool = False,
    retry: frozenset[Failure] = frozenset(),
    folder: Path | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> Plan:
    """The trials of a campaign and how far each is; with `force` all are run, failures in `retry` are tried again.

    folder: of generated data, that of the results folder where not given; nothing else is written.
    tell: is called with the name of each step that may take long.
    Every split of a dataset with something to do is opened and compared with its card, so that nothing starts that
    cannot be scored: UsageError, ConfigError, DataError, or StoreError where the results folder has no room.
    """
    check_places(config)
    inputs = PlanInputs(config, registry, selection.limit, folder, tell)
    campaign = plan_of(config, registry, selection, inputs, force, retry)
    if campaign.todo:
        check_room(config.results)
        todo = [trial.assignment for trial in campaign.todo]
        tell("reading every split and comparing it with its card")
        check_data(todo, inputs)
        notes = (*doubtful_pairs(todo, inputs), *transfer_notes(todo, inputs))
        campaign = replace(campaign, notes=(*campaign.notes, *notes))
    return campaign


def selected(config: Config, registry: Registry, selection: Selection = CONFIGURED) -> Plan:
    """A plan without a look at the splits: enough to tell how far each trial is."""
    return plan_of(config, registry, selection, PlanInputs(config, registry, selection.limit))


def plan_of(
    config: Config,
    registry: Registry,
    selection: Selection,
    inputs: PlanInputs,
    force: bool = False,
    retry: frozenset[Failure] = frozenset(),
) -> Plan:
    """The plan of a selection, completed from [campaign]; UsageError for seeds, a limit or names that do not exist."""
    selection = selection.completed(config.campaign)
    check_numbers(selection.seeds, selection.limit)
    check_protocol(selection.protocol)
    trials = (state_of(trial, force, retry) for trial in assignments(config, registry, selection, inputs, force))
    notes = tuple(left_out(registry, selection, inputs.has_text_tower))
    return Plan(config.campaign.name, config.results, default_uri(config), tuple(trials), force, retry, notes)


def assignments(
    config: Config, registry: Registry, selection: Selection, inputs: PlanInputs, force: bool = False
) -> Iterator[Assignment]:
    """One trial per dataset, seed and method of a completed selection, then those that are made of these.

    Under protocol `val` test is never opened.
    """
    tests = registry.select_datasets(selection.test_on)
    methods = [registry.method(name) for name in registry.select_methods(selection.methods)]
    ensembles = registry.select_ensembles(selection.methods)
    rerankings = registry.select_rerankings(selection.methods)
    fitting = {  # all of them first, so that a name that does not fit is told before files of any dataset are missed
        name: chosen_recipes(
            suited(methods, registry.dataset(name), inputs.has_text_tower(name), selection), name, selection
        )
        for name in registry.select_datasets(selection.datasets)
    }
    for name, recipes in fitting.items():
        dataset, own = registry.dataset(name), config.for_dataset(name)
        protocol, version = dataset.protocol_identity(config.campaign.protocol if tests else selection.protocol)
        made_of = Composites(ensembles, rerankings, inputs.transfers(dataset, tests, selection.protocol), force)
        specs = [
            TrialSpec(
                method=method.name,
                dataset=name,
                protocol=protocol,
                seed=0,
                **(trained_as_paper(method, recipe) if recipe else trained_as_configured(method, own)),
                limit=selection.limit,
                data_fingerprint=inputs.dataset(name).fingerprint,
                protocol_version=version,
                source=inputs.source(method.name),
                training_version=TRAINING_VERSION,
                evaluation_version=EVALUATION_VERSION,
                noise=dataset.noise.text,
            )
            for method, recipe in recipes
        ]
        for seed in dict.fromkeys(selection.seeds):
            seeded = [spec.model_copy(update={"seed": seed}) for spec in specs]
            trials = [assignment(own, spec, card, dataset) for spec, (card, _) in zip(seeded, recipes, strict=True)]
            yield from made_of.with_singles(trials)


def assignment(config: Config, spec: TrialSpec, method: MethodCard, dataset: DatasetCard) -> Assignment:
    """A spec with its cards, and the paths and resources that a worker needs; every path is absolute."""
    resources, card = config.resources, method.resources
    cpus = resources.cpus_per_trial if resources.cpus_per_trial > 0 else card.cpus
    return Assignment(
        spec=spec,
        method_card=method,
        dataset_card=dataset,
        data=config.data,
        folder=config.trials / spec.key,
        cache=config.cache,
        device=resources.device,
        threads=max(1, int(cpus)),
        cpus=cpus,
        gpus=resources.gpus_per_trial if resources.gpus_per_trial >= 0 else card.gpus,
        custom=resources.custom,
        seconds=config.failures.trial_seconds,
        random_epochs=config.failures.random_epochs,
        attempts=config.failures.attempts,
    )


def state_of(assignment: Assignment, force: bool = False, retry: frozenset[Failure] = frozenset()) -> Planned:
    """A trial with its progress, read from its folder; with `force` it is new, failures in `retry` are tried again."""
    result = None if force else result_of(assignment.spec, assignment.folder)
    if result is not None and result.failure is not None:
        if result.failure in retry or lacked_a_member(assignment, result, retry):
            return Planned(assignment, "retry")
        return Planned(assignment, "resume" if has_attempts_left(assignment, result) else "failed")
    if result is not None and result.state is State.DONE:
        return Planned(assignment, "done", result.cost.get("seconds", 0.0))
    has_begun = not force and (assignment.folder / CHECKPOINT).is_file()
    return Planned(assignment, "resume" if has_begun else "new")


def lacked_a_member(assignment: Assignment, result: TrialResult, retry: frozenset[Failure]) -> bool:
    """Whether an ensemble failed for want of a member, and every member is done by now or about to be run."""
    members = (state_of(member, retry=retry).state for member in assignment.members)
    return result.failure is Failure.MEMBER and "failed" not in members


def has_attempts_left(assignment: Assignment, result: TrialResult) -> bool:
    """Whether a trial is to go on after a lost attempt: its driver ended before the next one, or took no note of it."""
    noted = attempts(assignment.folder)
    return result.failure is not None and result.failure.is_lost and noted < max(assignment.attempts, result.attempts)


def check_numbers(seeds: Sequence[int], limit: int | None) -> None:
    """UsageError for seeds that no generator takes and for a limit that leaves nothing."""
    wrong = [seed for seed in seeds if seed not in SEEDS]
    if wrong or not seeds:
        raise UsageError(f"seeds {wrong or 'none'}: give whole numbers from 0 to 2**32 - 1, for example --seeds 0,1,2")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: give at least 1 image per split")


def check_protocol(name: str) -> None:
    """UsageError for `val`, which only searches use."""
    if name == SELECTION:
        raise UsageError(f"protocol {SELECTION!r} is kept for `harness search`, whose trials never open test")


def check_places(config: Config) -> None:
    """StoreError where the folder of results or that of reports cannot be written."""
    check_place(config.results, "results")
    check_place(config.reports, "reports")


def check_place(folder: Path, key: str) -> None:
    """StoreError where a folder is none, or can be neither made nor written; nothing is made."""
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists() or place.is_symlink())
        if not nearest.is_dir():
            trouble = f"{nearest} is no folder"
        elif not os.access(nearest, os.W_OK | os.X_OK) or not shutil.disk_usage(nearest).total:  # as /proc, of no disk
            trouble = f"{nearest} may not be written"
        else:
            return
    except OSError as error:
        trouble = str(error)
    raise StoreError(f"the {key} folder {folder} cannot be written: {trouble}; set [paths] {key}")


@contextmanager
def scratch_cache(config: Config, dry_run: bool) -> Iterator[Path]:
    """The cache of the results folder; for a dry run where there is none yet, one that is gone afterwards."""
    if config.results.exists() or not dry_run:
        yield config.cache
        return
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        yield Path(folder)


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
    nearest = next(place for place in (results, *results.parents) if place.exists())
    free = shutil.disk_usage(nearest).free
    if free < LEAST_FREE_BYTES:
        raise StoreError(
            f"the disk of the results folder {results} has {free // 10**6} MB left, checkpoints need at least "
            f"{LEAST_FREE_BYTES // 10**6} MB; make room or set [paths] results"
        )
