"""A search campaign: a study for each method and dataset, trials proposed as places free up, judged on val alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.config.project import Config
from harness.search.method_search import MethodSearch
from harness.search.optuna_study import Study, open_storage
from harness.search.plan import SearchPlan
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
        self.total = sum(max(search.study.design.trials, search.spent.trials) for search in self.searches)
        self.failed_before = self.failed
        self.unlogged: Sequence[Ended] = self._unlogged()

    def _unlogged(self) -> Sequence[Ended]:
        uri = default_uri(self._config)
        ended = (trial for search in self.searches for trial in search.study.ended() if "key" in trial.notes)
        folders = (self._config.trials / key for key in dict.fromkeys(trial.notes["key"] for trial in ended))
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

    def standing(self) -> str:
        """What is best so far, by method and dataset."""
        objective = ", ".join(self.searches[0].budget.objective)
        lines = [search.best_line for search in self.searches if search.best_line]
        return f"best val {objective} so far: {', '.join(lines)}" if lines else ""

    @property
    def failed(self) -> int:
        """The trials that have failed, before or now; those of other campaigns, too, whose failure was taken over."""
        return sum(search.spent.failed for search in self.searches)

    @property
    def idle(self) -> bool:
        return not self.requests and not self.unlogged and not any(search.study.open() for search in self.searches)

    def _noted(self, trial: Assignment, search: MethodSearch) -> Assignment:
        self._search_of[trial.spec.key] = search
        return trial
