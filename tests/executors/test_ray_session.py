"""What Ray begins is apart from where the command is given: import path, network, folders, processes, signals."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

import harness
from harness.config.sources import package_hash
from harness.executors import ray_session
from harness.executors.heartbeat import Heartbeat
from harness.interruption import signals_raise
from harness.trial.folder import read_result
from harness.trial.results import Failure

LONG = 120
SCRIPT = Path(sys.executable).with_name("harness")
LONG_RUN = ("run", "--methods", "vsepp", "-s", "training.epochs=3000")


@contextmanager
def command(*words: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`harness` as its user starts it, in a process group of its own."""
    outer = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | environment
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen([str(SCRIPT), *words], cwd=folder, env=outer, text=True, **pipes) as process:  # type: ignore
        try:
            yield process
        finally:
            process.kill()


def until_trained(project: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LONG
    while not list(project.glob("runs/trials/*/epochs.jsonl")) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.05)


def session_of(process: subprocess.Popen[str]) -> tuple[Path, list[psutil.Process]]:
    """The private folder of a command's Ray, and the processes that work in it."""
    everybody = psutil.Process(process.pid).children(recursive=True)
    rays = [child for child in everybody if "itm-ray-" in child.cwd()]
    return next(part for part in Path(rays[0].cwd()).parents if part.name.startswith("itm-ray-")), rays


def ended(processes: list[psutil.Process], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while any(is_alive(process) for process in processes):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


# --- the import path


@pytest.mark.slow
def test_nothing_of_the_working_folder_is_imported_by_workers(project: Path) -> None:
    poison = "raise SystemExit('poisoned: taken from the working folder')\n"
    (project / "harness").mkdir()
    for name in ("random.py", "email.py", "harness/__init__.py", "ray.py", "torch.py"):
        (project / name).write_text(poison)
    with command("run", "--methods", "vsepp,signalled", folder=project) as process:
        out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, (out, err)
    assert "poisoned" not in out + err and "✓ vsepp/tiny/s0" in out
    assert "✓ signalled/tiny/s0" in out, "a method of the working folder comes by the path of its card"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "niceness"), [({}, 3), pytest.param({"RAY_worker_niceness": "4"}, 7, marks=pytest.mark.soak)]
)
def test_trials_are_as_nice_as_the_command_unless_ray_is_told_otherwise(
    project: Path, more: dict[str, str], niceness: int
) -> None:
    with command(*LONG_RUN, folder=project, **more) as process:
        psutil.Process(process.pid).nice(3)  # before it starts anything
        until_trained(project, process)
        everybody = psutil.Process(process.pid).children(recursive=True)
        workers = [child.nice() for child in everybody if child.cmdline()[0].startswith("ray::Worker")]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LONG)
    assert workers and {*workers} == {niceness}


@contextmanager
def cluster(code: Path) -> Iterator[str]:
    """The address of a Ray of one node whose harness lies elsewhere."""
    support = str(Path(__file__).parents[1] / "support" / "ray_nodes.py")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = os.environ | {"PYTHONPATH": str(code)}
    with subprocess.Popen([sys.executable, support, "1"], text=True, env=environment, **pipes) as process:  # type: ignore
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait()


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the harness."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(Path(harness.__file__).parent, folder / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", ["a line", *(pytest.param(change, marks=pytest.mark.soak) for change in ("nothing", "everything"))]
)
def test_a_worker_with_another_harness_refuses_the_trial_wherever_that_lies(
    project: Path, elsewhere: Path, change: str
) -> None:
    if change == "a line":
        with (elsewhere / "harness" / "evaluation" / "ranks.py").open("a") as file:
            file.write("\n# another ranking\n")
    elif change == "everything":
        shutil.rmtree(elsewhere / "harness")
        (elsewhere / "harness").mkdir()
        (elsewhere / "harness" / "__init__.py").write_text("")
    with cluster(elsewhere) as address, command("run", "--methods", "vsepp", folder=project, RAY_ADDRESS=address) as p:
        out, err = p.communicate(timeout=LONG)
    if change == "nothing":
        assert p.returncode == 0, (out, err)
        return
    assert p.returncode == 4, (out, err)
    (folder,) = project.glob("runs/trials/*")
    result = read_result(folder)
    assert result and result.failure is Failure.DATA
    assert "install the same version" in result.message
    if change == "a line":
        assert str(elsewhere / "harness") in result.message and str(Path(harness.__file__).parent) in result.message


