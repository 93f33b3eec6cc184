"""A campaign as a script names and runs it: trials run and recorded, their boards written, each step reported."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, SupportsIndex, TypeVar

from harness.campaign.course import Course
from harness.campaign.plan import Plan
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.selection import Selection
from harness.config.toml import cut
from harness.errors import UsageError
from harness.tracking.runs import Run
from harness.trial.results import Assignment, EpochReport, StepReport, TrialResult


@dataclass(frozen=True)
class Progress:
    """A step of something long; its text is one line."""

    name: str  # of the trial, METHOD/DATASET/sSEED; empty for a warning
    state: str  # starting, running, testing, done, failed, …; reading, loading, encoding, ranking; or warning
    epoch: int = 0  # that have ended
    epochs: int = 0  # in all
    rsum: float | None = None  # on val while it is running, on test when it is done
    message: str = ""
    done: int = 0  # images or captions that are encoded
    total: int = 0  # of them

    def __str__(self) -> str:
        """The step on one line."""
        epochs = f"epoch {self.epoch}/{self.epochs}" if self.state == "running" else ""
        rsum = "" if self.rsum is None else f"rsum {self.rsum:.1f}"
        return " ".join(filter(None, [self.name, self.state, epochs, rsum, self.message]))


Names = str | Iterable[str]
Seeds = SupportsIndex | Iterable[SupportsIndex]
Report = Callable[[Progress], object]
T = TypeVar("T")


def silent(_: Progress) -> None:
    """Report nothing."""


def reported(read: Callable[..., T], runs: Iterable[Run], report: Report) -> Callable[..., T]:
    """A function of a run's id that reports the run when it is first read."""
    names = {run.run_id: run.label for run in runs}

    def reading(run_id: str, *more: Any) -> T:
        if name := names.pop(run_id, ""):
            report(Progress(name, "reading"))
        return read(run_id, *more)

    return reading


@contextmanager
def encoding_steps(report: Report, name: str, what: str, total: int) -> Iterator[Callable[[int], object]]:
    """Reports how many images or captions are encoded, and the seconds left by the pace so far."""
    began, done = time.monotonic(), 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        left = (time.monotonic() - began) * (total - done) / done
        message = f"{done:,} of {total:,} {what}, {left:.0f} s left"
        report(Progress(name, "encoding", message=message, done=done, total=total))

    yield tell


class ProgressView:
    """Hands every event of a campaign to a function; a `campaign.recorder.View`."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._names: dict[str, str] = {}  # of trials, by key
        self._tenths: dict[str, int] = {}  # of the epoch under way that were reported, likewise

    def start(self, total: int, before: int) -> None:
        """Report that workers and the store are started."""
        self._report(Progress("", "starting", message=f"{total - before} of {total} trials are left"))

    def begin(self, assignment: Assignment) -> None:
        """Report that a trial is handed out."""
        self._names[assignment.spec.key] = assignment.name
        self._report(Progress(assignment.name, "running", 0, assignment.spec.training.epochs))

    def epoch(self, report: EpochReport) -> None:
        """Report an epoch, each tenth of one that takes long, or that the trial is tested; its start was reported."""
        tenth = int(10 * report.share) if isinstance(report, StepReport) else None
        is_new = tenth is None or tenth > self._tenths.get(report.key, 0)
        self._tenths[report.key] = tenth or 0
        if report.phase != "start" and is_new:
            state = "testing" if report.phase == "test" else "running"
            name, rsum = self._names[report.key], report.val.get("rsum")
            part = f"{report.share:.0%} of the next" if isinstance(report, StepReport) else ""
            self._report(Progress(name, state, report.epoch, report.epochs, rsum, part))

    def result(self, result: TrialResult) -> None:
        """Report that a trial has ended."""
        epochs, rsum = result.spec.training.epochs, result.measures.get("rsum")
        name = self._names.get(result.key, result.spec.label)
        self._report(Progress(name, result.state.value, result.epochs, epochs, rsum, result.message))

    def standing(self, text: str) -> None:
        """A plan has none: it is for searches, which are no call of the API."""

    def warn(self, message: str) -> None:
        """Report a warning."""
        self._report(Progress("", "warning", message=message))


def carry_out(plan: Plan, config: Config, registry: Registry, here: bool, report: Report) -> None:
    """Run the trials that a plan has left and write its boards, as `harness run` does, with its errors."""
    view = ProgressView(report)
    course = Course(plan, config, registry, here).healed(view.warn)
    course.place()
    if not course.is_over:
        for warning in course.warnings():
            view.warn(warning)
        course.run(lambda: nullcontext(view))


def selected(
    methods: Names,
    datasets: Names,
    seeds: Seeds,
    protocol: str,
    limit: SupportsIndex | None = None,
    recipe: Literal["", "common", "paper"] = "",
    test_on: Names = (),
) -> Selection:
    """Trials as a script names them; UsageError for what is no name or no whole number."""
    images = None if limit is None else whole(limit, "limit")
    return Selection(names(methods), names(datasets), protocol, seeds_of(seeds), images, recipe, names(test_on))


def names(given: Names) -> tuple[str, ...]:
    """Names or globs as a tuple; a text is one of them. UsageError for what is no text."""
    each = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    for name in each:
        if not isinstance(name, str):
            raise UsageError(f"{cut(repr(name))} is no name; give a text, or several of them")
    return each


def seeds_of(given: Seeds) -> tuple[int, ...]:
    """Seeds as a tuple; a whole number is one of them. UsageError for anything else."""
    with suppress(TypeError):
        return (int(operator.index(given)),)  # type: ignore[arg-type]
    each = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else given
    return tuple(whole(seed, "seeds:", "give one such as 3, or several such as range(3)") for seed in each)


def whole(number: Any, what: str, advice: str = "give one such as 3") -> int:
    """A whole number of Python, NumPy or another library as one of Python; UsageError for anything else."""
    try:
        return int(operator.index(number))
    except TypeError:
        raise UsageError(f"{what} {cut(repr(number))} is no whole number; {advice}") from None


def plain(value: Any) -> Any:
    """A value with the numbers of other libraries, in lists and tables too, as those of Python."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else value
