"""A search campaign: a study a method and dataset, trials thought of as places free up, judged on val alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.campaign.plan import (
    Plan,
    PlanInputs,
    assignments,
    check_data,
    check_numbers,
    check_room,
    check_writable,
    state_of,
)
from harness.config.cards import SELECTION, DatasetCard
from harness.config.project import STUDIES, TRIALS, Config
from harness.config.registry import Registry
from harness.config.sections import Scalar, Tunable
from harness.config.selection import CONFIGURED, Selection
from harness.errors import UsageError, unknown
from harness.search.method_search import Subject
from harness.search.optuna_study import Study, open_storage, study_names
from harness.search.space import check_search, default_point, points_for, space_for
from harness.tracking.columns import described
from harness.tracking.log import Ended
from harness.tracking.store import default_uri, is_logged
from harness.trial.folder import read_result
from harness.trial.results import RECALLS, Assignment, EpochReport, Failure, TrialResult, TrialSpec

MEASURES = ("rsum", *RECALLS, *(f"{way}_{kind}_rank" for way in ("i2t", "t2i") for kind in ("median", "mean")))
COSTS = ("seconds", "train_pairs_per_second", "peak_memory_mb", "parameters")


@dataclass(frozen=True)
class Outline:
    """What is to be searched for one method on one dataset, before its study is opened."""

    base: Assignment  # with the configured settings
    space: dict[str, Tunable]
    points: tuple[dict[str, Scalar], ...]  # to try first
    note: str = ""

    @property
    def study(self) -> str:
        """The study's name within its campaign."""
        return f"{self.base.spec.dataset}/{self.base.spec.method}"

    @property
    def pair(self) -> tuple[str, str]:
        """Method and dataset."""
        return self.base.spec.method, self.base.spec.dataset

    @property
    def frozen(self) -> dict[str, str]:
        """All that decides results and is not searched."""
        names = {key if key.startswith("training.") else f"settings.{key}" for key in self.space}
        flat = described(self.base.spec)
        return {name: text for name, text in flat.items() if name not in {*names, "key", "recipe", "label", "seed"}}


def outlines(config: Config, registry: Registry, selection: Selection = CONFIGURED) -> list[Outline]:
    """One per dataset and method; the seeds and the protocol are those of searches, whatever the selection says.

    UsageError, ConfigError or DataError for what cannot be searched.
    """
    check_objective(config.search.objective)
    check_search(config, registry)
    selection = replace(selection, protocol=SELECTION, seeds=(config.search.seed,)).completed(config.campaign)
    check_numbers(selection.seeds, selection.limit)
    inputs = PlanInputs(config, registry, selection.limit)
    return [
        outline(trial, config.for_dataset(trial.spec.dataset), registry)
        for trial in assignments(config, registry, selection, inputs)
    ]


def outline(trial: Assignment, config: Config, registry: Registry) -> Outline:
    """What is searched around the configured settings of one method; `config` is that of its dataset."""
    card = registry.methods[trial.spec.method]
    space, points, note = space_for(card, config), points_for(card, config), ""
    if config.search.defaults_first:
        first = default_point(space, trial.spec.settings, trial.spec.training)
        points = [first, *points] if first is not None else points
        note = "" if first is not None else "its configured settings lie outside of the space and are not tried first"
    return Outline(trial, space, tuple(points), note)


def check_objective(names: Sequence[str]) -> None:
    """UsageError for an objective that no trial gives."""
    known = (*MEASURES, *COSTS)
    for name in names:
        if name.removeprefix("-") not in known:
            raise UsageError(f"search.objective: {unknown('measure', name.removeprefix('-'), known)}")
    if not names:
        raise UsageError(f"search.objective is empty; known: {', '.join(known)}")


def check_startable(config: Config, registry: Registry, found: Sequence[Outline]) -> None:
    """StoreError or DataError before anything starts; only train and val are opened."""
    check_writable(config.results)
    check_room(config.results)
    trials = [outline.base for outline in found]
    check_data(trials, PlanInputs(config, registry, trials[0].spec.limit))


