"""Category-level mAP: every item that shares a category with the query is relevant, over the whole gallery.

An image has the categories of its objects, a caption those of its images. Items of equal score share one place, that
of the last of them, as in scikit-learn's average_precision_score: AP = sum_n (R_n - R_(n-1)) P_n over distinct scores,
so that no order breaks a tie. A query without a category, or that shares none with any item, is not asked; an item
without one stays in the gallery, relevant to nobody. Scores are sorted a block of queries at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.content import Labels
from harness.evaluation.protocols import Fold, block
from harness.evaluation.ranks import DIRECTIONS, Floats, Ints

Bools = NDArray[np.bool_]
MAP, RANDOM, ASKED = "map", "random", "queries"
CATEGORIES = "categories"
BLOCK_SCORES = 2**20  # sorted at a time, of which about ten copies are made


def category_measures(scores: Floats, pairs: Ints, folds: Sequence[Fold], labels: Labels) -> dict[str, float]:
    """mAP of both directions in percent, that of a random order, and the queries asked: means over folds.

    scores (N, M) of the whole split, higher is better; pairs (P, 2). A direction without a query has no measures.
    """
    images, captions = labels.of_images, caption_labels(labels.of_images, pairs, scores.shape[1])
    parts = [_of_fold(block(scores, fold), images[fold.images], captions[fold.captions]) for fold in folds]
    names = [name for name in parts[0] if all(name in part for part in parts)]
    means = {name: float(np.mean([part[name] for part in parts])) for name in names}
    return {**means, CATEGORIES: float(len(labels.names))} if means else {}


def caption_labels(of_images: Bools, pairs: Ints, captions: int) -> Bools:
    """(M, C) the categories of each caption: those of its images together."""
    labels = np.zeros((captions, of_images.shape[1]), dtype=np.bool_)
    np.logical_or.at(labels, pairs[:, 1], of_images[pairs[:, 0]])
    return labels


def _of_fold(scores: Floats, images: Bools, captions: Bools) -> dict[str, float]:
    measures: dict[str, float] = {}
    for direction, table, queries, items in zip(
        DIRECTIONS, (scores, scores.T), (images, captions), (captions, images), strict=True
    ):
        each = np.concatenate([*_query_measures(table, queries, items)], axis=1)
        asked = ~np.isnan(each[0])
        if asked.any():
            precision, share = 100 * each[:, asked].mean(axis=1)
            names = (MAP, RANDOM, ASKED)
            values = (float(precision), float(share), float(asked.sum()))
            measures |= {f"{direction}_{name}": value for name, value in zip(names, values, strict=True)}
    return measures


def _query_measures(table: Floats, queries: Bools, items: Bools) -> Iterator[NDArray[np.float64]]:
    """Blocks (2, q) of the AP of queries and their share of relevant items; nan where nothing is relevant."""
    rows = max(1, BLOCK_SCORES // table.shape[1])
    of_items = items.T.astype(np.float32)
    for start in range(0, len(table), rows):
        relevant = queries[start : start + rows].astype(np.float32) @ of_items > 0
        precision = average_precisions(np.ascontiguousarray(table[start : start + rows]), relevant)
        yield np.stack([precision, np.where(np.isnan(precision), np.nan, relevant.mean(axis=1))])


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
