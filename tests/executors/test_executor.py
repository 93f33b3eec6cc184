"""Trials in this process: order, answers, interruption."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from toy_trials import counting, toy_assignment

from harness.errors import ResourceError
from harness.executors.executor import InProcess
from harness.trial.folder import read_epochs, read_result
from harness.trial.results import Assignment, EpochReport, Failure, State, TrialResult


def go_on(_report: EpochReport) -> bool:
    return True


def test_results_come_in_the_order_of_the_assignments(tmp_path: Path) -> None:
    assignments = [toy_assignment(tmp_path, seed) for seed in (3, 1, 2)]
    results = list(InProcess(counting).run(assignments, go_on))
    assert [result.spec.seed for result in results] == [3, 1, 2]
    assert {result.state for result in results} == {State.DONE}


def test_every_report_is_answered_once_and_in_order(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def answer(report: EpochReport) -> bool:
        seen.append((report.phase, report.epoch))
        return True

    list(InProcess(counting).run([toy_assignment(tmp_path, epochs=3)], answer))
    assert seen == [("start", 0), ("train", 1), ("train", 2), ("train", 3)]


def test_a_trial_that_is_told_to_stop_stops_and_its_result_says_so(tmp_path: Path) -> None:
    assignment = toy_assignment(tmp_path, epochs=5)
    (result,) = InProcess(counting).run([assignment], lambda report: report.epoch < 2)
    assert (result.state, result.epochs) == (State.PRUNED, 2)
    assert read_result(assignment.folder) == result


def test_an_assignment_is_taken_when_the_one_before_has_ended(tmp_path: Path) -> None:
    taken: list[int] = []

    def assignments() -> Iterator[Assignment]:
        for seed in range(3):
            taken.append(seed)
            yield toy_assignment(tmp_path, seed)

    results = InProcess(counting).run(assignments(), go_on)
    next(results)
    assert taken == [0]
    next(results)
    assert taken == [0, 1]


def test_an_interruption_goes_on_to_the_caller_and_keeps_the_finished_epochs(tmp_path: Path) -> None:
    def interrupted(report: EpochReport) -> bool:
        if report.epoch == 2:
            raise KeyboardInterrupt
        return True

    assignment = toy_assignment(tmp_path, epochs=5)
    with pytest.raises(KeyboardInterrupt):
        list(InProcess(counting).run([assignment], interrupted))
    assert [report.epoch for report in read_epochs(assignment.folder)] == [1, 2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_this_process_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cuda"):
        InProcess(counting).check([toy_assignment(tmp_path, device="cuda")])


def test_a_method_whose_code_calls_exit_fails_its_trial_alone(tmp_path: Path) -> None:
    def leaving(assignment: Assignment) -> Generator[EpochReport, bool | None, TrialResult]:
        if assignment.spec.seed == 1:
            sys.exit(5)
        return counting(assignment)

    def stepped(assignment: Assignment) -> Generator[EpochReport, bool | None, TrialResult]:
        return (yield from leaving(assignment))

    first, second = InProcess(stepped).run([toy_assignment(tmp_path, seed) for seed in (1, 2)], go_on)
    assert (first.state, first.failure, second.state) == (State.FAILED, Failure.BUG, State.DONE)
    assert "SystemExit: 5" in first.message and read_result(toy_assignment(tmp_path, 1).folder) == first
