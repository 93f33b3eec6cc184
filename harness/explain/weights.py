"""The weights that a trial has left: which trial of the results folder is meant, and its method at its best epoch."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.project import Config
from harness.config.registry import Registry, load_class
from harness.config.selection import Selection, member_names
from harness.errors import (
    HarnessError,
    ResourceError,
    TrialError,
    UsageError,
    first_line,
    frames_in,
    is_host_memory,
    raised,
    unknown,
)
from harness.errors import named as some
from harness.tracking.naming import Candidate, alone, trial_named
from harness.tracking.runs import SHORTEST
from harness.trial.folder import CHECKPOINT, RESULT, read_result
from harness.trial.results import State, TrialResult, TrialSpec

if TYPE_CHECKING:
    from harness.campaign.plan import Plan
    from harness.data.dataset import Dataset
    from harness.method import Method

FORCE = "--force"
Command = Callable[..., str]  # of its words, as a shell takes it


def plain_command(*words: str) -> str:
    """A command line without what decides a configuration, which whoever has given that must add."""
    return f"{shlex.join(['harness', *words])}, with the -c, -s and --plugin of this command"


class UntrainedError(UsageError):
    """A method has no finished trial of a dataset and protocol, or none that can be used."""


@dataclass(frozen=True)
class TrialChoice:
    """Which trial is meant: an empty protocol is the dataset's first, no seed the first of the trials that can be used.

    `key` may be the start of a key, or a trial's label.
    """

    method: str
    dataset: str
    protocol: str = ""
    seed: int | None = None
    key: str = ""


@dataclass(frozen=True)
class Trained:
    folder: Path
    result: TrialResult

    @property
    def spec(self) -> TrialSpec:
        return self.result.spec

    @property
    def ended(self) -> float:
        """Seconds since the epoch."""
        return (self.folder / RESULT).stat().st_mtime


def candidate(one: Trained) -> Candidate:
    """A trial as a list of those that a name may mean shows it."""
    return Candidate(one.spec, one.result.measures.get("rsum"), one.ended)


def trained(config: Config, registry: Registry, choice: TrialChoice, command: Command = plain_command) -> Trained:
    """The trial with this key; without one that of the configuration as it is, its first seed first, else the only one.

    UsageError where there is none or more than one, or where its source or its data are no longer here; it names what
    makes one by `command`.
    """
    from harness.campaign.plan import selected

    seeds = () if choice.seed is None else (choice.seed,)
    plan = selected(config, registry, Selection((choice.method,), (choice.dataset,), choice.protocol, seeds))
    trials = list(finished(config.trials))
    if choice.key:
        one = named(trials, choice)
        if reason := why_not(one, *_now(plan)):
            raise UsageError(f"trial {one.spec.key}, {one.spec.label}: {reason}")
        return one
    spec = plan.trials[0].spec
    same = [one for one in trials if _subject(one.spec, choice.seed) == _subject(spec, choice.seed)]
    usable = [one for one in same if not why_not(one, *_now(plan))]
    if not usable:
        raise UntrainedError(_absent(spec, same, plan, command))
    places = {trial.spec.key: place for place, trial in enumerate(plan.trials)}
    if configured := [one for one in usable if one.spec.key in places]:
        return min(configured, key=lambda one: places[one.spec.key])
    seed = min(one.spec.seed for one in usable)
    (only,) = filter(None, [alone(spec.label, [one for one in usable if one.spec.seed == seed], candidate)])
    return only


def finished(trials: Path) -> Iterator[Trained]:
    for file in sorted(trials.glob(f"*/{RESULT}")):
        result = read_result(file.parent)
        if result is not None and result.state is State.DONE:
            yield Trained(file.parent, result)


def named(trials: Sequence[Trained], choice: TrialChoice) -> Trained:
    """The trial that a key, its start or a label means; UsageError where it is not one, or not of what was chosen."""
    one = trial_named(choice.key, trials, candidate)
    if one is None:
        known = f"has this label or a key that begins with {choice.key!r} ({SHORTEST} characters or more)"
        raise UsageError(f"no finished trial {known}")
    spec = one.spec
    check_is_no_transfer(spec)
    if (spec.method, spec.dataset) != (choice.method, choice.dataset):
        raise UsageError(f"trial {spec.key} is {spec.label}: give --method {spec.method} --dataset {spec.dataset}")
    return one


def check_is_no_transfer(spec: TrialSpec) -> None:
    """UsageError for a test on another dataset, whose weights are another trial's."""
    if reason := no_transfer(spec):
        raise UsageError(f"{spec.label} {reason}")


