"""Campaigns survive: what is killed, torn, full, changed or away, with real processes, Ray and servers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from dataset_files import write_precomp
from same_trials import assert_same, assert_same_campaign
from tiny_project import Call
from toy_trials import Neighbour, counting, toy_assignment

from harness.campaign.driver import execute
from harness.campaign.plan import Planned, plan
from harness.config.project import load
from harness.config.registry import discover
from harness.config.selection import Selection
from harness.executors.executor import InProcess
from harness.executors.ray_cluster import RayExecutor
from harness.terminal.output import Output
from harness.terminal.view import view_for
from harness.tracking.tracker import Tracker
from harness.trial.checkpoint import load_checkpoint
from harness.trial.folder import ATTEMPTS, CHECKPOINT, EPOCHS, RESULT, SPEC, read_result
from harness.trial.results import Assignment, EpochReport, Failure, State

pytestmark = pytest.mark.slow

Captured = pytest.CaptureFixture[str]
HARNESS = [sys.executable, "-c", "from harness.cli.main import main; main()"]
LONG = 120  # seconds in which even a busy machine gets anything done
QUICK = ("-s", "failures.wait_seconds=0.1")
TROUBLED = ("run", "--methods", "troubled", *QUICK)
CARD = """
name = "troubled"
title = "VSE++ that meets trouble"
class = "troubled:Troubled"
summary = "For tests."
scoring = "embedding"
fidelity = "baseline"
choices = []
[defaults]
dim = 8
word_dim = 8
margin = 0.2
trouble = "wait"
at = {at}
place = "{place}"
room = 0
"""
SPACE = """
[search]
trials = 3
sampler = "random"
pruner = "none"
[search.space.troubled]
margin = { type = "float", low = 0.05, high = 0.5 }
"""


@pytest.fixture
def place(project: Path) -> Path:
    """A project whose method meets trouble in the middle of its second epoch; the folder that calms it down."""
    place = project / "place"
    place.mkdir()
    (project / "cards" / "troubled.toml").write_text(CARD.format(place=place, at=12))
    shutil.copy(Path(__file__).parents[1] / "support" / "troubled.py", project / "cards")
    return place


def calm(place: Path) -> None:
    """No further trouble."""
    (place / "calm").touch()


def planned(*overrides: str, method: str = "troubled", seeds: Sequence[int] = (0,)) -> list[Planned]:
    """The trials of a method as the working folder's project plans them."""
    config = load(None, overrides)
    return list(plan(config, discover(config), Selection(methods=(method,), seeds=tuple(seeds))).trials)


def undisturbed(assignment: Assignment, folder: Path) -> Path:
    """The folder of the same trial, to which nothing happened."""
    whole = assignment.model_copy(update={"folder": folder / assignment.spec.key})
    calm(folder)
    (result,) = InProcess().run([whole], lambda _report: True)
    assert result.state is State.DONE
    return whole.folder


def attempts_of(folder: Path) -> list[str]:
    """The failure classes of a trial's failed attempts."""
    file = folder / ATTEMPTS
    return [json.loads(line)["failure"] for line in file.read_text().splitlines()] if file.is_file() else []


def until(condition: Callable[[], Any], seconds: float = LONG) -> Any:
    """Wait for something to be true; what it is."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return value


def waiting(place: Path, count: int = 1) -> list[int]:
    """The processes of trials in mid-epoch, once there are so many."""
    pids: list[int] = until(
        lambda: len(files := sorted(place.glob("*.waits"))) >= count and [int(f.stem) for f in files]
    )
    return pids


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something beside; what goes wrong in it is this test's failure."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(act)
        yield
        done.result(LONG)


@contextlib.contextmanager
def harness(*words: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A command line in a process of its own, which does not outlive the test."""
    outer = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | environment
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*HARNESS, *words], cwd=folder, env=outer, text=True, **pipes) as process:  # type: ignore
        try:
            yield process
        finally:
            process.kill()


# --- killed processes


