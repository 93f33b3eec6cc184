"""Rows of leaderboards: the frame of results, one board per dataset and protocol, one row per method and recipe.

A recipe is ranked when all its seeds, begun or expected, are done with the newest data, protocol and source.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import nan
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from harness.config.cards import SELECTION, MethodCard
from harness.config.project import built_in
from harness.config.registry import settings_for, training_for
from harness.tracking.columns import described_settings, described_training
from harness.tracking.frame import ORDER
from harness.trial.external import command as score_command
from harness.trial.external import is_external, remark
from harness.trial.results import RECALLS, State, shortfalls

if TYPE_CHECKING:
    import pandas

Trial = Mapping[str, Any]  # one row of the frame, None where a cell is empty
MEANS = (
    *("rsum", *RECALLS, "i2t_tied", "t2i_tied"),
    *("best_val_rsum", "train_pairs_per_second", "score_pairs_per_second", "parameters"),
)
DATA = ("data_fingerprint", "protocol_version")
MACHINE = ("device", "cpu", "cores", "threads", "torch")
NAMES = {"source": "source", "data_fingerprint": "data", "protocol_version": "protocol version", "limit": "limit"}
SHORT = 12  # digits of a hash that people read
SPENT = ("trials", "epochs", "seconds", "device_seconds")  # what a search has cost
SECTIONS = ("ranked", "incomplete", "stale", "limited")


@dataclass(frozen=True)
class Standing:
    """One method with one recipe: what its seeds gave together."""

    method: str
    recipe: str
    differs: str  # from the method's other recipes in the same section
    seeds: tuple[int, ...]  # done
    runs: tuple[str, ...]  # of these seeds, by their ids in the store
    means: Mapping[str, float]  # nan where a seed lacks it
    sd: float  # of rsum over seeds (n - 1); nan for fewer than two
    machines: tuple[str, ...]
    commits: tuple[str, ...]
    dirty: bool
    source: str
    command: str
    reason: str  # why it is not ranked
    search: Mapping[str, float]  # SPENT in the search for its settings; empty: none
    campaign: str  # of that search
    trials: tuple[Trial, ...]  # all that the store has of them, done or not

    @property
    def n(self) -> int:
        """Seeds that are done."""
        return len(self.seeds)

    @property
    def remark(self) -> str:
        """What tells a row of scores that came in files from the others; empty for ours."""
        return remark(self.trials[0])

    @property
    def is_untrained(self) -> bool:
        return all(trial.get("epochs") == 0 for trial in self.trials)

    @property
    def place(self) -> tuple[float, str, str]:
        """Sorts a section: best mean first, then by name."""
        return (-self.means["rsum"] if self.seeds else 0.0, self.method, self.recipe)


@dataclass(frozen=True)
class Board:
    """One dataset and protocol; every trial of the frame stands in one of its sections."""

    dataset: str
    protocol: str
    version: int
    data: str  # fingerprint
    gallery: Mapping[str, int]  # of the ranked rows
    ranked: tuple[Standing, ...]
    incomplete: tuple[Standing, ...]
    stale: tuple[Standing, ...]
    limited: tuple[Standing, ...]

    @property
    def machines(self) -> tuple[str, ...]:
        return tuple(sorted({machine for row in self.ranked for machine in row.machines}))

    @property
    def is_searched(self) -> bool:
        return any(row.search for row in self.ranked)

    def is_unequal(self, row: Standing) -> bool:
        searched = [other.search for other in self.ranked if other.search]
        return bool(row.search) and any(shortfalls(row.search, searched))


def boards_of(frame: pandas.DataFrame, methods: Mapping[str, MethodCard]) -> list[Board]:
    """The boards of a frame, by dataset and protocol, without a search's trials; `methods` give known defaults."""
    ordered = frame.sort_values(ORDER).astype(object)
    trials = ordered.where(ordered.notna(), None).to_dict("records")
    shown = [trial for trial in trials if trial["protocol"] != SELECTION]
    return [board_of(part, methods) for part in grouped(shown, lambda trial: (trial["dataset"], trial["protocol"]))]