def no_transfer(spec: TrialSpec) -> str:
    """Why a test on another dataset has no weights of its own; empty for any other trial."""
    if not spec.tested_on:
        return ""
    source = f"{spec.method}/{spec.dataset}/s{spec.seed}"
    run = f"harness run --methods {spec.method} --datasets {spec.dataset} --seeds {spec.seed}"
    return f"is a test on {spec.tested_on} with the weights of {source}; name that trial; if it is gone, first: {run}"


def check_is_no_composite(method: str, label: str) -> None:
    """UsageError for an ensemble or a reranking, whose weights are its members'."""
    if member_names(method):
        raise UsageError(f"{label} is made of other trials and has no weights of its own; name the trial of a member")


def trial_with_weights(trials: Path, name: str) -> Trained:
    """The finished trial that a label or the start of a key means, without a name the only one there is.

    UsageError where it is not one that has weights.
    """
    check_is_no_composite(name.partition("/")[0], name)
    every = [*finished(trials)]
    own = [one for one in every if not member_names(one.spec.method) and not one.spec.tested_on]
    if not name and len(own) == 1:
        return own[0]
    one = trial_named(name, every, candidate) if name else None
    if one is None:
        labels = sorted({other.spec.label for other in own})
        problem = unknown("trained trial", name, labels) if name else f"which trial? Trained here: {some(labels)}"
        raise UsageError(f"{problem}; a trial is named METHOD/DATASET/sSEED or by the start of its key")
    check_is_no_composite(one.spec.method, one.spec.label)
    check_is_no_transfer(one.spec)
    return one


def why_not(one: Trained, source: str, data: str) -> str:
    """Why the weights of a trial cannot be used with this source and these data; empty where they can."""
    if one.spec.source != source:
        return "the method's source has changed since; run it again"
    if one.spec.data_fingerprint != data:
        return "the dataset has changed since; run it again"
    if one.spec.training.epochs and not (one.folder / CHECKPOINT).is_file():
        return f"its {CHECKPOINT} is gone; run it again with {FORCE}"
    return ""


def best_weights(one: Trained, registry: Registry, dataset: Dataset, cache: Path | None = None) -> Method:
    """The method of a trial with its best weights, on the CPU; DataError where they are gone or damaged.

    A method that trains nothing is as it was built. With a cache, a checkpoint that was whole and is unchanged is not
    read whole again.
    """
    from harness.trial.models import build_method, load_best

    spec, card = one.spec, registry.methods[one.spec.method]
    with method_errors(load_class(card), spec.method):
        method = build_method(card, spec.settings, dataset, spec.seed)
    if spec.training.epochs:
        load_best(method, one.folder, spec.label, spec.key, cache)
    return method


@contextmanager
def method_errors(kind: type[Method], name: str) -> Iterator[None]:
    """TrialError for whatever the code of a method raises, with the line of its own file.

    ResourceError where a device's memory is full. What has passed no line of the method is raised as it is.
    """
    folder = Path(inspect.getfile(kind)).parent
    try:
        yield
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        if is_host_memory(error) or not frames_in(error, folder):
            raise
        if "out of memory" in str(error):  # of a device
            raise ResourceError(f"{first_line(error)}; free the device's memory, or use --device cpu") from error
        problem = f"the method {name} has failed: {raised(error, folder)}"
        raise TrialError(f"{problem}; mend it there, then run it again") from error


def _now(plan: Plan) -> tuple[str, str]:
    spec = plan.trials[0].spec
    return spec.source, spec.data_fingerprint


def _subject(spec: TrialSpec, seed: int | None) -> tuple[str, str, str, int | None]:
    return spec.method, spec.dataset, spec.protocol, None if seed is None else spec.seed


def _absent(spec: TrialSpec, trials: Sequence[Trained], plan: Plan, command: Command) -> str:
    """Why no trial can be used, with the command that makes one; a trial that is done runs again only by force."""
    words = ["run", "--methods", spec.method, "--datasets", spec.dataset, "--protocol", spec.protocol]
    words += ["--seeds", str(spec.seed)]
    if not trials:
        missing = f"there is no trained trial of {spec.method} on {spec.dataset}, protocol {spec.protocol}"
        return f"{missing}; run: {command(*words)}"
    last = next((one for one in trials if one.spec.key == spec.key), trials[-1])
    reason = why_not(last, *_now(plan))
    run = command(*words, FORCE) if FORCE in reason else command(*words)
    return f"no trial of {spec.method} on {spec.dataset} can be used: {last.spec.key}: {reason}: {run}"
