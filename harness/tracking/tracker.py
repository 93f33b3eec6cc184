"""Results -> MLflow runs -> pandas. The only file that imports mlflow, and the only writer to the tracking store.

A parent run a campaign, a child run a trial, found again by its key. The parent's tags `expected.<key>` hold what the
campaign planned, so that a trial that never began is missing by name. They are tags rather than an artifact because
tags lie in the store itself: a report needs nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import StoreError
from harness.files import write_atomic
from harness.tracking.artifacts import gather, local_folder
from harness.tracking.columns import (
    cell,
    described,
    epoch_metrics,
    expected,
    final_metrics,
    final_tags,
    finite,
    params_and_tags,
)
from harness.tracking.frame import row_of, typed
from harness.tracking.store import (
    LOGGED,
    MANNERS,
    SQLITE,
    create_sqlite,
    digest,
    sqlite_file,
    uncollected,
    without_password,
)
from harness.trial.folder import read_epochs
from harness.trial.results import EpochReport, State, TrialResult, TrialSpec

if TYPE_CHECKING:
    import pandas

EXPERIMENT = "harness"
TAGS_A_BATCH = 100  # MLflow's limit
METRICS_A_BATCH = 700  # of the 1000 entries that MLflow takes at a time, tags and params among them
EPOCH_SECONDS = 30.0  # between two writes of one trial's epochs: a write costs the same for one epoch and for many
WRITE_SECONDS = 0.25  # between two such writes of a campaign, however many trials are under way
PAGE = 1000
STATUS = {  # every other end is KILLED: to be continued
    **{State.DONE: "FINISHED", State.PRUNED: "FINISHED"},
    State.FAILED: "FAILED",
}
ENDED = ("FINISHED", "FAILED")


@dataclass
class Child:
    """The open run of one trial."""

    run_id: str
    started: int  # ms
    place: str  # of its artifacts
    params: list[Any]  # for the next write
    epochs: set[int] = field(default_factory=set)  # those whose measures it has, or will have with the next write
    held: list[Any] = field(default_factory=list)  # measures for the next write
    due: float = 0.0  # when that write may be, in seconds of the monotonic clock


class Tracker:
    """The one writer to an MLflow store, and its reader.

    uri: any MLflow server or database; a sqlite file is created here, once, in WAL mode.
    artifacts: where a database without a server keeps artifacts; beside the sqlite file where not given.
    Everything raises StoreError when the store cannot be reached or written.
    """

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        for name, value in MANNERS.items():
            os.environ.setdefault(name, value)
        import mlflow
        import sqlalchemy.exc

        for name in ("alembic", "mlflow", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is told once, by StoreError
        self.uri = uri
        self._errors = (mlflow.exceptions.MlflowException, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError)
        self._entities = mlflow.entities
        self._specs: dict[str, TrialSpec] = {}
        self._children: dict[str, Child] = {}
        self._left: dict[str, Any] | None = None  # runs that earlier drivers left open; None: to be looked up
        self._campaign, self._parent, self._moved_from = "", "", ""
        self._places: dict[str, str] = {}  # of artifacts, of the runs that a frame was made of
        with self._store():
            if uri.startswith(SQLITE):
                artifacts = artifacts or create_sqlite(sqlite_file(uri))
            self._client = mlflow.MlflowClient(tracking_uri=uri)
            self._experiment = self._open_experiment(artifacts)

    @contextmanager
    def _store(self) -> Iterator[None]:
        """Whatever goes wrong in the store becomes one StoreError that says what to do."""
        try:
            yield
        except self._errors as error:
            self._left = None  # what was being written may have arrived
            line = (str(self._root(error)).strip().splitlines() or [type(error).__name__])[0]
            shown = without_password(self.uri)
            raise StoreError(
                f"the tracking store {shown} cannot be used: {line.replace(self.uri, shown)[:300]}; finished trials "
                "are kept in their folders and logged by the next `harness run` once it is back ([tracking] uri)"
            ) from error

    def _root(self, error: BaseException) -> BaseException:
        """The error that the others were raised for: it says what is wrong in the fewest words."""
        below = error.__cause__ or error.__context__
        return self._root(below) if isinstance(below, self._errors) else error

    def _open_experiment(self, artifacts: Path | None) -> str:
        place = artifacts.absolute().as_uri() if artifacts else None
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            return str(self._client.create_experiment(EXPERIMENT, artifact_location=place))
        if found.lifecycle_stage != "active":
            raise StoreError(f"the experiment {EXPERIMENT!r} was deleted in {without_password(self.uri)}; restore it")
        self._moved_from = found.artifact_location if place and place != found.artifact_location else ""
        return str(found.experiment_id)

    def open_campaign(self, name: str, specs: Sequence[TrialSpec], note: Mapping[str, str] | None = None) -> None:
        """Open the parent run of a campaign, a new one or the one of this name, and keep what is expected of it.

        Expected are the trials given here and those of earlier plans, except that a method, dataset and protocol that
        is planned anew replaces its earlier plan: seeds and settings that nobody asks for any more are not missing.
        """
        if self._moved_from:
            raise StoreError(
                f"{without_password(self.uri)} was made to keep its artifacts in {self._moved_from}: its folder was "
                "moved. Move it back, or delete the store: `harness run` logs the trials of its plan anew from their "
                "folders"
            )
        self._specs |= {spec.key: spec for spec in specs}
        self._campaign, self._left = name, None
        with self._store():
            parent = self._find_parent(name) or self._client.create_run(
                self._experiment, run_name=name, tags={"harness.kind": "campaign", "harness.campaign": name}
            )
            self._parent = parent.info.run_id
            self._client.update_run(self._parent, status="RUNNING")
            plan = {spec.key: described(spec) for spec in specs}
            cells = {cell(planned) for planned in plan.values()}
            for key, planned in expected(parent.data.tags).items():
                if cell(planned) in cells and key not in plan:
                    self._client.delete_tag(self._parent, f"expected.{key}")
            self._tag(self._parent, {f"expected.{key}": json.dumps(planned) for key, planned in plan.items()})
            self._tag(self._parent, {f"note.{key}": value for key, value in (note or {}).items()})

    def begin(self, spec: TrialSpec) -> None:
        """The trial's run: the one that a stopped or killed driver left open, else a new one."""
        if spec.key in self._children:
            return
        self._specs[spec.key] = spec
        with self._store():
            self._left = self._open_runs() if self._left is None else self._left
            left = self._left.pop(spec.key, None)
            child = self._children[spec.key] = self._continue(left, spec) if left else self._create(spec)
            child.due = self._pause()

    def epoch(self, report: EpochReport) -> None:
        """One finished epoch, held back if the last was written a moment ago; the start of a trial opens its run."""
        self.begin(self._specs[report.key])
        child = self._children[report.key]
        if report.phase == "train":
            self._hold(child, [report])
        if child.held and time.monotonic() >= child.due:
            with self._store():
                self._write(child)

    def result(self, result: TrialResult, folder: Path) -> None:
        """Everything of one result, once: a result that is in the store already is only marked so in its folder.

        Epochs that did not arrive while the trial ran are taken from the folder. What the run's end depends on comes
        last, so that a driver killed in between leaves an open run that the next one completes.
        """
        with self._store():
            already = None if result.key in self._children else self._logged(result)
            run_id = already or self._log(result, folder)
        if result.state in STATUS:
            mark = {"uri": without_password(self.uri), "run_id": run_id, "result": digest(result)}
            write_atomic(folder / LOGGED, json.dumps(mark, indent=2))

    def close_campaign(self, state: State) -> None:
        """End the parent run; runs still open are marked interrupted, to be continued under the same key."""
        with self._store():
            for child in self._children.values():
                self._end(child, State.INTERRUPTED)
            self._children.clear()
            self._left = None
            if self._parent:
                self._tag(self._parent, {"harness.state": state.value})
                self._client.set_terminated(self._parent, STATUS.get(state, "KILLED"))

    def _logged(self, result: TrialResult) -> str | None:
        runs = (run for run in self._runs_of(result.key) if run.info.status in ENDED)
        return next((run.info.run_id for run in runs if run.data.tags.get("harness.result") == digest(result)), None)

    def _log(self, result: TrialResult, folder: Path) -> str:
        self.begin(result.spec)
        child = self._children[result.key]
        self._hold(child, read_epochs(folder))
        # the run's own start as timestamp: logged a second time after a crash, the entries are the same ones
        values = finite(final_metrics(result)).items()
        entries = [self._entities.Metric(name, value, child.started, 0) for name, value in values]
        self._keep_files(child, result, folder)
        self._end(child, result.state, entries, final_tags(result, digest(result)))
        del self._children[result.key]
        if result.state not in STATUS:
            self._left = None
        return child.run_id

    def _keep_files(self, child: Child, result: TrialResult, folder: Path) -> None:
        """Artifacts as one folder: put where a local store keeps them, else handed over together."""
        if (place := local_folder(child.place)) is not None:
            gather(result, folder, place)
            return
        with tempfile.TemporaryDirectory() as together:
            gather(result, folder, Path(together))
            self._artifacts(child.place).log_artifacts(together)

    def _artifacts(self, place: str) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(place, tracking_uri=self.uri)

    def _create(self, spec: TrialSpec) -> Child:
        params, tags = params_and_tags(spec)
        tags |= {"harness.campaign": self._campaign, "harness.state": State.RUNNING.value}
        if self._parent:
            tags["mlflow.parentRunId"] = self._parent
        run = self._client.create_run(self._experiment, run_name=spec.label, tags=tags)
        return self._child(run, params)

    def _continue(self, run: Any, spec: TrialSpec) -> Child:
        self._client.update_run(run.info.run_id, status="RUNNING")
        self._client.set_tag(run.info.run_id, "harness.state", State.RUNNING.value)
        history = self._client.get_metric_history(run.info.run_id, "epoch")
        return self._child(run, params_and_tags(spec)[0], {entry.step for entry in history})

    def _child(self, run: Any, params: Mapping[str, str], epochs: Iterable[int] = ()) -> Child:
        """An open run; its params go with its first write, as each write has its price, also where it has them."""
        entries = [self._entities.Param(key, value) for key, value in params.items()]
        return Child(run.info.run_id, run.info.start_time, run.info.artifact_uri, entries, {*epochs})

    def _hold(self, child: Child, reports: Iterable[EpochReport]) -> None:
        """The epochs that the run does not have yet, for its next write."""
        now = int(time.time() * 1000)
        new = [report for report in reports if report.epoch not in child.epochs]
        values = [(report.epoch, finite(epoch_metrics(report))) for report in new]
        entry = self._entities.Metric
        child.held += [entry(name, value, now, step) for step, part in values for name, value in part.items()]
        child.epochs |= {report.epoch for report in new}

    def _write(self, child: Child, more: Sequence[Any] = (), tags: Mapping[str, str] | None = None) -> None:
        """What is held and more measures, then tags; all of it again after an error, as the entries are the same."""
        entries, last = [*child.held, *more], self._tags(tags or {})
        while entries or last:
            several, entries = entries[:METRICS_A_BATCH], entries[METRICS_A_BATCH:]
            with_it = [] if entries else last[:TAGS_A_BATCH]
            self._client.log_batch(child.run_id, metrics=several, tags=with_it, params=child.params)
            child.params = []
            last = last[len(with_it) :]
        child.held, child.due = [], self._pause()

    def _pause(self) -> float:
        """The moment until which a trial's epochs wait, from now: longer where many trials share the one writer."""
        return time.monotonic() + max(EPOCH_SECONDS, WRITE_SECONDS * len(self._children))

    def _end(self, child: Child, state: State, more: Sequence[Any] = (), tags: Mapping[str, str] | None = None) -> None:
        self._write(child, more, {**(tags or {}), "harness.state": state.value})
        self._client.set_terminated(child.run_id, STATUS.get(state, "KILLED"))

    def _tags(self, tags: Mapping[str, str]) -> list[Any]:
        return [self._entities.RunTag(key, str(value)) for key, value in tags.items()]

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        entries = self._tags(tags)
        for start in range(0, len(entries), TAGS_A_BATCH):
            self._client.log_batch(run_id, tags=entries[start : start + TAGS_A_BATCH])

    def frame(self) -> pandas.DataFrame:
        """Every trial that was run or is expected, one row a key: its latest finished run, else its latest run.

        Columns: `TEXTS` and `INTEGERS`, parameters `settings.*` and `training.*` as `-s` takes them, `env.*`, and a
        float column a metric. A trial that never began has the state "waiting". Sorted.
        """
        with self._store(), uncollected():
            runs = self._search("tags.`harness.kind` = 'trial'")
            parents = self._search("tags.`harness.kind` = 'campaign'")
        planned = {key: row for parent in parents for key, row in expected(parent.data.tags).items()}
        rows = {key: {**row, "state": State.WAITING.value} for key, row in planned.items()}
        self._places |= {run.info.run_id: run.info.artifact_uri for run in runs}
        for run in sorted(runs, key=age):
            key = run.data.tags["harness.key"]
            rows[key] = {**planned.get(key, {}), **row_of(run)}  # a run that has just begun has no params yet
        return typed(list(rows.values()))

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """A file that was kept of a run; None where the store has lost it."""
        with self._store():
            place = self._places.get(run_id) or self._client.get_run(run_id).info.artifact_uri
            if (there := local_folder(place)) is not None:
                file = there / name
                return file.read_bytes() if file.exists() else None
            kept = self._artifacts(place)
            if name not in {entry.path for entry in kept.list_artifacts()}:
                return None
            with tempfile.TemporaryDirectory() as folder:
                return Path(kept.download_artifacts(name, folder)).read_bytes()

    def _find_parent(self, name: str) -> Any:
        campaigns = self._search("tags.`harness.kind` = 'campaign'")
        return next((run for run in campaigns if run.data.tags.get("harness.campaign") == name), None)

    def _open_runs(self) -> dict[str, Any]:
        """The runs of trials that have not ended, the newest of each key."""
        states = " and ".join(f"attributes.status != '{status}'" for status in ENDED)
        runs = self._search(f"tags.`harness.kind` = 'trial' and {states}")
        return {run.data.tags["harness.key"]: run for run in sorted(runs, key=age)}

    def _runs_of(self, key: str) -> list[Any]:
        """The runs of one trial, newest first."""
        return sorted(self._search(f"tags.`harness.key` = '{key}'"), key=age, reverse=True)

    def _search(self, filter_string: str) -> list[Any]:
        runs: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], filter_string, max_results=PAGE, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs


def age(run: Any) -> tuple[bool, int, str]:
    """Sorts runs of one key: the latest finished one is the last, else the latest."""
    return run.info.status == "FINISHED", run.info.start_time, run.info.run_id


def open_store(uri: str) -> Tracker:
    """The tracking store to read from; StoreError where nothing was ever run."""
    if uri.startswith(SQLITE) and not sqlite_file(uri).is_file():
        raise StoreError(f"there is no tracking store {without_password(uri)}; `harness run` makes it")
    return Tracker(uri)
