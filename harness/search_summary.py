"""A search in words and tables: what `search` and `search --dry-run` say, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.board.publishing import Published
from harness.campaign.driver import Outcome
from harness.config.sections import Scalar, Search
from harness.config.toml import literal
from harness.output import table
from harness.search.campaign import COSTS, Outline, Searched
from harness.search.method_search import Subject
from harness.search.space import described
from harness.summary import count, counts_line, failures_page, files_page
from harness.trial.results import shortfalls
from harness.view import clock


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
    return f"{count(subjects, 'search')}, {each} each: {how}".replace("searchs", "searches")


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


def page(work: Searched, outcome: Outcome, reports: Published) -> Iterator[RenderableType]:
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
    yield from page(work, Outcome(), reports)


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


def as_json(work: Searched, reports: Published) -> dict[str, Any]:
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
