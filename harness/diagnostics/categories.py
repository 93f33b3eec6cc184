"""Category-level mAP: every item that shares a category with the query is relevant, over the whole gallery.

An image has the categories of its objects, a caption those of its images. Items of equal score share one place, that
of the last of them, as in scikit-learn's average_precision_score: AP = sum_n (R_n - R_(n-1)) P_n over distinct scores,
so that no order breaks a tie. A query without a category, or that shares none with any item, is not asked; an item
without one stays in the gallery, relevant to nobody. Scores come in strips, some queries with
all items, and are sorted a block of queries at a time, so that no number of scores is too large.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.content import Labels
from harness.evaluation.protocols import Fold
from harness.evaluation.ranks import DIRECTIONS, Direction, Floats, Ints

Bools = NDArray[np.bool_]
MAP, RELEVANT, ASKED = "map", "random", "queries"  # what is relevant, under the name that kept files have
CATEGORIES = "categories"
BLOCK_SCORES = 2**20  # sorted at a time, of which about ten copies are made


class CategoryTally:
    """Category-level mAP from strips of scores, some queries with all items at a time, in any order."""

    def __init__(self, pairs: Ints, folds: Sequence[Fold], labels: Labels, captions: int) -> None:
        """pairs: (P, 2) of the split, which has so many captions."""
        texts = caption_labels(labels.of_images, pairs, captions)
        self._sides = [side for fold in folds for side in _sides_of(fold, labels.of_images, texts)]
        self._categories = len(labels.names)

    def take(self, direction: Direction, queries: Ints, table: Floats) -> None:
        """Scores (q, G) of queries of the split (q,) with all its items, higher is better."""
        for side in self._sides:
            if side.direction == direction:
                side.take(queries, table)

    def measures(self) -> dict[str, float]:
        """mAP of both directions and relevant items, in percent, and the queries asked: means over folds.

        A direction without a query has no measures.
        """
        parts = [side.measures() for side in self._sides]
        values: dict[str, list[float]] = {}
        for part in parts:
            for name, value in part.items():
                values.setdefault(name, []).append(value)
        of_each = len(parts) // len(DIRECTIONS)
        means = {name: float(np.mean(each)) for name, each in values.items() if len(each) == of_each}
        return {**means, CATEGORIES: float(self._categories)} if means else {}


class _Side:
    """The queries of one direction in one fold."""

    def __init__(self, direction: Direction, queries: Ints, items: Ints, of_queries: Bools, of_items: Bools) -> None:
        self.direction = direction
        self._queries, self._items = queries, items  # numbers in the split, ascending
        self._of_queries = of_queries[queries]
        self._of_items = of_items[items].T.astype(np.float32)  # (C, G)
        self._each = np.full((2, len(queries)), np.nan)  # AP, and the share of relevant items

    def take(self, queries: Ints, table: Floats) -> None:
        """Rows are copied a block at a time, with the items of this fold alone."""
        inside = np.flatnonzero(np.isin(queries, self._queries))
        rows = max(1, BLOCK_SCORES // len(self._items))
        for start in range(0, len(inside), rows):
            of = inside[start : start + rows]
            own = np.searchsorted(self._queries, queries[of])
            relevant = self._of_queries[own].astype(np.float32) @ self._of_items > 0
            precision = average_precisions(table[np.ix_(of, self._items)], relevant)
            self._each[:, own] = precision, np.where(np.isnan(precision), np.nan, relevant.mean(axis=1))

    def measures(self) -> dict[str, float]:
        asked = ~np.isnan(self._each[0])
        if not asked.any():
            return {}
        precision, share = 100 * self._each[:, asked].mean(axis=1)
        values = {MAP: float(precision), RELEVANT: float(share), ASKED: float(asked.sum())}
        return {f"{self.direction}_{name}": value for name, value in values.items()}


def _sides_of(fold: Fold, of_images: Bools, of_captions: Bools) -> Iterator[_Side]:
    yield _Side("i2t", fold.images, fold.captions, of_images, of_captions)
    yield _Side("t2i", fold.captions, fold.images, of_captions, of_images)


def caption_labels(of_images: Bools, pairs: Ints, captions: int) -> Bools:
    """(M, C) the categories of each caption: those of its images together."""
    labels = np.zeros((captions, of_images.shape[1]), dtype=np.bool_)
    np.logical_or.at(labels, pairs[:, 1], of_images[pairs[:, 0]])
    return labels


def average_precisions(scores: Floats, relevant: Bools) -> NDArray[np.float64]:
    """(q,) the AP of rows of scores (q, G), equals sharing the last of their places; nan without a relevant item."""
    order = np.argsort(-scores, axis=1)
    ordered, hits = (np.take_along_axis(values, order, axis=1) for values in (scores, relevant))
    counts = hits.cumsum(axis=1)
    size = scores.shape[1]
    is_last = np.concatenate([ordered[:, 1:] != ordered[:, :-1], np.ones((len(scores), 1), dtype=np.bool_)], axis=1)
    places = np.where(is_last, np.arange(size), size - 1)
    last = np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]  # of the items with this score
    precision = np.take_along_axis(counts, last, axis=1) / (last + 1)
    total = counts[:, -1]
    sums: NDArray[Any] = (hits * precision).sum(axis=1)
    return np.where(total > 0, sums / np.maximum(total, 1), np.nan)