@pytest.mark.soak
def test_a_trial_killed_in_mid_epoch_goes_on_from_its_checkpoint_and_ends_with_the_same_bits(
    place: Path, call: Call, capsys: Captured, local_ray: None
) -> None:
    def kill() -> None:
        os.kill(waiting(place)[0], signal.SIGKILL)
        calm(place)

    (trial,) = planned()
    with meanwhile(kill):
        assert call(*TROUBLED) == 0
    out = capsys.readouterr().out
    assert "attempt 2 of 3" in out and "starts after epoch 1" in out
    assert len(attempts_of(trial.folder)) == 1
    assert set(attempts_of(trial.folder)) <= {"killed", "node_lost"}, (
        "a busy machine may not learn of the death in time"
    )
    assert_same(trial.folder, undisturbed(trial.assignment, place))


@pytest.mark.soak
@pytest.mark.parametrize("here", [True, False], ids=["here", "ray"])
@pytest.mark.parametrize("verb", ["run", "search"])
def test_after_sigterm_the_same_command_ends_as_if_nothing_had_been(
    place: Path, project: Path, tmp_path_factory, monkeypatch, call: Call, verb: str, here: bool
) -> None:
    with (project / "harness.toml").open("a") as file:
        file.write(SPACE)
    whole = tmp_path_factory.mktemp("whole") / "project"
    shutil.copytree(project, whole)
    words = (verb, "--methods", "troubled", *["--here"] * here)
    with harness(*words, folder=project) as process:
        trials = waiting(place)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=LONG)
    assert process.returncode == 143, (out, err)
    assert "state saved; the same command continues" in err and "Traceback" not in err
    assert until(lambda: not any(map(psutil.pid_exists, trials)))
    assert not list(project.glob(f"runs/trials/*/{RESULT}"))
    calm(place)
    assert call(*words) == 0
    monkeypatch.chdir(whole)
    assert call(*words[:3], "--here") == 0
    assert_same_campaign(project, whole)


@pytest.mark.soak
def test_a_second_driver_is_told_who_holds_the_folder_and_a_killed_one_holds_nothing(
    place: Path, project: Path, call: Call, capsys: Captured
) -> None:
    with harness(*TROUBLED, "--here", "-s", "campaign.name=http://me:secret@host", folder=project) as first:
        waiting(place)
        for command in ("run", "search"):
            assert call(command, "--methods", "vsepp", "--here") == 2
            err = capsys.readouterr().err
            assert f"another harness is running in {project / 'runs'}: `harness run --methods troubled" in err
            assert f"process {first.pid} on {socket.gethostname()}" in err
            assert "secret" not in err
    calm(place)
    assert call(*TROUBLED, "--here") == 0


def test_waiting_for_a_place_takes_nothing_from_the_time_that_a_trial_has(local_ray: None, tmp_path: Path) -> None:
    import ray

    neighbour = ray.remote(num_cpus=2)(Neighbour).remote()
    ray.get(neighbour.arrive.remote())
    trial = toy_assignment(tmp_path, epochs=1, seconds=3.0)
    with meanwhile(lambda: (time.sleep(4), ray.kill(neighbour))):
        (result,) = RayExecutor(steps=counting).run([trial], lambda _report: True)
    assert (result.state, result.message) == (State.DONE, "")


# --- lost nodes


