"""Where a search stands, read from the file of studies and the trials' folders by whoever asks; starts nothing."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from harness.archive import Archived, read_studies
from harness.config.project import STUDIES, TRIALS
from harness.output import table
from harness.search_summary import measured, shown
from harness.studies import Ended
from harness.trial.folder import read_epochs, read_spec
from harness.trial.results import EpochReport
from harness.view import clock


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
        yield Going(f"{study.method}/{study.dataset} #{number}", len(reports), epochs, _best(reports))


def _best(reports: Sequence[EpochReport]) -> float | None:
    return max((report.val["rsum"] for report in reports if "rsum" in report.val), default=None)


def left(found: Sequence[Standing]) -> float | None:
    """Seconds until all is done, if trials go on as they did; None where nothing can be told yet."""
    known = [seconds for standing in found for seconds in standing.seconds]
    going = sum(len(standing.going) for standing in found)
    waiting = sum(standing.counts["waiting"] for standing in found)
    if not known or not going:
        return None
    return (waiting + going / 2) * sum(known) / len(known) / going


def page(campaign: str, found: Sequence[Standing], busy: bool) -> Iterator[RenderableType]:
    """What `harness status CAMPAIGN` says of a search."""
    right = ("done", "running", "waiting", "pruned", "failed", "time", "best")
    made = table("method", "dataset", *right, "settings of the best", right=right)
    for standing in found:
        study, counts = standing.study, {name: str(count) for name, count in standing.counts.items()}
        bests: list[Ended | None] = [*study.front]
        for best in bests or [None]:
            value = ", ".join(map(measured, study.objective, best.objective)) if best else "–"
            row = (study.method, study.dataset, *counts.values(), clock(sum(standing.seconds)), value)
            made.add_row(*row, Text(shown(best.values) if best else ""))
    yield made
    for going in (going for standing in found for going in standing.going):
        state = "running" if busy else "interrupted"
        val = f", val rsum {going.rsum:.1f}" if going.rsum is not None else ""
        yield f"{going.label}  {state} after epoch {going.epoch}/{going.epochs}{val}"
    yield from _failures(found)
    yield f"\n{campaign}: {_end(campaign, found, busy)}"


def _failures(found: Sequence[Standing]) -> Iterator[str]:
    for standing in found:
        why = Counter(trial.notes.get("failure", "") for trial in standing.study.trials if trial.state == "failed")
        classes = ", ".join(f"{count} {name or 'unknown'}" for name, count in sorted(why.items()))
        if classes:
            yield f"{standing.study.method}/{standing.study.dataset}: failed: {classes}"


def _end(campaign: str, found: Sequence[Standing], busy: bool) -> str:
    open_ = any(standing.counts["waiting"] or standing.going for standing in found)
    if busy:
        seconds = left(found)
        return "a driver is at work" + (f", about {clock(seconds)} left" if seconds is not None else "")
    if open_:
        return "no driver is at work; `harness resume` goes on"
    return f"its trials have ended; `harness confirm {shlex.quote(campaign)}` trains the best anew (how far: -n)"


def as_json(campaign: str, found: Sequence[Standing], busy: bool) -> dict[str, Any]:
    """The same as JSON."""
    searches = [
        {
            "method": standing.study.method,
            "dataset": standing.study.dataset,
            "counts": standing.counts,
            "seconds": sum(standing.seconds),
            "best": [
                {"trial": best.number, "objective": best.objective, "settings": best.values}
                for best in standing.study.front
            ],
            "running": [vars(going) for going in standing.going],
        }
        for standing in found
    ]
    return {"campaign": campaign, "busy": busy, "seconds_left": left(found), "searches": searches}
