"""What every query finds first: the head of its ranking, with the negatives that ranks of positives do not name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.protocols import Fold, columns
from harness.evaluation.ranks import Floats, Ints, blocks

LENGTH = 20


def leading(scores: Floats, length: int) -> Ints:
    """(n, length) places of the highest scores (n, m) of each row, best first, equals in order of place."""
    size = scores.shape[1]
    if length >= size:
        return np.argsort(-scores, axis=1, kind="stable")
    places = np.sort(np.argpartition(scores, size - length, axis=1)[:, size - length :], axis=1)
    last = np.take_along_axis(scores, places, axis=1).min(axis=1, keepdims=True)
    for row in np.flatnonzero(np.count_nonzero(scores >= last, axis=1) > length):  # equals on both sides of the cut
        places[row] = np.sort(np.argsort(-scores[row], kind="stable")[:length])
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    best: Ints = np.take_along_axis(places, order, axis=1)
    return best


class Shortlist:
    """The heads of all rankings of one fold, from rows of its scores that come one after another."""

    def __init__(self, fold: Fold, length: int = LENGTH) -> None:
        n, m = len(fold.images), len(fold.captions)
        self.fold, self.length = fold, length
        self.captions = np.zeros((n, min(length, m)), dtype=np.int32)  # for each image, as the fold numbers them
        self.caption_scores = np.zeros(self.captions.shape, dtype=np.float32)
        self.images = np.zeros((m, 0), dtype=np.int32)  # for each caption, of the images so far
        self.image_scores = np.zeros((m, 0), dtype=np.float32)

    def take(self, images: Ints, scores: Floats) -> None:
        inside, own = self.fold.own(images)
        if not inside.any():
            return
        block = columns(scores[inside], self.fold)
        self.captions[own] = best = leading(block, self.length)
        self.caption_scores[own] = np.take_along_axis(block, best, axis=1)
        self._merge(own.astype(np.int32), block)

    def _merge(self, images: NDArray[np.int32], block: Floats) -> None:
        scores = np.concatenate([self.image_scores, block.T], axis=1)
        numbers = np.concatenate([self.images, np.broadcast_to(images, block.T.shape)], axis=1)
        if (np.diff(images) < 0).any() or images.min() < self.images.max(initial=-1):  # equals stand by their numbers
            order = np.argsort(numbers, axis=1)
            scores, numbers = (np.take_along_axis(of, order, axis=1) for of in (scores, numbers))
        best = leading(scores, self.length)
        self.images, self.image_scores = (np.take_along_axis(of, best, axis=1) for of in (numbers, scores))


def shortlists(scores: Floats, folds: Sequence[Fold]) -> list[Shortlist]:
    lists = [Shortlist(fold) for fold in folds]
    for start, block in blocks(scores):
        for one in lists:
            one.take(np.arange(start, start + len(block)), block)
    return lists
