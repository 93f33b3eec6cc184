"""How long the trials of a plan will take, from the seconds that epochs of earlier ones in the results folder took."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from statistics import fmean, median
from time import time as now

from harness.campaign.plan import Plan, Planned
from harness.config.cards import DatasetCard
from harness.config.project import TRIALS
from harness.files import entries
from harness.trial.folder import EPOCHS, read_epochs, read_result, read_spec
from harness.trial.results import Assignment, TrialSpec

ALIKE = ("batch_size", "optimizer", "precision", "score_precision", "encoder_lr")  # of training: what decides the pace


class Basis(IntEnum):
    """What earlier trials an estimate rests on, the best first."""

    SAME = 0  # of the same method, dataset and settings
    SETTINGS = 1  # of other settings
    DATASET = 2  # of another dataset, by its number of pairs
    NONE = 3


@dataclass(frozen=True)
class EpochTime:
    """How long an epoch of a trial took."""

    spec: TrialSpec
    seconds: float
    is_gpu: bool


@dataclass(frozen=True)
class TrialTime:
    """The seconds that a trial will take, with those of all its devices."""

    seconds: float = 0.0
    device_seconds: float = 0.0
    basis: Basis = Basis.SAME
    epoch: float = 0.0  # the seconds of one epoch


@dataclass(frozen=True)
class Estimate:
    """The time of what a plan has left, by the keys of its trials."""

    times: Mapping[str, TrialTime]
    room: int  # trials at a time; 0 where that is not known

    @property
    def known(self) -> list[TrialTime]:
        return [time for time in self.times.values() if time.basis is not Basis.NONE]

    @property
    def unknown(self) -> int:
        """Trials of whose method nothing is known."""
        return len(self.times) - len(self.known)

    @property
    def seconds(self) -> float | None:
        """From the first trial's begin to the last one's end; None where any is unknown, or how many fit."""
        if self.unknown or not self.room:
            return None
        each = [time.seconds for time in self.known]
        return max([sum(each) / self.room, *each], default=0.0)

    @property
    def device_seconds(self) -> float:
        """Of those trials that are known: each one's seconds times its share of GPUs, of CPUs where it has none."""
        return sum(time.device_seconds for time in self.known)


def estimate(plan: Plan, datasets: Mapping[str, DatasetCard], room: int) -> Estimate:
    """The time that a plan's trials will take; `datasets` are those by whose pairs a pace is scaled."""
    return Estimate(times_of(plan.todo, entries(plan.results / TRIALS), datasets), room)


def time_left(plan: Plan, datasets: Mapping[str, DatasetCard], room: int) -> Estimate:
    """As `estimate`, while a plan is run, from its own trials alone: whoever asks every two seconds reads no others."""
    todo = plan.todo
    times = times_of(todo, [trial.folder for trial in plan.trials], datasets)
    return Estimate({trial.spec.key: less_this_epoch(times[trial.spec.key], trial.folder) for trial in todo}, room)


def less_this_epoch(time: TrialTime, folder: Path) -> TrialTime:
    """The time without what has passed since the last epoch ended, of one epoch at most."""
    try:
        passed = min(time.epoch, max(0.0, now() - (folder / EPOCHS).stat().st_mtime))
    except FileNotFoundError:  # the first has not ended
        return time
    share = 1 - passed / time.seconds if time.seconds else 1.0
    return replace(time, seconds=share * time.seconds, device_seconds=share * time.device_seconds)


def times_of(
    trials: Sequence[Planned], folders: Iterable[Path], datasets: Mapping[str, DatasetCard]
) -> dict[str, TrialTime]:
    """The time of each of some trials by its key, from those in some folders."""
    known = sorted(paces(folders, {trial.spec.method for trial in trials}), key=lambda pace: pace.spec.key)
    recipes = [trial.spec.recipe for trial in trials]
    specs = {recipe: trial.spec for recipe, trial in zip(recipes, trials, strict=True)}
    alike = {recipe: most_alike(spec, known, datasets) for recipe, spec in specs.items()}
    return {trial.spec.key: time_of(trial, *alike[recipe]) for recipe, trial in zip(recipes, trials, strict=True)}


def time_of(trial: Planned, basis: Basis, like: Sequence[EpochTime]) -> TrialTime:
    """The time of one trial, from the median pace of those earlier trials that are most like it."""
    begun = len(read_epochs(trial.folder)) if trial.state == "resume" else 0
    epochs = trial.spec.training.epochs - begun
    if trial.assignment.members or epochs <= 0:
        return TrialTime()
    if basis is Basis.NONE:
        return TrialTime(basis=basis)
    epoch = median(pace.seconds for pace in like)
    seconds = epochs * epoch
    return TrialTime(seconds, seconds * devices(trial.assignment, like), basis, epoch)


def most_alike(
    spec: TrialSpec, known: Iterable[EpochTime], datasets: Mapping[str, DatasetCard]
) -> tuple[Basis, list[EpochTime]]:
    """The best basis that earlier trials are for one of any seed, and their epochs as long as its own would be."""
    scaled: dict[Basis, list[EpochTime]] = {Basis.NONE: []}
    for pace in known:
        basis, factor = likeness(spec, pace.spec, datasets)
        scaled.setdefault(basis, []).append(EpochTime(pace.spec, factor * pace.seconds, pace.is_gpu))
    best = min(scaled)
    return best, scaled[best]


def likeness(spec: TrialSpec, other: TrialSpec, datasets: Mapping[str, DatasetCard]) -> tuple[Basis, float]:
    """What another trial says of the pace of one, and by which factor its epochs are shorter."""
    if spec.method != other.method:
        return Basis.NONE, 0.0
    if (spec.dataset, spec.limit) == (other.dataset, other.limit):
        is_alike = all(getattr(spec.training, name) == getattr(other.training, name) for name in ALIKE)
        return (Basis.SAME if is_alike and spec.settings == other.settings else Basis.SETTINGS), 1.0
    mine, its = pairs(spec, datasets), pairs(other, datasets)
    return (Basis.DATASET, mine / its) if mine and its else (Basis.NONE, 0.0)


def pairs(spec: TrialSpec, datasets: Mapping[str, DatasetCard]) -> float:
    """The captions that a trial trains on, about as many where it is limited; 0 where they are not known."""
    card = datasets.get(spec.dataset)
    size = card.splits.get("train") if card else None
    if size is None:
        return 0.0
    return size.captions * min(1.0, spec.limit / max(1, size.images)) if spec.limit else size.captions


def devices(assignment: Assignment, like: Sequence[EpochTime]) -> float:
    """The share of GPUs that a trial will hold, of CPUs where trials like it had none."""
    return assignment.devices(is_gpu=assignment.gpus > 0 or (assignment.gpus < 0 and like[0].is_gpu))


def paces(folders: Iterable[Path], methods: Collection[str]) -> Iterator[EpochTime]:
    """The paces of the trials of some methods in these folders, as far as they have finished an epoch."""
    for folder in folders:
        spec = read_spec(folder)
        reports = read_epochs(folder) if spec and spec.method in methods else []
        if spec and reports:
            result = read_result(folder)
            device = result.environment.get("device", "cpu") if result else "cpu"
            yield EpochTime(spec, fmean(report.seconds for report in reports), device != "cpu")
