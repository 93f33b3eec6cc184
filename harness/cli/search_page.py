"""A search in words and tables: what `search` and `search --dry-run` say, and the same as JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.board.publishing import Published
from harness.campaign.driver import Outcome
from harness.cli.campaign_page import counts_line, failures_page, files_page
from harness.cli.output import count, table
from harness.cli.view import clock
from harness.config.sections import Scalar, Search
from harness.config.toml import literal
from harness.search.campaign import COSTS, Outline, Searched
from harness.search.method_search import Subject
from harness.search.space import described
from harness.search.status import Standing, left
from harness.search.studies import Ended
from harness.trial.results import shortfalls


def plan_page(found: Sequence[Outline], search: Search, place: str) -> Iterator[RenderableType]:
    """What --dry-run says: what is searched for each method and dataset, and what comes first."""
    made = table("method", "dataset", "setting", "now", "range")
    for outline in found:
        spec = outline.base.spec
        who = (spec.method, spec.dataset)
        for key, text in described(outline.space).items() or {"": "nothing is searched: one trial"}.items():
            made.add_row(*who, key, Text(now(outline, key)), Text(text))
            who = ("", "")
    yield made
    for outline in found:
        if outline.note:
            yield f"{outline.base.spec.method}/{outline.base.spec.dataset}: {outline.note}"
    yield f"\n{budget_line(search, len(found))} · {place}"


def now(outline: Outline, key: str) -> str:
    """The configured value of what is searched."""
    spec = outline.base.spec
    if key.startswith("training."):
        return literal(getattr(spec.training, key.removeprefix("training.")))
    return literal(spec.settings[key]) if key else ""


def budget_line(search: Search, subjects: int) -> str:
    """The budget of each, in one line."""
    bounds = [count(search.trials, "trial")]
    bounds += [f"{search.epochs} epochs"] if search.epochs else []
    bounds += [f"{clock(search.seconds)} of training"] if search.seconds else []
    each = " or ".join(bounds)
    how = f"sampler {search.sampler}, pruner {search.pruner}, objective {', '.join(search.objective)} on val"
    return f"{count(subjects, 'search', 'searches')}, {each} each: {how}"


def plan_json(found: Sequence[Outline], search: Search, place: str) -> dict[str, Any]:
    """The same as JSON."""
    searches = [
        {
            "method": outline.base.spec.method,
            "dataset": outline.base.spec.dataset,
            "space": {
                key: range_.model_dump(mode="json", exclude_defaults=True) for key, range_ in outline.space.items()
            },
            "first": list(outline.points),
        }
        for outline in found
    ]
    return {
        "executor": place,
        "budget": search.model_dump(mode="json", exclude={"space", "points"}),
        "searches": searches,
    }


def search_page(work: Searched, outcome: Outcome, reports: Published) -> Iterator[RenderableType]:
    """How a search ended: the best of every method, its budget, what failed, and the files of its report."""
    yield subjects_table(work.subjects)
    yield from unequal(work.subjects)
    yield from failures_page(trials(work))
    yield from files_page(reports)
    if outcome.stopped:
        yield outcome.stopped
    yield f"{work.name}: {counts_line(outcome.counts) or 'nothing to do'}"
    if any(subject.study.best() for subject in work.subjects):
        yield f"next: harness confirm {work.name}"


def idle_page(work: Searched, reports: Published) -> Iterator[RenderableType]:
    """The same where there was nothing to do."""
    yield from search_page(work, Outcome(), reports)


def trials(work: Searched) -> list[Any]:
    """The failed trials of a search that were not run again."""
    return [trial for subject in work.subjects for trial in subject.failed()]


def subjects_table(subjects: Sequence[Subject]) -> Table:
    """A line a method and dataset: what was spent, and the best on val."""
    right = ("trials", "pruned", "failed", "epochs", "time", "best")
    made = table("method", "dataset", *right, "trial", "settings", right=right)
    for subject in subjects:
        spent, spec = subject.spent, subject.base.spec
        cost = (str(spent.trials), str(spent.pruned), str(spent.failed), str(spent.epochs), clock(spent.seconds))
        best = subject.study.best()
        for ended in best:
            value = ", ".join(measured(*pair) for pair in zip(subject.search.objective, ended.objective, strict=True))
            made.add_row(spec.method, spec.dataset, *cost, value, f"#{ended.number}", Text(shown(ended.values)))
        if not best:
            made.add_row(spec.method, spec.dataset, *cost, "–", "", "")
    return made


def measured(name: str, value: float) -> str:
    """The value of an objective."""
    return f"{value:.4g}" if name.removeprefix("-") in COSTS else f"{value:.1f}"


def shown(values: dict[str, Scalar]) -> str:
    """Settings in one line, numbers cut to what people read."""
    cut = {key: f"{value:.4g}" if isinstance(value, float) else literal(value) for key, value in values.items()}
    return ", ".join(f"{key} = {text}" for key, text in cut.items())


def unequal(subjects: Sequence[Subject]) -> Iterator[str]:
    """A line for every method that was searched with over a tenth less than the largest budget on its dataset."""
    for subject in subjects:
        rivals = [vars(other.spent) for other in subjects if other.base.spec.dataset == subject.base.spec.dataset]
        for name, mine, most in shortfalls(vars(subject.spent), rivals):
            yield f"{subject.label}: {mine} {name} against {most}: a smaller search budget than others"


def search_json(work: Searched, reports: Published) -> dict[str, Any]:
    """The same as JSON."""
    searches = [
        {
            "method": subject.base.spec.method,
            "dataset": subject.base.spec.dataset,
            **vars(subject.spent),
            "best": [
                {"trial": ended.number, "objective": ended.objective, "settings": ended.values}
                for ended in subject.study.best()
            ],
        }
        for subject in work.subjects
    ]
    return {"campaign": work.name, "searches": searches, "reports": [str(file) for file in reports.files]}


def status_page(campaign: str, found: Sequence[Standing], busy: bool) -> Iterator[RenderableType]:
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
    yield from failure_lines(found)
    yield f"\n{campaign}: {status_end(campaign, found, busy)}"


def failure_lines(found: Sequence[Standing]) -> Iterator[str]:
    """How many trials of each search failed, and why."""
    for standing in found:
        why = Counter(trial.notes.get("failure", "") for trial in standing.study.trials if trial.state == "failed")
        classes = ", ".join(f"{count} {name or 'unknown'}" for name, count in sorted(why.items()))
        if classes:
            yield f"{standing.study.method}/{standing.study.dataset}: failed: {classes}"


def status_end(campaign: str, found: Sequence[Standing], busy: bool) -> str:
    """What happens next, or what to do next."""
    open_ = any(standing.counts["waiting"] or standing.going for standing in found)
    if busy:
        seconds = left(found)
        return "a driver is at work" + (f", about {clock(seconds)} left" if seconds is not None else "")
    if open_:
        return "no driver is at work; `harness resume` goes on"
    return f"its trials have ended; `harness confirm {shlex.quote(campaign)}` trains the best anew (how far: -n)"


def status_json(campaign: str, found: Sequence[Standing], busy: bool) -> dict[str, Any]:
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
