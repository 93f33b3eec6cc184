"""A search in words and tables: what `search` and `search --dry-run` say, and the same as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from harness.board.publishing import Published
from harness.campaign.driver import CampaignOutcome
from harness.campaign.estimate import Estimate
from harness.config.sections import Search
from harness.config.toml import literal
from harness.errors import count
from harness.search.campaign import SearchTrials
from harness.search.method_search import MethodSearch
from harness.search.plan import SearchPlan, measured, prunes, settings_line
from harness.search.space import described
from harness.search.status import StudyStatus, seconds_left
from harness.search.studies import Ended
from harness.terminal.campaign_page import counts_line, estimate_line, failures_page, files_page, totals_json
from harness.terminal.output import Text, table
from harness.terminal.view import clock
from harness.trial.results import shortfalls


def plan_page(plans: Sequence[SearchPlan], search: Search, place: str, times: Estimate) -> Iterator[RenderableType]:
    rows = table("method", "dataset", "setting", "now", "range")
    for plan in plans:
        names = (plan.method, plan.dataset)
        for key, text in described(plan.design.space).items() or {"": "nothing is searched: one trial"}.items():
            rows.add_row(*names, key, Text(configured(plan, key)), Text(text))
            names = ("", "")
    yield rows
    yield from (f"{plan.label}: {plan.note}" for plan in plans if plan.note)
    yield f"\n{budget_line(search, plans)} · {place}"
    if times.times:
        less = "; less where trials are pruned" if times.device_seconds and prunes(search) else ""
        yield f"{estimate_line(times)}{less}"


def configured(plan: SearchPlan, key: str) -> str:
    spec = plan.base.spec
    if key.startswith("training."):
        return literal(getattr(spec.training, key.removeprefix("training.")))
    return literal(spec.settings[key]) if key else ""


def budget_line(search: Search, plans: Sequence[SearchPlan]) -> str:
    trials = sorted({plan.design.trials for plan in plans})
    bounds = [count(trials[-1], "trial") if len(trials) == 1 else f"{trials[0]} to {trials[-1]} trials"]
    bounds += [f"{search.epochs} epochs"] if search.epochs else []
    bounds += [f"{clock(search.seconds)} of training"] if search.seconds else []
    each = " or ".join(bounds)
    pruner = search.pruner if prunes(search) or search.pruner == "none" else "none, as nothing is measured by epoch"
    how = f"sampler {search.sampler}, pruner {pruner}, objective {', '.join(search.objective)} on val"
    return f"{count(len(plans), 'search', 'searches')}, {each} each: {how}"


def plan_json(plans: Sequence[SearchPlan], search: Search, place: str, times: Estimate) -> dict[str, Any]:
    searches = [
        {
            "method": plan.method,
            "dataset": plan.dataset,
            "space": {
                key: tunable.model_dump(mode="json", exclude_defaults=True)
                for key, tunable in plan.design.space.items()
            },
            "first": list(plan.design.points),
        }
        for plan in plans
    ]
    budget = search.model_dump(mode="json", exclude={"space", "points"})
    return {"executor": place, "budget": budget, "searches": searches, "left": len(times.times), **totals_json(times)}


def search_page(
    work: SearchTrials, outcome: CampaignOutcome, reports: Published, following: str
) -> Iterator[RenderableType]:
    """How a search ended, and the command that is to follow."""
    yield searches_table(work.searches)
    yield from unequal(work.searches)
    yield from failures_page(trial for search in work.searches for trial in search.failed())
    yield from collapsed_lines({search.label: search.study.record().collapsed for search in work.searches})
    yield from files_page(reports)
    if outcome.stopped:
        yield outcome.stopped
    before = f"{outcome.failed_before} failed before, nothing else to do" if outcome.failed_before else "nothing to do"
    yield f"{work.name}: {counts_line(outcome.counts) or before}"
    if any(search.study.best() for search in work.searches):
        yield f"next: {following}"


def searches_table(searches: Sequence[MethodSearch]) -> Table:
    right = ("trials", "pruned", "failed", "epochs", "time", "best")
    rows = table("method", "dataset", *right, "trial", "settings", right=right)
    for search in searches:
        spent, names = search.spent, (search.plan.method, search.plan.dataset)
        cost = (str(spent.trials), str(spent.pruned), str(spent.failed), str(spent.epochs), clock(spent.seconds))
        best = search.study.best()
        for ended in best:
            value = ", ".join(map(measured, search.budget.objective, ended.objective))
            rows.add_row(*names, *cost, value, f"#{ended.number}", Text(settings_line(ended.values)))
        if not best:
            rows.add_row(*names, *cost, "–", "", "")
    return rows


def unequal(searches: Sequence[MethodSearch]) -> Iterator[str]:
    """A line for every method that was searched with over a tenth less than the largest budget on its dataset."""
    for search in searches:
        rivals = [vars(other.spent) for other in searches if other.plan.dataset == search.plan.dataset]
        for name, own, most in shortfalls(vars(search.spent), rivals):
            yield f"{search.label}: {own} {name} against {most}: a smaller search budget than others"


def search_json(work: SearchTrials, reports: Published) -> dict[str, Any]:
    searches = [
        {
            "method": search.plan.method,
            "dataset": search.plan.dataset,
            **vars(search.spent),
            "best": trials_json(search.study.best()),
        }
        for search in work.searches
    ]
    return {"campaign": work.name, "searches": searches, "reports": [str(file) for file in reports.files]}


def trials_json(trials: Iterable[Ended]) -> list[dict[str, Any]]:
    return [{"trial": one.number, "objective": one.objective, "settings": one.values} for one in trials]


def status_page(
    campaign: str, statuses: Sequence[StudyStatus], busy: bool, command: Callable[..., str]
) -> Iterator[RenderableType]:
    """A search's progress; `command` makes a command line of words."""
    right = ("done", "running", "waiting", "pruned", "failed", "time", "best")
    rows = table("method", "dataset", *right, "settings of the best", right=right)
    for status in statuses:
        study, counts = status.study, {name: str(count) for name, count in status.counts.items()}
        bests: list[Ended | None] = [*study.front]
        for best in bests or [None]:
            value = ", ".join(map(measured, study.objective, best.objective)) if best else "–"
            row = (study.method, study.dataset, *counts.values(), clock(sum(status.seconds)), value)
            rows.add_row(*row, Text(settings_line(best.values) if best else ""))
    yield rows
    for trial in (trial for status in statuses for trial in status.running):
        state = "running" if busy else "interrupted"
        val = f", val rsum {trial.rsum:.1f}" if trial.rsum is not None else ""
        yield f"{trial.label}  {state} after epoch {trial.epoch}/{trial.epochs}{val}"
    yield from failure_lines(statuses)
    yield from collapsed_lines({f"{one.study.method}/{one.study.dataset}": one.study.collapsed for one in statuses})
    yield f"\n{campaign}: {status_end(campaign, statuses, busy, command)}"


