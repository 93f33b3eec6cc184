"""Finished trials of another project or machine, taken into this one with all that boards and tests need of them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.campaign.driver import only_driver
from harness.campaign.healing import log_again
from harness.campaign.plan import check_writable
from harness.config.cards import SELECTION
from harness.config.names import RESULTS
from harness.config.project import TRIALS, Config
from harness.errors import DataError, Location, count
from harness.evaluation.records import RANKS
from harness.files import has_file, has_folder, listing, read_bytes, replacing
from harness.portable.record_checks import AGAIN, check_record
from harness.tracking.artifacts import ARTIFACTS, PARSERS
from harness.tracking.logged import is_logged, write_memory
from harness.tracking.store import default_uri
from harness.trial.folder import (
    ATTEMPTS,
    CHECKPOINT,
    NOISE_INDEX,
    RESULT,
    SPEC,
    VERIFICATION,
    WRONG_PAIRS,
    read_result,
)
from harness.trial.results import State, TrialResult

REST = (*(name for name in ARTIFACTS if name != RESULT), CHECKPOINT, ATTEMPTS, VERIFICATION, WRONG_PAIRS, NOISE_INDEX)
NEEDED = (SPEC, RANKS)  # what a result is of no use without


@dataclass(frozen=True)
class ForeignTrial:
    """A finished trial outside this project."""

    result: TrialResult
    folder: Path


@dataclass(frozen=True, repr=False)
class ImportedResults:
    """What became of the trials in folders that were imported."""

    taken: list[ForeignTrial]
    known: list[ForeignTrial]  # this project has the same result
    other: list[ForeignTrial]  # this project or an earlier folder has another result of the same key, which is kept
    left: Counter[str]  # folders without a result to take, by why

    def __repr__(self) -> str:
        """How many there are of each, on one line."""
        taken, left = count(len(self.taken), "trial"), self.left.total()
        return f"<{taken} taken, {len(self.known)} known, {len(self.other)} other, {left} left out>"


def import_results(
    config: Config, folders: Sequence[Path], dry_run: bool = False, tell: Callable[[str], None] = lambda _: None
) -> ImportedResults:
    """Copy the finished trials in folders into the results folder, and log them; nothing is trained or changed.

    folders: each a project, a results folder, a folder of trials' folders, or one trial's.
    All are checked before the first is copied: DataError names the file that is damaged or does not fit its result.
    What the project has already stays, and is logged if the tracking store was away before.
    """
    trials, left = foreign_trials(folders)
    for trial in trials:
        check(trial)
    imported, taken = ImportedResults([], [], [], left), dict[str, TrialResult]()
    for trial in trials:
        own = taken.get(trial.result.key) or read_result(config.results / TRIALS / trial.result.key)
        if own is None or own.state is not State.DONE:
            imported.taken.append(trial)
            taken[trial.result.key] = trial.result
        elif own.numbers == trial.result.numbers:
            imported.known.append(trial)
        else:
            imported.other.append(trial)
    if not dry_run and (imported.taken or imported.known):
        take(config, imported, tell)
    return imported


def foreign_trials(folders: Sequence[Path]) -> tuple[list[ForeignTrial], Counter[str]]:
    """The finished trials in folders, each once, and how many of the rest are left out for which reason."""
    trials: dict[str, ForeignTrial] = {}  # by their key and numbers: of one key there may be several
    left: Counter[str] = Counter()
    for folder in folders:
        of_folder = list(trial_folders(folder))
        for one in of_folder:
            result = read_record(one)
            if reason := why_left(result):
                left[reason] += 1
            elif result:
                trials.setdefault(result.numbers, ForeignTrial(result, one))
        if not of_folder:
            message = f"no trial in it; give a project, its results folder ({RESULTS}/), or folders of its {TRIALS}/"
            raise DataError(message, Location(folder))
    return [*trials.values()], left


def trial_folders(folder: Path) -> Iterator[Path]:
    """The folders of trials that a folder means."""
    if has_file(folder / SPEC) or has_file(folder / RESULT):
        yield folder
        return
    nearest = next((place for place in (folder / RESULTS / TRIALS, folder / TRIALS) if has_folder(place)), folder)
    yield from (place for place in listing(nearest) if has_file(place / SPEC) or has_file(place / RESULT))


def read_record(folder: Path) -> TrialResult | None:
    """The result in a trial's folder; None where it has not ended."""
    if not has_file(folder / RESULT):
        return None
    content = read_bytes(folder / RESULT)
    try:
        return TrialResult.model_validate_json(content)
    except ValueError as error:
        raise DataError(f"this is no result of a trial; {AGAIN}", Location(folder / RESULT)) from error


def why_left(result: TrialResult | None) -> str:
    """Why a trial's folder has no result to take; empty where it has one."""
    if result is None:
        return "not ended"
    if result.spec.protocol == SELECTION:
        return "of a search, which stays with its study"
    return "" if result.state is State.DONE else result.state.value


def check(trial: ForeignTrial) -> None:
    """DataError where a file of a trial is a link, damaged, or of another trial, or where ranks deny its result."""
    check_links(trial.folder)
    for name in REST:
        file = trial.folder / name
        if not has_file(file):
            if name in NEEDED:
                raise DataError(f"no such file beside {RESULT}; {AGAIN}", Location(file))
        elif name in PARSERS and not is_readable(file):
            raise DataError(f"the file is damaged; {AGAIN}", Location(file))
    if PARSERS[SPEC](read_bytes(trial.folder / SPEC)) != trial.result.spec:
        raise DataError(f"it is of another trial than {RESULT} beside it; {AGAIN}", Location(trial.folder / SPEC))
    check_record(trial.result, trial.folder)


def check_links(folder: Path) -> None:
    """DataError for a link in place of a file: what lies elsewhere is no part of a trial."""
    links = [folder / name for name in (RESULT, *REST) if (folder / name).is_symlink()]
    if links:
        raise DataError(
            f"it is a link, which is not followed; put the file itself there, or {AGAIN}", Location(links[0])
        )


def is_readable(file: Path) -> bool:
    content = read_bytes(file)
    try:
        return PARSERS[file.name](content) is not None
    except ValueError:
        return False


def take(config: Config, imported: ImportedResults, tell: Callable[[str], None]) -> None:
    """Copy what is new, and log it and what the tracking store has missed before."""
    uri = default_uri(config)
    check_writable(config.results)
    with only_driver(config.results):
        for trial in imported.taken:
            tell(trial.result.spec.label)
            copy(trial.folder, config.results / TRIALS / trial.result.key)
        keys = [trial.result.key for trial in (*imported.taken, *imported.known)]
        places = [config.results / TRIALS / key for key in keys]
        log_again(
            [(result, place) for place in places if not is_logged(place, uri) and (result := read_result(place))], uri
        )
        write_memory(config.results, uri)


def copy(source: Path, destination: Path) -> None:
    """Copy a trial's files, its result last: a folder with a result is complete.

    Nothing stays of an attempt that this project has not finished: its epochs and weights are not those of the result.
    """
    for name in (*REST, RESULT):
        if not has_file(source / name):
            (destination / name).unlink(missing_ok=True)
        else:
            with replacing(destination / name) as part:
                shutil.copyfile(source / name, part)
