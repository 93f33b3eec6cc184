"""What a name means among trials: one of them, or an error that lists all that it may mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from harness.config.registry import choices
from harness.errors import UsageError, unknown
from harness.tracking.runs import SHORTEST, Run
from harness.trial.external import recipe_of
from harness.trial.results import VERSIONS, TrialSpec

T = TypeVar("T")  # a trial, as the caller has it
DIGITS = 8  # of a hash that people read
IDENTITY = ("method", "dataset", "protocol", "seed", "limit", "protocol_version", "trained_as", *VERSIONS)


class Candidate(NamedTuple):
    """A trial that a name may mean."""

    spec: TrialSpec
    rsum: float | None = None
    ended: float | None = None  # seconds since the epoch
    run_id: str = ""


def of_run(run: Run) -> Candidate:
    """A run of the tracking store."""
    return Candidate(run.spec, run.numbers.get("rsum"), None if run.ended is None else run.ended / 1000, run.run_id)


def is_meant(name: str, one: Candidate) -> bool:
    """Whether a name is a trial's label, such as caan/scenes/s0, or the start of its key or of its run's id."""
    by_start = len(name) >= SHORTEST and (one.spec.key.startswith(name) or one.run_id.startswith(name))
    return by_start or name == one.spec.label


def trial_named(name: str, trials: Iterable[T], candidate: Callable[[T], Candidate]) -> T | None:
    """The one trial that a name means, None where it means none; UsageError where it may mean several."""
    return alone(name, [trial for trial in trials if is_meant(name, candidate(trial))], candidate)


def alone(name: str, trials: Sequence[T], candidate: Callable[[T], Candidate]) -> T | None:
    """The only one of some trials, None where there is none; UsageError that lists them where there are several."""
    if len(trials) > 1:
        listed = "\n".join(f"  {line}" for line in lines([candidate(trial) for trial in trials]))
        raise UsageError(f"{name} may be any of {len(trials)} trials; give the key of one:\n{listed}")
    return next(iter(trials), None)


def lines(candidates: Sequence[Candidate]) -> Iterator[str]:
    """A line per trial: its key, recipe, rsum and date, and what distinguishes it from the others."""
    every = [facts(one.spec) for one in candidates]
    names = dict.fromkeys(name for one in every for name in one)
    varying = [name for name in names if len({one.get(name) for one in every}) > 1]
    for one, own in sorted(zip(candidates, every, strict=True), key=lambda pair: pair[0].ended or 0):
        about = f"{one.spec.key}  recipe {short_recipe(one.spec)}  {rsum(one)}  {date(one)}"
        yield "  ".join([about, ", ".join(f"{name} {own.get(name, 'absent')}" for name in varying)])


def facts(spec: TrialSpec) -> dict[str, str]:
    """All that the key covers, as text, hashes in short."""
    hashes = {"data": spec.data_fingerprint[:DIGITS], "source": spec.source[:DIGITS]}
    hashes |= {"test data": spec.test_fingerprint[:DIGITS]} if spec.test_fingerprint else {}
    return {name: str(getattr(spec, name)) for name in IDENTITY} | hashes | choices(spec.settings, spec.training)


def short_recipe(spec: TrialSpec) -> str:
    """The start of the hash that repetitions over seeds share."""
    return recipe_of(spec)[:DIGITS]


def rsum(one: Candidate) -> str:
    return "no rsum" if one.rsum is None else f"rsum {one.rsum:.1f}"


def date(one: Candidate) -> str:
    return "not ended" if one.ended is None else f"{datetime.fromtimestamp(one.ended, UTC):%Y-%m-%d %H:%M:%S} UTC"


def run_named(runs: Iterable[Run], name: str) -> Run | None:
    """The one finished run that a name means, None where it means none; UsageError where it may mean several."""
    return trial_named(name, [run for run in runs if run.is_done], of_run)


def known_run(runs: Sequence[Run], name: str) -> Run:
    """The one finished run that a name means; UsageError where it means none or may mean several."""
    if run := run_named(runs, name):
        return run
    labels = {run.label for run in runs if run.is_done}
    raise UsageError(f"{unknown('run', name, labels)}; the start of a key or of a run's id will do as well")
