"""What a campaign's trials report goes to the view and to the tracking store, which may be away for a while."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from harness.tracking.log import Books, Ended
from harness.trial.results import Assignment, EpochReport, State, TrialResult


class View(Protocol):
    """Who watches a campaign."""

    def start(self, total: int, before: int) -> None:
        """The campaign begins: so many trials in all, so many ended before."""

    def begin(self, assignment: Assignment) -> None:
        """A trial is handed out."""

    def epoch(self, report: EpochReport) -> None:
        """A trial reports."""

    def result(self, result: TrialResult) -> None:
        """A trial has ended."""

    def warn(self, message: str) -> None:
        """Something to be told once, while the campaign goes on."""


class Recorder:
    """Hands everything to the view and the books."""

    def __init__(self, books: Books, view: View) -> None:
        self.view = view
        self._books = books
        self._notes: set[str] = set()  # that were told: trials of one campaign have much the same to say

    def begin(self, assignment: Assignment) -> None:
        """A trial is handed out."""
        self._books.begin(assignment.spec)
        self.view.begin(assignment)

    def epoch(self, report: EpochReport) -> None:
        """A trial's report."""
        self._books.epoch(report)
        if report.note and report.note not in self._notes:
            self._notes.add(report.note)
            self.view.warn(report.note)
        self.view.epoch(report)

    def result(self, result: TrialResult, folder: Path) -> None:
        """A trial's end."""
        self._books.log([(result, folder)])
        self.view.result(result)

    def log(self, ended: Iterable[Ended]) -> None:
        """Results of an earlier run, which nobody waits to see."""
        self._books.log(ended)

    def close(self, state: State) -> str:
        """The campaign's end; why results wait in their folders for the store, empty where none does."""
        return self._books.close(state)
