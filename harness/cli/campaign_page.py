"""Pages and JSON answers of `run`, `--dry-run`, `status` and `report`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.board.publishing import Published
from harness.campaign.driver import Outcome
from harness.campaign.plan import Plan
from harness.campaign.status import Status, counts
from harness.cli.output import count, near, table
from harness.tracking.store import without_password
from harness.trial.folder import TRACEBACK, read_result
from harness.trial.results import Assignment, Failure, State, TrialSpec

STYLES = {
    **{"done": "green", "failed": "red", "resume": "yellow", "interrupted": "yellow", "running": "cyan"},
    **{"retry": "yellow", "pruned": "dim", "new": "", "waiting": "dim"},
}


def plan_page(plan: Plan, place: str) -> Iterator[RenderableType]:
    """The plan as a table, and in one line."""
    yield plan_table(plan)
    yield f"\n{plan_line(plan, place)}"


def plan_table(plan: Plan) -> Table:
    """Every trial of a plan, in the order in which they run."""
    grid = table("trial", "protocol", "epochs", "state", "key", right=("epochs",))
    for trial in plan.trials:
        protocol = trial.spec.protocol + (f", first {trial.spec.limit} images" if trial.spec.limit else "")
        state = Text(trial.state, style=STYLES[trial.state])
        grid.add_row(trial.spec.label, protocol, str(trial.spec.training.epochs), state, trial.spec.key)
    return grid


def plan_line(plan: Plan, place: str) -> str:
    """A plan in one line: what there is to do, what is done, and where it will run."""
    waiting = sum(trial.state == "resume" for trial in plan.todo)
    parts = [f"{plan.name}: {count(len(plan.todo), 'trial')} to run"]
    parts += [f"{waiting} of them continued"] if waiting else []
    done = len(plan.trials) - len(plan.todo) - len(plan.failed)
    parts += [f"{done} done"] if done else []
    parts += [f"{len(plan.failed)} failed before"] if plan.failed else []
    parts += [f"{len(plan.unlogged)} to be logged"] if plan.unlogged else []
    return f"{', '.join(parts)} · {place}"


def plan_json(plan: Plan, place: str) -> dict[str, Any]:
    """The plan as JSON: counts by progress, and every trial."""
    return {
        "campaign": plan.name,
        "executor": place,
        "store": without_password(plan.uri),
        "counts": dict(Counter(trial.state for trial in plan.trials)),
        "trials": [{**about(trial.spec), "state": trial.state} for trial in plan.trials],
    }


def about(spec: TrialSpec) -> dict[str, Any]:
    """The key, the label and the identity of a trial as JSON."""
    names = {"method", "dataset", "protocol", "seed", "limit"}
    return {"key": spec.key, "label": spec.label, **spec.model_dump(mode="json", include=names)}


def nothing_to_do(plan: Plan, files: Iterable[Path]) -> str:
    """The line of a campaign that is done: how many trials, and where their boards are."""
    reports = ", ".join(near(file) for file in files)
    done = f"{count(len(plan.trials) - len(plan.failed), 'trial')} done"
    return f"{plan.name}: nothing to do: {done}, leaderboard in {reports}"


def run_page(plan: Plan, outcome: Outcome, published: Published) -> Iterator[RenderableType]:
    """How a campaign ended: the files of its boards, where failures are explained, the counts."""
    yield from files_page(published)
    yield from failures_page([trial.assignment for trial in plan.trials])
    if outcome.stopped:
        yield outcome.stopped
    yield counts_line(outcome.counts)


def failures_page(trials: Iterable[Assignment]) -> Iterator[RenderableType]:
    """Failed trials: why, where the traceback lies, and how they are run again."""
    ends = [(trial, read_result(trial.folder)) for trial in trials]
    failed = [(trial, result) for trial, result in ends if result and result.state is State.FAILED]
    if not failed:
        return
    grid = table("failed", "why", "epoch", "attempts", "message", right=("epoch", "attempts"))
    for trial, result in failed:
        trace = trial.folder / TRACEBACK
        note = f"\n{near(trace)}" if result.failure is Failure.BUG and trace.is_file() else ""
        why = result.failure.value if result.failure else ""
        grid.add_row(trial.name, why, str(result.epochs), str(result.attempts), Text(result.message + note))
    yield grid
    classes = ",".join(sorted({result.failure.value for _, result in failed if result.failure}))
    yield f"the same command with --retry {classes} runs them again"


def run_json(plan: Plan, files: Iterable[Path]) -> dict[str, Any]:
    """Every trial of a plan as it stands now, and the reports."""
    results = [(trial, read_result(trial.folder)) for trial in plan.trials]
    trials = [
        {
            **about(trial.spec),
            "folder": str(trial.folder),
            **(result.model_dump(mode="json", exclude={"spec", "environment"}) if result else {"state": State.WAITING}),
        }
        for trial, result in results
    ]
    return {"campaign": plan.name, "trials": trials, "reports": [str(file) for file in files]}


def files_page(published: Published) -> Iterator[str]:
    """A line per report: whether it was written or is unchanged."""
    for file in published.files:
        yield f"{near(file)} {'written' if file in published.changed else 'unchanged'}"


def published_page(published: Published) -> Iterator[RenderableType]:
    """The reports of `harness report`, or what makes the first one."""
    if not published.files:
        yield "no trials in the tracking store yet; `harness run` makes them"
    yield from files_page(published)


def published_json(published: Published) -> dict[str, Any]:
    """The files that were written, and those that are unchanged."""
    return {
        "written": [str(file) for file in published.files if file in published.changed],
        "unchanged": [str(file) for file in published.files if file not in published.changed],
    }


def status_page(plan: Plan, statuses: Sequence[Status]) -> Iterator[RenderableType]:
    """A table of trials, and their counts in one line."""
    yield status_table(statuses)
    logged = sum(status.logged for status in statuses)
    yield f"\n{plan.name}: {counts_line(counts(statuses))} · {logged} in the store {without_password(plan.uri)}"


def status_table(statuses: Sequence[Status]) -> Table:
    """One row per trial, its message below."""
    grid = table("trial", "state", "epoch", "rsum", "in store", "key", right=("epoch", "rsum"))
    for status in statuses:
        grid.add_row(
            status.label,
            Text(status.state.value, style=STYLES.get(status.state.value, "")),
            f"{status.epoch}/{status.epochs}",
            rsum_of(status),
            "yes" if status.logged else "–",
            status.key,
        )
        if status.message:
            grid.add_row(Text(f"  {status.message}", style="dim"))
    return grid


def status_json(plan: Plan, statuses: Sequence[Status]) -> dict[str, Any]:
    """The counts by state, and every trial."""
    return {
        "campaign": plan.name,
        "store": without_password(plan.uri),
        "counts": counts(statuses),
        "trials": [asdict(status) for status in statuses],
    }


def rsum_of(status: Status) -> str:
    """The rsum on test where the trial is done, else the best on val, marked so."""
    if status.rsum is None:
        return "–"
    return f"{status.rsum:.1f}" if status.state is State.DONE else f"val {status.rsum:.1f}"


def counts_line(counts: Mapping[str, int]) -> str:
    """Trials by state in one line."""
    return " · ".join(f"{number} {state}" for state, number in counts.items())
