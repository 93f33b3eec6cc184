from __future__ import annotations

import json
import math
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run
from sample_results import folder_of, reports_of, result_of, spec_of

from harness.config.project import Config
from harness.config.sections import Training
from harness.config.toml import override_value, parse_override
from harness.errors import StoreError
from harness.tracking.columns import described
from harness.tracking.connection import EXPERIMENT
from harness.tracking.logged import is_logged
from harness.tracking.result_store import ResultStore
from harness.tracking.store import default_uri, without_password
from harness.tracking.tracker import Tracker
from harness.trial.folder import write_epochs
from harness.trial.results import Failure, State


def runs(uri: str, kind: str = "trial") -> list[Run]:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return list(client.search_runs([experiment.experiment_id], f"tags.`harness.kind` = '{kind}'"))


def test_a_trial_is_a_child_of_its_campaign_with_params_measures_tags_and_artifacts(store: str, tmp_path: Path) -> None:
    spec = spec_of()
    result = result_of(spec)
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec], {"executor": "in this process"})
    tracker.begin(spec)
    for report in reports_of(spec):
        tracker.epoch(report)
    tracker.result(result, folder_of(tmp_path, result))
    tracker.close_campaign(State.DONE)

    (parent,), (child,) = runs(store, "campaign"), runs(store)
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", "main")
    assert parent.data.tags["note.executor"] == "in this process"
    assert (child.info.status, child.info.run_name) == ("FINISHED", "caan/scenes/s0")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["harness.key"] == spec.key
    assert "A CPU" in child.data.tags["mlflow.note.content"]
    assert child.data.params["settings.dim"] == "256"
    assert child.data.params["training.drop_after"] == "[7]"
    assert child.data.metrics["test/rsum"] == 270.0
    assert child.data.metrics["best_val/rsum"] == 103.0
    assert child.data.metrics["val/rsum"] == 103.0
    artifacts = {item.path for item in MlflowClient(tracking_uri=store).list_artifacts(child.info.run_id)}
    assert artifacts == {"spec.json", "result.json", "epochs.jsonl", "ranks.npz", "environment.json"}
    assert (tmp_path / "runs" / "artifacts").is_dir()


def history(uri: str, run: Run, metric: str) -> list[tuple[int, float]]:
    found = MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, metric)
    return sorted((entry.step, entry.value) for entry in found)


def test_a_result_is_never_logged_twice(store: str, tmp_path: Path) -> None:
    result = result_of(spec_of())
    folder = folder_of(tmp_path, result)
    for _ in range(2):
        tracker = Tracker(store)
        tracker.open_campaign("main", [result.spec])
        tracker.result(result, folder)
        (folder / "logged.json").unlink()  # the driver was killed just before it wrote this
        tracker.close_campaign(State.DONE)
    tracker.result(result, folder)
    assert len(runs(store)) == 1
    assert len(runs(store, "campaign")) == 1
    assert history(store, runs(store)[0], "test/rsum") == [(0, 270.0)]
    assert is_logged(folder, store)


def test_the_run_that_a_killed_driver_left_open_is_continued_without_double_epochs(store: str, tmp_path: Path) -> None:
    spec = spec_of()
    first, second, third = reports_of(spec)
    killed = Tracker(store)
    killed.open_campaign("main", [spec])
    killed.begin(spec)
    killed.epoch(first)
    killed.epoch(second)

    tracker = Tracker(store)
    tracker.open_campaign("main", [spec])
    tracker.begin(spec)
    tracker.epoch(second)  # resumed from the checkpoint before it
    tracker.epoch(third)
    tracker.result(result_of(spec), folder_of(tmp_path, result_of(spec)))
    (child,) = runs(store)
    assert child.info.status == "FINISHED"
    assert history(store, child, "val/rsum") == [(1, 101.0), (2, 102.0), (3, 103.0)]


def test_an_interrupted_trial_is_marked_and_continued_in_the_same_run(store: str, tmp_path: Path) -> None:
    spec = spec_of()
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec])
    tracker.begin(spec)
    tracker.epoch(reports_of(spec)[0])
    tracker.close_campaign(State.INTERRUPTED)
    (child,), (parent,) = runs(store), runs(store, "campaign")
    assert (child.info.status, child.data.tags["harness.state"]) == ("KILLED", "interrupted")
    assert (parent.info.status, parent.data.tags["harness.state"]) == ("KILLED", "interrupted")

    tracker.open_campaign("main", [spec])
    tracker.result(result_of(spec), folder_of(tmp_path, result_of(spec)))
    tracker.close_campaign(State.DONE)
    assert [run.info.status for run in runs(store) + runs(store, "campaign")] == ["FINISHED", "FINISHED"]


