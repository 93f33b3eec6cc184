"""Rankings as files for other tools: TREC runs and qrels, and tables as csv or parquet.

A query that meets a gallery of several folds is QUERY@FOLD, as it may be asked in two of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.evaluation.rankings import StoredRun, answers_of, falling, judged
from harness.evaluation.ranks import DIRECTIONS, Direction, Ints, sides
from harness.evaluation.records import TrialRankings
from harness.files import replacing
from harness.foreign_text import cell

if TYPE_CHECKING:
    import pandas

LONGEST = 40  # characters of a name within a file's name, which file systems limit
Append = Callable[["pandas.DataFrame"], None]
Open = Callable[[Path, "pandas.DataFrame"], AbstractContextManager[Append]]


def files_of(run: StoredRun, rankings: TrialRankings) -> Iterator[tuple[str, str]]:
    """The files of a run by name; qrels have the same name for all runs that answered the same queries."""
    board = f"{fit(run.dataset)}-{fit(run.protocol)}"
    for direction in DIRECTIONS:
        name = f"{fit(run.method)}-{board}-s{run.seed}-{run.key}-{direction}.run"
        yield name, run_file(run, rankings, direction)
        yield f"{board}-{run.data}-{direction}.qrels", qrels(run, direction)


def fit(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)[:LONGEST]


def run_file(run: StoredRun, rankings: TrialRankings, direction: Direction) -> str:
    """The rankings of one direction; scores fall strictly, so that every tool keeps their order."""
    top, _ = judged(direction, run.ranks, rankings.top[direction])
    _, ids = run.ids.of(direction)
    queries = query_ids(run, direction, top.folds, top.queries)
    row, place = np.nonzero(top.results >= 0)
    cells = queries[row], ids[top.results[row, place]], place + 1, falling(top.scores)[row, place]
    tag = f"{quote(run.method, safe=':', errors='backslashreplace')}-s{run.seed}-{run.key}"
    lines = (f"{query} Q0 {one} {rank} {score:.9g} {tag}\n" for query, one, rank, score in zip(*cells, strict=True))
    return "".join(lines)


def qrels(run: StoredRun, direction: Direction) -> str:
    query, positive = sides(run.ranks.pairs, direction)
    order = np.lexsort((positive, query, run.ranks.folds))
    queries = query_ids(run, direction, run.ranks.folds[order], query[order])
    positives = run.ids.of(direction)[1][positive[order]]
    return "".join(f"{query} 0 {positive} 1\n" for query, positive in zip(queries, positives, strict=True))


def query_ids(run: StoredRun, direction: Direction, folds: Ints, queries: Ints) -> NDArray[np.object_]:
    ids = run.ids.of(direction)[0][queries]
    if run.folds == 1:
        return ids
    return np.array([f"{name}@{fold}" for name, fold in zip(ids, folds, strict=True)], dtype=object)


def write_tables(runs: Iterable[StoredRun], folder: Path, suffix: str) -> list[Path]:
    tables: dict[Path, Append] = {}
    with ExitStack() as stack:
        for run in runs:
            for name, frame in frames_of(run):
                file = folder / f"{name}.{suffix}"
                if file not in tables:
                    tables[file] = stack.enter_context(FORMS[suffix](file, frame))
                tables[file](frame)
    return [*tables]


def frames_of(run: StoredRun) -> Iterator[tuple[str, pandas.DataFrame]]:
    for direction in DIRECTIONS:
        yield "ranks", ranks_of(run, direction)
        if run.rankings:
            yield "rankings", rankings_of(run, run.rankings, direction)


def rankings_of(run: StoredRun, rankings: TrialRankings, direction: Direction) -> pandas.DataFrame:
    import pandas

    top, is_positive = judged(direction, run.ranks, rankings.top[direction])
    queries, results = run.ids.of(direction)
    row, place = np.nonzero(top.results >= 0)
    columns = {
        "fold": top.folds[row],
        "query": queries[top.queries[row]],
        "rank": place + 1,
        "found": results[top.results[row, place]],
        "score": top.scores[row, place],
        "is_positive": is_positive[row, place],
    }
    return pandas.DataFrame({**about(run, len(row)), "direction": direction, **columns})


def ranks_of(run: StoredRun, direction: Direction) -> pandas.DataFrame:
    import pandas

    answers = answers_of(direction, run.ranks)
    columns = {
        "fold": answers.folds,
        "query": run.ids.of(direction)[0][answers.queries],
        "rank": [int(ranks[0]) for ranks in answers.ranks],
        "ranks": answers.ranks,
        "tied": answers.tied,
    }
    return pandas.DataFrame({**about(run, len(answers.folds)), "direction": direction, **columns})


def about(run: StoredRun, lines: int) -> dict[str, list[str] | list[int]]:
    texts = {"run": run.key, "dataset": run.dataset, "protocol": run.protocol}
    texts |= {"method": run.method, "recipe": run.recipe}
    return {**{name: [text] * lines for name, text in texts.items()}, "seed": [run.seed] * lines}


@contextmanager
def csv_table(file: Path, first: pandas.DataFrame) -> Iterator[Append]:
    """A CSV file to append to, UTF-8, without formulas; ranks of one query have blanks between them."""
    with replacing(file) as part, part.open("w", encoding="utf-8", newline="") as opened:

        def append(frame: pandas.DataFrame) -> None:
            if "ranks" in frame:
                frame = frame.assign(ranks=frame["ranks"].map(lambda ranks: " ".join(map(str, ranks))))
            texts = frame.select_dtypes(exclude=["number", "bool"])
            frame = frame.assign(**{name: texts[name].map(cell) for name in texts})
            frame.to_csv(opened, header=opened.tell() == 0, index=False, lineterminator="\n")

        yield append


@contextmanager
def parquet_table(file: Path, first: pandas.DataFrame) -> Iterator[Append]:
    """A parquet file to append to, its columns those of the first frame; UsageError where pyarrow is absent."""
    try:
        from pyarrow import Table, parquet
    except ImportError as error:
        raise UsageError("--format parquet needs the package pyarrow; install it, or take --format csv") from error

    schema = Table.from_pandas(first, preserve_index=False).schema
    with replacing(file) as part, parquet.ParquetWriter(part, schema) as writer:

        def append(frame: pandas.DataFrame) -> None:
            writer.write_table(Table.from_pandas(frame, schema=schema, preserve_index=False))

        yield append


FORMS: dict[str, Open] = {"csv": csv_table, "parquet": parquet_table}
