"""Rankings and per-query ranks of runs, from the tracking store alone: as TREC files or as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.board.comparison import missing, row_of
from harness.board.standings import Board
from harness.errors import DataError, StoreError, UsageError, unknown
from harness.evaluation.ranking_files import files_of, write_tables
from harness.evaluation.rankings import StoredRun
from harness.evaluation.records import TrialRankings, TrialRanks
from harness.files import write_atomic
from harness.tracking import artifacts
from harness.tracking.frame import name_of, run_of
from harness.tracking.result_store import ResultStore

if TYPE_CHECKING:
    import pandas

Trial = Mapping[str, Any]  # a row of the store's frame
TREC = "trec"
DIGITS = 8  # of a fingerprint within a file's name


@dataclass(frozen=True)
class Written:
    files: tuple[Path, ...]
    runs: int
    notes: tuple[str, ...]


def within(frame: pandas.DataFrame, dataset: str, protocol: str) -> pandas.DataFrame:
    """The trials of one dataset and protocol, of all where none is named; UsageError for one that has no trials."""
    for name, value in (("dataset", dataset), ("protocol", protocol)):
        if value:
            if value not in set(frame[name]):
                raise UsageError(unknown(name, value, set(frame[name])))
            frame = frame[frame[name] == value]
    return frame


def chosen(frame: pandas.DataFrame, boards: Sequence[Board], names: Sequence[str]) -> list[Trial]:
    """The finished trials of rows or run ids, each once, of all ranked rows for no names; DataError where none is."""
    ids = [run for name in names for run in named(frame, boards, name)]
    if not names:
        ids = [run for board in boards for row in board.ranked for run in row.runs]
    if not ids:
        raise DataError("no row is ranked yet; `harness run` makes some, and single runs are exported by their ids")
    trials = frame[frame["run_id"].isin(ids)].set_index("run_id", drop=False).astype(object)
    return [dict(trials.where(trials.notna(), None).loc[run]) for run in dict.fromkeys(ids)]


def named(frame: pandas.DataFrame, boards: Sequence[Board], name: str) -> Sequence[str]:
    if run := run_of(frame, name):
        return [run["run_id"]]
    rows = [side for board in boards if (side := row_of(board, name))]
    if not rows:
        raise UsageError(missing(boards, [name]))
    return [run for side in rows for run in side.runs]


def written(trials: Sequence[Trial], store: ResultStore, form: str, folder: Path) -> Written:
    """Write what the store has of some trials; DataError where it has nothing, StoreError for a bad folder."""
    runs = Available(trials, store, form)
    try:
        files = write_trec(runs, folder) if form == TREC else write_tables(runs, folder, form)
    except OSError as error:
        raise StoreError(f"the files cannot be written to {folder}: {error}; choose another folder with -o") from error
    if not files:
        raise DataError("\n".join(["nothing could be exported:", *runs.notes]))
    return Written(tuple(files), runs.count, tuple(runs.notes))


class Available:
    """The trials that can be written in a form, one at a time, as their arrays are large, and what others lack."""

    def __init__(self, trials: Sequence[Trial], store: ResultStore, form: str) -> None:
        self.trials, self.store, self.form = trials, store, form
        self.notes: list[str] = []
        self.count = 0

    def __iter__(self) -> Iterator[StoredRun]:
        for trial in self.trials:
            ranks = artifacts.ranks(self.store.artifact, trial["run_id"], ties=True)
            rankings = artifacts.rankings(self.store.artifact, trial["run_id"], scores=True)
            if lack := lacking(ranks, rankings, self.form):
                self.notes.append(f"{name_of(trial)}: {lack}")
            if ranks and (rankings or self.form != TREC):
                self.count += 1
                yield run_with(trial, ranks, rankings)


def lacking(ranks: TrialRanks | None, rankings: TrialRankings | None, form: str) -> str:
    """The reason why a trial is exported in part or not at all; empty where it has everything."""
    if not ranks:
        return "left out, as the store has no usable ranks of it"
    if not rankings:
        left = (
            "left out; csv and parquet have its ranks" if form == TREC else "its ranks alone, by numbers in the split"
        )
        return f"{left}: the store has no rankings of it, or it is older than they are kept"
    return "" if rankings.image_ids else "by numbers in the split: it is older than image ids are kept"


def run_with(trial: Trial, ranks: TrialRanks, rankings: TrialRankings | None) -> StoredRun:
    names = ("key", "method", "recipe", "seed", "dataset", "protocol")
    limit = f"-first{trial['limit']}" if trial["limit"] else ""
    data = f"v{trial['protocol_version']}-{trial['data_fingerprint'][:DIGITS]}{limit}"
    return StoredRun(**{name: trial[name] for name in names}, data=data, ranks=ranks, rankings=rankings)


def write_trec(runs: Iterable[StoredRun], folder: Path) -> list[Path]:
    """Write the TREC files of runs that have rankings; qrels that several share once."""
    files: dict[Path, None] = {}
    for run in runs:
        for name, text in files_of(run, run.rankings) if run.rankings else ():
            if folder / name not in files:
                write_atomic(folder / name, text)
                files[folder / name] = None
    return [*files]
