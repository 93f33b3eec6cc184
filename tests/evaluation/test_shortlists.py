"""The heads of rankings: those of a whole sort, fold by fold, however the rows came."""

from __future__ import annotations

import numpy as np
import pytest
from folds import card, five_each
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evaluation.protocols import folds
from harness.evaluation.records import of_shortlists, ranking_arrays
from harness.evaluation.shortlists import Shortlist, leading, shortlists

IDS, TEXTS = [f"image {n}" for n in range(50)], [f"grün {n}" for n in range(250)]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), st.integers(1, 14), st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_the_head_of_each_row_is_that_of_a_stable_sort(n: int, m: int, levels: int, length: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, (n, m)).astype(np.float32)  # many ties
    assert np.array_equal(leading(scores, length), np.argsort(-scores, axis=1, kind="stable")[:, :length])


@pytest.mark.parametrize("size", [1, 7, 50])
@pytest.mark.parametrize("levels", [1, 3, 10**6])  # equals stand in order of their number, however they came
def test_rows_that_come_in_any_order_give_the_same_heads(size: int, levels: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, levels, (50, 250)).astype(np.float32)
    parts = folds(card(50, 250, folds=5), 50, five_each(50))
    order = rng.permutation(50)
    streamed = [Shortlist(fold) for fold in parts]
    for images in np.split(order, range(size, 50, size)):
        for one in streamed:
            one.take(images, scores[images])
    for whole, other in zip(
        *(ranking_arrays(of_shortlists(of, IDS, TEXTS)).items() for of in (shortlists(scores, parts), streamed)),
        strict=True,
    ):
        assert whole[0] == other[0] and np.array_equal(whole[1], other[1])


def test_a_query_finds_only_what_is_in_its_fold_in_numbers_of_the_split() -> None:
    scores = np.random.default_rng(1).normal(size=(50, 250)).astype(np.float32)
    rankings = of_shortlists(shortlists(scores, folds(card(50, 250, folds=5), 50, five_each(50))), IDS, TEXTS)
    i2t, t2i = rankings.top["i2t"], rankings.top["t2i"]
    for row, (image, fold) in enumerate(zip(i2t.queries, i2t.folds, strict=True)):
        inside = np.arange(50 * fold, 50 * fold + 50)
        best = inside[np.argsort(-scores[image, inside], kind="stable")][:20]
        assert np.array_equal(i2t.results[row], best)
        assert np.array_equal(i2t.scores[row], scores[image, best])
    assert t2i.results.shape == (250, 20)
    first = t2i.results[:, :10]  # a fold has ten images
    assert np.array_equal(np.sort(first // 10, axis=1), np.repeat(np.arange(5), 50)[:, None].repeat(10, axis=1))
    assert (t2i.results[:, 10:] == -1).all() and np.isneginf(t2i.scores[:, 10:]).all()
    assert (rankings.image_ids, rankings.captions) == (IDS, TEXTS)
