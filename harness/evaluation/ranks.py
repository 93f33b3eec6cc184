"""Scores -> ranks, by counting: no row is ever sorted, so no sort order can break a tie. NumPy only."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, NonFiniteError

Direction = Literal["i2t", "t2i"]
DIRECTIONS: tuple[Direction, Direction] = ("i2t", "t2i")  # images ask for captions, captions ask for images
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Look = Callable[[Direction, Ints, Floats], object]  # queries (q,) and their scores (q, G) with all items
Compare = Callable[[Any, Any], Any]  # operator.ge or operator.eq
BLOCK_ROWS = 255  # counts of one block fit in a byte, which is what makes adding them up fast
BLOCK_BYTES = 64 * 2**20  # most that the comparisons of one block may take


class Ranks(NamedTuple):
    """The rank of every pair's positive in both directions, 1 is best, and which queries met a tie.

    Where a query has several positives each one has its own rank; its best one is the query's rank.
    """

    pairs: Ints  # (P, 2) rows (image, caption)
    i2t: NDArray[np.int32]  # (P,) rank of the caption among all captions, for the pair's image
    t2i: NDArray[np.int32]  # (P,) rank of the image among all images, for the pair's caption
    i2t_tied: NDArray[np.bool_]  # (N,) a negative has the score of the image's best positive
    t2i_tied: NDArray[np.bool_]  # (M,) a negative has the score of the caption's best positive


class DirectedRanks(NamedTuple):
    """The ranks of one direction: its queries are those that have a positive, any number of them."""

    queries: Ints  # (P,) whose positive each one is
    ranks: NDArray[np.int32]  # (P,) of the positives, 1 is best
    tied: NDArray[np.bool_]  # (Q,) of every query, in order of its number


class Groups(NamedTuple):
    """Rows of arrays grouped by their keys, the groups in ascending order of these."""

    order: Ints  # (P,) the rows, group by group
    starts: Ints  # (G,) where each group begins in `order`

    @property
    def first(self) -> Ints:
        return self.order[self.starts]

    @property
    def sizes(self) -> Ints:
        sizes: Ints = np.diff(np.r_[self.starts, len(self.order)])
        return sizes

    @property
    def positions(self) -> Ints:
        return np.arange(len(self.order)) - np.repeat(self.starts, self.sizes)

    def smallest(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """(G,) the smallest of the values (P,) of each group; faster than to group by them and take the first."""
        smallest: NDArray[np.int32] = np.minimum.reduceat(values[self.order], self.starts)
        return smallest


def group(*keys: NDArray[Any], by: NDArray[Any] | None = None) -> Groups:
    """Group rows whose keys (P,) are all equal; within a group they ascend in `by` (P,), equals as they stand."""
    order = np.lexsort((*(() if by is None else (by,)), *keys[::-1]))
    changes = [key[order][1:] != key[order][:-1] for key in keys]
    return Groups(order, np.flatnonzero(np.r_[True, np.logical_or.reduce(changes)]))


def sides(pairs: Ints, direction: Direction) -> tuple[Ints, Ints]:
    """The queries (P,) and the positives (P,) of pairs (P, 2) in one direction."""
    return (pairs[:, 0], pairs[:, 1]) if direction == "i2t" else (pairs[:, 1], pairs[:, 0])


def directed(ranks: Ranks) -> tuple[DirectedRanks, DirectedRanks]:
    return (
        DirectedRanks(ranks.pairs[:, 0], ranks.i2t, ranks.i2t_tied),
        DirectedRanks(ranks.pairs[:, 1], ranks.t2i, ranks.t2i_tied),
    )


class Counting(NamedTuple):
    """How scores are looked at, where they lie: NumPy's arrays on the host, torch's tensors on a device."""

    check_finite: Callable[[Any], None]
    scores_at: Callable[[Any, Ints, Ints], Floats]  # of images (P,) and captions (P,)
    in_rows: Callable[[Any, Ints, Floats, Compare], Ints]
    in_columns: Callable[[Any, Ints, Floats, Compare], Ints]


def rank(scores: Any, pairs: Ints, by: Counting | None = None) -> Ranks:
    """Pessimistic ranks: a negative that ties with a positive comes before it.

    scores (N, M), images first, higher is better, an array of NumPy or what `by` looks at; pairs (P, 2) in any order,
    any number per query. The rank of a positive is 1 + the negatives that score at least as high + the query's other
    positives before it (a higher score, or an equal one of an earlier pair).
    Raises NonFiniteError at the first NaN or inf, DataError where pairs do not fit the scores or leave a query out.
    """
    by = by or ON_HOST
    check_pairs(pairs, tuple(scores.shape))
    by.check_finite(scores)
    images, captions = pairs[:, 0], pairs[:, 1]
    positives = by.scores_at(scores, images, captions)
    i2t, i2t_tied = _direction(by.in_rows, scores, images, positives)
    t2i, t2i_tied = _direction(by.in_columns, scores, captions, positives)
    return Ranks(pairs, i2t, t2i, i2t_tied, t2i_tied)


def rank_direction(scores: Any, pairs: Ints, direction: Direction, by: Counting | None = None) -> DirectedRanks:
    """Pessimistic ranks as `rank` gives them, in one direction; images and captions without a pair stay candidates.

    scores (N, M), finite (`check_finite` tells); pairs (P, 2) rows (image, caption), distinct. Raises DataError where
    pairs do not fit the scores.
    """
    by, shape = by or ON_HOST, tuple(scores.shape)
    _check_inside(pairs, shape)
    _check_distinct(pairs, shape)
    queries, _ = sides(pairs, direction)
    positives = by.scores_at(scores, pairs[:, 0], pairs[:, 1])
    count = by.in_rows if direction == "i2t" else by.in_columns
    return DirectedRanks(queries, *_direction(count, scores, queries, positives))


def best_ranks(ranks: DirectedRanks) -> NDArray[np.int32]:
    """The rank of every query's best positive, (Q,) in order of the query's number."""
    return group(ranks.queries).smallest(ranks.ranks)


def look_at_all(scores: Floats, look: Look) -> None:
    """Call `look` with all scores (N, M), once for each direction."""
    for direction, table in zip(DIRECTIONS, (scores, scores.T), strict=True):
        look(direction, np.arange(len(table)), table)


def check_finite(scores: Floats, images: Ints | None = None) -> None:
    """NonFiniteError naming the first (image, caption) whose score is NaN or inf: such a score has no rank.

    `images` (n,) are the numbers of the rows' images where the rows are not all of a split's.
    """
    for start, block in blocks(scores):
        finite = np.isfinite(block)
        if not finite.all():
            row, caption = np.argwhere(~finite)[0]
            image = start + row if images is None else images[start + row]
            raise NonFiniteError(
                f"the score of image {image} and caption {caption} is {block[row, caption]}; "
                "nothing was ranked: look for a division by zero or a diverged training (a smaller training.lr)"
            )


def check_pairs(pairs: Ints, shape: tuple[int, ...]) -> None:
    """DataError unless the pairs are distinct, lie inside (N, M) and reach every image and every caption."""
    _check_inside(pairs, shape)
    for column, (kind, size) in enumerate(zip(("image", "caption"), shape, strict=True)):
        missing = np.bincount(pairs[:, column], minlength=size) == 0
        if missing.any():
            raise DataError(f"{kind} {int(missing.argmax())} has no pair: as a query it could never be answered")
    _check_distinct(pairs, shape)


def _check_inside(pairs: Ints, shape: tuple[int, ...]) -> None:
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(shape) != 2 or 0 in shape or not len(pairs):
        raise DataError(f"pairs {pairs.shape} and scores {shape}: expected (P, 2) and (N, M), none of them empty")
    for column, (kind, size) in enumerate(zip(("image", "caption"), shape, strict=True)):
        outside = (pairs[:, column] < 0) | (pairs[:, column] >= size)
        if outside.any():
            row = int(outside.argmax())
            raise DataError(f"pair {row} names {kind} {pairs[row, column]}; there are {size}, counted from 0")


def _check_distinct(pairs: Ints, shape: tuple[int, ...]) -> None:
    distinct, first = np.unique(pairs.astype(np.int64) @ np.array([shape[1], 1]), return_index=True)
    if len(distinct) < len(pairs):
        row = int(np.setdiff1d(np.arange(len(pairs)), first)[0])
        raise DataError(f"pair {row} (image {pairs[row, 0]}, caption {pairs[row, 1]}) is there twice")


def _direction(
    count: Callable[[Any, Ints, Floats, Compare], Ints], scores: Any, queries: Ints, positives: Floats
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Ranks (P,) of the pairs' positives and ties (queries,), with the queries in rows or in columns of the scores."""
    first = best_positive(queries, positives)
    at_least = count(scores, queries, positives, operator.ge)
    equal = count(scores, queries[first], positives[first], operator.eq)
    return from_counts(queries, positives, first, at_least, equal)