def test_a_result_logged_later_from_its_folder_is_the_same_as_one_logged_live(store: str, tmp_path: Path) -> None:
    spec = spec_of()
    result = result_of(spec)
    folder = folder_of(tmp_path, result)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    shutil.copy(store.removeprefix("sqlite:///"), tmp_path / "other.db")

    live, late = Tracker(store), Tracker(other)
    for tracker in (live, late):
        tracker.open_campaign("main", [spec])
    live.begin(spec)
    for report in reports_of(spec):
        live.epoch(report)
    live.result(result, folder)
    assert is_logged(folder, store)
    assert not is_logged(folder, other)
    late.result(result, folder)

    (first,), (second,) = (ResultStore(tracker.uri).runs() for tracker in (live, late))
    assert replace(first, run_id=second.run_id, started=second.started, ended=second.ended) == second
    assert history(store, runs(store)[0], "train/loss") == history(other, runs(other)[0], "train/loss")


def test_epochs_that_the_store_missed_come_from_the_folder(store: str, tmp_path: Path) -> None:
    spec = spec_of()
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec])
    tracker.begin(spec)
    tracker.epoch(reports_of(spec)[1])
    tracker.result(result_of(spec), folder_of(tmp_path, result_of(spec)))
    assert history(store, runs(store)[0], "val/rsum") == [(1, 101.0), (2, 102.0), (3, 103.0)]


def test_an_epoch_is_in_the_store_as_soon_as_it_is_logged(store: str) -> None:
    spec = spec_of()
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec])
    tracker.begin(spec)
    for number, report in enumerate(reports_of(spec), start=1):
        tracker.epoch(report)
        assert [step for step, _ in history(store, runs(store)[0], "val/rsum")] == [*range(1, number + 1)]


