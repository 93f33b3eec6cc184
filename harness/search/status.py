"""Where a search stands, from its study and the folders of its trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from harness.campaign.estimate import Basis, Estimate, TrialTime, times_of
from harness.campaign.plan import Planned
from harness.config.cards import DatasetCard
from harness.config.project import Config
from harness.files import entries
from harness.search.method_search import Spent, spent_on
from harness.search.optuna_study import read_studies
from harness.search.plan import SearchPlan
from harness.search.study_records import StudyRecord
from harness.trial.folder import read_epochs, read_spec
from harness.trial.results import best_rsum


@dataclass(frozen=True)
class RunningTrial:
    label: str
    epoch: int
    epochs: int
    rsum: float | None  # the best on val so far


@dataclass(frozen=True)
class StudyStatus:
    study: StudyRecord
    running: tuple[RunningTrial, ...]

    @property
    def counts(self) -> dict[str, int]:
        counted = self.study.counted
        ended = Counter(trial.state for trial in counted)
        waiting = max(0, (self.study.total or 0) - len(counted) - len(self.running))
        waiting = 0 if spent_on(counted).reaches(self.study.bounds) else waiting
        rest = {"pruned": ended["pruned"], "failed": ended["failed"]}
        return {"done": ended["complete"], "running": len(self.running), "waiting": waiting, **rest}

    @property
    def seconds(self) -> list[float]:
        return [trial.notes["seconds"] for trial in self.study.counted if "seconds" in trial.notes]


def study_statuses(config: Config, campaign: str) -> list[StudyStatus]:
    """A campaign's searches; empty where there is no such campaign. StoreError where the file cannot be used."""
    studies = read_studies(config.studies, campaign)
    return [StudyStatus(study, tuple(_running(config.trials, study))) for study in studies]


def seconds_left(statuses: Sequence[StudyStatus]) -> float | None:
    """Seconds until all is done, if trials go on as they did; None where nothing is known yet."""
    seconds = [seconds for status in statuses for seconds in status.seconds]
    running = sum(len(status.running) for status in statuses)
    waiting = sum(status.counts["waiting"] for status in statuses)
    if not seconds or not running:
        return None
    return (waiting + running / 2) * sum(seconds) / len(seconds) / running


def most_time_left(
    config: Config, plans: Sequence[SearchPlan], datasets: Mapping[str, DatasetCard], room: int
) -> Estimate:
    """The time of the trials that searches have left, as if none were pruned, by earlier trials of the results folder.

    datasets: those by whose pairs a pace is scaled; room: trials at a time, 0 where that is not known.
    """
    begun = {one.name: spent_on(one.counted) for one in read_studies(config.studies, config.campaign.name)}
    times = times_of([Planned(plan.base, "new") for plan in plans], entries(config.trials), datasets)
    each: dict[str, TrialTime] = {}
    for plan in plans:
        one = times[plan.base.spec.key]
        if plan.design.space and one.basis is Basis.SAME:
            one = replace(one, basis=Basis.SETTINGS)
        left = trials_left(plan, begun.get(plan.study(config.campaign.name), Spent()), one.seconds)
        each |= {f"{plan.label} #{number}": one for number in range(left)}
    return Estimate(each, room)


def trials_left(plan: SearchPlan, spent: Spent, seconds: float) -> int:
    """The trials that a search may still begin, each taken to have all its epochs and to last so many seconds."""
    budget, epochs = plan.design.search, plan.base.spec.training.epochs
    left = [plan.design.trials - spent.trials]
    left += [ceil((budget.epochs - spent.epochs) / epochs)] if budget.epochs and epochs else []
    left += [ceil((budget.seconds - spent.seconds) / seconds)] if budget.seconds and seconds else []
    return max(0, min(left))


def _running(trials: Path, study: StudyRecord) -> Iterator[RunningTrial]:
    for number, key in study.under_way.items():
        spec, reports = read_spec(trials / key), read_epochs(trials / key)
        epochs = spec.training.epochs if spec else 0
        yield RunningTrial(f"{study.method}/{study.dataset} #{number}", len(reports), epochs, best_rsum(reports))
