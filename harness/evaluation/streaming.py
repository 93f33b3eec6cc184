"""Ranks of a score matrix that is never held whole: the same ranks, from blocks of its rows.

Scores come twice, first those of positives; both times the same to the last bit, or a positive would not equal itself.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from harness.evaluation.protocols import Fold, columns
from harness.evaluation.ranks import (
    Floats,
    Ints,
    Ranks,
    best_positive,
    check_finite,
    count_in_columns,
    count_in_rows,
    from_counts,
)
from harness.evaluation.shortlists import Shortlist


class Rows(NamedTuple):
    images: Ints  # (n,)
    scores: Floats  # (n, M)


Source = Callable[[bool], Iterable[Rows]]  # all images once; told True, only scores of matching pairs need be right


def rank_streamed(source: Source, folds: Sequence[Fold]) -> tuple[list[Ranks], list[Shortlist]]:
    """The ranks of every fold, as `protocols.rank_folds` gives them, and the heads of its rankings."""
    tallies, shortlists = [Tally(fold) for fold in folds], [Shortlist(fold) for fold in folds]
    for rows in source(True):
        for tally in tallies:
            tally.take_positives(rows)
    for rows in source(False):
        check_finite(rows.scores, rows.images)
        for tally in tallies:
            tally.count(rows)
        for shortlist in shortlists:
            shortlist.take(rows.images, rows.scores)
    return [tally.ranks() for tally in tallies], shortlists


class Tally:
    def __init__(self, fold: Fold) -> None:
        self.fold = fold
        self.images, self.captions = fold.pairs[:, 0], fold.pairs[:, 1]
        self.positives = np.zeros(len(fold.pairs), dtype=np.float32)
        self.i2t, self.t2i = np.zeros((2, len(fold.pairs)), dtype=np.int64)
        self.equal_i2t = np.zeros(len(fold.images), dtype=np.int64)
        self.equal_t2i = np.zeros(len(fold.captions), dtype=np.int64)
        self.order = np.argsort(self.images, kind="stable")
        self.sorted = self.images[self.order]

    @cached_property
    def best(self) -> tuple[Ints, Ints]:
        """The pair of each image's and of each caption's best positive, once all are known."""
        return best_positive(self.images, self.positives), best_positive(self.captions, self.positives)

    def take_positives(self, rows: Rows) -> None:
        block, images = self._own(rows)
        pairs, local = self._pairs_of(images)
        self.positives[pairs] = block[local, self.captions[pairs]]

    def count(self, rows: Rows) -> None:
        """Compare these rows with every positive that they are a query or a candidate of."""
        block, images = self._own(rows)
        pairs, local = self._pairs_of(images)
        self.i2t[pairs] = count_in_rows(block, local, self.positives[pairs], operator.ge)
        self.t2i += count_in_columns(block, self.captions, self.positives, operator.ge)
        of_images, of_captions = (self.positives[first] for first in self.best)
        self.equal_i2t[images] = count_in_rows(block, np.arange(len(images)), of_images[images], operator.eq)
        self.equal_t2i += count_in_columns(block, np.arange(len(of_captions)), of_captions, operator.eq)

    def ranks(self) -> Ranks:
        i2t, i2t_tied = from_counts(self.images, self.positives, self.best[0], self.i2t, self.equal_i2t)
        t2i, t2i_tied = from_counts(self.captions, self.positives, self.best[1], self.t2i, self.equal_t2i)
        return Ranks(self.fold.pairs, i2t, t2i, i2t_tied, t2i_tied)

    def _own(self, rows: Rows) -> tuple[Floats, Ints]:
        inside, images = self.fold.own(rows.images)
        own = rows.scores if inside.all() else rows.scores[inside]
        return columns(own, self.fold), images

    def _pairs_of(self, images: Ints) -> tuple[Ints, Ints]:
        """The pairs of some images, and which of the images each belongs to."""
        starts, ends = (np.searchsorted(self.sorted, images, side) for side in ("left", "right"))
        local = np.repeat(np.arange(len(images)), ends - starts)
        within = np.arange(len(local)) - np.repeat(np.cumsum(ends - starts) - (ends - starts), ends - starts)
        return self.order[starts[local] + within], local
