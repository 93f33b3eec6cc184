"""What a campaign's trials report goes to the view and to the tracking store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from harness.tracking.log import Ended, ResultLog
from harness.tracking.tracker import Tracker
from harness.trial.results import Assignment, EpochReport, State, StepReport, TrialResult, TrialSpec


class View(Protocol):
    """Shows a campaign to the person at the terminal."""

    def start(self, total: int, before: int) -> None:
        """The campaign begins, before its workers do: so many trials in all, so many ended before."""

    def begin(self, assignment: Assignment) -> None:
        """A trial is handed out."""

    def epoch(self, report: EpochReport) -> None:
        """A trial reports."""

    def result(self, result: TrialResult) -> None:
        """A trial has ended."""

    def standing(self, text: str) -> None:
        """What the trials have come to so far, after each; empty where there is nothing to say."""

    def warn(self, message: str) -> None:
        """Show a warning while the campaign goes on; may be called from another thread."""


class Recorder:
    """Shows each event of a campaign and logs it to the tracking store, which may be away for a while."""

    def __init__(self, tracker: Tracker, view: View) -> None:
        self.view = view
        self._tracker = tracker
        self._log = ResultLog(view.warn)
        self._notes: set[str] = set()  # shown already: trials of one campaign have much the same to say

    def open(self, name: str, specs: Sequence[TrialSpec], note: Mapping[str, str]) -> None:
        """Open the campaign's run; StoreError where the store cannot be used from the start."""
        self._tracker.open_campaign(name, specs, note)

    def begin(self, assignment: Assignment) -> None:
        """Record that a trial is handed out."""
        self._log.write(partial(self._tracker.begin, assignment.spec), must_arrive=True)
        self.view.begin(assignment)

    def epoch(self, report: EpochReport) -> None:
        """Record a trial's report, and show its note unless another trial had the same.

        How far an epoch is goes to the view alone.
        """
        if isinstance(report, StepReport):
            self.view.epoch(report)
            return
        self._log.write(partial(self._tracker.epoch, report))
        if report.note and report.note not in self._notes:
            self._notes.add(report.note)
            self.view.warn(report.note)
        self.view.epoch(report)

    def result(self, result: TrialResult, folder: Path) -> None:
        """Record a trial's end."""
        self._log.write(partial(self._tracker.result, result, folder), must_arrive=True)
        self.view.result(result)

    def catch_up(self, ended: Iterable[Ended]) -> None:
        """Log results of an earlier run, and wait for it: a trial that is repeated overwrites its folder."""
        for result, folder in ended:
            self._log.write(partial(self._tracker.result, result, folder), must_arrive=True)
        self._log.wait()

    def close(self, state: State) -> str:
        """Record the campaign's end; why results wait in their folders for the store, empty where none does."""
        return self._log.close(partial(self._tracker.close_campaign, state))
