"""Where a search stands, from its study and the folders of its trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.project import STUDIES, TRIALS
from harness.search.study_records import Archived, read_studies
from harness.trial.folder import read_epochs, read_spec
from harness.trial.results import best_rsum


@dataclass(frozen=True)
class Going:
    """A trial under way."""

    label: str
    epoch: int
    epochs: int
    rsum: float | None  # the best on val so far


@dataclass(frozen=True)
class Standing:
    """Where the search of a method on a dataset stands."""

    study: Archived
    going: tuple[Going, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Trials by state."""
        ended = Counter(trial.state for trial in self.study.trials)
        left = max(0, (self.study.total or 0) - len(self.study.trials) - len(self.going))
        rest = {"pruned": ended["pruned"], "failed": ended["failed"]}
        return {"done": ended["complete"], "running": len(self.going), "waiting": left, **rest}

    @property
    def seconds(self) -> list[float]:
        """Of training, of the trials that have ended."""
        return [trial.notes["seconds"] for trial in self.study.trials if "seconds" in trial.notes]


def standings(results: Path, campaign: str) -> list[Standing]:
    """A campaign's searches; empty where there is no such campaign. StoreError where the file cannot be used."""
    return [Standing(study, tuple(_going(results, study))) for study in read_studies(results / STUDIES, campaign)]


def _going(results: Path, study: Archived) -> Iterator[Going]:
    for number, key in study.under_way.items():
        spec, reports = read_spec(results / TRIALS / key), read_epochs(results / TRIALS / key)
        epochs = spec.training.epochs if spec else 0
        yield Going(f"{study.method}/{study.dataset} #{number}", len(reports), epochs, best_rsum(reports))


def left(found: Sequence[Standing]) -> float | None:
    """Seconds until all is done, if trials go on as they did; None where nothing can be told yet."""
    known = [seconds for standing in found for seconds in standing.seconds]
    going = sum(len(standing.going) for standing in found)
    waiting = sum(standing.counts["waiting"] for standing in found)
    if not known or not going:
        return None
    return (waiting + going / 2) * sum(known) / len(known) / going
