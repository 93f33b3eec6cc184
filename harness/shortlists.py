"""What every query finds first: the head of its ranking, kept of a trial for people to look at and for export.

The ranks of positives, which all measures follow from, do not say which negatives stood before them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.protocols import Fold, columns
from harness.ranking import Floats, Ints, blocks

LENGTH = 20
IMAGE_IDS, CAPTIONS = "image_ids", "captions"  # arrays of text


def texts(arrays: Mapping[str, NDArray[Any]], name: str) -> list[str]:
    """An array of text of rankings.npz; KeyError where it is not there, ValueError where it is no text."""
    found: list[str] = json.loads(arrays[name].tobytes())
    return found


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
    found: Ints = np.take_along_axis(places, order, axis=1)
    return found


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
        """The scores (n, M) of some images, as the split numbers them, with all captions of the split."""
        inside, own = self.fold.own(images)
        if not inside.any():
            return
        block = columns(scores[inside], self.fold)
        self.captions[own] = found = leading(block, self.length)
        self.caption_scores[own] = np.take_along_axis(block, found, axis=1)
        self._merge(own.astype(np.int32), block)

    def _merge(self, images: NDArray[np.int32], block: Floats) -> None:
        """The best of these images and of those before."""
        scores = np.concatenate([self.image_scores, block.T], axis=1)
        numbers = np.concatenate([self.images, np.broadcast_to(images, block.T.shape)], axis=1)
        best = leading(scores, self.length)
        self.images, self.image_scores = (np.take_along_axis(of, best, axis=1) for of in (numbers, scores))


def shortlists(scores: Floats, folds: Sequence[Fold]) -> list[Shortlist]:
    """Those of every fold, from the scores (N, M) of a whole split."""
    found = [Shortlist(fold) for fold in folds]
    for start, block in blocks(scores):
        for one in found:
            one.take(np.arange(start, start + len(block)), block)
    return found


def kept(found: Sequence[Shortlist], image_ids: Sequence[str], captions: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of rankings.npz, one row a query and fold, in numbers of the split; -1 and -inf where a fold ends.

    And what is behind the numbers, so that a report needs no dataset: image ids and captions, JSON as bytes.
    """
    width = max(max(one.captions.shape[1], one.images.shape[1]) for one in found)
    ways = {
        "i2t": [(one.fold.images, one.fold.captions, one.captions, one.caption_scores) for one in found],
        "t2i": [(one.fold.captions, one.fold.images, one.images, one.image_scores) for one in found],
    }
    arrays: dict[str, NDArray[Any]] = {IMAGE_IDS: _bytes(image_ids), CAPTIONS: _bytes(captions)}
    for way, parts in ways.items():
        arrays[f"{way}_query"] = np.concatenate([queries for queries, *_ in parts]).astype(np.int32)
        arrays[f"{way}_fold"] = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts]).astype(np.int32)
        places = [_padded(gallery[places], width, -1) for _, gallery, places, _ in parts]
        arrays[f"{way}_found"] = np.concatenate(places).astype(np.int32)
        arrays[f"{way}_score"] = np.concatenate([_padded(scores, width, -np.inf) for *_, scores in parts])
    return arrays


def _bytes(lines: Sequence[str]) -> NDArray[np.uint8]:
    """Text of any length as an array; NumPy's own text is as wide everywhere as its longest line."""
    return np.frombuffer(json.dumps([*lines], ensure_ascii=False).encode(), dtype=np.uint8)


def _padded(rows: NDArray[Any], width: int, value: float) -> NDArray[Any]:
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=value)
