"""Whatever process of a run dies, and whenever: it ends by itself, the same command completes it, nothing is left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from same_trials import assert_same_campaign

from harness.tracking.result_store import ResultStore
from harness.trial.results import State

pytestmark = pytest.mark.slow

HARNESS = [sys.executable, "-c", "from harness.cli.main import main; main()"]
ENDS_WITHIN = 120  # seconds
QUICK = ("-s", "failures.wait_seconds=0.1", "-q")
RUN = ("run", "--methods", "vsepp", "--seeds", "0,1,2,3", "-s", "training.epochs=30", *QUICK)
SEARCH = ("search", "--methods", "vsepp", "-s", "training.epochs=30", *QUICK)
SPACE = """
[search]
trials = 4
sampler = "random"
pruner = "none"
[search.space.vsepp]
margin = { type = "float", low = 0.05, high = 0.5 }
"""
VICTIMS: dict[str, Callable[[psutil.Process], bool]] = {
    "driver": lambda process: False,  # the command itself
    "its child": lambda process: "python" in process.name() and "from harness.cli.main" in " ".join(process.cmdline()),
    "worker": lambda process: process.name().startswith(("ray::Worker", "ray::IDLE")),
    "raylet": lambda process: process.name() == "raylet",
    "gcs": lambda process: process.name() == "gcs_server",
    "agent": lambda process: process.name().startswith(("ray::Dashboard", "ray::RuntimeEnv")),
}


@contextmanager
def command(*words: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A command line in a process group of its own."""
    outer = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | environment
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen([*HARNESS, *words], cwd=folder, env=outer, text=True, **pipes) as process:  # type: ignore
        try:
            yield process
        finally:
            process.kill()


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def sessions(processes: list[psutil.Process]) -> set[Path]:
    """The private folders in which Ray's processes work."""
    folders = set()
    for process in processes:
        with suppress(psutil.Error):
            folders |= {part for part in Path(process.cwd()).parents if part.name.startswith("itm-ray-")}
    return folders


def victim(process: subprocess.Popen[str], name: str) -> psutil.Process | None:
    if name == "driver":
        return psutil.Process(process.pid)
    for candidate in descendants(process):
        with suppress(psutil.Error):
            if VICTIMS[name](candidate):
                return candidate
    return None


def kill(process: subprocess.Popen[str], name: str, moment: float) -> tuple[bool, set[Path]]:
    """Kill a process of a command's, once the moment has come and it is there; whether it was, and Ray's folders."""
    began, folders = time.monotonic(), set[Path]()
    while process.poll() is None:
        folders |= sessions(descendants(process))
        if time.monotonic() - began >= moment and (found := victim(process, name)):
            with suppress(psutil.NoSuchProcess):
                found.kill()
                return True, folders
        time.sleep(0.01)
    return False, folders


def assert_nothing_is_left(folders: set[Path]) -> None:
    assert not [folder for folder in folders if folder.exists()]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            assert not folders & {*Path(process.cwd()).parents}, f"{process} is left"


def undisturbed(project: Path, folder: Path, words: tuple[str, ...]) -> tuple[Path, float]:
    """A copy of a project in which the command was let alone, and how long that took."""
    whole = Path(shutil.copytree(project, folder))
    began = time.monotonic()
    with command(*words, folder=whole) as process:
        out, err = process.communicate(timeout=ENDS_WITHIN)
    assert process.returncode == 0, (out, err)
    return whole, time.monotonic() - began


def killed_once(project: Path, words: tuple[str, ...], name: str, moment: float) -> str:
    """Run a command, kill one of its processes, run it again; what happened in a line."""
    began = time.monotonic()
    with command(*words, folder=project) as process:
        hit, folders = kill(process, name, moment)
        out, err = process.communicate(timeout=ENDS_WITHIN)
    seconds, code = time.monotonic() - began - moment, process.returncode
    story = f"{name} at {moment:.1f} s: {'hit' if hit else 'missed'}, exit {code} after {seconds:.1f} s"
    assert code in ((-signal.SIGKILL,) if hit and name == "driver" else (0, 2)), (story, out, err)
    assert "Traceback" not in out + err, (story, out, err)
    with command(*words, folder=project) as process:
        out, err = process.communicate(timeout=ENDS_WITHIN)
    assert process.returncode == 0, (story, out, err)
    assert_nothing_is_left(folders)
    return story


def kills(project: Path, folder: Path, words: tuple[str, ...], seed: int, count: int) -> None:
    whole, length = undisturbed(project, folder / "whole", words)
    moments = random.Random(seed)
    for number in range(count):
        again = Path(shutil.copytree(project, folder / str(number)))
        story = killed_once(again, words, [*VICTIMS][number % len(VICTIMS)], moments.uniform(0, 0.8 * length))
        sys.stderr.write(f"{number}: {story}\n")
        assert_same_campaign(again, whole)
        runs = ResultStore(f"sqlite:///{again / 'runs' / 'mlflow.db'}").runs()
        assert len({run.key for run in runs}) == len(runs) == 4, story
        assert {run.state for run in runs} == {State.DONE}, story
        shutil.rmtree(again)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("moment", [2.2, 2.6, 3.0])
def test_a_worker_that_is_killed_while_ray_starts(project: Path, moment: float) -> None:
    killed_once(project, RUN, "worker", moment)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("words", [RUN, SEARCH], ids=["run", "search"])
def test_twenty_kills_of_any_process_end_as_if_nothing_had_been(
    project: Path, tmp_path_factory: pytest.TempPathFactory, words: tuple[str, ...]
) -> None:
    with (project / "harness.toml").open("a") as file:
        file.write(SPACE)
    kills(project, tmp_path_factory.mktemp("killed"), words, 15, 20)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", ["raylet", pytest.param("gcs", marks=pytest.mark.soak)])
def test_a_local_ray_that_has_ended_costs_its_trials_an_attempt_and_is_started_again(
    project: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    words = (*RUN[:3], "--seeds", "0,1", "-s", "training.epochs=100", "-s", "failures.wait_seconds=0.1")
    with command(*words, folder=project) as process:
        while not list(project.glob("runs/trials/*/epochs.jsonl")) and process.poll() is None:
            time.sleep(0.05)
        hit, folders = kill(process, name, 0)
        began = time.monotonic()
        out, err = process.communicate(timeout=ENDS_WITHIN)
    assert hit and process.returncode == 0, (out, err)
    assert "node_lost" in out and "attempt 2 of 3" in out and "Ray has ended on this machine" in out
    assert time.monotonic() - began < ENDS_WITHIN
    assert_nothing_is_left(folders)