def board_of(trials: Sequence[Trial], methods: Mapping[str, MethodCard]) -> Board:
    full = [trial for trial in trials if trial["limit"] is None]
    newest = latest(full or trials)
    judged: dict[str, list[tuple[Sequence[Trial], str]]] = {section: [] for section in SECTIONS}
    old = replaced(trials)  # each stands for itself
    for recipe in grouped(trials, lambda trial: (trial["method"], trial["recipe"], old.get(trial["key"], ""))):
        section, why = judge(recipe, full, newest)
        judged[section].append((recipe, why))
    rows = {}
    for section in SECTIONS:
        beside = SECTIONS[:2] if section in SECTIONS[:2] else (section,)
        rivals = [recipe for name in beside for recipe, _ in judged[name]]
        standings = [standing(recipe, why, rivals, methods) for recipe, why in judged[section]]
        rows[section] = tuple(sorted(standings, key=lambda row: row.place))
    sizes = {name: newest[f"gallery.{name}"] for name in ("images", "captions", "folds")}
    return Board(
        dataset=newest["dataset"],
        protocol=newest["protocol"],
        version=newest["protocol_version"],
        data=newest["data_fingerprint"],
        gallery={name: size for name, size in sizes.items() if size is not None} if rows["ranked"] else {},
        **rows,
    )


def grouped(trials: Sequence[Trial], key: Callable[[Trial], Any]) -> list[list[Trial]]:
    """Trials that share a key, in the key's order."""
    return [list(part) for _, part in groupby(sorted(trials, key=key), key=key)]


def replaced(trials: Iterable[Trial]) -> dict[str, str]:
    """The external trials whose model and seed were scored from another file since: their sources by their keys."""
    files = [trial for trial in trials if is_external(trial["method"])]
    seeds = grouped(files, lambda trial: (trial["recipe"], trial["seed"]))
    return {trial["key"]: trial["source"] for seed in seeds for trial in seed if trial is not latest(seed)}


def is_done(trial: Trial) -> bool:
    return bool(trial["state"] == State.DONE and trial["rsum"] is not None)


def latest(trials: Iterable[Trial]) -> Trial:
    """The trial that ended last, of those with a result where there is one."""
    return max(trials, key=lambda trial: (is_done(trial), trial["ended"] or 0, trial["key"]))


def judge(recipe: Sequence[Trial], full: Sequence[Trial], newest: Trial) -> tuple[str, str]:
    """The section that a recipe stands in, and why it is not ranked."""
    first, missing = recipe[0], reasons(recipe)
    if first["limit"] is not None:
        return "limited", missing
    if any(first[name] != newest[name] for name in DATA) and begun_before(recipe, newest["ended"]):
        return "stale", f"data {first['data_fingerprint'][:SHORT]}, protocol version {first['protocol_version']}"
    others = (trial for trial in full if trial["source"] != first["source"] and identity(trial) == identity(first))
    if any(is_done(trial) and begun_before(recipe, trial["started"]) for trial in others):
        what = "file" if is_external(first["method"]) else "source of the method"
        return "stale", f"an earlier {what}, {first['source'][:SHORT]}"
    return ("incomplete", missing) if missing else ("ranked", "")


def begun_before(recipe: Sequence[Trial], moment: int | None) -> bool:
    """Whether a recipe was begun at all, and the last time before a moment."""
    begun = [trial["started"] for trial in recipe if trial["started"] is not None]
    return bool(begun) and max(begun) < (moment or 0)


def identity(trial: Trial) -> dict[str, Any]:
    """All that identifies a recipe but the method's source."""
    names = ("method", *DATA, "limit")
    return {
        name: value for name, value in trial.items() if name in names or name.startswith(("settings.", "training."))
    }


def reasons(recipe: Iterable[Trial]) -> str:
    """Why seeds are missing, those with one reason together; empty when all are done."""
    missing: dict[str, list[str]] = {}
    for trial in recipe:
        if not is_done(trial):
            missing.setdefault(reason(trial), []).append(str(trial["seed"]))
    return "; ".join(f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}: {text}" for text, seeds in missing.items())


def state_of(board: Board, section: str, trial: Trial) -> str:
    if is_done(trial):
        if section == "limited":
            return f"limited to {trial['limit']}"
        return f"stale {changed_since(board, trial)}" if section == "stale" else "done"
    match trial["state"]:
        case State.WAITING:
            return "not run"
        case State.FAILED:
            return f"failed: {trial['failure'] or 'no reason in the store'}"
        case State.DONE:
            return "no rsum"
    return str(trial["state"])


def changed_since(board: Board, trial: Trial) -> str:
    if trial["data_fingerprint"] != board.data:
        return "data"
    return "protocol" if trial["protocol_version"] != board.version else "source"


