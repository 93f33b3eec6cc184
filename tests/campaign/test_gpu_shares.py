"""Shares of a GPU: measured once, given to the rest, taken back where they do not suffice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_trials import toy_assignment

from harness.campaign.attempts import HEADROOM, MOST, GpuShares, share_for
from harness.config.sections import CONTEXT_MB
from harness.trial.results import Assignment, Failure, State, TrialResult


def ended(trial: Assignment, peak: float, total: int = 80_000, failure: Failure | None = None) -> TrialResult:
    return TrialResult(
        spec=trial.spec,
        state=State.FAILED if failure else State.DONE,
        failure=failure,
        cost={"peak_memory_mb": peak},
        environment={"gpu_memory_mb": str(total) if total else ""},
    )


@given(st.floats(1, 200_000), st.floats(2_000, 200_000))
def test_as_many_trials_as_share_a_gpu_fit_its_memory(peak: float, total: float) -> None:
    share = share_for(peak, total)
    trials = round(1 / share)
    assert 1 <= trials <= MOST and share * trials <= 1.001
    assert trials == 1 or trials * (peak * HEADROOM + CONTEXT_MB) <= total
    assert trials == MOST or (trials + 1) * (peak * HEADROOM + CONTEXT_MB) > total, "and no further one would"


def test_the_first_trial_has_what_it_asks_for_and_the_others_the_share_that_it_needed(tmp_path: Path) -> None:
    said: list[str] = []
    shares = GpuShares(said.append)
    first, second = (toy_assignment(tmp_path, seed, gpus=-1.0) for seed in range(2))
    assert shares.with_share(first) == first
    assert not shares.is_forgiven(ended(first, peak=15_000))
    assert shares.with_share(second).gpus == 0.25
    assert said == [
        "toy/none: 15,000 of 80,000 MiB of its GPU held; its further trials get 0.25 of one (--gpus-per-trial says "
        "otherwise)"
    ]


@pytest.mark.parametrize("places", [{"gpus": 1.0}, {"gpus": 0.5}, {"gpus": 0.0}, {"gpus": -1.0, "device": "cpu"}])
def test_what_was_asked_for_is_left_alone(tmp_path: Path, places: dict[str, object]) -> None:
    shares = GpuShares(lambda _line: None)
    assert not shares.is_forgiven(ended(toy_assignment(tmp_path, gpus=-1.0), peak=100))
    assignment = toy_assignment(tmp_path, 1, **places)
    assert shares.with_share(assignment) == assignment


def test_without_a_gpu_nothing_is_learned(tmp_path: Path) -> None:
    shares = GpuShares(lambda _line: pytest.fail("there is nothing to say"))
    trial = toy_assignment(tmp_path, gpus=-1.0)
    assert not shares.is_forgiven(ended(trial, peak=100, total=0))
    assert shares.with_share(trial) == trial


def test_a_trial_that_does_not_fit_its_share_is_forgiven_once_and_its_method_gets_whole_gpus(tmp_path: Path) -> None:
    shares = GpuShares(lambda _line: None)
    first, second, third = (toy_assignment(tmp_path, seed, gpus=-1.0) for seed in range(3))
    shares.is_forgiven(ended(first, peak=100))
    assert shares.with_share(second).gpus < 1
    assert shares.is_forgiven(ended(second, peak=0, failure=Failure.OOM))
    assert shares.with_share(second) == second and shares.with_share(third) == third
    assert not shares.is_forgiven(ended(second, peak=0, failure=Failure.OOM)), "a whole GPU was its own affair"
