"""A campaign in words and tables: what `run`, `--dry-run`, `status` and `report` say, and the same as JSON."""

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
    """What --dry-run says."""
    yield plan_table(plan)
    yield f"\n{plan_line(plan, place)}"


def plan_table(plan: Plan) -> Table:
    """Every trial of a plan, in the order in which they run."""
    made = table("trial", "protocol", "epochs", "state", "key", right=("epochs",))
    for trial in plan.trials:
        protocol = trial.spec.protocol + (f", first {trial.spec.limit} images" if trial.spec.limit else "")
        state = Text(trial.state, style=STYLES[trial.state])
        made.add_row(trial.spec.label, protocol, str(trial.spec.training.epochs), state, trial.spec.key)
    return made


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
    """The same as JSON."""
    return {
        "campaign": plan.name,
        "executor": place,
        "store": without_password(plan.uri),
        "counts": dict(Counter(trial.state for trial in plan.trials)),
        "trials": [{**about(trial.spec), "state": trial.state} for trial in plan.trials],
    }


def about(spec: TrialSpec) -> dict[str, Any]:
    """Which trial it is."""
    names = {"method", "dataset", "protocol", "seed", "limit"}
    return {"key": spec.key, "label": spec.label, **spec.model_dump(mode="json", include=names)}


def nothing_to_do(plan: Plan, files: Iterable[Path]) -> str:
    """Everything is done: how much, and where it stands."""
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
    """What failed and why, where its traceback lies, and how it is run again."""
    found = [(trial, read_result(trial.folder)) for trial in trials]
    failed = [(trial, result) for trial, result in found if result and result.state is State.FAILED]
    if not failed:
        return
    made = table("failed", "why", "epoch", "attempts", "message", right=("epoch", "attempts"))
    for trial, result in failed:
        trace = trial.folder / TRACEBACK
        told = f"\n{near(trace)}" if result.failure is Failure.BUG and trace.is_file() else ""
        why = result.failure.value if result.failure else ""
        made.add_row(trial.name, why, str(result.epochs), str(result.attempts), Text(result.message + told))
    yield made
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
    """Which reports were written."""
    for file in published.files:
        yield f"{near(file)} {'written' if file in published.changed else 'unchanged'}"


def published_page(published: Published) -> Iterator[RenderableType]:
    """What `harness report` says."""
    if not published.files:
        yield "no trials in the tracking store yet; `harness run` makes them"
    yield from files_page(published)


def published_json(published: Published) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "written": [str(file) for file in published.files if file in published.changed],
        "unchanged": [str(file) for file in published.files if file not in published.changed],
    }


def status_page(plan: Plan, found: Sequence[Status]) -> Iterator[RenderableType]:
    """What `harness status` says."""
    yield status_table(found)
    logged = sum(status.logged for status in found)
    yield f"\n{plan.name}: {counts_line(counts(found))} · {logged} in the store {without_password(plan.uri)}"


def status_table(found: Sequence[Status]) -> Table:
    """A line a trial."""
    made = table("trial", "state", "epoch", "rsum", "in store", "key", right=("epoch", "rsum"))
    for status in found:
        made.add_row(
            status.label,
            Text(status.state.value, style=STYLES.get(status.state.value, "")),
            f"{status.epoch}/{status.epochs}",
            rsum_of(status),
            "yes" if status.logged else "–",
            status.key,
        )
        if status.message:
            made.add_row(Text(f"  {status.message}", style="dim"))
    return made


def status_json(plan: Plan, found: Sequence[Status]) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "campaign": plan.name,
        "store": without_password(plan.uri),
        "counts": counts(found),
        "trials": [asdict(status) for status in found],
    }


def rsum_of(status: Status) -> str:
    """On test where there is a result, else the best on val, marked so."""
    if status.rsum is None:
        return "–"
    return f"{status.rsum:.1f}" if status.state is State.DONE else f"val {status.rsum:.1f}"


def counts_line(counts: Mapping[str, int]) -> str:
    """Trials by state."""
    return " · ".join(f"{number} {state}" for state, number in counts.items())