def reason(trial: Trial) -> str:
    match trial["state"]:
        case State.WAITING:
            return "not run"
        case State.FAILED:
            return f"failed ({trial['failure']})" + (f": {trial['message']}" if trial["message"] else "")
        case State.DONE:
            return "no rsum in the store"
    after = f"after epoch {trial['epoch']:.0f}" if trial["epoch"] else "in its first epoch"
    if trial["state"] == State.PRUNED:
        return f"pruned {after}"
    return f"{'running or cut off' if trial['state'] == State.RUNNING else 'interrupted'} {after}"


def standing(
    recipe: Sequence[Trial], why: str, rivals: Iterable[Sequence[Trial]], methods: Mapping[str, MethodCard]
) -> Standing:
    first, done = recipe[0], [trial for trial in recipe if is_done(trial)]
    sums = [trial["rsum"] for trial in done]
    searched = next((trial for trial in recipe if trial.get("search.campaign")), first)
    campaign = searched.get("search.campaign") or ""
    return Standing(
        method=first["method"],
        recipe=first["recipe"],
        differs=differences(first, [rival[0] for rival in rivals if rival[0]["method"] == first["method"]]),
        seeds=tuple(trial["seed"] for trial in done),
        runs=tuple(trial.get("run_id") or "" for trial in done),
        means={name: mean([trial.get(name) for trial in done]) for name in MEANS},
        sd=stdev(sums) if len(sums) > 1 else nan,
        machines=() if is_external(first["method"]) else tuple(sorted({machine(trial) for trial in done})),
        commits=tuple(sorted({trial.get("env.commit") or "" for trial in done} - {""})),
        dirty=any(trial.get("env.dirty") == "yes" for trial in done),
        source=first["source"],
        command=command(done or recipe, methods.get(first["method"])),
        reason=why,
        search={name: float(searched[f"search.{name}"]) for name in SPENT} if campaign else {},
        campaign=campaign,
        trials=tuple(recipe),
    )


def mean(values: Sequence[float | None]) -> float:
    """The mean; nan where one is missing, never a mean over the rest."""
    present = [value for value in values if value is not None]
    return fmean(present) if present and len(present) == len(values) else nan


def differences(trial: Trial, rivals: Sequence[Trial]) -> str:
    """What a recipe has that others of its method have not; an external one is no other for its file."""
    names = [name for name in trial if name in NAMES or name.startswith(("settings.", "training."))]
    names = [name for name in names if name != "source" or not is_external(trial["method"])]
    varying = [name for name in names if any(rival[name] != trial[name] for rival in rivals)]
    parts = [f"{NAMES.get(name, name.removeprefix('settings.'))} {value_of(trial, name)}" for name in varying]
    return ", ".join(parts)


def value_of(trial: Trial, name: str) -> str:
    text = str(trial[name]) if trial[name] is not None else "absent"
    return text[:SHORT] if name in ("source", "data_fingerprint") else text


def machine(trial: Trial) -> str:
    """The machine that a trial was run on, as far as it decides the speed: no clock, no host name."""
    device, cpu, cores, threads, torch = (trial.get(f"env.{name}") or "unknown" for name in MACHINE)
    on = cpu if device == "cpu" else f"{device}, {cpu}"
    return f"{on}; cores: {cores}, torch threads a trial: {threads}, torch {torch}"


def command(trials: Sequence[Trial], card: MethodCard | None) -> str:
    """The command that runs these seeds again; of an external recipe one per line, as each seed has its file."""
    trial, seeds = trials[0], [trial["seed"] for trial in trials]
    if is_external(trial["method"]):
        return "\n".join(map(score_command, trials))
    plain = built_in().for_dataset(trial["dataset"])
    training = training_for(card, plain) if card else plain.training
    defaults = {**described_settings(settings_for(card, plain) if card else {}), **described_training(training)}
    chosen = {
        name: text for name, text in trial.items() if name.startswith(("settings.", "training.")) and text is not None
    }
    changed = {name: text for name, text in chosen.items() if defaults.get(name) != text}
    words = ["harness", "run", "--methods", trial["method"], "--datasets", trial["dataset"]]
    words += ["--protocol", trial["protocol"], "--seeds", ",".join(map(str, seeds))]
    words += [] if trial["limit"] is None else ["--limit", str(trial["limit"])]
    for name, text in sorted(changed.items()):
        place = name.replace("settings.", f"settings.{trial['method']}.", 1)
        words += ["-s", f"{place}={text}"]
    return shlex.join(words)