def test_the_hash_of_the_harness_knows_its_content_and_not_its_place(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = package_hash()
    monkeypatch.setattr("harness.config.sources.PACKAGE", elsewhere / "harness")
    assert package_hash() == here
    (elsewhere / "harness" / "files.py").rename(elsewhere / "harness" / "other.py")
    assert package_hash() != here


# --- the machine


def assert_private(process: subprocess.Popen[str], folder: Path) -> None:
    """A local Ray listens on loopback alone, and its folder is the user's."""
    assert folder.stat().st_mode & 0o777 == 0o700
    everybody = psutil.Process(process.pid).children(recursive=True)
    ports = [port for one in everybody for port in one.net_connections() if port.status == psutil.CONN_LISTEN]
    assert len(ports) > 4 and {port.laddr.ip.removeprefix("::ffff:") for port in ports} == {"127.0.0.1"}


@pytest.mark.slow
def test_an_interrupted_worker_without_the_results_folder_leaves_nothing_on_its_node(project: Path) -> None:
    temporary = project / "tmp"
    temporary.mkdir()
    words = (*LONG_RUN, "-s", "cluster.shared=false")
    with command(*words, folder=project, TMPDIR=str(temporary)) as process:
        until_trained(project, process)
        assert list(temporary.glob("itm-node-*"))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LONG)
    assert process.returncode == 130, (out, err)
    assert not list(temporary.glob("itm-node-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("SIGTERM", True),
        *(
            pytest.param(name, group, marks=pytest.mark.soak)
            for name, group in itertools.product(("SIGINT", "SIGTERM", "SIGHUP"), (False, True))
            if (name, group) != ("SIGTERM", True)
        ),
    ],
)
def test_signals_end_a_run_in_its_private_ray_alike_however_often_they_come(
    project: Path, name: str, group: bool
) -> None:
    number = signal.Signals[name]
    with command(*LONG_RUN, folder=project) as process:
        until_trained(project, process)
        folder, rays = session_of(process)
        assert_private(process, folder)
        for _ in range(3):
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(process.pid, number)
            time.sleep(0.2)
        out, err = process.communicate(timeout=LONG)
    assert process.returncode == 128 + number, (out, err)
    assert "state saved; the same command continues" in err and "Traceback" not in out + err
    assert not folder.exists() and ended(rays)
    assert statuses(project) == {"KILLED"}


def statuses(project: Path) -> set[str]:
    """The states of trials in the tracking store."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{project / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("harness")
    return {run.info.status for run in client.search_runs([experiment.experiment_id], "tags.`harness.kind` = 'trial'")}


def test_a_signal_while_ray_starts_is_heard_by_the_command_and_not_by_ray(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end, signals_raise(), ray_session.set_apart(tmp_path):
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(number))  # as ray.init does
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert end.value.code == 143


@pytest.mark.slow
def test_a_closed_terminal_ends_a_run_as_a_signal_does(project: Path) -> None:
    ours, theirs = os.openpty()
    outer = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    claim = "import fcntl,os,sys,termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-c", claim, str(SCRIPT), *LONG_RUN]
    pipes = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
    with subprocess.Popen(words, cwd=project, env=outer, **pipes) as process:  # type: ignore[call-overload]
        os.close(theirs)
        until_trained(project, process)
        folder, rays = session_of(process)
        os.close(ours)
        assert process.wait(timeout=LONG) == 129
    assert not folder.exists() and ended(rays) and statuses(project) == {"KILLED"}


@pytest.mark.slow
def test_what_a_killed_command_leaves_is_removed_by_the_next_one(project: Path) -> None:
    with command(*LONG_RUN, folder=project) as process:
        until_trained(project, process)
        folder, rays = session_of(process)
    assert process.returncode == -signal.SIGKILL and folder.exists()
    with command("run", "--methods", "chance", "--here", "-n", folder=project) as process:
        assert process.wait(timeout=LONG) == 0
    assert not folder.exists() and ended(rays, 1)


@pytest.mark.soak
@pytest.mark.parametrize("shared", ["true", "false"])
def test_a_long_temporary_folder_is_no_obstacle(project: Path, shared: str) -> None:
    long = project / ("t" * 100)
    long.mkdir()
    with command(
        "run", "--methods", "vsepp", "-s", f"cluster.shared={shared}", folder=project, TMPDIR=str(long)
    ) as process:
        out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, (out, err)


def test_where_no_folder_is_short_enough_for_sockets_nothing_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_session, "PLACES", (str(tmp_path / "absent"),))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ray_session.ResourceError, match=r"set TMPDIR to a folder of at most \d+ characters"):
        ray_session.socket_place()


@pytest.mark.slow
def test_a_machine_without_loopback_is_told_so(project: Path) -> None:
    apart = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespaces here")
    words = [*apart, str(SCRIPT), "run", "--methods", "vsepp"]
    done = subprocess.run(words, cwd=project, capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 2 and "has no loopback network" in done.stderr and "--here" in done.stderr


# --- the heartbeat


@pytest.mark.soak
def test_a_cluster_whose_head_is_gone_ends_the_command_and_the_same_one_goes_on(project: Path) -> None:
    with cluster(Path(harness.__file__).parents[1]) as address:
        with command(*LONG_RUN, folder=project, RAY_ADDRESS=address) as process:
            until_trained(project, process)
            port = int(address.rpartition(":")[2])
            (head,) = [one for one in psutil.process_iter() if one.name() == "gcs_server" and port in ports_of(one)]
            head.kill()
            began = time.monotonic()
            out, err = process.communicate(timeout=LONG)
        assert process.returncode == 2, (out, err)
        assert f"the Ray cluster at {address} (from RAY_ADDRESS) is gone" in err and "Traceback" not in out + err
        assert time.monotonic() - began < 120
    with command(*LONG_RUN, "-n", "--json", folder=project) as process:
        out, _ = process.communicate(timeout=LONG)
    assert [trial["state"] for trial in json.loads(out)["trials"]] == ["resume"]


def ports_of(process: psutil.Process) -> set[int]:
    return {port.laddr.port for port in process.net_connections() if port.status == psutil.CONN_LISTEN}


@pytest.mark.slow
def test_a_door_that_stays_shut_is_noticed_and_one_that_opens_again_in_time_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        patient = Heartbeat([server.getsockname()], 60)
        hasty = Heartbeat([server.getsockname()], 0)
        time.sleep(2.5)
        assert not hasty.lost
    end = time.monotonic() + 10
    while not hasty.lost and time.monotonic() < end:
        time.sleep(0.1)
    hasty.stop(), patient.stop()
    assert "nothing answers at 127.0.0.1" in hasty.lost and not patient.lost
