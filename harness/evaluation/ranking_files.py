"""Rankings as files for other tools: TREC runs and qrels, and tables as csv or parquet.

A run has a line `QUERY Q0 FOUND RANK SCORE TAG` for each answer, and qrels `QUERY 0 FOUND 1`.

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
from harness.evaluation.rankings import WAYS, Run, asked_of, falling, heads_of, sides
from harness.evaluation.ranks import Ints
from harness.files import replacing

if TYPE_CHECKING:
    import pandas

LONGEST = 40  # characters of a name within a file's name, which file systems limit
Append = Callable[["pandas.DataFrame"], None]
Open = Callable[[Path, "pandas.DataFrame"], AbstractContextManager[Append]]


def files_of(run: Run) -> Iterator[tuple[str, str]]:
    """The files of a run with rankings, by name; qrels have the same name for all runs that answered the same."""
    for way in WAYS:
        yield f"{fit(run.method)}-{board_of(run)}-s{run.seed}-{run.key}-{way}.run", run_file(run, way)
        yield f"{board_of(run)}-{run.data}-{way}.qrels", qrels(run, way)


def board_of(run: Run) -> str:
    """Its dataset and protocol as a part of a file's name."""
    return f"{fit(run.dataset)}-{fit(run.protocol)}"


def fit(name: str) -> str:
    """A name as a part of a file's name, without anything that leads out of its folder."""
    return re.sub(r"[^\w.-]", "_", name)[:LONGEST]


def tag(run: Run) -> str:
    """A run's name within its lines."""
    return f"{quote(run.method, safe=':')}-s{run.seed}-{run.key}"


def run_file(run: Run, way: str) -> str:
    """The rankings of one direction; scores fall strictly, so that every tool keeps their order."""
    heads = heads_of(way, run.ranks, run.rankings)
    _, found_names = run.names.of(way)
    queries = query_names(run, way, heads.fold, heads.query)
    row, place = np.nonzero(heads.found >= 0)
    cells = queries[row], found_names[heads.found[row, place]], place + 1, falling(heads)[row, place]
    end = tag(run)
    lines = (f"{one} Q0 {found} {at} {score:.9g} {end}\n" for one, found, at, score in zip(*cells, strict=True))
    return "".join(lines)


def qrels(run: Run, way: str) -> str:
    """The positives of one direction, fold by fold."""
    query, positive = sides(run.ranks["pairs"].astype(np.int64), way)
    order = np.lexsort((positive, query, run.ranks["fold"]))
    queries = query_names(run, way, run.ranks["fold"][order], query[order])
    found = run.names.of(way)[1][positive[order]]
    return "".join(f"{one} 0 {of} 1\n" for one, of in zip(queries, found, strict=True))


def query_names(run: Run, way: str, fold: Ints, query: Ints) -> NDArray[np.object_]:
    """Ids of queries (Q,), with their folds where there are several."""
    names = run.names.of(way)[0][query]
    if run.folds == 1:
        return names
    return np.array([f"{name}@{number}" for name, number in zip(names, fold, strict=True)], dtype=object)


def write_tables(runs: Iterable[Run], folder: Path, suffix: str) -> list[Path]:
    """Write both tables of some runs, replaced when all is written; `rankings` only where a run has some."""
    tables: dict[Path, Append] = {}
    with ExitStack() as stack:
        for run in runs:
            for name, frame in frames_of(run):
                file = folder / f"{name}.{suffix}"
                if file not in tables:
                    tables[file] = stack.enter_context(FORMS[suffix](file, frame))
                tables[file](frame)
    return [*tables]


def frames_of(run: Run) -> Iterator[tuple[str, pandas.DataFrame]]:
    """Its part of each table."""
    for way in WAYS:
        yield "ranks", ranks_of(run, way)
        if run.rankings:
            yield "rankings", rankings_of(run, way)


def rankings_of(run: Run, way: str) -> pandas.DataFrame:
    """One line a query and place, of the first places that are kept."""
    import pandas

    heads, (queries, found) = heads_of(way, run.ranks, run.rankings), run.names.of(way)
    row, place = np.nonzero(heads.found >= 0)
    columns = {
        "fold": heads.fold[row],
        "query": queries[heads.query[row]],
        "rank": place + 1,
        "found": found[heads.found[row, place]],
        "score": heads.score[row, place],
        "is_positive": heads.positive[row, place],
    }
    return pandas.DataFrame({**about(run, len(row)), "direction": way, **columns})


def ranks_of(run: Run, way: str) -> pandas.DataFrame:
    """One line a query: the rank of its best positive, and those of all of them."""
    import pandas

    asked = asked_of(way, run.ranks)
    columns = {
        "fold": asked.fold,
        "query": run.names.of(way)[0][asked.query],
        "rank": [int(ranks[0]) for ranks in asked.ranks],
        "ranks": asked.ranks,
        "tied": asked.tied,
    }
    return pandas.DataFrame({**about(run, len(asked.fold)), "direction": way, **columns})


def about(run: Run, lines: int) -> dict[str, list[str] | list[int]]:
    """Which run a line is of."""
    texts = {"run": run.key, "dataset": run.dataset, "protocol": run.protocol}
    texts |= {"method": run.method, "recipe": run.recipe}
    return {**{name: [text] * lines for name, text in texts.items()}, "seed": [run.seed] * lines}


@contextmanager
def csv_table(file: Path, first: pandas.DataFrame) -> Iterator[Append]:
    """A CSV file to append to, UTF-8; ranks of one query have blanks between them."""
    with replacing(file) as part, part.open("w", encoding="utf-8", newline="") as opened:

        def append(frame: pandas.DataFrame) -> None:
            lists = {name: frame[name].map(joined) for name in ("ranks",) if name in frame}
            header = opened.tell() == 0
            frame.assign(**lists).to_csv(opened, header=header, index=False, lineterminator="\n")

        yield append


def joined(numbers: Iterable[int]) -> str:
    """Numbers as one cell."""
    return " ".join(map(str, numbers))


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