def test_an_epoch_whose_arrival_was_not_confirmed_is_not_logged_again(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server took it, and the answer was lost on its way."""
    spec = spec_of()
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec])
    tracker.begin(spec)
    log_batch = MlflowClient.log_batch

    def unconfirmed(*args: object, **more: object) -> None:
        log_batch(*args, **more)
        raise ConnectionError("no answer")

    with monkeypatch.context() as patched, pytest.raises(StoreError):
        patched.setattr(MlflowClient, "log_batch", unconfirmed)
        tracker.epoch(reports_of(spec)[0])
    time.sleep(0.002)  # else the entries may be the same ones
    tracker.result(result_of(spec), folder_of(tmp_path, result_of(spec)))
    assert history(store, runs(store)[0], "val/rsum") == [(1, 101.0), (2, 102.0), (3, 103.0)]


def test_a_run_that_was_killed_before_it_had_its_parameters_gets_them_when_it_is_continued(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of()
    killed = Tracker(store)
    killed.open_campaign("main", [spec])
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(MlflowClient, "log_batch", interrupt)
        killed.begin(spec)
    assert not runs(store)[0].data.params
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec])
    tracker.begin(spec)
    (run,) = runs(store)
    assert run.data.params["settings.dim"] == "256"


def interrupt(*_args: object, **_more: object) -> None:
    raise KeyboardInterrupt


def test_a_trial_that_has_just_begun_is_known_by_all_that_it_is_to_be(store: str) -> None:
    spec = spec_of()
    first = Tracker(store)
    first.begin(spec)
    assert [run.spec for run in ResultStore(first.uri).runs()] == [spec], "without a plan by its tags"
    first.open_campaign("main", [spec])
    (begun,) = ResultStore(first.uri).runs()
    first.close_campaign(State.INTERRUPTED)
    (ended,) = ResultStore(first.uri).runs()
    assert (begun.state, ended.state) == (State.RUNNING, State.INTERRUPTED) and begun.spec == ended.spec == spec


def test_more_epochs_than_the_store_takes_at_a_time_arrive(store: str, tmp_path: Path) -> None:
    spec = spec_of()
    folder = folder_of(tmp_path, result_of(spec))
    write_epochs(folder, reports_of(spec, 400))
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec])
    tracker.result(result_of(spec), folder)
    assert len(history(store, runs(store)[0], "val/rsum")) == 400
    assert runs(store)[0].data.tags["harness.state"] == "done"


def test_beginning_a_trial_asks_the_store_once_for_what_was_left_open(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [spec_of(seed=seed) for seed in range(4)]
    tracker = Tracker(store)
    tracker.open_campaign("main", specs)
    searches, search = [], MlflowClient.search_runs
    monkeypatch.setattr(
        MlflowClient, "search_runs", lambda *args, **more: searches.append(args) or search(*args, **more)
    )
    for spec in specs:
        tracker.begin(spec)
    assert len(searches) == 1


def test_the_latest_finished_run_of_a_key_stands_for_it(store: str, tmp_path: Path) -> None:
    spec = spec_of()
    for seconds in (40.0, 50.0):  # the second one by --force
        result = result_of(spec, cost={"seconds": seconds})
        tracker = Tracker(store)
        tracker.open_campaign("main", [spec])
        tracker.result(result, folder_of(tmp_path, result))
    tracker.begin(spec)  # and a third one is under way
    (run,) = ResultStore(tracker.uri).runs()
    assert len(runs(store)) == 3
    assert run.numbers["seconds"] == 50.0 and run.state is State.DONE


def test_a_failed_trial_says_why_and_its_retry_is_a_run_of_its_own(store: str, tmp_path: Path) -> None:
    spec = spec_of()
    message = "out of memory\nlower training.batch_size"
    failed = result_of(spec, state=State.FAILED, failure=Failure.OOM, message=message, measures={})
    folder = folder_of(tmp_path, failed)
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec])
    tracker.result(failed, folder)
    (lost,) = ResultStore(tracker.uri).runs()
    assert (lost.state, lost.failure) == (State.FAILED, "oom")
    assert lost.message == "out of memory lower training.batch_size"
    (run,) = runs(store)
    assert run.info.status == "FAILED"
    assert "traceback.txt" in {file.path for file in MlflowClient(tracking_uri=store).list_artifacts(run.info.run_id)}

    tracker.result(result_of(spec), folder_of(tmp_path, result_of(spec)))
    assert {run.info.status for run in runs(store)} == {"FAILED", "FINISHED"}
    assert [run.state for run in ResultStore(tracker.uri).runs()] == [State.DONE]


def test_a_folder_whose_result_is_new_is_not_logged_yet(store: str, tmp_path: Path) -> None:
    spec = spec_of()
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec])
    assert not is_logged(tmp_path / "nowhere", store)
    folder = folder_of(tmp_path, result_of(spec))
    assert not is_logged(folder, store)
    tracker.result(result_of(spec), folder)
    assert is_logged(folder, store)
    folder_of(tmp_path, result_of(spec, rsum=271.0))
    assert not is_logged(folder, store)


def test_trials_that_never_began_are_expected_until_they_are_planned_otherwise(store: str) -> None:
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec_of("caan", seed) for seed in (0, 1, 2)] + [spec_of("vsepp", 7)])
    tracker.begin(spec_of("caan", 1))
    tracker.open_campaign("main", [spec_of("caan", 0)])
    found = [(run.spec.method, run.spec.seed, run.state) for run in ResultStore(tracker.uri).runs()]
    assert found == [("caan", 0, "waiting"), ("caan", 1, "running"), ("vsepp", 7, "waiting")]


def test_an_empty_store_has_no_runs(store: str) -> None:
    assert ResultStore(store).runs() == []


def test_every_page_of_a_long_store_is_read(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.tracking.connection.PAGE", 2)
    tracker = Tracker(store)
    for seed in range(5):
        tracker.begin(spec_of(seed=seed))
    assert [run.spec.seed for run in ResultStore(tracker.uri).runs()] == [0, 1, 2, 3, 4]


def test_numbers_that_are_not_finite_are_left_out_and_named(store: str, tmp_path: Path) -> None:
    result = result_of(spec_of(), cost={"seconds": math.inf, "parameters": 5.0})
    tracker = Tracker(store)
    tracker.open_campaign("main", [result.spec])
    tracker.result(result, folder_of(tmp_path, result))
    (run,) = runs(store)
    assert "cost/seconds" not in run.data.metrics
    assert run.data.tags["harness.nonfinite"] == "seconds"
    assert run.data.metrics["cost/parameters"] == 5.0
    (stored,) = ResultStore(tracker.uri).runs()
    assert stored.result == result and "seconds" not in stored.numbers


def test_a_setting_too_long_for_the_store_points_to_its_artifact_instead_of_being_cut() -> None:
    flat = described(spec_of(settings={"text": "x" * 7000, "short": "y"}))
    assert flat["settings.text"] == "<7000 characters, see spec.json>"
    assert flat["settings.short"] == "y"


def test_the_store_is_in_wal_mode_and_silent_on_stdout(
    store: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec_of()])
    tracker.result(result_of(spec_of()), folder_of(tmp_path, result_of(spec_of())))
    tracker.close_campaign(State.DONE)
    with closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert capfd.readouterr().out == ""


def test_a_store_that_was_moved_has_its_artifacts_beside_it(store: str, tmp_path: Path) -> None:
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec_of()])
    tracker.result(result_of(spec_of()), folder_of(tmp_path, result_of(spec_of())))
    shutil.copytree(tmp_path / "runs", tmp_path / "moved")
    shutil.rmtree(tmp_path / "runs" / "artifacts")
    moved = Tracker(f"sqlite:///{tmp_path / 'moved' / 'mlflow.db'}")
    moved.open_campaign("main", [spec_of()])
    moved.result(result_of(spec_of(seed=1)), folder_of(tmp_path, result_of(spec_of(seed=1))))
    reader = ResultStore(moved.uri)
    assert all(reader.artifact(run.run_id, "ranks.npz") for run in reader.runs())
    assert len([*(tmp_path / "moved" / "artifacts").iterdir()]) == 2
    assert not (tmp_path / "runs" / "artifacts").exists()


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////proc/nowhere/mlflow.db",
        "sqlite:////etc/passwd",
        "file:///tmp/nowhere",
        "./mlruns",
        "nothing://nowhere",
    ],
)
def test_a_store_that_cannot_be_used_is_one_store_error(uri: str) -> None:
    with pytest.raises(StoreError, match="cannot be used") as caught:
        Tracker(uri).open_campaign("main", [])
    assert caught.value.exit_code == 6


def test_a_store_that_becomes_unwritable_is_a_store_error(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec_of()])
    tracker.begin(spec_of())
    with closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as connection:
        connection.execute("DROP TABLE metrics")
    with pytest.raises(StoreError, match="no such table"):
        tracker.epoch(reports_of(spec_of())[0])
        tracker.close_campaign(State.DONE)


@pytest.mark.slow
@pytest.mark.timeout(60)  # MLflow itself would try for minutes
def test_a_server_that_is_not_there_is_noticed_and_its_password_is_not_shown() -> None:
    with pytest.raises(StoreError) as caught:
        Tracker("http://me:secret@127.0.0.1:9").open_campaign("main", [])
    assert "secret" not in str(caught.value)
    assert without_password("http://me:secret@host:5000/x") == "http://host:5000/x"


def test_the_default_store_lies_in_the_results_folder_and_a_sqlite_path_is_absolute(tmp_path: Path) -> None:
    assert default_uri(Config(root=tmp_path)) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    relative = Config.model_validate({"root": tmp_path, "tracking": {"uri": "sqlite:///deep/store.db"}})
    assert default_uri(relative) == f"sqlite:///{tmp_path}/deep/store.db"
    server = Config.model_validate({"root": tmp_path, "tracking": {"uri": "http://tracking:5000"}})
    assert default_uri(server) == "http://tracking:5000"


def test_asking_whether_a_result_is_logged_imports_neither_mlflow_nor_pandas() -> None:
    script = (
        "import sys, harness.tracking.tracker; sys.exit(bool({'mlflow', 'pandas', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)


@given(st.one_of(scalars, st.lists(scalars, max_size=3)))
@example(str(2**63))  # a text that is no number to TOML, as it is too large for one
def test_a_value_written_for_an_override_is_read_back_the_same(value: object) -> None:
    found = parse_override(f"key={override_value(value)}")[1]
    assert found == value
    assert type(found) is type(value)
    assert len(override_value(value).splitlines()) <= 1


def test_every_training_value_is_read_back_from_its_parameter() -> None:
    training = Training(lr=1e-5, drop_after=(3, 7), schedule="cosine")
    flat = described(spec_of(training=training))
    table = dict(parse_override(f"{name}={text}") for name, text in flat.items() if name.startswith("training."))
    assert Training.model_validate({name.removeprefix("training."): value for name, value in table.items()}) == training


@pytest.mark.soak
def test_a_real_server_takes_and_shows_the_same_runs(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        tracker = when_up(uri)
        result = result_of(spec_of())
        folder = folder_of(tmp_path, result)
        tracker.open_campaign("main", [result.spec, spec_of(seed=1)])
        tracker.result(result, folder)
        tracker.close_campaign(State.DONE)
        done, waiting = ResultStore(tracker.uri).runs()
        assert (done.result, waiting.state) == (result, State.WAITING)
        assert is_logged(folder, uri)
        (run,) = runs(uri)
        spec = MlflowClient(tracking_uri=uri).download_artifacts(run.info.run_id, "spec.json", str(tmp_path))
        assert json.loads(Path(spec).read_text()) == result.spec.model_dump(mode="json")
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def when_up(uri: str) -> Tracker:
    for _ in range(30):
        try:
            tracker = Tracker(uri)
            tracker.open_campaign("main", [])
            return tracker
        except StoreError:
            time.sleep(1)
    raise AssertionError("the server did not start")
