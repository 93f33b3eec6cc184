"""What a search hands out and what it counts: failures, retries, killed drivers, results of other campaigns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from driven_search import EPOCHS, NAME, configured, drive, failure_of, opened, plans_of, result_of, settle, trained
from tiny_project import Call

from harness.config.sections import Search, Tunable
from harness.errors import UsageError
from harness.executors.executor import overdue
from harness.search.status import StudyStatus, study_statuses
from harness.search.studies import Ended, StudyDesign
from harness.search.study_records import StudyRecord, front
from harness.terminal.search_page import budget_line, failure_lines, status_end, status_page
from harness.trial.folder import write_result
from harness.trial.results import Assignment, EpochReport, Failure, State, TrialResult

Captured = pytest.CaptureFixture[str]
RANDOM = 'sampler = "random"\npruner = "none"'
ONE = '[search.space.vsepp]\nmargin = { type = "categorical", choices = [0.2] }\n'
NARROW = '[search.space.vsepp]\nmargin = { type = "float", low = 0.1, high = 0.3 }\n'
ALL = frozenset(Failure)


def status(project: Path) -> StudyStatus:
    (one,) = study_statuses(configured()[0], NAME)
    return one


def end_of(one: StudyStatus) -> str:
    return status_end(NAME, [one], False, lambda *words: " ".join(words))


def half_failing(trial: Assignment) -> TrialResult:
    return failure_of(trial) if trial.spec.settings["margin"] == 0.1 else result_of(trial)


# Failed trials


def test_a_failed_setting_that_comes_again_is_not_run_again_and_counts(project: Path) -> None:
    settle(project, f"trials = 8\n{RANDOM}")
    work = opened()
    assert len(drive(work, half_failing)) == 2
    (search,) = work.searches
    failed = [trial for trial in search.study.ended() if trial.state == "failed"]
    assert len(failed) > 1 and search.spent.failed == len(failed) and search.spent.trials == 8
    assert [trial.notes.get("same_as") for trial in failed] == [None] + [failed[0].number] * (len(failed) - 1)
    assert len(search.failed()) == 1, "it is named once"
    again = opened()
    assert not drive(again, half_failing) and again.searches[0].spent == search.spent
    assert status(project).counts["failed"] == len(failed)


def test_a_failure_of_another_campaign_is_taken_over_unless_it_is_to_be_retried(project: Path) -> None:
    settle(project, f"trials = 4\n{RANDOM}", ONE)
    assert len(drive(opened(), failure_of)) == 1
    other = opened(name="other")
    assert not drive(other, result_of) and other.failed == other.searches[0].spent.trials == 4
    assert len(drive(opened(name="third", retry=frozenset({Failure.NONFINITE})), result_of)) == 1


def test_a_result_of_another_trial_in_its_folder_is_not_taken_over(project: Path) -> None:
    settle(project, f"trials = 4\n{RANDOM}", ONE)
    (first,) = drive(opened(), result_of, most=1)
    other = first.spec.model_copy(update={"seed": 7})
    write_result(first.folder, TrialResult(spec=other, state=State.DONE, measures={"rsum": 500.0}))
    again = opened(name="other")
    assert [trial.spec.key for trial in drive(again, result_of)] == [first.spec.key]
    assert {trial.objective for trial in again.searches[0].study.ended()} == {(100.0,)}


def test_a_lost_trial_of_another_campaign_is_run(project: Path) -> None:
    settle(project, f"trials = 4\n{RANDOM}", ONE)
    drive(opened(), lambda trial: failure_of(trial, Failure.KILLED))
    assert len(drive(opened(name="other"), result_of)) == 1


def test_failed_trials_that_are_retried_take_the_places_of_the_failed_ones(project: Path) -> None:
    settle(project, f"trials = 8\n{RANDOM}")
    drive(opened(), half_failing)
    failures = status(project).counts["failed"]
    assert failures > 1
    work = opened(retry=ALL)
    assert work.searches[0].spent.trials == 8 - failures
    assert len(drive(work, failure_of)) == 1, "settings that came again fail together once more"
    assert work.searches[0].spent.trials == 8 and work.searches[0].spent.failed == failures
    assert len(drive(opened(retry=ALL), result_of)) == 1
    counts = status(project).counts
    assert (counts["done"], counts["failed"], counts["waiting"]) == (8, 0, 0)
    assert not [*failure_lines([status(project)])]
    assert not drive(opened(), result_of)


def test_a_retry_that_is_interrupted_is_under_way_and_is_not_queued_again(project: Path) -> None:
    settle(project, f"trials = 4\n{RANDOM}", NARROW)
    names: list[str] = []

    def three_fail(trial: Assignment) -> TrialResult:
        names.append(trial.name)
        return failure_of(trial) if len(names) < 4 else result_of(trial)

    drive(opened(), three_fail)
    opened(retry=ALL)
    one = status(project)
    assert (one.counts["waiting"], one.counts["failed"], one.counts["done"]) == (3, 0, 1) and "resume" in end_of(one)
    assert len(drive(opened(retry=ALL), result_of, most=1)) == 1
    assert len(drive(opened(retry=ALL), result_of)) == 2
    assert "its trials have ended" in end_of(status(project))
    more = drive(opened("search.trials=6"), result_of)
    assert len(more) == 2, "none of the further trials is one that was queued twice"


def test_a_retry_that_was_queued_is_run_by_whoever_goes_on(project: Path) -> None:
    settle(project, f"trials = 2\n{RANDOM}", ONE)
    drive(opened(), failure_of)
    opened(retry=ALL)
    assert len(drive(opened(), result_of)) == 1
    assert status(project).counts["done"] == 2


def test_trials_that_an_earlier_harness_ran_again_take_the_places_of_the_failed_ones() -> None:
    notes: list[dict[str, Any]] = [{"key": "a"}, {"key": "a", "same_as": 0}, {"key": "b"}, {"key": "a"}, {}]
    states = ("failed", "failed", "failed", "complete", "failed")
    trials = [Ended(n, state, {}, (), one) for n, (state, one) in enumerate(zip(states, notes, strict=True))]
    assert [trial.number for trial in StudyRecord(NAME, {}, tuple(trials)).counted] == [2, 3]


# What trials cost


def test_failed_trials_use_up_the_seconds_of_a_search(project: Path) -> None:
    settle(project, f"trials = 6\nseconds = 15.0\n{RANDOM}", NARROW)

    def too_slow(trial: Assignment) -> TrialResult:
        trained(trial, seconds=10.0)
        return overdue(trial)

    work = opened()
    assert len(drive(work, too_slow)) == 2
    assert work.searches[0].spent.seconds == pytest.approx(20.0)


@pytest.mark.parametrize("bound", ["seconds = 15.0", "epochs = 3"])
def test_a_search_whose_bounds_are_used_up_has_ended(project: Path, bound: str) -> None:
    settle(project, f"trials = 6\n{bound}\n{RANDOM}", NARROW)
    assert len(drive(opened(), result_of)) == 2
    one = status(project)
    assert one.counts["waiting"] == 0 and "its trials have ended" in end_of(one)
    assert not opened().requests


def test_a_grid_has_no_more_trials_than_cells(project: Path) -> None:
    settle(project, 'trials = 40\nsampler = "grid"')
    plans = plans_of()
    assert "1 search, 2 trials each" in budget_line(Search(trials=40, sampler="grid"), plans)
    assert opened().total == 2 and len(drive(opened(), result_of)) == 2
    assert status(project).counts["waiting"] == 0 and "its trials have ended" in end_of(status(project))
    assert not opened().requests, "an executor would start for nothing"


@pytest.mark.slow
def test_the_dry_run_of_a_grid_promises_its_cells(project: Path, call: Call, capsys: Captured) -> None:
    settle(project, 'trials = 40\nsampler = "grid"')
    assert call("search", "-n", "--here") == 0
    assert "1 search, 2 trials each" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("points", "trials"),
    [((), 4), (({"margin": 0.2, "layers": 1},), 4), (({"margin": 0.3, "layers": 1},), 5), (({"margin": 0.2},), 5)],
)
def test_points_beside_a_grid_are_trials_of_their_own(points: Any, trials: int) -> None:
    space = {
        "margin": Tunable(type="categorical", choices=(0.1, 0.2)),
        "layers": Tunable(type="int", low=1, high=2),
    }
    assert StudyDesign(Search(sampler="grid"), space, 2, points).trials == trials
    assert StudyDesign(Search(sampler="grid", trials=3), space, 2, points).trials == 3
    assert StudyDesign(Search(), space, 2, points).trials == 40


# Killed drivers, and results of others


def test_a_result_that_two_trials_waited_for_costs_once_after_a_kill(project: Path) -> None:
    settle(project, f"trials = 2\n{RANDOM}", ONE)
    work = opened()
    trial = next(iter(work.assignments()))
    assert not [*work.searches[0].next()], "the second one waits for the first"
    result_of(trial)
    again = opened()
    assert not drive(again, result_of)
    spent = again.searches[0].spent
    assert (spent.trials, spent.epochs, spent.seconds) == (2, 2, 10.0)
    assert [one.notes.get("same_as") for one in again.searches[0].study.ended()] == [None, 0]


@pytest.mark.parametrize("by", ["another campaign", "its own pruner", "a collapse"])
def test_a_trial_left_under_way_is_pruned_by_its_own_search_alone(project: Path, by: str) -> None:
    settle(project, 'trials = 2\nsampler = "random"\npruner = "median"\nstartup = 1', NARROW)

    def report(trial: Assignment, rsum: float) -> EpochReport:
        return EpochReport(key=trial.spec.key, epoch=1, epochs=EPOCHS, val={"rsum": rsum})

    work = opened()
    trials = work.assignments()
    good = next(trials)
    assert work.answer(report(good, 100.0))
    work.ended(result_of(good))
    bad = next(trials)
    assert by != "its own pruner" or not work.answer(report(bad, 0.0))
    result_of(bad, state=State.PRUNED, message="all captions of val have the same scores" * (by == "a collapse"))
    again = opened()
    assert len(drive(again, result_of)) == (by == "another campaign")
    assert again.searches[0].spent.pruned == (by != "another campaign")


def test_a_collapse_is_named_in_the_study_and_where_it_is_shown(project: Path) -> None:
    settle(project, f"trials = 1\n{RANDOM}", ONE)
    why = "all captions of val have the same scores"
    work = opened()
    drive(work, lambda trial: result_of(trial, state=State.PRUNED, message=why))
    (trial,) = work.searches[0].study.record().collapsed
    assert trial.notes["collapsed"] == why
    said = [*status_page(NAME, [status(project)], False, lambda *words: " ".join(words))]
    assert f"vsepp/tiny: pruned, as training had collapsed: #0 ({why})" in said


# Several objectives


def test_settings_that_came_again_stand_on_a_front_once() -> None:
    def trial(number: int, key: str, *values: float) -> Ended:
        return Ended(number, "complete", {}, values, {"key": key})

    trials = [trial(0, "a", 3.0, 3.0), trial(1, "b", 2.0, 2.0), trial(2, "a", 3.0, 3.0), trial(3, "c", 1.0, 1.0)]
    assert [one.number for one in front(trials, ("rsum", "-seconds"))] == [0, 1, 3]


@pytest.mark.parametrize("objective", [("rsum", "-seconds"), ("-seconds",)])
def test_a_plan_promises_no_pruning_where_nothing_is_measured_by_epoch(
    project: Path, objective: tuple[str, ...]
) -> None:
    settle(project, "trials = 3", ONE)
    plans = plans_of()
    assert "pruner none, as nothing" in budget_line(Search(objective=objective), plans)
    assert "pruner median" in budget_line(Search(), plans)


# A sampler that fails


def test_a_sampler_that_fails_is_named_and_not_another_program(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(project, 'trials = 3\nsampler = "random"\ndefaults_first = false', NARROW)

    def broken(*_: object) -> float:
        raise ValueError("array must not contain infs or NaNs")

    with monkeypatch.context() as patch:
        patch.setattr(optuna.samplers.RandomSampler, "sample_independent", broken)
        with pytest.raises(UsageError, match=r"the sampler random cannot propose.*infs or NaNs.*--campaign"):
            drive(opened(), result_of)
    assert len(drive(opened(), result_of)) == 3
