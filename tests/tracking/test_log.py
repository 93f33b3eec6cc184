"""Writes reach the tracking store in their order and from a thread; what it missed while it was away comes later."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sample_results import folder_of, reports_of, result_of, spec_of

from harness.campaign.recorder import Recorder
from harness.errors import StoreError
from harness.tracking import log
from harness.tracking.log import ResultLog
from harness.tracking.result_store import ResultStore
from harness.tracking.tracker import Tracker
from harness.trial.results import EpochReport, State, TrialSpec


class Watcher:
    """A view that remembers what it was told."""

    def __init__(self) -> None:
        self.warned: list[str] = []
        self.epochs: list[EpochReport] = []

    def start(self, total: int, before: int) -> None: ...

    def begin(self, assignment: object) -> None: ...

    def epoch(self, report: EpochReport) -> None:
        self.epochs.append(report)

    def result(self, result: object) -> None: ...

    def standing(self, text: str) -> None: ...

    def warn(self, message: str) -> None:
        self.warned.append(message)


class Store:
    """Remembers what was written to it; while it is away, each write is an error."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.tries = 0
        self.is_away = False

    def write(self, number: int) -> None:
        self.tries += 1
        if self.is_away:
            raise StoreError("the store is away")
        self.written.append(number)


def first_report(spec: TrialSpec, note: str) -> EpochReport:
    return reports_of(spec)[0].model_copy(update={"note": note})


def failing_test(message: str) -> None:
    pytest.fail(message)


def nothing() -> None: ...


def test_a_note_that_several_trials_have_is_told_once(store: str) -> None:
    specs = [spec_of(seed=seed) for seed in range(3)]
    view = Watcher()
    tracker = Tracker(store)
    recorder = Recorder(tracker, view)
    recorder.open("main", specs, {})
    for spec in specs:
        tracker.begin(spec)
    for spec, note in zip(specs, ("no CxC here", "no CxC here", "another"), strict=True):
        recorder.epoch(first_report(spec, note))
    assert view.warned == ["no CxC here", "another"] and len(view.epochs) == 3


def test_writes_are_carried_out_in_their_order_and_all_before_the_log_is_closed() -> None:
    store, results = Store(), ResultLog(failing_test)
    for number in range(100):
        results.write(partial(store.write, number), must_arrive=number % 3 == 0)
    assert results.close(partial(store.write, 100)) == ""
    assert store.written == [*range(101)]


def test_nothing_waits_for_a_slow_store_until_the_queue_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LONGEST_QUEUE", 3)
    answer, results = threading.Event(), ResultLog(failing_test)
    for _ in range(3):
        results.write(lambda: nothing() if answer.wait(60) else failing_test("no answer"))
    later = threading.Timer(0.2, answer.set)
    assert not answer.is_set(), "three writes wait, the campaign does not"
    later.start()
    results.write(nothing)
    assert answer.is_set(), "a fourth one had to wait"
    assert results.close(nothing) == ""


def test_a_store_that_is_away_is_told_once_and_gets_what_must_arrive_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "AWAY_SECONDS", 0.0)
    store, warned = Store(), list[str]()
    results = ResultLog(warned.append)
    store.is_away = True
    for number in range(6):
        results.write(partial(store.write, number), must_arrive=number % 2 == 0)
    results.wait()
    store.is_away = False
    results.write(partial(store.write, 6))
    assert results.close(partial(store.write, 7)) == ""
    assert store.written == [0, 2, 4, 6, 7] and warned == ["the store is away"]


def test_a_store_that_is_away_is_left_alone_for_a_while_and_tried_again_at_the_end() -> None:
    store, warned = Store(), list[str]()
    results = ResultLog(warned.append)
    store.is_away = True
    for number in range(6):
        results.write(partial(store.write, number), must_arrive=True)
    results.wait()
    assert store.tries == 1
    assert results.close(partial(store.write, 6)) == "the store is away"
    assert store.tries == 2 and not store.written and len(warned) == 1


def test_a_trial_that_began_while_the_store_was_away_is_in_it_with_its_next_epoch(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_args: object, **_more: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(log, "AWAY_SECONDS", 0.0)
    spec, warned = spec_of(), list[str]()
    first, second, _ = reports_of(spec)
    tracker, results = Tracker(store), ResultLog(warned.append)
    tracker.open_campaign("search", [])  # which knows no trial beforehand
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "create_run", unreachable)
        results.write(partial(tracker.begin, spec), must_arrive=True)
        results.write(partial(tracker.epoch, first))
        results.wait()
    results.write(partial(tracker.epoch, second))
    results.wait()
    (run,) = ResultStore(store).runs()
    assert (run.state, run.last_epoch, len(warned)) == (State.RUNNING, 2, 1)


def test_what_is_no_matter_of_the_store_ends_the_campaign() -> None:
    def mistaken() -> None:
        raise ZeroDivisionError

    results = ResultLog(failing_test)
    with pytest.raises(ZeroDivisionError):
        results.write(mistaken)
        results.close(nothing)


def test_an_interruption_cuts_no_write_in_two_and_what_was_reported_before_it_arrives(
    store: str, tmp_path: Path
) -> None:
    spec = spec_of()
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec])
    results, reported = ResultLog(failing_test), threading.Event()

    def interrupted_write() -> None:
        reported.wait(60)
        os.kill(os.getpid(), signal.SIGINT)
        tracker.epoch(reports_of(spec)[0])

    with pytest.raises(KeyboardInterrupt):
        results.write(partial(tracker.begin, spec), must_arrive=True)
        results.write(interrupted_write)
        results.write(partial(tracker.result, result_of(spec), folder_of(tmp_path, result_of(spec))), must_arrive=True)
        reported.set()
        results.wait()
    assert results.close(partial(tracker.close_campaign, State.INTERRUPTED)) == ""
    (run,) = ResultStore(store).runs()
    assert run.is_done and run.last_epoch == 3
