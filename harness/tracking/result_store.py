"""MLflow runs -> typed runs and files: what the tracking store holds, to read."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import StoreError, first_line
from harness.tracking.artifacts import local_folder
from harness.tracking.columns import RESULT_TAG, SPEC_TAG, expected_specs, joined_text, verification_of
from harness.tracking.connection import ENDED, Connection, age
from harness.tracking.pages import plain
from harness.tracking.runs import Run, place
from harness.tracking.snapshot import KeptRun, Marks, is_steady, kept_runs, mark, read_runs
from harness.tracking.store import artifacts_of, is_absent, moved, without_password
from harness.trial.folder import RESULT
from harness.trial.results import State, TrialResult, TrialSpec


class ResultStore:
    """Reads trials and the files that were kept of them; StoreError when the store cannot be reached."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._locations: dict[str, str] = {}  # of artifacts, by run

    @cached_property
    def _connection(self) -> Connection:
        return Connection(self.uri)

    def _runs(self) -> list[KeptRun]:
        """Campaigns and trials."""
        if (runs := kept_runs(self.uri)) is not None:
            return runs
        connection = self._connection  # opening it may write

        def read() -> Iterator[Any]:
            with connection.errors():
                yield from connection.runs("tags.`harness.kind` = 'campaign'")
                yield from connection.runs("tags.`harness.kind` = 'trial'")

        return read_runs(self.uri, read)

    def runs(self) -> list[Run]:
        """Every trial that was run or is expected, one run per key: its latest finished one, else its latest. Sorted.

        A trial that never began is waiting. StoreError where the record of a run cannot be read.
        """
        planned: dict[str, TrialSpec] = {}
        latest: dict[str, KeptRun] = {}
        for entity in self._runs():
            if entity.data.tags["harness.kind"] == "campaign":
                planned |= expected_specs(entity.data.tags)
                continue
            self._locations[entity.info.run_id] = entity.info.artifact_uri
            key = entity.data.tags["harness.key"]
            if key not in latest or age(latest[key]) < age(entity):
                latest[key] = entity
        begun = (self._run(entity, planned.get(key)) for key, entity in sorted(latest.items(), key=lambda e: age(e[1])))
        runs = {run.key: run for run in begun if run}
        waiting = [Run(spec, State.WAITING) for key, spec in planned.items() if key not in runs]
        return sorted([*runs.values(), *waiting], key=place)

    def _run(self, entity: KeptRun, planned: TrialSpec | None) -> Run | None:
        """MLflow's run as one of ours; None for one of an earlier version that has never ended."""
        tags, info = entity.data.tags, entity.info
        try:
            result, state = self._result(info.run_id, tags), State(tags.get("harness.state", ""))
            spec = result.spec if result else planned or spec_of(tags)
        except ValueError as error:
            raise StoreError(
                f"the record of run {info.run_id} ({info.run_name}) in {without_password(self.uri)} cannot be read: "
                f"{first_line(error)}; read it with the version of harness that wrote it, or delete the run in MLflow"
            ) from error
        if spec is None:
            return None
        return Run(
            spec=spec,
            state=state,
            run_id=info.run_id,
            result=result if result and result.state is state else None,  # else of an attempt that was continued
            started=info.start_time,
            ended=info.end_time,
            campaign=tags.get("harness.campaign", ""),
            metrics={plain(name): value for name, value in entity.data.metrics.items()},
            verification=verification_of(tags, result),
        )

    def _result(self, run_id: str, tags: Mapping[str, str]) -> TrialResult | None:
        """The result of a run; of one that an earlier version has logged, which has no records, from its artifact."""
        text: str | bytes | None = joined_text(RESULT_TAG, tags)
        if text is None and SPEC_TAG not in tags:
            text = self.artifact(run_id, RESULT)
        return None if text is None else TrialResult.model_validate_json(text)

    def digests(self) -> dict[str, set[str]]:
        """The digests of the results of all runs that have ended, by the keys of their trials."""
        digests: dict[str, set[str]] = {}
        for entity in self._runs():  # which keeps a copy: a report that comes next does not read the store again
            if entity.info.status in ENDED and (digest := entity.data.tags.get("harness.result")):
                digests.setdefault(entity.data.tags["harness.key"], set()).add(digest)
        return digests

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """A file that was kept of a run; None where the store has lost it."""
        if run_id not in self._locations:
            with self._connection.errors():
                self._locations[run_id] = self._connection.client.get_run(run_id).info.artifact_uri
        location = self._locations[run_id]
        if folder := local_folder(location):
            beside = moved(artifacts_of(self.uri), folder)
            return self._read(beside / name) or self._read(folder / name)  # of a store that was moved without them
        with self._connection.errors():
            repository = self._connection.artifacts(location)
            if name not in {entry.path for entry in repository.list_artifacts()}:
                return None
            with tempfile.TemporaryDirectory() as copy:
                return Path(repository.download_artifacts(name, copy)).read_bytes()

    def marks(self, run_ids: Iterable[str], names: Collection[str]) -> Marks | None:
        """What tells one state of runs' files from every other; None for files elsewhere or written a moment ago."""
        marks: Marks = []
        for run_id in run_ids:
            if (folder := local_folder(self._locations.get(run_id, ""))) is None:
                return None
            places = dict.fromkeys((moved(artifacts_of(self.uri), folder), folder))
            marks += [mark(place / name) for place in places for name in names]
        return marks if is_steady(marks) else None

    def _read(self, file: Path) -> bytes | None:
        try:
            return file.read_bytes() if file.exists() else None
        except OSError as error:
            raise StoreError(f"the tracking store's {file} cannot be read: {error}; see to its rights") from error


def spec_of(tags: Mapping[str, str]) -> TrialSpec | None:
    """The spec that the tags of a run hold; None where an earlier version has made it."""
    text = joined_text(SPEC_TAG, tags)
    return None if text is None else TrialSpec.model_validate_json(text)


def open_store(uri: str) -> ResultStore:
    """The tracking store to read from; StoreError where nothing was ever run."""
    if is_absent(uri):
        raise StoreError(
            f"there is no tracking store {without_password(uri)}; `harness run` makes it, and logs what lies in the "
            "folders of trials"
        )
    return ResultStore(uri)