@contextlib.contextmanager
def ray_nodes(count: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a Ray of several nodes, and how to add one more."""
    command = [sys.executable, str(Path(__file__).parents[1] / "support" / "ray_nodes.py"), str(count)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process.stdout.readline().strip(), lambda: print("add", file=process.stdin, flush=True)
        finally:
            process.stdin.close()
            process.wait()


def lose_node_of(pid: int) -> None:
    """Switch a trial's node off: Ray's process of the node and everything that it started."""
    node = psutil.Process(pid).parent()
    assert node is not None and "raylet" in node.name()
    for process in [node, *node.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_lost_node_costs_its_trial_an_attempt_and_no_other_trial_anything(place: Path, project: Path) -> None:
    trials = planned(seeds=range(4))
    with (
        ray_nodes(3) as (address, _),
        harness(*TROUBLED, "--seeds", "0,1,2,3", folder=project, RAY_ADDRESS=address) as p,
    ):
        lose_node_of(waiting(place, 3)[0])
        calm(place)
        out, err = p.communicate(timeout=300)
    assert p.returncode == 0, (out, err)
    tried = [attempts_of(trial.folder) for trial in trials]
    assert sorted(map(len, tried)) == [0, 0, 0, 1], tried
    assert {failure for part in tried for failure in part} <= {"node_lost", "killed"}
    assert "starts after epoch 1" in out
    for trial in trials:
        assert_same(trial.folder, undisturbed(trial.assignment, place))


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_campaign_that_has_lost_every_node_goes_on_when_one_comes_back(place: Path, project: Path) -> None:
    trials = planned(seeds=range(3))
    with (
        ray_nodes(1) as (address, add_node),
        harness(*TROUBLED, "--seeds", "0,1,2", folder=project, RAY_ADDRESS=address) as p,
    ):
        lose_node_of(waiting(place)[0])
        calm(place)
        until(lambda: any(attempts_of(trial.folder) for trial in trials))
        time.sleep(20)  # Ray has long taken the node off its list
        add_node()
        out, err = p.communicate(timeout=300)
    assert p.returncode == 0, (out, err)
    assert max(len(attempts_of(trial.folder)) for trial in trials) == 1, "the next one, too, may meet the dead node"
    assert_same(trials[0].folder, undisturbed(trials[0].assignment, place))


# --- torn files and full disks


def begun(trial: Planned) -> Path:
    """A trial whose process ended after its first epoch; its folder."""

    def stop(report: EpochReport) -> bool:
        if report.epoch == 1:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        list(InProcess().run([trial.assignment], stop))
    return trial.folder


def tear(file: Path) -> None:
    """Only its first half reached the disk."""
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


@pytest.mark.soak
@pytest.mark.parametrize("here", [True, False], ids=["here", "ray"])
def test_torn_files_are_noticed_and_made_again_and_never_trusted(
    place: Path, call: Call, capsys: Captured, caplog: pytest.LogCaptureFixture, request, here: bool
) -> None:
    if not here:
        request.getfixturevalue("local_ray")
    calm(place)
    trials = planned(seeds=range(4))
    (done,) = InProcess().run([trials[0].assignment], lambda _report: True)
    assert done.state is State.DONE
    tear(trials[0].folder / RESULT)
    torn = dict(zip((SPEC, EPOCHS, CHECKPOINT), trials[1:], strict=True))
    for name, trial in torn.items():
        tear(begun(trial) / name)
    assert call(*TROUBLED, "--seeds", "0,1,2,3", *["--here"] * here) == 0
    out = capsys.readouterr().out
    assert f"{trials[0].folder / RESULT} is damaged" in caplog.text, "which nothing else handles: it goes to stderr"
    assert "troubled/tiny/s0  starts after epoch 2" in out, "its checkpoint is whole"
    assert "troubled/tiny/s1  starts after epoch 1" in out, "the plan holds the spec"
    for seed, name in ((2, EPOCHS), (3, CHECKPOINT)):
        assert f"warning: troubled/tiny/s{seed}: {name} is damaged" in out, out
        assert f"troubled/tiny/s{seed}  starts\n" in out
    for trial in trials:
        assert json.loads((trial.folder / SPEC).read_text()) == trial.spec.model_dump(mode="json")
        assert_same(trial.folder, undisturbed(trial.assignment, place))


@pytest.mark.soak
def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint_leaves_the_one_before_and_the_next_run_goes_on(
    place: Path, call: Call, capsys: Captured, local_ray: None
) -> None:
    full = ("-s", "settings.troubled.trouble=full", "-s", "settings.troubled.room=9000")
    (trial,) = planned(*full[1::2])
    assert call(*TROUBLED, *full) == 4
    out = capsys.readouterr().out
    assert "File too large" in out and "make room and run with --retry bug" in out
    state = load_checkpoint(trial.folder / CHECKPOINT, torch.device("cpu"))
    assert state and state["trainer"]["epoch"] == 1
    assert (trial.folder / CHECKPOINT).stat().st_size > 9000
    assert not list(trial.folder.glob(".*.part"))
    calm(place)
    assert call(*TROUBLED, *full) == 4, "it is not run again unasked"
    assert call(*TROUBLED, *full, "--retry", "failed") == 0
    assert "starts after epoch 1" in capsys.readouterr().out
    assert_same(trial.folder, undisturbed(trial.assignment, place))


@pytest.mark.soak
def test_a_disk_on_which_not_even_the_end_of_a_trial_can_be_written_is_told_in_a_line(
    place: Path, project: Path
) -> None:
    full = ("-s", "settings.troubled.trouble=full", "-s", "settings.troubled.room=0")
    with harness(*TROUBLED, "--here", *full, folder=project) as process:
        out, err = process.communicate(timeout=LONG)
    assert process.returncode == 6, (out, err)
    assert "cannot be written" in err and "Traceback" not in err


# --- every failure class


@pytest.mark.parametrize("here", [True, pytest.param(False, marks=pytest.mark.soak)], ids=["here", "ray"])
def test_every_failure_is_told_by_its_class_and_only_what_the_machine_did_is_tried_again(
    place: Path, project: Path, call: Call, capsys: Captured, request, here: bool
) -> None:
    expected = {"oom": 1, "oom_host": 2, "nonfinite": 1, "bug": 1}
    if not here:
        request.getfixturevalue("local_ray")
        expected |= {"killed": 2}
    for trouble in expected:
        card = CARD.format(place=place, at=12).replace('"troubled"', f'"its_{trouble}"')
        (project / "cards" / f"{trouble}.toml").write_text(card.replace('"wait"', f'"{trouble}"'))
    limits = ("-s", "failures.attempts=2", "-s", "training.epochs=3")  # the last for trouble in the second attempt, too
    assert call("run", "--methods", "its_*,chance", *QUICK, *limits, "--json", *["--here"] * here) == 4
    trials = {trial["method"]: trial for trial in json.loads(capsys.readouterr().out)["trials"]}
    assert trials.pop("chance")["state"] == "done"
    by_trouble = {name.removeprefix("its_"): trial for name, trial in trials.items()}
    classes = {name: trial["failure"] for name, trial in by_trouble.items()}
    if not here:
        assert classes.pop("killed") in ("killed", "node_lost"), "a busy machine may not learn of the death in time"
    assert classes == {name: name for name in classes}
    assert {name: len(attempts_of(Path(trial["folder"]))) for name, trial in by_trouble.items()} == expected
    assert all(trial["message"] for trial in by_trouble.values())


def test_a_trial_that_takes_too_long_fails_as_timeout_and_goes_on_when_asked(
    project: Path, call: Call, capsys: Captured
) -> None:
    (trial,) = planned(method="vsepp")

    def run(*words: str) -> int:
        return call("run", "--here", "--methods", "vsepp", *words)

    assert run("--trial-seconds", "0.001") == 4
    assert "failed (timeout)" in capsys.readouterr().out
    assert run() == 4
    assert run("--retry", "timeout") == 0
    assert_same(trial.folder, undisturbed(trial.assignment, project))


@pytest.mark.soak
def test_a_node_without_memory_ends_its_trial_as_oom_host(place: Path, project: Path) -> None:
    """Ray's monitor is told that the memory is full as soon as a thousandth of it is used."""
    (trial,) = planned()
    monitor = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}
    with harness(*TROUBLED, "-s", "failures.attempts=2", folder=project, **monitor) as process:
        out, err = process.communicate(timeout=LONG)
    assert process.returncode == 4, (out, err)
    assert "failed (oom_host, attempt 2)" in out and "max_concurrent" in out
    assert attempts_of(trial.folder) == ["oom_host", "oom_host"]


