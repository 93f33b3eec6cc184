"""The log of results: written to the tracking store as trials report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from harness.errors import StoreError
from harness.interruption import held_back
from harness.tracking.tracker import Tracker
from harness.trial.results import EpochReport, State, TrialResult, TrialSpec

AWAY_SECONDS = 30.0  # until a store that was away is tried again: each attempt may hold up the trials for a moment
Ended = tuple[TrialResult, Path]  # with the trial's folder
Warn = Callable[[str], None]


class Books(Protocol):
    """The tracking store as a campaign writes to it; when it is away, that is told once and stops no training."""

    def open(self, name: str, specs: Sequence[TrialSpec], note: Mapping[str, str], warn: Warn) -> None:
        """Open a campaign's parent run; StoreError where the store cannot be used from the start."""

    def begin(self, spec: TrialSpec) -> None:
        """A trial is handed out."""

    def epoch(self, report: EpochReport) -> None:
        """A trial's report."""

    def log(self, ended: Iterable[Ended]) -> None:
        """Results that lie in their folders and not yet in the store."""

    def close(self, state: State) -> str:
        """The campaign's end; why results wait in their folders for the store, empty where none does."""


class Logbook:
    """Books kept through a tracker, in this process.

    What a store that was away missed is logged from the trials' folders as soon as it is back, or by the next run.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.away = ""  # why the store cannot be reached
        self._warn: Warn | None = None  # until it was used
        self._try_at = 0.0  # seconds of the monotonic clock
        self._missed: dict[str, Ended] = {}
        self._tracker = tracker

    def open(self, name: str, specs: Sequence[TrialSpec], note: Mapping[str, str], warn: Warn) -> None:
        """As `Books`."""
        self._tracker.open_campaign(name, specs, note)
        self._warn = warn

    def begin(self, spec: TrialSpec) -> None:
        """As `Books`."""
        self._store(self._tracker.begin, spec)

    def epoch(self, report: EpochReport) -> None:
        """As `Books`."""
        self._store(self._tracker.epoch, report)

    def log(self, ended: Iterable[Ended]) -> None:
        """As `Books`, with those that the store has missed."""
        self._missed |= {result.key: (result, folder) for result, folder in ended}
        for key, (result, folder) in [*self._missed.items()]:
            if not self._store(self._tracker.result, result, folder):
                return
            del self._missed[key]

    def close(self, state: State) -> str:
        """As `Books`, with one more attempt to log what the store has missed."""
        self._try_at = 0.0
        self.log([])
        self._store(self._tracker.close_campaign, state)
        return self.away

    def _store(self, write: Callable[..., None], *record: object) -> bool:
        """Write, unless the store was away a moment ago; whether that went well."""
        if self.away and time.monotonic() < self._try_at:
            return False
        try:
            with held_back():
                write(*record)
        except StoreError as error:
            self.away, self._try_at = str(error), time.monotonic() + AWAY_SECONDS
            if self._warn is not None:
                self._warn(self.away)
                self._warn = None
            return False
        self.away = ""
        return True
