"""Rankings and per-query ranks of runs as two tables, `rankings` and `ranks`, written run by run as CSV or parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.answers import WAYS, Run, asked_of, heads_of
from harness.errors import UsageError
from harness.files import replacing

if TYPE_CHECKING:
    import pandas

Append = Callable[["pandas.DataFrame"], None]
Open = Callable[[Path, "pandas.DataFrame"], AbstractContextManager[Append]]


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
