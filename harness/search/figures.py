"""A search in numbers to be drawn: best so far, learning curves, coordinates. Pure: the same from the same trials."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.config.sections import Scalar, Tunable
from harness.search.studies import Outcome
from harness.search.study_records import StudyRecord, value_text
from harness.trial.results import RECALLS, EpochReport

LABELS = {
    "rsum": "rsum on val",
    **{name: f"{name.replace('_r', ' R@')} on val (%)" for name in RECALLS},
    "seconds": "training time of a trial (s)",
    "train_pairs_per_second": "training speed (pairs/s)",
    "peak_memory_mb": "peak memory (MiB)",
}
UNITS = (("h", 3600.0, 3 * 3600.0), ("min", 60.0, 300.0), ("s", 1.0, 0.0))  # of time, and from when on each is used
FEW = 6  # whole numbers that all have a tick
Curves = Mapping[str, Sequence[EpochReport]]  # the epochs of trials, by key


class BudgetStep(NamedTuple):
    trials: int  # that have ended
    number: int  # of the last of them, as in tables
    seconds: float  # of their training, added up
    best: float


class TrialOutcome(NamedTuple):
    number: int
    state: Outcome
    values: tuple[float, ...]  # of its objectives, where it is complete


class TrialCurve(NamedTuple):
    number: int
    state: Outcome
    points: tuple[tuple[int, float], ...]


class Coordinate(NamedTuple):
    """A parallel coordinate: where its ticks are, from 0 at the bottom to 1, and where each trial lies."""

    name: str
    ticks: tuple[tuple[float, str], ...]
    places: tuple[float | None, ...]  # None where the setting was not used


class StudyFigure(NamedTuple):
    objective: tuple[str, ...]  # as labels
    trials: tuple[TrialOutcome, ...]
    steps: tuple[BudgetStep, ...]  # of one objective
    front: tuple[int, ...]  # numbers of the best trials: one, or several where objectives are
    importances: tuple[tuple[str, float], ...]  # the largest first
    coordinates: tuple[Coordinate, ...]  # the last one is the objective
    shades: tuple[float, ...]  # of the lines through the coordinates, from 0 for the worst to 1 for the best
    curves: tuple[TrialCurve, ...]
    measure: str  # of the curves

    @property
    def is_empty(self) -> bool:
        return not (self.front or self.importances or self.coordinates or self.curves)


class BudgetComparison(NamedTuple):
    objective: str
    lines: tuple[tuple[str, tuple[BudgetStep, ...]], ...]  # by method


def figure(study: StudyRecord, epochs: Curves) -> StudyFigure:
    measure = measure_of(study, epochs)
    through, shades = coordinates(study)
    return StudyFigure(
        objective=tuple(map(label, study.objective)),
        trials=tuple(TrialOutcome(t.number, t.state, t.objective) for t in study.counted),
        steps=tuple(steps(study)),
        front=tuple(trial.number for trial in study.front),
        importances=tuple(sorted(study.importances.items(), key=lambda item: (-item[1], item[0]))),
        coordinates=through,
        shades=shades,
        curves=tuple(curves(study, epochs, measure)),
        measure=label(measure),
    )


def comparison(studies: Sequence[StudyRecord]) -> BudgetComparison | None:
    """The methods of one dataset against each other; None where there are not two, or no one objective of all."""
    objectives = {study.objective for study in studies}
    lines = tuple((study.method, stairs) for study in studies if (stairs := tuple(steps(study))))
    if len(lines) < 2 or len(objectives) > 1:
        return None
    return BudgetComparison(label(studies[0].objective[0]), lines)


def label(name: str) -> str:
    plain = name.removeprefix("-")
    known = LABELS.get(plain, f"{plain.replace('_', ' ')}{' on val' * plain.endswith('rank')}")
    return f"{known}, less is better" if name.startswith("-") else known


def steps(study: StudyRecord) -> Iterator[BudgetStep]:
    """The best so far after every trial, from the first complete one on; of several objectives nothing is the best."""
    if len(study.objective) > 1:
        return
    better = min if study.objective[0].startswith("-") else max
    best, seconds = None, 0.0
    for count, trial in enumerate(study.counted, start=1):
        seconds += trial.notes.get("seconds", 0.0)
        if trial.state == "complete":
            best = trial.objective[0] if best is None else better(best, trial.objective[0])
        if best is not None:
            yield BudgetStep(count, trial.number, seconds, best)


def measure_of(study: StudyRecord, epochs: Curves) -> str:
    name = study.objective[0].removeprefix("-")
    known = any(name in report.val for reports in epochs.values() for report in reports)
    return name if known else "rsum"


def curves(study: StudyRecord, epochs: Curves, measure: str) -> Iterator[TrialCurve]:
    seen = set()
    for trial in study.counted:
        key = trial.notes["key"]
        reports = epochs.get(key, ()) if key not in seen else ()
        points = [(r.epoch, r.val[measure]) for r in reports if math.isfinite(r.val.get(measure, math.nan))]
        if points:
            seen.add(key)
            yield TrialCurve(trial.number, trial.state, tuple(points))


def coordinates(study: StudyRecord) -> tuple[tuple[Coordinate, ...], tuple[float, ...]]:
    """Axes of the settings, the most important beside the objective, and shades; nothing where no two trials differ."""
    trials = study.ranked[::-1]  # the best is drawn last
    if len(trials) < 2 or not study.ranges:
        return (), ()
    names = sorted(study.ranges, key=lambda key: (study.importances.get(key, 0.0), key))
    settings = [coordinate(name, study.ranges[name], [trial.values.get(name) for trial in trials]) for name in names]
    values = [trial.objective[0] for trial in trials]
    reach = Tunable.model_construct(type="float", low=min(values), high=max(values))
    last = coordinate(label(study.objective[0]), reach, values)
    # By rank: by value, one bad trial would leave all others the same shade.
    return (*settings, last), tuple(rank / (len(trials) - 1) for rank in range(len(trials)))


def coordinate(name: str, range_: Tunable, values: Sequence[Scalar | None]) -> Coordinate:
    return Coordinate(name, tuple(ticks(range_)), tuple(None if v is None else place(range_, v) for v in values))


def ticks(range_: Tunable) -> list[tuple[float, str]]:
    if range_.choices:
        return [(place(range_, choice), value_text(choice)) for choice in range_.choices]
    low, high = range_.low or 0.0, range_.high or 0.0
    if range_.type == "int" and high - low < FEW:
        return [(place(range_, value), str(value)) for value in range(int(low), int(high) + 1)]
    middle = math.sqrt(low * high) if range_.log else (low + high) / 2
    middle = round(middle) if range_.type == "int" else middle
    return [(place(range_, value), f"{value:.4g}") for value in dict.fromkeys((low, float(f"{middle:.2g}"), high))]


def place(range_: Tunable, value: Scalar) -> float:
    """Where a value lies in its range, from 0 to 1."""
    if range_.choices:
        return range_.choices.index(value) / (len(range_.choices) - 1) if len(range_.choices) > 1 else 0.5
    low, high, at = float(range_.low or 0.0), float(range_.high or 0.0), float(value)
    if high == low:
        return 0.5
    if range_.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def in_units(seconds: float) -> tuple[str, float]:
    return next((name, size) for name, size, least in UNITS if seconds >= least)