class Searched:
    """The work of a search campaign. To be opened under the lock of the results folder, and closed."""

    def __init__(
        self, config: Config, name: str, found: Sequence[Outline], retry: frozenset[Failure] = frozenset()
    ) -> None:
        """StoreError where the studies cannot be opened, UsageError where they are of another search."""
        self.name, self.results = name, config.results
        self._uri = default_uri(config)
        self._storage = open_storage(config.studies)
        self.subjects = [self._subject(config, outline, retry) for outline in found]
        self._of: dict[str, Subject] = {}  # trials under way, by key
        self.specs: Sequence[TrialSpec] = ()  # a search expects nothing by name
        self.requests: Sequence[Assignment] = [subject.base for subject in self.subjects if not subject.is_spent]
        self.before = sum(subject.spent.trials for subject in self.subjects)
        self.total = sum(max(subject.search.trials, subject.spent.trials) for subject in self.subjects)
        self.failed_before = sum(subject.spent.failed for subject in self.subjects)
        self.unlogged: Sequence[Ended] = self._unlogged()

    def _subject(self, config: Config, outline: Outline, retry: frozenset[Failure]) -> Subject:
        search = config.search if outline.space else config.search.model_copy(update={"trials": 1})
        epochs = outline.base.spec.training.epochs
        name = f"{self.name}/{outline.study}"
        study = Study(self._storage, name, search, outline.space, epochs, outline.frozen, outline.points)
        return Subject(outline.base, study, search, retry)

    def _unlogged(self) -> Sequence[Ended]:
        keys = (trial.notes["key"] for subject in self.subjects for trial in subject.study.ended() if trial.notes)
        folders = (self.results / TRIALS / key for key in dict.fromkeys(keys))
        found = [(read_result(folder), folder) for folder in folders if not is_logged(folder, self._uri)]
        return [(result, folder) for result, folder in found if result]

    def assignments(self) -> Iterator[Assignment]:
        """What was left under way, then a trial for whichever subject has had the fewest."""
        for subject in self.subjects:
            for trial in subject.left():
                yield self._handed(trial, subject)
        while waiting := [subject for subject in self.subjects if not subject.is_spent]:
            subject = min(waiting, key=lambda subject: subject.begun)
            for trial in subject.next():
                yield self._handed(trial, subject)

    def answer(self, report: EpochReport) -> bool:
        """Whether the pruner lets a trial go on."""
        return self._of[report.key].report(report)

    def ended(self, result: TrialResult) -> None:
        """Tell its study."""
        self._of.pop(result.key).ended(result)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to run and nothing to log."""
        return not self.requests and not self.unlogged and not any(s.study.open() for s in self.subjects)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go of the studies."""
        self._storage.close()

    def _handed(self, trial: Assignment, subject: Subject) -> Assignment:
        self._of[trial.spec.key] = subject
        return trial


def confirmation(
    config: Config,
    registry: Registry,
    name: str,
    selection: Selection = CONFIGURED,
    force: bool = False,
    retry: frozenset[Failure] = frozenset(),
) -> Plan:
    """The winners of a search campaign, each to be trained with further seeds and scored on test.

    UsageError where there is no such campaign or none of its trials has ended well, and for the search's own seed.
    """
    seeds = selection.seeds or config.campaign.seeds
    check_numbers(seeds, selection.limit)
    if config.search.seed in seeds:
        raise UsageError(f"--seeds {config.search.seed}: the search has used this seed (search.seed); give others")
    best = winners(config, registry, name, selection.limit)
    trials = [
        state_of(seeded(config, trial, registry.dataset(trial.spec.dataset), selection.protocol, seed), force, retry)
        for seed in dict.fromkeys(seeds)
        for trial in best
    ]
    return Plan(name, config.results, default_uri(config), tuple(trials), force, retry)


def winners(config: Config, registry: Registry, name: str, limit: int | None = None) -> list[Assignment]:
    """The best trial of every subject of a campaign, with what the search has cost; several objectives have several."""
    known = campaigns(config.results)
    if name not in known:
        raise UsageError(unknown("search campaign", name, known))
    pairs = known[name]
    methods, datasets = (tuple(dict.fromkeys(part)) for part in zip(*pairs, strict=True))
    found = [o for o in outlines(config, registry, Selection(methods, datasets, limit=limit)) if o.pair in pairs]
    with Searched(config, name, found) as work:
        best = [trial for subject in work.subjects for trial in subject.winners(name)]
    if not best:
        raise UsageError(f"no trial of the search campaign {name!r} has ended well; `harness search` goes on with it")
    return best


def campaigns(results: Path) -> dict[str, list[tuple[str, str]]]:
    """The search campaigns of a results folder: the methods and datasets of each."""
    found: dict[str, list[tuple[str, str]]] = {}
    for study in study_names(results / STUDIES):
        name, dataset, method = study.rsplit("/", 2)
        found.setdefault(name, []).append((method, dataset))
    return found


def seeded(config: Config, trial: Assignment, dataset: DatasetCard, protocol: str, seed: int) -> Assignment:
    """A winner as a trial of its own: with another seed, under a protocol of its dataset."""
    name, version = dataset.protocol_identity(protocol)
    spec = trial.spec.model_copy(update={"protocol": name, "protocol_version": version, "seed": seed})
    return trial.model_copy(update={"spec": spec, "folder": config.trials / spec.key})