def failure_lines(statuses: Sequence[StudyStatus]) -> Iterator[str]:
    for status in statuses:
        why = Counter(trial.notes.get("failure", "") for trial in status.study.counted if trial.state == "failed")
        classes = ", ".join(f"{count} {name or 'unknown'}" for name, count in sorted(why.items()))
        if classes:
            yield f"{status.study.method}/{status.study.dataset}: failed: {classes}"


def collapsed_lines(trials: Mapping[str, Sequence[Ended]]) -> Iterator[str]:
    """A line for each search, by label, some of whose trials were pruned because their training had collapsed."""
    for label, collapsed in trials.items():
        if collapsed:
            numbers = ", ".join(f"#{trial.number}" for trial in collapsed)
            yield f"{label}: pruned, as training had collapsed: {numbers} ({collapsed[0].notes['collapsed']})"


def status_end(campaign: str, statuses: Sequence[StudyStatus], busy: bool, command: Callable[..., str]) -> str:
    open_ = any(status.counts["waiting"] or status.running for status in statuses)
    if busy:
        seconds = seconds_left(statuses)
        return "a driver is at work" + (f", about {clock(seconds)} left" if seconds is not None else "")
    if open_:
        return f"no driver is at work; `{command('resume', campaign)}` goes on"
    return f"its trials have ended; `{command('confirm', campaign)}` trains the best with other seeds; -n shows which"


def status_json(campaign: str, statuses: Sequence[StudyStatus], busy: bool) -> dict[str, Any]:
    searches = [
        {
            "method": status.study.method,
            "dataset": status.study.dataset,
            "counts": status.counts,
            "seconds": sum(status.seconds),
            "best": trials_json(status.study.front),
            "running": [vars(trial) for trial in status.running],
        }
        for status in statuses
    ]
    return {"campaign": campaign, "busy": busy, "seconds_left": seconds_left(statuses), "searches": searches}
