"""What lies in a project's folders, sorted by whether anything needs it.

A trial on a board, or one that a command can continue, is needed. Its checkpoint is needed by what uses weights alone,
and goes only where that is asked for. A folder that is a link is another project's: nothing in it goes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from harness.board.standings import boards_of
from harness.campaign.current import current
from harness.campaign.removal import BACKUP, GRAVEYARD, half_written_files, own_folders
from harness.campaign.reproduction import REPRODUCED
from harness.config.cards import SELECTION
from harness.config.project import Config
from harness.config.registry import Registry
from harness.files import entries
from harness.tracking.discarded import discarded_artifacts
from harness.tracking.logged import is_logged
from harness.tracking.result_store import ResultStore
from harness.tracking.store import artifacts_of, default_uri, is_absent, sqlite_file
from harness.trial.external import is_external
from harness.trial.folder import CHECKPOINT, RESULT, read_result, read_spec
from harness.trial.private_folders import left_behind
from harness.trial.results import EVALUATION_VERSION, TRAINING_VERSION, Current, State, TrialResult, TrialSpec

ENDED = (State.DONE, State.PRUNED)
TRAINED_WITH = ("data_fingerprint", "source", "training_version")  # of a spec: what decides its training
CHECKPOINTS, CACHE = "--checkpoints", "--cache"  # flags that kinds need


class Sized(NamedTuple):
    """A file or folder with its size."""

    path: Path
    bytes: int


class Kind(NamedTuple):
    """One kind of what can go: its name, why nothing needs it, and the flag that it needs to go."""

    name: str
    reason: str
    flag: str
    look: Callable[[], Iterable[Path]]


@dataclass(frozen=True)
class Heap:
    """All that is there of one kind."""

    name: str
    reason: str
    flag: str
    items: tuple[Sized, ...]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)


class TrialFolder(NamedTuple):
    """A trial's folder with what can be read of it."""

    path: Path
    spec: TrialSpec
    result: TrialResult | None


TEMPORARY = "temporary folders"  # removed by those who know their locks


def heaps(config: Config, registry: Registry, tell: Callable[[str], None]) -> list[Heap]:
    """What can go, by kind, the largest first; `tell` hears what is looked at."""
    piles = []
    for kind in kinds(config, registry, tell):
        tell(kind.name)
        items = tuple(Sized(path, size_of(path)) for path in kind.look())
        piles.append(Heap(kind.name, kind.reason, kind.flag, items))
    return sorted((pile for pile in piles if pile.items), key=lambda pile: (bool(pile.flag), -pile.bytes))


def kinds(config: Config, registry: Registry, tell: Callable[[str], None]) -> Iterator[Kind]:
    """All that can go, of trials and beside them."""
    tell("trials")
    trials = [*trial_folders(config.trials)]
    tell("boards")
    now = current(config, registry)
    stale = stale_keys(config, registry, now)
    yield from kinds_of_trials(trials, stale, now, default_uri(config))
    yield Kind("old attempts", "kept by --force; a newer attempt has ended well", "", partial(replaced, config))
    yield Kind("reproductions", "of `harness reproduce`, which has compared them", "", partial(reproductions, config))
    artifacts = partial(discarded_artifacts, default_uri(config))
    yield Kind("deleted runs", "files of runs that the store has no longer", "", artifacts)
    yield Kind(TEMPORARY, "of commands that were killed", "", left_behind)
    yield Kind("half-written files", "of commands that were killed", "", partial(half_written, config))
    yield Kind("cache", "made again when it is needed, which takes a while", CACHE, partial(entries, config.cache))


def kinds_of_trials(trials: Sequence[TrialFolder], stale: set[str], now: Current, uri: str) -> Iterator[Kind]:
    """Trials and checkpoints that nothing needs, and those that not all commands need."""
    # What is stale beside results of a later version, but would be planned just so by this one, stays.
    gone = [one for one in trials if one.spec.key in stale and one.spec != planned_now(one.spec, now)]
    old = [one.path for one in gone if is_logged(one.path, uri)]
    reason = "of a source, data or protocol that is another now; their rows stay under Stale, from the store"
    yield Kind("stale trials", reason, "", lambda: old)
    begun = [one.path for one in trials if not one.result and is_outdated(one.spec, now)]
    reason = "never ended, and their source or data is another now: no command continues them"
    yield Kind("unfinished trials", reason, "", lambda: begun)
    searched = [one for one in trials if one.spec.protocol == SELECTION]
    reason = "of search trials that ended; only explain, retrieve or export of one, or --test-on, would use them"
    yield Kind("checkpoints of searches", reason, "", partial(checkpoints, searched))
    reason = "of trials on boards; explain, load and new ensembles need them, `harness run --force` makes them again"
    yield Kind("checkpoints", reason, CHECKPOINTS, lambda: checkpoints(one for one in trials if is_kept(one, stale)))


