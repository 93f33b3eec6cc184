"""Trial folders and the tracking store heal each other: what one has lost of a result is made again from the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from harness.campaign.driver import only_driver
from harness.campaign.plan import Plan, Planned
from harness.config.cards import SELECTION
from harness.config.project import TRIALS
from harness.errors import StoreError, count
from harness.files import write_own
from harness.tracking.artifacts import ARTIFACTS, ranks
from harness.tracking.log import Ended
from harness.tracking.logged import examine, lost, marked, read_mark
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run
from harness.tracking.store import SQLITE, is_absent
from harness.tracking.tracker import Tracker
from harness.trial.folder import RESULT, SPEC, read_result, result_of, write_result, write_spec
from harness.trial.results import State

Note = Callable[[str], None]


def heal(results: Path, uri: str, note: Note) -> int:
    """Log again what the tracking store has lost of the results in trial folders; how many that were.

    StoreError where the store is a file that cannot be used. A server that is away is asked by the next command.
    """
    keys = lacking(results, uri)
    folders = [results / TRIALS / key for key in sorted(keys)]
    ended = [(result, folder) for folder in folders if (result := read_result(folder))]
    if not ended:
        return 0
    with only_driver(results):
        log_again(ended, uri)
        examine(results, uri)
    trials = count(len(ended), "trial")
    note(f"logged again from their folders, as the tracking store had lost them or their files: {trials}")
    return len(ended)


def lacking(results: Path, uri: str) -> frozenset[str]:
    """Keys of the results that the store was given and lacks; none where a server is away."""
    if uri.startswith(SQLITE):
        return lost(results, uri)
    with suppress(StoreError):
        return lost(results, uri)
    return frozenset()


def missing(results: Path, uri: str) -> tuple[frozenset[str], str]:
    """As `lacking`, for a page that shows it: of a store that cannot be used all that it was given, and why."""
    try:
        return lacking(results, uri), ""
    except StoreError as error:
        return frozenset(folder.name for folder, _ in marked(results, uri)), str(error)


def warning(results: Path, uri: str) -> str:
    """What a reader of a store of one file is told where it lacks results; empty where it lacks none, or is damaged."""
    keys: frozenset[str] = frozenset()
    if uri.startswith(SQLITE):
        with suppress(StoreError):  # whoever reads the store says so
            keys = lacking(results, uri)
    lost_ones = count(len(keys), "result")
    return f"the tracking store has lost {lost_ones}; `harness run` logs again what it lacks" if keys else ""


def log_again(ended: Iterable[Ended], uri: str) -> None:
    """Log results under the campaigns that they were of."""

    def campaign(one: Ended) -> str:
        mark = read_mark(one[1])
        return mark.campaign if mark else ""

    tracker = Tracker(uri)
    for name, of_one in groupby(sorted(ended, key=campaign), campaign):
        if name:
            tracker.open_campaign(name, [])
        for result, folder in of_one:
            tracker.result(result, folder)
        tracker.close_campaign(State.DONE)


def restored(plan: Plan, note: Note) -> Plan:
    """The plan, after folders of its trials that are gone or damaged were made again, where the store has all of them.

    Checkpoints are not in the store: `harness explain` needs them, and `harness run --force` makes them.
    """
    gone = [trial for trial in plan.todo if is_gone(trial)]
    if plan.force or not gone or is_absent(plan.uri):
        return plan
    store = ResultStore(plan.uri)
    runs = {run.key: run for run in runs_in(store)}
    with only_driver(plan.results):
        again = [
            trial for trial in gone if trial.spec.key in runs and restore(trial.folder, runs[trial.spec.key], store)
        ]
    if not again:
        return plan
    trials = count(len(again), "trial")
    note(f"taken from the tracking store, as their folders were gone or damaged: {trials}")
    return plan.refreshed()


def runs_in(store: ResultStore) -> list[Run]:
    """The runs of a store; none of a server that is away: who is to write to it says so."""
    if store.uri.startswith(SQLITE):
        return store.runs()
    with suppress(StoreError):
        return store.runs()
    return []


def is_gone(trial: Planned) -> bool:
    """Whether a trial's folder or its result was lost, and nobody is about to run it again, as after --force."""
    folder = trial.folder
    if trial.state in ("new", "resume") and (folder / RESULT).exists():
        return result_of(trial.spec, folder) is None
    return trial.state == "new" and not (folder / SPEC).exists() and not any(folder.parent.glob(f"{folder.name}.old-*"))


def restore(folder: Path, run: Run, store: ResultStore) -> bool:
    """Make a trial's folder from its run; False where the store lacks what boards and tests need of it."""
    result = run.result
    if (
        result is None
        or not run.is_done
        or (run.spec.protocol != SELECTION and ranks(store.artifact, run.run_id) is None)
    ):
        return False
    for name in ARTIFACTS:
        content = store.artifact(run.run_id, name)
        if content and name not in (RESULT, SPEC):
            write_own(folder / name, content)
    write_spec(folder, result.spec)
    write_result(folder, result)  # last: a folder with a result is complete
    return True