@pytest.fixture
def filed(project: Path) -> Path:
    """A dataset of files in the field's layout; its folder."""
    folder = project / "data" / "filed_precomp"
    folder.mkdir(parents=True)
    for name, images in (("train", 8), ("dev", 4)):
        regions = np.random.default_rng(images).random((images, 3, 4), dtype=np.float32)
        write_precomp(folder, name, regions, "\n".join(f"caption {number} of {name}" for number in range(images * 5)))
    (project / "cards" / "filed").mkdir()
    (project / "cards" / "filed" / "card.toml").write_text(FILED)
    return folder


FILED = """
name = "filed"
title = "A dataset of files"
summary = "For tests."
layout = "precomp"
folder = "filed_precomp"
licence = "generated"
origin = "generated"
feature_width = 4
max_regions = 3
[splits]
train = { images = 8, captions = 40 }
val = { images = 4, captions = 20 }
[text]
min_count = 1
vocabulary_splits = ["train"]
[options]
captions_each = 5
val = "dev"
[[protocols]]
name = "all"
split = "val"
images = 4
captions = 20
"""


def test_data_that_changes_between_plan_and_trial_fails_it_and_the_next_plan_takes_the_new_data(
    filed: Path, call: Call, capsys: Captured
) -> None:
    config = load(None, ['campaign.datasets=["filed"]'])
    campaign = plan(config, discover(config))
    features = np.load(filed / "train_ims.npy", allow_pickle=False)
    np.save(filed / "train_ims.npy", features + 1)
    outcome = execute(campaign, InProcess(), Tracker(campaign.uri), view_for(Output(quiet=True)), config.failures)
    (result,) = outcome.results
    assert (outcome.exit_code, result.failure) == (4, Failure.DATA)
    assert "changed since the trial was planned" in result.message
    capsys.readouterr()
    assert call("run", "--here", "--datasets", "filed") == 0
    assert "✓ vsepp/filed/s0" in capsys.readouterr().out