def needed(config: Config, piles: Sequence[Heap]) -> list[Heap]:
    """What stays, with its size and what needs it."""
    gone = {item.path: item.bytes for pile in piles for item in pile.items}
    places = {
        "trials": ("boards, searches and `harness run` need them", [config.trials]),
        "tracking store": ("boards are made from it", store_files(default_uri(config))),
        "studies": ("searches go on from them", entries(config.results, "studies.")),
        "reports": ("the boards themselves", [config.reports]),
    }
    rest = []
    for name, (reason, paths) in places.items():
        size = sum(size_of(path.resolve()) for path in paths)  # such a place may be a link to another disk
        size -= sum(bytes for path, bytes in gone.items() if any(path.is_relative_to(place) for place in paths))
        rest.append(Heap(name, reason, "", (Sized(paths[0], max(size, 0)),) if paths else ()))
    return [pile for pile in rest if pile.bytes]


def store_files(uri: str) -> list[Path]:
    """The database of a tracking store with the files beside it, and the folder of its artifacts; none of a server."""
    artifacts, database = artifacts_of(uri), sqlite_file(uri)
    return [*entries(database.parent, database.name), artifacts] if artifacts else []


def trial_folders(trials: Path) -> Iterator[TrialFolder]:
    """The project's own folders of trials whose spec can be read; those that --force kept are left out."""
    for folder in own_folders(trials):
        result = read_result(folder)
        spec = result.spec if result else read_spec(folder)
        if spec and spec.key == folder.name:
            yield TrialFolder(folder, spec, result)


def stale_keys(config: Config, registry: Registry, now: Current) -> set[str]:
    """The keys of trials in the rows that boards list as stale, but for scores from elsewhere."""
    uri = default_uri(config)
    if is_absent(uri):
        return set()
    boards = boards_of(ResultStore(uri).runs(), registry.methods, now)
    rows = [row for board in boards for row in board.stale]
    return {run.key for row in rows for run in row.runs if run.is_done and not is_external(run.spec.method)}


def planned_now(spec: TrialSpec, now: Current) -> TrialSpec:
    """The spec that the same trial would have if it were planned now; empty or 0 where that is not known."""
    return spec.model_copy(
        update={
            "data_fingerprint": now.data(spec.dataset),
            "test_fingerprint": now.test_data(spec.tested_on) if spec.tested_on else "",
            "protocol_version": now.protocol(spec.test_dataset, spec.test_protocol),
            "source": now.source(spec.method),
            "training_version": TRAINING_VERSION if spec.training_version else 0,
            "evaluation_version": EVALUATION_VERSION,
        }
    )


def is_outdated(spec: TrialSpec, now: Current) -> bool:
    """Whether training as it would be planned now cannot continue this one; False where that is not known."""
    other = planned_now(spec, now)
    differing = (name for name in TRAINED_WITH if getattr(spec, name) != getattr(other, name))
    return not is_external(spec.method) and any(getattr(other, name) for name in differing)


def is_kept(one: TrialFolder, stale: set[str]) -> bool:
    """Whether a trial's folder stays, so that its checkpoint is a matter of its own."""
    return one.spec.protocol != SELECTION and one.spec.key not in stale


def checkpoints(trials: Iterable[TrialFolder]) -> list[Path]:
    """The checkpoints of trials that ended well: of others they are what the next attempt continues from."""
    files = [one.path / CHECKPOINT for one in trials if one.result and one.result.state in ENDED]
    return [file for file in files if file.is_file()]


def replaced(config: Config) -> list[Path]:
    """The folders that --force kept, of trials that have ended well since."""
    folders = [folder for folder in entries(config.trials) if BACKUP in folder.name]
    newer = {one: read_result(one.with_name(one.name.partition(BACKUP)[0])) for one in folders}
    return [one for one, result in newer.items() if result and result.state in ENDED]


def reproductions(config: Config) -> list[Path]:
    """The folders of repetitions that ended."""
    return [folder for folder in entries(config.results / REPRODUCED) if (folder / RESULT).is_file()]


def half_written(config: Config) -> list[Path]:
    """Files that a killed command was writing, and folders that it was removing."""
    return [*half_written_files(config), *entries(config.results / GRAVEYARD)]


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files below a folder; no link is followed."""
    try:
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        with os.scandir(path) as inside:
            return sum(size_of(Path(entry.path)) for entry in inside)
    except OSError:  # gone meanwhile, or another user's
        return 0
