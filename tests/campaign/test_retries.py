"""What becomes of failed attempts: which are repeated, after how long, and when a campaign stops."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_trials import counting, toy_assignment

from harness.campaign.attempts import Retries
from harness.config.sections import Failures, Resources
from harness.executors.executor import Executor, InProcess, lost
from harness.executors.ray_cluster import RayExecutor
from harness.trial.folder import attempts, read_result
from harness.trial.results import Assignment, EpochReport, Failure, State, TrialResult

QUICK = Failures(attempts=3, wait_seconds=0.01)


def failed(assignment: Assignment, failure: Failure) -> TrialResult:
    return lost(assignment, failure, "so it is")


def handed(repeated: Retries) -> Iterator[Assignment]:
    """What is handed out, without the moments in which there is nothing."""
    for assignment in repeated:
        if assignment is not None:
            yield assignment
        else:
            time.sleep(0.001)


@pytest.mark.parametrize("failure", list(Failure))
def test_what_the_machine_did_is_tried_again_and_what_the_trial_did_is_not(tmp_path: Path, failure: Failure) -> None:
    said: list[str] = []
    trial = toy_assignment(tmp_path)
    repeated = Retries([trial], QUICK, said.append)
    ends = [repeated.ended(failed(assignment, failure)) for assignment in handed(repeated)]
    lost_ones = {Failure.KILLED, Failure.NODE_LOST, Failure.OOM_HOST}
    assert ends == ([False, False, True] if failure in lost_ones else [True])
    assert attempts(trial.folder) == len(ends)
    assert len(said) == len(ends) - 1 and all(failure.value in line for line in said)
    last = read_result(trial.folder)
    assert last is not None and last.attempts == len(ends), "attempts are counted in the result"


def test_another_attempt_waits_and_each_further_one_twice_as_long(tmp_path: Path) -> None:
    repeated = Retries([toy_assignment(tmp_path)], Failures(attempts=3, wait_seconds=0.2), lambda _line: None)
    starts = []
    for assignment in handed(repeated):
        starts.append(time.monotonic())
        assert read_result(assignment.folder) is None, "the result of the attempt before is gone"
        repeated.ended(failed(assignment, Failure.KILLED))
    first, second = starts[1] - starts[0], starts[2] - starts[1]
    assert first >= 0.2 and second >= 0.4


def test_while_one_waits_for_its_next_attempt_the_others_are_handed_out(tmp_path: Path) -> None:
    first, second = toy_assignment(tmp_path, 0), toy_assignment(tmp_path, 1)
    repeated = Retries([first, second], Failures(wait_seconds=60), lambda _line: None)
    taken = iter(repeated)
    assert next(taken) == first
    assert not repeated.ended(failed(first, Failure.NODE_LOST))
    assert next(taken) == second
    assert next(taken) is None, "there is nothing at the moment, and it is not the end"


@pytest.mark.slow
@pytest.mark.parametrize("ray", [False, True])
def test_a_trial_that_takes_longer_than_it_may_is_ended(tmp_path: Path, ray: bool, request) -> None:
    executor: Executor = InProcess(counting)
    if ray:
        request.getfixturevalue("local_ray")
        executor = RayExecutor(steps=counting)
    slow = toy_assignment(tmp_path, 0, epochs=200, pause=0.05, seconds=0.5)
    (result,) = executor.run([slow], lambda _report: True)
    assert (result.state, result.failure) == (State.FAILED, Failure.TIMEOUT)
    assert 1 <= result.epochs < 200 and "failures.trial_seconds" in result.message


@pytest.mark.slow
def test_a_killed_process_costs_an_attempt_and_the_trial_ends_well(local_ray: None, tmp_path: Path) -> None:
    trial = toy_assignment(tmp_path, epochs=3, pause=0.1)
    repeated = Retries([trial], QUICK, lambda _line: None)

    def kill_once(report: EpochReport) -> bool:
        if report.epoch == 1 and not attempts(trial.folder):
            os.kill(int((trial.folder / "pid").read_text()), signal.SIGKILL)
        return True

    executor = RayExecutor(resources=Resources(max_concurrent=1), steps=counting)
    ends = [repeated.ended(result) for result in executor.run(repeated, kill_once)]
    assert ends == [False, True]
    result = read_result(trial.folder)
    assert result is not None and result.state is State.DONE
