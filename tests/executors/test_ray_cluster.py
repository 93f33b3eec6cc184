"""Trials as Ray actors: where they go, what becomes of lost ones, what is refused before anything starts."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_trials import counting, toy_assignment

from harness import processors
from harness.config.sections import Cluster, Resources
from harness.errors import ResourceError
from harness.executors import placement
from harness.executors.placement import Node, Places, places, share
from harness.executors.ray_cluster import RayExecutor, cause
from harness.trial.folder import read_result
from harness.trial.results import Assignment, EpochReport, Failure, State, TrialResult

SMALL = Node("small", 2, 0)
BIG = Node("big", 8, 2)


def go_on(_report: EpochReport) -> bool:
    return True


def run(executor: RayExecutor, assignments: Sequence[Assignment]) -> dict[int, TrialResult]:
    return {result.spec.seed: result for result in executor.run(assignments, go_on)}


@pytest.fixture
def executor(local_ray: None) -> RayExecutor:
    return RayExecutor(steps=counting)


# --- on a running Ray


@pytest.mark.slow
def test_two_trials_run_side_by_side_each_in_a_process_of_its_own(executor: RayExecutor, tmp_path: Path) -> None:
    # longer than the second process takes to start on a machine that has much else to do
    results = run(executor, [toy_assignment(tmp_path, seed, epochs=1, pause=5.0) for seed in range(2)])
    first, second = results[0].cost, results[1].cost
    assert len({first["pid"], second["pid"], os.getpid()}) == 3
    assert max(first["started"], second["started"]) < min(first["ended"], second["ended"])


@pytest.mark.slow
def test_a_worker_whose_trial_ended_well_takes_the_next_and_after_a_failure_a_new_one_is_started(
    local_ray: None, tmp_path: Path
) -> None:
    crashing = toy_assignment(tmp_path, seed=2)
    spec = crashing.spec.model_copy(update={"method": "crashing"})
    trials = [toy_assignment(tmp_path, seed, epochs=1) for seed in range(4)]
    trials[2] = crashing.model_copy(update={"spec": spec, "folder": tmp_path / spec.key})
    results = run(RayExecutor(resources=Resources(max_concurrent=1), steps=counting), trials)
    pids = [results[seed].cost.get("pid") for seed in range(4)]
    assert pids[0] == pids[1] and results[2].state is State.FAILED
    assert pids[3] not in (None, pids[0])


@pytest.mark.slow
def test_free_workers_give_their_places_back_to_a_trial_that_asks_for_others(
    executor: RayExecutor, tmp_path: Path
) -> None:
    assignments = [toy_assignment(tmp_path, seed, epochs=1, cpus=cpus) for seed, cpus in enumerate((1, 1, 2, 1))]
    results = run(executor, assignments)
    assert {result.state for result in results.values()} == {State.DONE}


@pytest.mark.slow
def test_a_trial_that_wants_the_whole_machine_runs_alone(executor: RayExecutor, tmp_path: Path) -> None:
    results = run(executor, [toy_assignment(tmp_path, seed, epochs=1, pause=0.2, cpus=2) for seed in range(2)])
    first, second = sorted((result.cost for result in results.values()), key=lambda cost: cost["started"])
    assert first["ended"] <= second["started"]


@pytest.mark.slow
def test_no_more_trials_are_taken_than_may_run(local_ray: None, tmp_path: Path) -> None:
    taken: list[int] = []

    def assignments() -> Iterator[Assignment]:
        for seed in range(3):
            taken.append(seed)
            yield toy_assignment(tmp_path, seed, epochs=1)

    results = RayExecutor(resources=Resources(max_concurrent=1), steps=counting).run(assignments(), go_on)
    next(results)
    assert taken == [0]
    assert len(list(results)) == 2


def test_a_killed_process_fails_its_trial_and_no_other(
    executor: RayExecutor, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    victim, other = (toy_assignment(tmp_path, seed, epochs=3, pause=0.1) for seed in range(2))

    def kill_victim(report: EpochReport) -> bool:
        if (report.key, report.epoch) == (victim.spec.key, 1):
            os.kill(int((victim.folder / "pid").read_text()), signal.SIGKILL)
        return True

    results = {result.spec.seed: result for result in executor.run([victim, other], kill_victim)}
    assert results[0].state is State.FAILED
    assert results[0].failure in (Failure.KILLED, Failure.NODE_LOST), (
        "a busy machine may not learn of the death in time"
    )
    assert results[1].state is State.DONE
    assert results[0].epochs >= 1, "the epochs that it had finished are counted"
    assert read_result(victim.folder) == results[0], "the driver leaves the result that the trial could not write"
    time.sleep(0.3)
    assert capfd.readouterr().out == "", "Ray is silent on stdout, where --json speaks"


@pytest.mark.slow
def test_a_worker_that_fails_outside_of_the_trial_is_a_bug_of_its_trial_alone(
    executor: RayExecutor, tmp_path: Path
) -> None:
    fine = toy_assignment(tmp_path, seed=1)
    spec = fine.spec.model_copy(update={"method": "crashing", "seed": 0})
    results = run(executor, [fine.model_copy(update={"spec": spec, "folder": tmp_path / spec.key}), fine])
    assert (results[0].failure, results[1].state) == (Failure.BUG, State.DONE)
    assert "ZeroDivisionError: a mistake of the machine" in results[0].message


@pytest.mark.slow
def test_a_trial_that_is_told_to_stop_stops(executor: RayExecutor, tmp_path: Path) -> None:
    (result,) = executor.run([toy_assignment(tmp_path, epochs=5)], lambda report: report.epoch < 2)
    assert (result.state, result.epochs) == (State.PRUNED, 2)


@pytest.mark.slow
def test_an_interruption_ends_the_workers(executor: RayExecutor, tmp_path: Path) -> None:
    def interrupted(report: EpochReport) -> bool:
        if report.epoch == 1:
            raise KeyboardInterrupt
        return True

    trial = toy_assignment(tmp_path, epochs=50, pause=0.1)
    with pytest.raises(KeyboardInterrupt):
        list(executor.run([trial], interrupted))
    pid = int((trial.folder / "pid").read_text())
    assert ended_within(pid, seconds=5)


def ended_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_a_trial_without_a_gpu_is_told_so(executor: RayExecutor, tmp_path: Path) -> None:
    (result,) = run(executor, [toy_assignment(tmp_path, gpus=-1.0, device="auto")]).values()
    assert (result.environment["device"], result.cost["gpus"]) == ("cpu", 0.0)


# --- before anything starts


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"cpus": 3}, r"asks for 3 CPUs and 0 GPUs.*\(small\) has 2 CPUs and 0 GPUs"),
        ({"gpus": 1.0}, r"asks for 1 CPU and 1 GPU,.*2 CPUs and 0 GPUs"),
        ({"device": "cuda", "gpus": -1.0}, "asks for 1 CPU and 1 GPU,"),
        ({"device": "cuda:1", "gpus": 0.0}, "gpus_per_trial 0"),
        ({"gpus": 1.5}, "a share of one GPU or whole GPUs"),
    ],
)
def test_a_request_that_no_node_can_meet_is_refused(tmp_path: Path, request_: dict[str, object], words: str) -> None:
    executor = RayExecutor(machine=SMALL)
    with pytest.raises(ResourceError, match=words):
        executor.check([toy_assignment(tmp_path), toy_assignment(tmp_path, **request_)])
    assert not (tmp_path / "trials").exists()


@pytest.mark.timeout(60)  # Ray itself would try for minutes
def test_a_cluster_that_nobody_answers_for_is_refused(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    executor = RayExecutor(Cluster(address=address))
    with pytest.raises(ResourceError, match=rf"{address} \(from \[cluster\] address\) cannot be joined"):
        executor.check([toy_assignment(tmp_path)])


def test_the_plan_says_which_ray_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    resources = Resources(cpus_per_trial=0.5)
    local = RayExecutor(Cluster(), resources, machine=SMALL).description
    assert local == "local Ray: 2 CPUs and 0 GPUs, 4 trials at a time"
    one = RayExecutor(Cluster(), resources.model_copy(update={"max_concurrent": 1}), machine=SMALL).description
    assert one.endswith(", 1 trial at a time")
    left_to_cards = RayExecutor(Cluster(), Resources(), machine=SMALL).description
    assert left_to_cards == "local Ray: 2 CPUs and 0 GPUs, 2 trials at a time"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert RayExecutor(Cluster()).description == "Ray cluster at 10.0.0.1:6379 (from RAY_ADDRESS)"
    named = RayExecutor(Cluster(address="10.0.0.2:6379")).description
    assert named == "Ray cluster at 10.0.0.2:6379 (from [cluster] address)"


@pytest.mark.parametrize(
    ("gpus", "device", "nodes", "expected"),
    [
        (-1, "auto", [SMALL], (0, "cpu")),
        (-1, "auto", [SMALL, BIG], (1, "auto")),
        (-1, "cpu", [BIG], (0, "cpu")),
        (-1, "cuda:1", [BIG], (1, "cuda")),
        (0.25, "auto", [BIG], (0.25, "auto")),
        (0, "auto", [BIG], (0, "cpu")),
    ],
)
def test_a_trial_gets_one_gpu_where_there_is_one_unless_something_else_is_said(
    gpus: float, device: str, nodes: list[Node], expected: tuple[float, str]
) -> None:
    assert share(gpus, device, nodes) == expected


@given(st.integers(1, 64), st.integers(0, 8), st.integers(1, 40), st.integers(0, 30))
def test_places_are_what_fits_when_trials_are_put_one_by_one(cpus: int, gpus: int, cpu10: int, gpu10: int) -> None:
    """In tenths, so that the count of this oracle is exact."""
    share10 = gpu10 if gpu10 <= 10 else gpu10 // 10 * 10
    free_cpu, free_gpus, count = cpus * 10, [10] * gpus, 0
    while free_cpu >= cpu10:
        free_cpu -= cpu10
        if share10 > 10:
            whole = [index for index, free in enumerate(free_gpus) if free == 10][: share10 // 10]
            if len(whole) < share10 // 10:
                break
            for index in whole:
                free_gpus[index] = 0
        elif share10:
            fitting = [index for index, free in enumerate(free_gpus) if free >= share10]
            if not fitting:
                break
            free_gpus[fitting[0]] -= share10
        count += 1
    assert places(Places(cpu10 / 10, share10 / 10), Node("any", cpus, gpus)) == count


def test_a_decimal_fraction_loses_no_place_to_rounding() -> None:
    assert places(Places(0.56, 0), Node("any", 14, 0)) == 25


@pytest.mark.parametrize(("quota", "expected"), [("max 100000", 3), ("150000 100000", 2), ("900000 100000", 3)])
def test_a_container_gives_no_more_cpus_than_its_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(processors, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2})
    assert processors.cpus_here() == expected


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        *[
            (None, 2),
            ("1", 1),
            ("", 0),
            ("0,1,2", 2),
            ("7", 0),
            ("0,0", 1),
            ("-1", 0),
            ("0,-1,1", 1),
            ("NoDevFiles", 0),
        ],
        *[
            ("GPU-b", 1),
            ("GPU-", 0),
            ("GPU-c,0", 0),
            (" 1 , 0 ", 2),
            ("MIG-x", 1),
            ("NoDevFiles", 0),
            ("²", 0),
            ("0x1", 0),
        ],
    ],
)
def test_gpus_are_those_that_nvidia_smi_lists_and_cuda_may_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: int
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-a1)'\necho 'GPU 1: NVIDIA H200 (UUID: GPU-b2)'\n"
        "echo '  MIG 1g Device 0: (UUID: MIG-x/1)'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert placement.gpus_here.__wrapped__() == expected


def test_an_nvidia_smi_that_hangs_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(placement, "SMI_SECONDS", 0.2)
    with pytest.raises(ResourceError, match=r"nvidia-smi does not answer: .*; restart the machine or its driver"):
        placement.gpus_here.__wrapped__()


def test_what_ray_reports_becomes_a_failure_class() -> None:
    from ray import exceptions
    from ray.core.generated.common_pb2 import ActorDiedErrorContext

    gone = ActorDiedErrorContext(actor_id=b"0" * 16, error_message="The actor died because its node has died.")
    assert cause(exceptions.OutOfMemoryError("low memory"))[0] is Failure.OOM_HOST
    assert cause(exceptions.ActorDiedError(gone))[0] is Failure.NODE_LOST
    assert cause(exceptions.NodeDiedError("gone"))[0] is Failure.NODE_LOST
    assert cause(exceptions.ActorDiedError())[0] is Failure.KILLED
