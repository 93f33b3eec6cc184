"""Results removed on purpose: the folders of trials, their runs in the tracking store, and what is expected of them."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.campaign.driver import only_driver
from harness.config.project import Config
from harness.errors import UsageError, unknown
from harness.files import abandoned_parts, entries
from harness.tracking.logged import write_memory
from harness.tracking.naming import Candidate, alone, is_meant
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run
from harness.tracking.store import default_uri, is_absent
from harness.tracking.tracker import Tracker
from harness.trial.external import PREFIX, is_external
from harness.trial.folder import RESULT, gallery_folder, read_result, read_spec
from harness.trial.results import TrialSpec

BACKUP = ".old-"
GRAVEYARD = ".gc"  # in the results folder: what is being removed
METHOD = "method:"  # before the name of a method, where a scored model has the same one


def own_folders(trials: Path) -> list[Path]:
    """The folders of trials by name, but for links, which lead to what is another project's."""
    return [path for path in entries(trials) if not path.is_symlink()]


def half_written_files(config: Config) -> list[Path]:
    """What killed commands were writing among the project's results and reports."""
    folders = [config.results, config.cache, config.reports, *own_folders(config.trials)]
    return [part for folder in folders for part in abandoned_parts(folder)]


@dataclass(frozen=True)
class StoredTrial:
    """A trial with all that is kept of it."""

    spec: TrialSpec
    state: str
    rsum: float | None
    folders: tuple[Path, ...]
    in_store: bool
    ended: float | None = None  # seconds since the epoch

    @property
    def shown_rsum(self) -> str:
        return "–" if self.rsum is None else f"{self.rsum:.1f}"

    def as_json(self) -> dict[str, Any]:
        identity = {"key": self.spec.key, "label": self.spec.label, "state": self.state, "rsum": self.rsum}
        return {**identity, "folders": [str(folder) for folder in self.folders]}


def removals(config: Config, names: Sequence[str]) -> list[StoredTrial]:
    """What names mean: all of a method or an external model, a trial such as caan/scenes/s0, or the start of a key.

    UsageError for a name that means nothing, and for one of a trial that may mean several.
    """
    folders, runs = kept_folders(config.trials), runs_in_store(default_uri(config))
    specs = {key: run.spec for key, run in runs.items()} | {key: spec for key, (spec, _) in folders.items()}
    trials: dict[str, StoredTrial] = {}
    for name in names:
        meant = of_method(name, specs.values())
        is_method = bool(meant)
        meant = meant or [spec for spec in specs.values() if is_meant(name, Candidate(spec))]
        if not meant:
            known = {text for spec in specs.values() for text in (spec.method, spec.label)}
            raise UsageError(f"{unknown('result', name, known)}; the start of a key will do as well")
        every = [stored(spec, folders.get(spec.key, (spec, []))[1], runs.get(spec.key)) for spec in meant]
        if not is_method:
            alone(name, every, candidate)
        trials |= {one.spec.key: one for one in every}
    return sorted(trials.values(), key=place)


def trials_in(folder: Path) -> list[StoredTrial]:
    """Every trial that has a folder in one of trials, whatever became of it."""
    every = [stored(spec, folders, None) for spec, folders in kept_folders(folder).values()]
    return sorted(every, key=place)


def place(one: StoredTrial) -> tuple[str, str, int, str]:
    """Where a trial stands in a list."""
    return one.spec.dataset, one.spec.method, one.spec.seed, one.spec.key


def of_method(name: str, specs: Iterable[TrialSpec]) -> list[TrialSpec]:
    """The trials of a method or of a scored model; UsageError where the name is that of both."""
    whole = {spec.method if is_external(spec.method) else f"{METHOD}{spec.method}": spec.method for spec in specs}
    names = [full for full in whole if name in (full, full.removeprefix(METHOD), full.removeprefix(PREFIX))]
    if len(names) > 1:
        raise UsageError(f"{name} is a method and a model of `harness score`; give {' or '.join(sorted(names))}")
    return [spec for spec in specs if names and spec.method == whole[names[0]]]


def candidate(one: StoredTrial) -> Candidate:
    """A trial as a list of those that a name may mean shows it."""
    return Candidate(one.spec, one.rsum, one.ended)


def stored(spec: TrialSpec, folders: Sequence[Path], run: Run | None) -> StoredTrial:
    result = next((result for folder in folders if (result := read_result(folder))), run.result if run else None)
    state = result.state.value if result else "begun" if folders else run.state.value if run else ""
    rsum = result.measures.get("rsum") if result else None
    ended = [(folder / RESULT).stat().st_mtime for folder in folders if (folder / RESULT).is_file()]
    ended += [run.ended / 1000] if run and run.ended else []
    return StoredTrial(
        spec, state, rsum, tuple(folders), run is not None and bool(run.run_id), max(ended, default=None)
    )


def kept_folders(trials: Path) -> dict[str, tuple[TrialSpec, list[Path]]]:
    """The folders of every trial by its key, those that --force has kept too."""
    folders: dict[str, tuple[TrialSpec, list[Path]]] = {}
    for folder in entries(trials):
        result = read_result(folder)
        spec = result.spec if result else read_spec(folder)
        if spec and spec.key == folder.name.partition(BACKUP)[0]:
            folders.setdefault(spec.key, (spec, []))[1].append(folder)
    return folders


def runs_in_store(uri: str) -> dict[str, Run]:
    """The runs of the store by key; none where it is a file that is not there."""
    if is_absent(uri):
        return {}
    return {run.key: run for run in ResultStore(uri).runs()}


def remove(config: Config, trials: Iterable[StoredTrial], tell: Callable[[str], None], cache: bool = False) -> None:
    """Remove trials, and the cache if wanted; ResourceError while another command is at work in the results folder.

    `tell` hears of every trial and item before it goes. Interrupted, no trial is half removed: the same call goes on.
    """
    if not config.results.is_dir():
        return
    with only_driver(config.results):
        remove_trials(config, list(trials), tell)
        for path in entries(config.cache) if cache else ():  # which may be a link to a folder elsewhere
            tell(f"cache: {path.name}")
            discard(path, config.results / GRAVEYARD)
        for folder in (config.results / GRAVEYARD, *([config.cache] * cache)):
            with suppress(OSError):  # not empty, a link, or not there
                folder.rmdir()


def remove_trials(config: Config, trials: Sequence[StoredTrial], tell: Callable[[str], None]) -> None:
    """Remove trials from the store, with their folders and all that was made with their weights."""
    uri = default_uri(config)
    if trials and not is_absent(uri):
        Tracker(uri).forget([trial.spec.key for trial in trials])
    for trial in trials:
        tell(trial.spec.label)
        for folder in (*trial.folders, gallery_folder(config.cache, trial.spec.key)):
            discard(folder, config.results / GRAVEYARD)
    if trials:
        write_memory(config.results, uri)


def discard(path: Path, graveyard: Path) -> None:
    """Remove a file, a link or a folder: a folder is moved away first, so that nobody meets half of it."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if path.parent != graveyard:
        graveyard.mkdir(exist_ok=True)
        grave = graveyard / f"{path.name}-{secrets.token_hex(4)}"
        with suppress(OSError):  # on another disk it is removed where it is
            path = path.rename(grave)
    shutil.rmtree(path)
