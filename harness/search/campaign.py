"""A search campaign: a study for each method and dataset, trials proposed as places free up, judged on val alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.campaign.plan import PlanInputs, check_numbers
from harness.config.cards import DatasetCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.selection import CONFIGURED, Selection
from harness.errors import UsageError, unknown
from harness.search.method_search import MethodSearch, budget_of, spent_on, superseding
from harness.search.optuna_study import Study, open_storage, read_studies, study_names
from harness.search.plan import SearchPlan, search_plans
from harness.tracking.log import Ended
from harness.tracking.logged import is_logged
from harness.tracking.store import default_uri
from harness.trial.folder import read_result
from harness.trial.results import Assignment, EpochReport, Failure, TrialResult, TrialSpec


class SearchTrials:
    """The work of a search campaign. To be opened under the lock of the results folder."""

    def __init__(
        self, config: Config, name: str, plans: Sequence[SearchPlan], retry: frozenset[Failure] = frozenset()
    ) -> None:
        """StoreError where the studies cannot be opened, UsageError where they are of another search."""
        self.name, self.results, self._config = name, config.results, config
        storage = open_storage(config.studies)
        self.searches = [MethodSearch(plan, Study(storage, plan.study(name), plan.design), retry) for plan in plans]
        self._search_of: dict[str, MethodSearch] = {}  # of the trials under way, by key
        self.specs: Sequence[TrialSpec] = ()  # a search expects nothing by name
        self.requests: Sequence[Assignment] = [search.base for search in self.searches if not search.is_spent]
        self.before = sum(search.spent.trials for search in self.searches)
        self.total = sum(max(search.budget.trials, search.spent.trials) for search in self.searches)
        self.failed_before = sum(search.spent.failed for search in self.searches)
        self.unlogged: Sequence[Ended] = self._unlogged()

    def _unlogged(self) -> Sequence[Ended]:
        uri = default_uri(self._config)
        keys = (trial.notes["key"] for search in self.searches for trial in search.study.ended() if trial.notes)
        folders = (self._config.trials / key for key in dict.fromkeys(keys))
        results = [(read_result(folder), folder) for folder in folders if not is_logged(folder, uri)]
        return [(result, folder) for result, folder in results if result]

    def assignments(self) -> Iterator[Assignment]:
        """What was left under way, then a trial of whichever search has had the fewest."""
        for search in self.searches:
            for trial in search.unfinished():
                yield self._noted(trial, search)
        while waiting := [search for search in self.searches if not search.is_spent]:
            search = min(waiting, key=lambda search: search.begun)
            for trial in search.next():
                yield self._noted(trial, search)

    def answer(self, report: EpochReport) -> bool:
        return self._search_of[report.key].report(report)

    def ended(self, result: TrialResult) -> None:
        self._search_of.pop(result.key).ended(result)

    @property
    def idle(self) -> bool:
        return not self.requests and not self.unlogged and not any(search.study.open() for search in self.searches)

    def _noted(self, trial: Assignment, search: MethodSearch) -> Assignment:
        self._search_of[trial.spec.key] = search
        return trial


def confirmation(config: Config, registry: Registry, name: str, selection: Selection = CONFIGURED) -> list[Assignment]:
    """Winners to be trained with other seeds and scored on test; UsageError for none, and for the search's own seed."""
    seeds = selection.seeds or config.campaign.seeds
    check_numbers(seeds, selection.limit)
    if config.search.seed in seeds:
        raise UsageError(f"--seeds {config.search.seed}: the search has used this seed (search.seed); give others")
    best = winners(config, registry, name, selection.limit)
    return [
        seeded(config, trial, registry.dataset(trial.spec.dataset), selection.protocol, seed)
        for seed in dict.fromkeys(seeds)
        for trial in best
    ]


def winners(config: Config, registry: Registry, name: str, limit: int | None = None) -> list[Assignment]:
    """The best trial of each search of a campaign, with what the search has cost; several objectives have several."""
    known = campaigns(config)
    if name not in known:
        raise UsageError(unknown("search campaign", name, known))
    methods, datasets = (tuple(dict.fromkeys(part)) for part in zip(*known[name], strict=True))
    selection = Selection(methods, datasets, limit=limit)
    inputs = PlanInputs(config, registry, limit)
    plans = {plan.study(name): plan for plan in search_plans(config, registry, selection, inputs)}
    best = []
    for study in read_studies(config.studies, name):
        plan = plans[study.name]
        plan.design.check(study.name, study.identity)
        cost = budget_of(spent_on(superseding(study.trials)), name)
        best += [plan.trial(trial.values).model_copy(update={"search": cost}) for trial in study.front]
    if not best:
        raise UsageError(f"no trial of the search campaign {name!r} has ended well; `harness search` goes on with it")
    return best


def campaigns(config: Config) -> dict[str, list[tuple[str, str]]]:
    pairs: dict[str, list[tuple[str, str]]] = {}
    for study in study_names(config.studies):
        name, dataset, method = study.rsplit("/", 2)
        pairs.setdefault(name, []).append((method, dataset))
    return pairs


def seeded(config: Config, trial: Assignment, dataset: DatasetCard, protocol: str, seed: int) -> Assignment:
    name, version = dataset.protocol_identity(protocol)
    spec = trial.spec.model_copy(update={"protocol": name, "protocol_version": version, "seed": seed})
    return trial.model_copy(update={"spec": spec, "folder": config.trials / spec.key})