def best_positive(queries: Ints, positives: Floats) -> Ints:
    """The pair of each query's highest score, the first of equals: (queries,) in order of the query."""
    return group(queries, by=-positives).first


def from_counts(
    queries: Ints, positives: Floats, first: Ints, at_least: Ints, equal: Ints
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Ranks (P,) and ties (queries,), from how many scores of a query are at least as high as each pair's (P,) and how
    many equal that of its best positive (queries,), which is the pair `first` (queries,).
    """
    later, alike = _tied_positives(queries, positives)
    return (at_least - later).astype(np.int32), equal > alike[first]


def _tied_positives(queries: Ints, positives: Floats) -> tuple[Ints, Ints]:
    """For every pair, the pairs of the same query and score: those of a later row, and all of them with itself."""
    equals = group(queries, positives)
    later, alike = np.empty((2, len(queries)), dtype=np.int64)
    alike[equals.order] = sizes = np.repeat(equals.sizes, equals.sizes)
    later[equals.order] = sizes - 1 - equals.positions
    return later, alike


def count_in_rows(scores: Floats, rows: Ints, thresholds: Floats, compare: Compare) -> Ints:
    """How many scores of each given row compare true with its threshold: one call per row, as a row is contiguous."""
    pairs = zip(rows.tolist(), thresholds, strict=True)
    return np.fromiter((np.count_nonzero(compare(scores[row], limit)) for row, limit in pairs), np.int64, len(rows))


def count_in_columns(scores: Floats, columns: Ints, thresholds: Floats, compare: Compare) -> Ints:
    """How many scores of each given column compare true with its threshold, in blocks of rows: no transposed copy."""
    counts = np.empty(len(columns), dtype=np.int64)
    for turn in _turns(columns):
        at = columns[turn]
        whole = np.array_equal(at, np.arange(scores.shape[1]))
        total = np.zeros(len(turn), dtype=np.int64)
        for _, block in blocks(scores):
            true = compare(block if whole else block[:, at], thresholds[turn])
            total += true.view(np.uint8).sum(axis=0, dtype=np.uint8)
        counts[turn] = total
    return counts


def _turns(columns: Ints) -> Iterator[Ints]:
    """Positions of the columns in turns, in order of the column: the first of each column, the second of each, …"""
    groups = group(columns)
    turns = groups.positions
    for turn in range(int(turns.max()) + 1):
        yield groups.order[turns == turn]


def blocks(scores: Floats) -> Iterator[tuple[int, Floats]]:
    """Blocks of rows with their first row; small enough for BLOCK_BYTES and for counts in a byte."""
    rows = max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(1, scores.shape[1] * scores.itemsize)))
    for start in range(0, len(scores), rows):
        yield start, scores[start : start + rows]


def _scores_at(scores: Floats, images: Ints, captions: Ints) -> Floats:
    return scores[images, captions]


ON_HOST = Counting(check_finite, _scores_at, count_in_rows, count_in_columns)
