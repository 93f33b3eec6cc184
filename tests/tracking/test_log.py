"""What trials report reaches the view, each note once, and the store, which may be away."""

from __future__ import annotations

from sample_results import reports_of, spec_of

from harness.campaign.recorder import Recorder
from harness.tracking.log import Logbook
from harness.tracking.tracker import Tracker
from harness.trial.results import EpochReport, TrialSpec


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

    def warn(self, message: str) -> None:
        self.warned.append(message)


def first_report(spec: TrialSpec, note: str) -> EpochReport:
    return reports_of(spec)[0].model_copy(update={"note": note})


def test_a_note_that_several_trials_have_is_told_once(store: str) -> None:
    specs = [spec_of(seed=seed) for seed in range(3)]
    books, view = Logbook(Tracker(store)), Watcher()
    books.open("main", specs, {}, view.warn)
    recorder = Recorder(books, view)
    for spec, note in zip(specs, ("no CxC here", "no CxC here", "another"), strict=True):
        recorder.epoch(first_report(spec, note))
    assert view.warned == ["no CxC here", "another"] and len(view.epochs) == 3
