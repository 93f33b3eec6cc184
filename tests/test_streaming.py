"""Ranks from blocks of rows: exactly those of the whole matrix, ties, folds and several positives included."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_protocols import card, five_each
from test_ranking import make_case

from harness.errors import NonFiniteError
from harness.protocols import Fold, folds, rank_folds
from harness.ranking import Ranks
from harness.streaming import Rows, rank_streamed


def blocks(scores: np.ndarray, pairs: np.ndarray, order: np.ndarray, size: int):
    """Rows in any order, some at a time; asked for matching pairs only, all else is zero."""

    def source(matching: bool) -> Iterator[Rows]:
        for images in np.split(order, range(size, len(order), size)):
            rows = scores[images].copy()
            if matching:
                known = np.zeros(scores.shape, dtype=bool)
                known[pairs[:, 0], pairs[:, 1]] = True
                rows[~known[images]] = 0
            yield Rows(images, rows)

    return source


def same(ours: list[Ranks], theirs: list[Ranks]) -> bool:
    return all(
        np.array_equal(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)
    )


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_ranks_and_ties_are_those_of_the_matrix(images: int, captions: int, levels: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, pairs = make_case(rng, images, captions, levels)
    scores = scores.astype(np.float32)
    whole = [Fold(np.arange(images), np.arange(captions), np.arange(len(pairs)), pairs)]
    streamed = rank_streamed(blocks(scores, pairs, rng.permutation(images), size), whole)
    assert same(streamed, rank_folds(scores, whole))


@pytest.mark.parametrize("size", [1, 7, 50])
def test_folds_are_cut_from_rows_of_several(size: int) -> None:
    rng = np.random.default_rng(0)
    scores, pairs = rng.integers(0, 40, (50, 250)).astype(np.float32), five_each(50)
    parts = folds(card(50, 250, folds=5), 50, pairs)
    assert same(rank_streamed(blocks(scores, pairs, rng.permutation(50), size), parts), rank_folds(scores, parts))


def test_a_score_that_is_not_finite_is_named_by_its_image_in_the_split() -> None:
    scores, pairs = np.zeros((50, 250), dtype=np.float32), five_each(50)
    scores[33, 4] = np.nan
    parts = folds(card(50, 250, folds=5), 50, pairs)
    with pytest.raises(NonFiniteError, match="image 33 and caption 4 "):
        rank_streamed(blocks(scores, pairs, np.arange(50)[::-1], 7), parts)