# --- a tracking server that goes away


class Server:
    """An MLflow server that can be stopped and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = str(probe.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self._port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Started, and answering."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", self._port]
        store = f"sqlite:///{self._folder / 'server.db'}"
        command += ["--workers", "1", "--backend-store-uri", store]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, cwd=self._folder, env=environment, start_new_session=True, **quiet)
        until(self._answers)

    def stop(self) -> None:
        """Gone at once, as a crash would take it."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, migrated_store: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(migrated_store, folder / "server.db")
    server = Server(folder)
    server.start()
    yield server
    server.stop()


@pytest.mark.soak
@pytest.mark.parametrize("back", [True, False], ids=["back in time", "back for the next run"])
def test_a_tracking_server_that_goes_away_stops_no_trial_and_has_every_result_once_in_the_end(
    place: Path, server: Server, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    def go_away() -> None:
        (pid,) = waiting(place)
        server.stop()
        if back:
            (place / f"{pid}.waits").unlink()
            until((trials[0].folder / RESULT).is_file)
            waiting(place)
            server.start()
        calm(place)

    monkeypatch.setattr("harness.tracking.log.AWAY_SECONDS", 0.5)
    trials = planned(seeds=range(3))
    words = (*TROUBLED, "--here", "--seeds", "0,1,2", "-s", f"tracking.uri={server.uri}")
    with meanwhile(go_away):
        assert call(*words) == (0 if back else 6)
    out = capsys.readouterr().out
    warnings = out.count("warning: the tracking store")
    assert warnings == 1 or (back and warnings == 0), "MLflow repeats a request for seconds: it may come through"
    ended = [(trial.folder / RESULT).read_bytes() for trial in trials]
    if not back:
        server.start()
        assert call(*words) == 0
        assert "0 trials to run, 3 done, 3 to be logged" in capsys.readouterr().out
    assert [(trial.folder / RESULT).read_bytes() for trial in trials] == ended
    assert_logged_once(server.uri, trials)


def assert_logged_once(uri: str, trials: Sequence[Planned]) -> None:
    """The store has one run a trial, with its end and all its epochs."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("harness")
    runs = client.search_runs([experiment.experiment_id], "tags.`harness.kind` = 'trial'")
    assert sorted(run.data.tags["harness.key"] for run in runs) == sorted(trial.spec.key for trial in trials)
    for run in runs:
        result = read_result(next(t.folder for t in trials if t.spec.key == run.data.tags["harness.key"]))
        assert result and run.info.status == "FINISHED"
        assert run.data.metrics["test/rsum"] == result.measures["rsum"]
        assert sorted(entry.step for entry in client.get_metric_history(run.info.run_id, "epoch")) == [1, 2]
