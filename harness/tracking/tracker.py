"""Results -> MLflow runs: the only writer to the tracking store.

A parent run per campaign, a child run per trial, found again by its key. A run's tags hold the records themselves: the
spec from the beginning, the result from the end. The parent's tags `expected.<key>` hold the specs that the campaign
planned, so that a trial that never began is missing by name. They are tags rather than artifacts because tags lie in
the store itself: a report needs nothing else.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.tracking.artifacts import collect
from harness.tracking.columns import (
    RESULT_TAG,
    SPEC_TAG,
    VERIFICATION_TAG,
    expected_specs,
    expected_tags,
    finite,
    key_expected,
    params_and_tags,
    record_tags,
)
from harness.tracking.connection import ENDED, Connection, age
from harness.tracking.logged import write_mark
from harness.tracking.pages import campaign_note, dataset_of, epoch_page, final_page, page_tags, source_tags
from harness.tracking.store import digest
from harness.trial.folder import read_epochs, read_verification
from harness.trial.results import EpochReport, State, TrialResult, TrialSpec, Verification

STATUS = {  # of MLflow; every other state is KILLED there: to be continued
    **{State.DONE: "FINISHED", State.PRUNED: "FINISHED"},
    State.FAILED: "FAILED",
}


@dataclass
class OpenRun:
    """The run of a trial that has not ended."""

    run_id: str
    started: int  # ms
    artifacts: str  # their location
    epochs: set[int] | None = None  # those that it has; None: the store is to be asked


class Tracker:
    """Writes campaigns, epochs and results to the tracking store; StoreError when that cannot be reached or written.

    The store is opened when it is first used.

    uri: any MLflow server or database; a sqlite file is created here, once, in WAL mode.
    artifacts: where a database without a server keeps artifacts; beside the sqlite file where not given.
    """

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        self.uri = uri
        self._artifacts = artifacts
        self._runs: dict[str, OpenRun] = {}  # of trials, by key
        self._unfinished: dict[str, Any] | None = None  # runs that earlier drivers left open; None: to be looked up
        self._campaign, self._parent = "", ""

    @cached_property
    def _connection(self) -> Connection:
        return Connection(self.uri, self._artifacts)  # not before: MLflow and its first tables take seconds

    @property
    def _client(self) -> Any:
        return self._connection.client

    def open_campaign(self, name: str, specs: Sequence[TrialSpec], note: Mapping[str, str] | None = None) -> None:
        """Open the parent run of a campaign, a new one or the one of this name, and keep what is expected of it.

        Expected are the trials given here and those of earlier plans, except that a method, dataset and protocol that
        is planned again replaces its earlier plan: seeds and settings that nobody asks for any more are not missing.
        """
        self._campaign, self._unfinished = name, None
        with self._writing():
            parent = self._find_parent(name) or self._client.create_run(
                self._connection.experiment, run_name=name, tags={"harness.kind": "campaign", "harness.campaign": name}
            )
            self._parent = parent.info.run_id
            self._client.update_run(self._parent, status="RUNNING")
            for tag in superseded(parent.data.tags, specs):
                self._client.delete_tag(self._parent, tag)
            tags = {name: text for spec in specs for name, text in expected_tags(spec).items()}
            tags |= {"mlflow.note.content": campaign_note(name, len(specs), note or {})}
            self._write(self._parent, tags=tags | {f"note.{key}": value for key, value in (note or {}).items()})

    def begin(self, spec: TrialSpec) -> None:
        """Open the trial's run: the one that a stopped or killed driver left open, else a new one."""
        if spec.key in self._runs:
            return
        with self._writing():
            if self._unfinished is None:
                self._unfinished = self._unfinished_runs()
            left = self._unfinished.pop(spec.key, None)
            self._runs[spec.key] = self._reopen(left, spec) if left else self._create(spec)

    def epoch(self, report: EpochReport) -> None:
        """Log an epoch of a trial that has begun."""
        if report.phase == "train":
            with self._writing():
                self._log_epochs(self._runs[report.key], [report])

    def result(self, result: TrialResult, folder: Path) -> None:
        """Log all that belongs to one result, once: one that is in the store already is only marked so in its folder.

        Epochs that did not arrive while the trial ran are taken from the folder. What the run's end depends on comes
        last, so that a driver killed in between leaves an open run that the next one completes.
        """
        with self._writing():
            run = None if result.key in self._runs else self._run_with(result)
            if run is None:
                run_id, location = self._log(result, folder)
            else:
                run_id, location = run.info.run_id, run.info.artifact_uri
                self._keep_files(location, result, folder)  # again: they may be lost or damaged
            if result.state in STATUS:
                campaign = run.data.tags.get("harness.campaign", "") if run else self._campaign
                artifacts = self._connection.artifact_folder(location)
                write_mark(folder, self.uri, run_id, digest(result), campaign, artifacts)

    def verify(self, result: TrialResult, verification: Verification) -> None:
        """Record what came of making a result again, at the run that has it."""
        with self._writing():
            if run := self._run_with(result):
                self._write(run.info.run_id, tags=record_tags(VERIFICATION_TAG, verification))

    def renew(self, result: TrialResult) -> None:
        """Let the run of a result end now, so that it is the newest of those that it takes the place of."""
        with self._writing():
            if run := self._run_with(result):
                self._client.set_terminated(run.info.run_id, STATUS[result.state], int(time.time() * 1000))

    def forget(self, keys: Iterable[str]) -> None:
        """Delete all runs of trials, and what campaigns expect of them; MLflow can restore a run until `mlflow gc`."""
        keys = {*keys}
        with self._writing():
            for run in list(self._connection.runs("tags.`harness.kind` = 'trial'")):
                if run.data.tags.get("harness.key") in keys:
                    self._client.delete_run(run.info.run_id)
            for parent in list(self._connection.runs("tags.`harness.kind` = 'campaign'")):
                for tag in parent.data.tags:
                    if key_expected(tag) in keys:
                        self._client.delete_tag(parent.info.run_id, tag)

    def close_campaign(self, state: State) -> None:
        """End the parent run; runs still open are marked interrupted, to be continued under the same key."""
        with self._writing():
            for run in self._runs.values():
                self._end(run.run_id, State.INTERRUPTED)
            self._runs.clear()
            self._unfinished = None
            if self._parent:
                self._end(self._parent, state)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """After an error nobody knows what has arrived: the store is asked before anything else is written."""
        try:
            with self._connection.errors():
                yield
        except StoreError:
            self._unfinished = None
            for run in self._runs.values():
                run.epochs = None
            raise

    def _log(self, result: TrialResult, folder: Path) -> tuple[str, str]:
        """Log a result in a run of its own; the run's id, and where its artifacts lie."""
        self.begin(result.spec)
        run = self._runs[result.key]
        self._log_epochs(run, read_epochs(folder))
        self._keep_files(run.artifacts, result, folder)
        # the run's own start as timestamp: logged a second time after a crash, the entries are the same ones
        entry = self._connection.entities.Metric
        metrics = [entry(name, value, run.started, 0) for name, value in finite(final_page(result)).items()]
        tags = {**page_tags(result, digest(result)), **record_tags(RESULT_TAG, result)}
        if verification := read_verification(folder, result):  # of a store that was lost, or of an entry's new facts
            tags |= record_tags(VERIFICATION_TAG, verification)
        self._end(run.run_id, result.state, metrics, tags)
        del self._runs[result.key]
        if result.state not in STATUS:
            self._unfinished = None
        return run.run_id, run.artifacts

    def _log_epochs(self, run: OpenRun, reports: Iterable[EpochReport]) -> None:
        """Log the epochs that the run does not have yet."""
        if run.epochs is None:
            run.epochs = {entry.step for entry in self._client.get_metric_history(run.run_id, "epoch")}
        now, entry = int(time.time() * 1000), self._connection.entities.Metric
        reports = [report for report in reports if report.epoch not in run.epochs]
        values = [(report.epoch, finite(epoch_page(report))) for report in reports]
        self._write(
            run.run_id, [entry(name, value, now, step) for step, part in values for name, value in part.items()]
        )
        run.epochs |= {report.epoch for report in reports}

    def _keep_files(self, location: str, result: TrialResult, folder: Path) -> None:
        """Artifacts as one folder: copied to where a local store keeps them, else handed over together."""
        if (destination := self._connection.artifact_folder(location)) is not None:
            collect(result, folder, destination)
            return
        with tempfile.TemporaryDirectory() as together:
            collect(result, folder, Path(together))
            self._connection.artifacts(location).log_artifacts(together)

    def _create(self, spec: TrialSpec) -> OpenRun:
        params, tags = params_and_tags(spec)
        tags |= {"harness.campaign": self._campaign, "harness.state": State.RUNNING.value, **source_tags()}
        if self._parent:
            tags["mlflow.parentRunId"] = self._parent
        run = self._client.create_run(self._connection.experiment, run_name=spec.label, tags=tags)
        self._write(run.info.run_id, params=params)
        dataset = self._connection.entities.Dataset(**dataset_of(spec))
        self._client.log_inputs(run.info.run_id, [self._connection.entities.DatasetInput(dataset)])
        return OpenRun(run.info.run_id, run.info.start_time, run.info.artifact_uri, set())

    def _reopen(self, run: Any, spec: TrialSpec) -> OpenRun:
        params, _ = params_and_tags(spec)  # its driver may have been killed before it wrote them
        tags = {**record_tags(SPEC_TAG, spec), "harness.state": State.RUNNING.value}
        self._client.update_run(run.info.run_id, status="RUNNING")
        self._write(run.info.run_id, tags=tags, params=params)
        return OpenRun(run.info.run_id, run.info.start_time, run.info.artifact_uri)

    def _end(
        self, run_id: str, state: State, metrics: Sequence[Any] = (), tags: Mapping[str, str] | None = None
    ) -> None:
        self._write(run_id, metrics, {**(tags or {}), "harness.state": state.value})
        self._client.set_terminated(run_id, STATUS.get(state, "KILLED"))

    def _write(
        self,
        run_id: str,
        metrics: Sequence[Any] = (),
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:
        """Write in MLflow's batches, tags after metrics; entries that a run has already stay as they are."""
        entities = self._connection.entities
        tag_entries = [entities.RunTag(name, str(value)) for name, value in (tags or {}).items()]
        param_entries = [entities.Param(name, value) for name, value in (params or {}).items()]
        self._client.log_batch(run_id, metrics, param_entries, tag_entries)

    def _find_parent(self, name: str) -> Any:
        campaigns = self._connection.runs("tags.`harness.kind` = 'campaign'")
        return next((run for run in campaigns if run.data.tags.get("harness.campaign") == name), None)

    def _unfinished_runs(self) -> dict[str, Any]:
        """The runs of trials that have not ended, the newest of each key."""
        states = " and ".join(f"attributes.status != '{status}'" for status in ENDED)
        runs = self._connection.runs(f"tags.`harness.kind` = 'trial' and {states}")
        return {run.data.tags["harness.key"]: run for run in sorted(runs, key=age)}

    def _run_with(self, result: TrialResult) -> Any:
        """The run that has this very result; None where there is none."""
        runs = self._connection.runs(
            f"tags.`harness.key` = '{result.key}' and tags.`harness.result` = '{digest(result)}'"
        )
        return next((run for run in runs if run.info.status in ENDED), None)


def superseded(tags: Mapping[str, str], specs: Iterable[TrialSpec]) -> list[str]:
    """The tags of trials that an earlier plan expected and this one, of the same methods and datasets, does not."""
    keys, cells = {spec.key for spec in specs}, {cell(spec) for spec in specs}
    old = {key for key, spec in expected_specs(tags).items() if key not in keys and cell(spec) in cells}
    return [tag for tag in tags if key_expected(tag) in old]


def cell(spec: TrialSpec) -> tuple[str | int | None, ...]:
    """Plans that share this replace each other."""
    return spec.method, spec.dataset, spec.protocol, spec.limit
