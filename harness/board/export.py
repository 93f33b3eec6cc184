"""Rankings and per-query ranks of runs, from the tracking store alone: as TREC files or as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.board.comparison import missing, row_of
from harness.board.standings import Board
from harness.errors import DataError, UsageError, count, named, unknown
from harness.evaluation.rankings import StoredRun, files_of, write_tables
from harness.evaluation.records import TrialRankings, TrialRanks, is_of
from harness.files import write_atomic
from harness.tracking import artifacts
from harness.tracking.naming import run_named
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run

TREC = "trec"
DIGITS = 8  # of a fingerprint within a file's name


@dataclass(frozen=True)
class Written:
    files: tuple[Path, ...]
    runs: int
    notes: tuple[str, ...]


def within(runs: Sequence[Run], dataset: str, protocol: str) -> list[Run]:
    """The runs of one dataset and protocol, of all where none is named; UsageError for one that has no runs."""
    matching = [*runs]
    for name, value in (("dataset", dataset), ("protocol", protocol)):
        known = {str(getattr(run.spec, name)) for run in matching}
        if value and value not in known:
            raise UsageError(unknown(name, value, known))
        matching = [run for run in matching if value in ("", getattr(run.spec, name))]
    return matching


def chosen(runs: Sequence[Run], boards: Sequence[Board], names: Sequence[str]) -> list[Run]:
    """The finished runs of rows or run ids, each once, of all ranked rows for no names; DataError where none is."""
    ids = [run_id for name in names for run_id in run_ids(runs, boards, name)]
    if not names:
        ids = [run_id for board in boards for row in board.ranked for run_id in row.run_ids]
    if not ids:
        raise DataError("no row is ranked yet; `harness run` makes some, and single runs are exported by their ids")
    by_id = {run.run_id: run for run in runs}
    return [by_id[run_id] for run_id in dict.fromkeys(ids)]


def run_ids(runs: Sequence[Run], boards: Sequence[Board], name: str) -> Sequence[str]:
    """The ids of the runs of a row, on every board that has it, or of one run."""
    if rows := [side for board in boards if (side := row_of(board, name))]:
        return [run_id for side in rows for run_id in side.runs]
    if run := run_named(runs, name):
        return [run.run_id]
    raise UsageError(missing(boards, [name]))


def written(
    runs: Sequence[Run], store: ResultStore, form: str, folder: Path, tell: Callable[[str], object] = str
) -> Written:
    """Write what the store has of some runs; DataError where it has nothing, UsageError for a bad folder.

    tell: hears the name of each run.
    """
    available = Available(runs, store, form, tell)
    try:
        files = write_trec(available, folder) if form == TREC else write_tables(available, folder, form)
    except OSError as error:
        raise UsageError(f"the files cannot be written to {folder}: {error}; choose another folder with -o") from error
    if not files:
        raise DataError("\n".join(["nothing could be exported:", *available.notes]))
    return Written(tuple(files), available.count, available.notes)


class Available:
    """The runs that can be written in a form, one at a time, as their arrays are large, and what others lack."""

    def __init__(self, runs: Sequence[Run], store: ResultStore, form: str, tell: Callable[[str], object]) -> None:
        self.runs, self.store, self.form, self.tell = runs, store, form, tell
        self.lacks: dict[str, list[str]] = {}  # the names of runs, by what they lack
        self.count = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each thing that is lacking, with the runs that lack it."""
        return tuple(f"{runs_named(names)}: {lack}" for lack, names in self.lacks.items())

    def __iter__(self) -> Iterator[StoredRun]:
        for run in self.runs:
            self.tell(run.short_name)
            ranks = artifacts.ranks(self.store.artifact, run.run_id, ties=True)
            rankings = artifacts.rankings(self.store.artifact, run.run_id, scores=True)
            rankings = rankings if ranks and rankings and is_of(rankings, ranks) else None
            if lack := lacking(ranks, rankings, self.form):
                self.lacks.setdefault(lack, []).append(run.short_name)
            if ranks and (rankings or self.form != TREC):
                self.count += 1
                yield with_records(run, ranks, rankings)


def runs_named(names: Sequence[str]) -> str:
    """The name of one run; of several how many they are, and the first of them."""
    return names[0] if len(names) == 1 else f"{count(len(names), 'run')} ({named(names, most=3)})"


def lacking(ranks: TrialRanks | None, rankings: TrialRankings | None, form: str) -> str:
    """The reason why a run is exported in part or not at all; empty where it has everything."""
    if not ranks:
        return "left out, as the store has no usable ranks"
    if not rankings:
        left = (
            "left out; csv and parquet have its ranks" if form == TREC else "its ranks alone, by numbers in the split"
        )
        return f"{left}: the store has no usable rankings (earlier versions stored none)"
    return "" if rankings.image_ids else "by numbers in the split: earlier versions stored no image ids"


def with_records(run: Run, ranks: TrialRanks, rankings: TrialRankings | None) -> StoredRun:
    spec = run.spec
    limit = f"-first{spec.limit}" if spec.limit else ""
    return StoredRun(
        key=run.key,
        method=spec.method,
        recipe=run.recipe,
        seed=spec.seed,
        dataset=spec.dataset,
        protocol=spec.protocol,
        data=f"v{spec.protocol_version}-{(spec.test_fingerprint or spec.data_fingerprint)[:DIGITS]}{limit}",
        ranks=ranks,
        rankings=rankings,
    )


def write_trec(runs: Iterable[StoredRun], folder: Path) -> list[Path]:
    """Write the TREC files of runs that have rankings; qrels that several share once."""
    files: dict[Path, None] = {}
    for run in runs:
        for name, text in files_of(run, run.rankings) if run.rankings else ():
            if folder / name not in files:
                write_atomic(folder / name, text)
                files[folder / name] = None
    return [*files]
