"""A run as TREC files: `QUERY Q0 FOUND RANK SCORE TAG` a line, and qrels, `QUERY 0 FOUND 1`. Pure.

A query that meets a gallery of several folds is QUERY@FOLD, as it may be asked in two of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from harness.answers import WAYS, Run, falling, heads_of, sides
from harness.ranking import Ints

LONGEST = 40  # characters of a name within a file's name, which file systems limit


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
