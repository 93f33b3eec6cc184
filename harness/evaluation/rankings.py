"""The answers to every query of a run, and as files for other tools: TREC runs and qrels, tables as csv or parquet.

They are rankings with ids, best first, from the run's ranks and the heads of its rankings. A ranking here is
pessimistic as ranks are: each positive stands at its rank, so that cutting it at K gives our R@K. A query that meets a
gallery of several folds is QUERY@FOLD, as it may be asked in two of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.evaluation.ranks import DIRECTIONS, Direction, Ints, group, sides
from harness.evaluation.records import Bools, TopResults, TrialRankings, TrialRanks
from harness.files import replacing
from harness.foreign_text import cell

if TYPE_CHECKING:
    import pandas

Floats = NDArray[np.float32]
LONGEST = 40  # characters of a name within a file's name, which file systems limit
Append = Callable[["pandas.DataFrame"], None]
Open = Callable[[Path, "pandas.DataFrame"], AbstractContextManager[Append]]


class JudgedResults(NamedTuple):
    top: TopResults
    is_positive: Bools  # (Q, L)


class QueryAnswers(NamedTuple):
    """The queries of one direction in order of fold and number, and where their positives stand."""

    folds: Ints  # (Q,)
    queries: Ints  # (Q,)
    ranks: list[NDArray[np.int32]]  # of all positives of each query, smallest first
    tied: Bools  # (Q,) its best positive ties with a negative


class SplitIds(NamedTuple):
    """Ids by number, without blanks, so that they fit into any form."""

    images: NDArray[np.object_]
    captions: NDArray[np.object_]
    are_numbers: bool  # those of the split, where ids are not kept or not unique

    def of(self, direction: Direction) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        return (self.images, self.captions) if direction == "i2t" else (self.captions, self.images)


@dataclass(frozen=True)
class StoredRun:
    key: str
    method: str
    recipe: str
    seed: int
    dataset: str
    protocol: str
    data: str  # what its queries are, shortly: runs that share it answered the same ones
    ranks: TrialRanks  # with ties
    rankings: TrialRankings | None  # None where the store has none

    @cached_property
    def ids(self) -> SplitIds:
        return ids_of(self.ranks, self.rankings)

    @property
    def folds(self) -> int:
        return 1 + int(self.ranks.folds.max())


def judged(direction: Direction, ranks: TrialRanks, top: TopResults) -> JudgedResults:
    queries, positives = sides(ranks.pairs, direction)
    row = rows_of(ranks.folds, queries, top)
    size = 1 + max(int(top.results.max()), int(positives.max()))
    codes = np.arange(len(top.results))[:, None] * size + top.results  # (Q, L) of row and result
    is_right = (top.results >= 0) & np.isin(codes, row * size + positives)
    results, scores = np.full_like(top.results, -1), np.full_like(top.scores, np.nan)
    rank = ranks.ranks[direction].astype(np.int64)
    near = rank <= results.shape[1]
    at = row[near], rank[near] - 1
    results[at] = positives[near]
    scores[at] = scores_of(top, row[near], positives[near])
    is_positive = results >= 0
    fill(results, scores, top, (top.results >= 0) & ~is_right)
    return JudgedResults(top._replace(results=results, scores=scores), is_positive)


def rows_of(folds: Ints, queries: Ints, top: TopResults) -> Ints:
    size = 1 + int(top.queries.max())
    return np.searchsorted(top.folds * size + top.queries, folds * size + queries)


def scores_of(top: TopResults, row: Ints, positives: Ints) -> Floats:
    """The scores of positives (P,) of some rows; of one that equals pushed out of the head, the head's last."""
    place = top.results[row] == positives[:, None]
    scores: Floats = top.scores[row, np.where(place.any(axis=1), place.argmax(axis=1), -1)]
    return scores


def fill(results: Ints, scores: Floats, top: TopResults, is_negative: Bools) -> None:
    """Put the negatives of each row of `top` into the free places of `results` and `scores`, in their order."""
    free = results < 0
    places = np.argsort(~free, axis=1, kind="stable")  # the free ones first
    row, column = np.nonzero(is_negative)
    turn = (np.cumsum(is_negative, axis=1) - 1)[row, column]
    fits = turn < free.sum(axis=1)[row]
    row, column, turn = row[fits], column[fits], turn[fits]
    at = row, places[row, turn]
    results[at], scores[at] = top.results[row, column], top.scores[row, column]


def answers_of(direction: Direction, ranks: TrialRanks) -> QueryAnswers:
    queries, _ = sides(ranks.pairs, direction)
    groups = group(ranks.folds, queries, by=ranks.ranks[direction])
    each = np.split(ranks.ranks[direction][groups.order], groups.starts[1:])
    first = groups.first
    return QueryAnswers(ranks.folds[first], queries[first], each, ranks.tied[direction][first])


def ids_of(ranks: TrialRanks, rankings: TrialRankings | None) -> SplitIds:
    """Ids of images as the dataset has them, of captions IMAGE#K: the K-th caption of its first image, from 0.

    Blanks and marks are written as in a URL.
    """
    count = 1 + int(ranks.pairs[:, 0].max())
    ids = rankings.image_ids if rankings else ()
    is_usable = all(ids) and len(set(ids)) == len(ids) >= count
    images = (
        [quote(one, safe="/", errors="backslashreplace") for one in ids]
        if is_usable
        else [str(number) for number in range(count)]
    )
    captions = caption_ids(ranks.pairs, images)
    return SplitIds(np.array(images, dtype=object), np.array(captions, dtype=object), not is_usable)


def caption_ids(pairs: Ints, images: Sequence[str]) -> list[str]:
    captions, first = np.unique(pairs[:, 1], return_index=True)
    ids = [""] * (1 + int(captions.max()))
    counts = dict.fromkeys(range(len(images)), 0)
    for caption, image in zip(captions.tolist(), pairs[first, 0].tolist(), strict=True):
        ids[caption] = f"{images[image]}#{counts[image]}"
        counts[image] += 1
    return ids


def falling(scores: Floats) -> Floats:
    """The scores (Q, L) of rankings, lowered where they must be so that each is below the one before it.

    By the smallest step that float32 has, which is what TREC's tools read scores as: they sort by score alone.
    """
    scores = scores.copy()
    for place in range(1, scores.shape[1]):
        below = np.nextafter(scores[:, place - 1], np.float32(-np.inf))
        scores[:, place] = np.fmin(scores[:, place], below)
    return scores


def files_of(run: StoredRun, rankings: TrialRankings) -> Iterator[tuple[str, str]]:
    """The files of a run by name; qrels have the same name for all runs with the same queries under the same ids."""
    board = f"{fit(run.dataset)}-{fit(run.protocol)}"
    data = f"{run.data}{'-numbers' * run.ids.are_numbers}"
    for direction in DIRECTIONS:
        name = f"{fit(run.method)}-{board}-s{run.seed}-{run.key}-{direction}.run"
        yield name, run_file(run, rankings, direction)
        yield f"{board}-{data}-{direction}.qrels", qrels(run, direction)


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
