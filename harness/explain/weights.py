"""The weights that a trial has left: which trial of the results folder is meant, and its method at its best epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.campaign.plan import Plan, selected
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.selection import Selection
from harness.errors import DataError, UsageError
from harness.trial.folder import CHECKPOINT, RESULT, read_result
from harness.trial.results import State, TrialResult, TrialSpec

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.method import Method

SHORTEST = 4  # characters by which a trial may be named


@dataclass(frozen=True)
class TrialChoice:
    """Which trial is meant: an empty protocol is the dataset's first, no seed is any, a key may be its start."""

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


def trained(config: Config, registry: Registry, choice: TrialChoice) -> Trained:
    """The trial with this key; without one that of the configuration as it is, its first seed first, else the newest.

    UsageError where there is none, or where its source or its data are no longer here.
    """
    seeds = () if choice.seed is None else (choice.seed,)
    plan = selected(config, registry, Selection((choice.method,), (choice.dataset,), choice.protocol, seeds))
    trials = list(finished(config.trials))
    if choice.key:
        one = named(trials, choice)
        if reason := why_not(one, plan):
            raise UsageError(f"trial {one.spec.key}, {one.spec.label}: {reason}")
        return one
    spec = plan.trials[0].spec
    same = [one for one in trials if _subject(one.spec, choice.seed) == _subject(spec, choice.seed)]
    usable = [one for one in same if not why_not(one, plan)]
    if not usable:
        raise UsageError(_absent(spec, same, plan))
    places = {trial.spec.key: place for place, trial in enumerate(plan.trials)}
    newest = sorted(usable, key=lambda one: -(one.folder / RESULT).stat().st_mtime)
    return min(newest, key=lambda one: (places.get(one.spec.key, len(places)), one.spec.limit is not None))


def finished(trials: Path) -> Iterator[Trained]:
    for file in sorted(trials.glob(f"*/{RESULT}")):
        result = read_result(file.parent)
        if result is not None and result.state is State.DONE:
            yield Trained(file.parent, result)


def named(trials: Sequence[Trained], choice: TrialChoice) -> Trained:
    """The trial whose key begins so; UsageError where it is not one, or of another method or dataset."""
    matching = [one for one in trials if one.spec.key.startswith(choice.key)]
    if len(choice.key) < SHORTEST or not matching:
        raise UsageError(f"no finished trial has a key that begins with {choice.key!r} ({SHORTEST} characters or more)")
    if len(matching) > 1:
        raise UsageError(f"{choice.key} is the start of {len(matching)} keys; give more of it")
    spec = matching[0].spec
    if (spec.method, spec.dataset) != (choice.method, choice.dataset):
        raise UsageError(f"trial {spec.key} is {spec.label}: give --method {spec.method} --dataset {spec.dataset}")
    return matching[0]


def why_not(one: Trained, plan: Plan) -> str:
    """Why the weights of a trial cannot be used now; empty where they can."""
    now = plan.trials[0].spec
    if one.spec.source != now.source:
        return "the method's source has changed since; run it again"
    if one.spec.data_fingerprint != now.data_fingerprint:
        return "the dataset has changed since; run it again"
    if not (one.folder / CHECKPOINT).is_file():
        return f"its {CHECKPOINT} is gone; run it again with --force"
    return ""


def best_weights(one: Trained, registry: Registry, dataset: Dataset) -> Method:
    """The method of a trial with the weights of its best epoch, on the CPU; DataError where they are damaged."""
    from harness.trial.checkpoint import fits, load_checkpoint
    from harness.trial.device import choose_device
    from harness.trial.steps import build_method

    state = load_checkpoint(one.folder / CHECKPOINT, choose_device("cpu"))
    best = state.get("best") if state else None
    weights: Any = best.get("method") if isinstance(best, dict) else None
    method = build_method(registry.methods[one.spec.method], one.spec.settings, dataset, one.spec.seed)
    if not fits(weights, method):
        raise DataError(f"{one.folder / CHECKPOINT} is damaged; run {one.spec.label} again with --force")
    method.load_state_dict(weights)
    return method


def _subject(spec: TrialSpec, seed: int | None) -> tuple[str, str, str, int | None]:
    return spec.method, spec.dataset, spec.protocol, None if seed is None else spec.seed


def _absent(spec: TrialSpec, trials: Sequence[Trained], plan: Plan) -> str:
    run = f"harness run --methods {spec.method} --datasets {spec.dataset}"
    run += f" --protocol {spec.protocol} --seeds {spec.seed}"
    if not trials:
        return f"there is no trained trial of {spec.method} on {spec.dataset}, protocol {spec.protocol}; run: {run}"
    last = trials[-1]
    return f"no trial of {spec.method} on {spec.dataset} can be used: {last.spec.key}: {why_not(last, plan)}: {run}"
