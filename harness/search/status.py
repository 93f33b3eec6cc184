"""Where a search stands, from its study and the folders of its trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.project import Config
from harness.search.optuna_study import read_studies
from harness.search.study_records import StudyRecord
from harness.trial.folder import read_epochs, read_spec


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
        ended = Counter(trial.state for trial in self.study.trials)
        waiting = max(0, (self.study.total or 0) - len(self.study.trials) - len(self.running))
        rest = {"pruned": ended["pruned"], "failed": ended["failed"]}
        return {"done": ended["complete"], "running": len(self.running), "waiting": waiting, **rest}

    @property
    def seconds(self) -> list[float]:
        return [trial.notes["seconds"] for trial in self.study.trials if "seconds" in trial.notes]


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


def _running(trials: Path, study: StudyRecord) -> Iterator[RunningTrial]:
    for number, key in study.under_way.items():
        spec, reports = read_spec(trials / key), read_epochs(trials / key)
        epochs = spec.training.epochs if spec else 0
        best = max((report.val["rsum"] for report in reports if "rsum" in report.val), default=None)
        yield RunningTrial(f"{study.method}/{study.dataset} #{number}", len(reports), epochs, best)
