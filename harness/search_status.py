"""Where a search stands, read from the file of studies and the trials' folders by whoever asks; starts nothing."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from harness.output import table
from harness.search.status import Standing, left
from harness.search.studies import Ended
from harness.search_summary import measured, shown
from harness.view import clock


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
