"""Pages and JSON answers of `run`, `--dry-run`, `status` and `report`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from harness.board.publishing import Published
from harness.campaign.course import Course
from harness.campaign.driver import CampaignOutcome
from harness.campaign.estimate import Basis, Estimate, TrialTime
from harness.campaign.plan import Plan, Planned
from harness.campaign.status import Status, counts
from harness.errors import count
from harness.terminal.board_page import NO_TRIALS
from harness.terminal.output import Text, near, table
from harness.terminal.view import clock
from harness.tracking.store import without_password
from harness.trial.folder import TRACEBACK, read_result
from harness.trial.results import Assignment, Failure, State, TrialSpec

BASES = {
    Basis.SAME: "by earlier trials of the same settings",
    Basis.SETTINGS: "~ by earlier trials of other settings",
    Basis.DATASET: "~~ by earlier trials on other datasets, scaled by pairs",
}
ROUGHLY = {Basis.SAME: "", Basis.SETTINGS: "~", Basis.DATASET: "~~"}  # before a time, as in BASES
STYLES = {
    **{"done": "green", "failed": "red", "resume": "yellow", "interrupted": "yellow", "running": "cyan"},
    **{"retry": "yellow", "pruned": "dim", "new": "", "waiting": "dim"},
}


def plan_page(plan: Plan, place: str, times: Estimate) -> Iterator[RenderableType]:
    grid = table("trial", "protocol", "epochs", "state", "time", "key", right=("epochs", "time"))
    for trial in plan.trials:
        protocol = trial.spec.protocol + (f", first {trial.spec.limit} images" if trial.spec.limit else "")
        state = Text(trial.state, style=STYLES[trial.state])
        epochs, time = str(trial.spec.training.epochs), time_text(times.times.get(trial.spec.key))
        grid.add_row(trial.spec.label, protocol, epochs, state, time, trial.spec.key)
    yield grid
    yield f"\n{plan_line(plan, place)}"
    if times.times:
        yield estimate_line(times)


def time_text(time: TrialTime | None) -> str:
    if time is None:
        return "–"
    return "?" if time.basis is Basis.NONE else f"{ROUGHLY[time.basis]}{clock(time.seconds)}"


def estimate_line(times: Estimate) -> str:
    """How long all trials will take together, and what that is known from."""
    if times.unknown and not times.device_seconds:
        return "time: unknown until the first epoch: no earlier trial of these methods in the results folder has one"
    total = f"about {clock(times.seconds)} in all" if times.seconds is not None else ""
    whole = ", ".join(filter(None, [total, f"{times.device_seconds / 3600:.2g} device-hours"]))
    return "time: " + "; ".join([whole, *what_it_rests_on(times)])


def what_it_rests_on(times: Estimate) -> list[str]:
    """How many trials nothing is known of, and what the time of the others is known from."""
    unknown = [f"? {count(times.unknown, 'trial')} unknown until the first epoch"] if times.unknown else []
    bases = {time.basis for time in times.known if time.seconds}
    return [*unknown, *(text for basis, text in BASES.items() if basis in bases)]


def plan_line(plan: Plan, place: str) -> str:
    waiting = sum(trial.state == "resume" for trial in plan.todo)
    parts = [f"{plan.name}: {count(len(plan.todo), 'trial')} to run"]
    parts += [f"{waiting} of them continued"] if waiting else []
    done = len(plan.trials) - len(plan.todo) - len(plan.failed)
    parts += [f"{done} done"] if done else []
    parts += [f"{len(plan.failed)} failed before"] if plan.failed else []
    parts += [f"{len(plan.unlogged)} to be logged"] if plan.unlogged else []
    return f"{', '.join(parts)} · {place}"


def plan_json(plan: Plan, place: str, times: Estimate) -> dict[str, Any]:
    return {
        "campaign": plan.name,
        "executor": place,
        "store": without_password(plan.uri),
        "counts": dict(Counter(trial.state for trial in plan.trials)),
        **totals_json(times),
        "trials": [
            {**identity_json(trial.spec), "state": trial.state, **time_json(trial, times)} for trial in plan.trials
        ],
    }


def totals_json(times: Estimate) -> dict[str, Any]:
    """The time of all trials together; null where it is not known, with the number of trials that are unknown."""
    device_seconds = times.device_seconds if times.known else None
    return {"seconds": times.seconds, "device_seconds": device_seconds, "unknown": times.unknown}


def time_json(trial: Planned, times: Estimate) -> dict[str, Any]:
    seconds = seconds_of(times, trial.spec.key)
    basis = None if seconds is None else times.times[trial.spec.key].basis.name.lower()
    return {"seconds": seconds, "seconds_from": basis}


def seconds_of(times: Estimate, key: str) -> float | None:
    """The seconds of one trial; None where they are not known."""
    time = times.times.get(key)
    return None if time is None or time.basis is Basis.NONE else time.seconds


def identity_json(spec: TrialSpec) -> dict[str, Any]:
    names = {"method", "dataset", "protocol", "seed", "limit"}
    return {"key": spec.key, "label": spec.label, **spec.model_dump(mode="json", include=names)}


def nothing_to_do(course: Course) -> str:
    """What is done and what has failed, where a plan leaves nothing to run."""
    plan, boards = course.plan, ", ".join(near(file) for file in course.files if file.suffix == ".md")
    where = f"leaderboard in {boards}, shown by `harness board`"
    done = len(plan.trials) - len(plan.failed)
    if not plan.failed:
        return f"{plan.name}: nothing to do: {count(done, 'trial')} done, {where}"
    before = f"{count(done, 'trial')} done, " if done else ""
    return f"{plan.name}: {before}{len(plan.failed)} failed, nothing else to do; {where}"


def run_page(plan: Plan, outcome: CampaignOutcome, published: Published) -> Iterator[RenderableType]:
    yield from files_page(published)
    yield from failures_page([trial.assignment for trial in plan.trials])
    if outcome.stopped:
        yield outcome.stopped
    yield counts_line(outcome.counts)


def failures_page(trials: Iterable[Assignment]) -> Iterator[RenderableType]:
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
    trials = []
    for trial in plan.trials:
        result = read_result(trial.folder)
        end = result.model_dump(mode="json", exclude={"spec", "environment"}) if result else {"state": State.WAITING}
        trials.append({**identity_json(trial.spec), "folder": str(trial.folder), **end})
    return {"campaign": plan.name, "trials": trials, "reports": [str(file) for file in files]}


def files_page(published: Published) -> Iterator[RenderableType]:
    for file in published.files:
        line = f"{near(file)} {'written' if file in published.changed else 'unchanged'}"
        yield Text(line, style=f"link {file.as_uri()}") if file.suffix == ".html" else line
    for file in published.removed:
        yield f"{near(file)} removed: its row, board or search is gone"


def published_page(published: Published, has_boards: bool) -> Iterator[RenderableType]:
    """Every file of a report; where there is none, whether there is anything to report."""
    if not published.files:
        yield "no file was written" if has_boards else NO_TRIALS
    yield from files_page(published)


def published_json(published: Published) -> dict[str, Any]:
    groups: dict[str, list[str]] = {"written": [], "unchanged": [], "removed": [*map(str, published.removed)]}
    for file in published.files:
        groups["written" if file in published.changed else "unchanged"].append(str(file))
    return groups


def status_page(plan: Plan, statuses: Sequence[Status], times: Estimate) -> Iterator[RenderableType]:
    """Every trial with its state; what it has left where a driver is at work, else whether the store has it."""
    place = "left" if times.times else "in store"
    grid = table("trial", "state", "epoch", "rsum", place, "key", right=("epoch", "rsum", "left"))
    for status in statuses:
        grid.add_row(
            status.label,
            Text(status.state.value, style=STYLES.get(status.state.value, "")),
            f"{status.epoch}/{status.epochs}",
            rsum_of(status),
            time_text(times.times.get(status.key)) if times.times else "yes" if status.logged else "–",
            status.key,
        )
        if status.message:
            grid.add_row(Text(f"  {status.message}", style="dim"))
    yield grid
    logged = sum(status.logged for status in statuses)
    yield f"\n{plan.name}: {counts_line(counts(statuses))} · {logged} in the store {without_password(plan.uri)}"
    if times.times:
        about = [f"about {clock(times.seconds)}"] if times.seconds is not None else []
        yield "left: " + "; ".join([*about, *what_it_rests_on(times)])


def status_json(plan: Plan, statuses: Sequence[Status], times: Estimate) -> dict[str, Any]:
    return {
        "campaign": plan.name,
        "store": without_password(plan.uri),
        "counts": counts(statuses),
        "seconds_left": times.seconds,
        "trials": [{**asdict(status), "seconds_left": seconds_of(times, status.key)} for status in statuses],
    }


def rsum_of(status: Status) -> str:
    if status.rsum is None:
        return "–"
    return f"{status.rsum:.1f}" if status.state is State.DONE else f"val {status.rsum:.1f}"


def counts_line(counts: Mapping[str, int]) -> str:
    return " · ".join(f"{number} {state}" for state, number in counts.items())
