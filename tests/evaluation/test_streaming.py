"""Ranks from blocks of rows: exactly those of the whole matrix, ties, folds and several positives included."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from folds import card, five_each, make_case
from hypothesis import given, settings
from hypothesis import strategies as st
from sums import CPU, Sums
from torch import Tensor

from harness.data.regions import PaddedArray, offsets
from harness.data.tokens import Tokens
from harness.errors import NonFiniteError
from harness.evaluation.protocols import Fold, folds, rank_folds
from harness.evaluation.ranks import Ranks
from harness.evaluation.scoring import encode_split, look_at_split, rank_split, score_encoded, score_split
from harness.evaluation.streaming import Rows, rank_streamed
from harness.method import Encoded, Inputs


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
    streamed, _ = rank_streamed(blocks(scores, pairs, rng.permutation(images), size), whole)
    assert same(streamed, rank_folds(scores, whole))


@pytest.mark.parametrize("size", [1, 7, 50])
def test_folds_are_cut_from_rows_of_several(size: int) -> None:
    rng = np.random.default_rng(0)
    scores, pairs = rng.integers(0, 40, (50, 250)).astype(np.float32), five_each(50)
    parts = folds(card(50, 250, folds=5), 50, pairs)
    streamed, _ = rank_streamed(blocks(scores, pairs, rng.permutation(50), size), parts)
    assert same(streamed, rank_folds(scores, parts))


def test_a_score_that_is_not_finite_is_named_by_its_image_in_the_split() -> None:
    scores, pairs = np.zeros((50, 250), dtype=np.float32), five_each(50)
    scores[33, 4] = np.nan
    parts = folds(card(50, 250, folds=5), 50, pairs)
    with pytest.raises(NonFiniteError, match="image 33 and caption 4 "):
        rank_streamed(blocks(scores, pairs, np.arange(50)[::-1], 7), parts)


class Crowded(Sums):
    """Out of memory at one of its tiles; a tile's size shows in its scores as rounding does, only much more."""

    tiles = 0
    fails_at = 0

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        return Encoded(tokens[..., None].expand(-1, -1, 4).sin(), mask)

    def score_sides(self, images: Tensor, captions: Tensor) -> Tensor:
        self.tiles += 1
        if self.tiles == self.fails_at:
            raise torch.OutOfMemoryError("too large")
        return super().score_sides(images, captions) + len(images)


def crowded(fails_at: int = 0, room: int = Sums.room) -> Any:
    method = Crowded(None, Inputs(4, 10))
    method.fails_at, method.room = fails_at, room
    return method


def many() -> tuple[Any, list[Fold]]:
    """60 images of 36 regions, more than one tile holds, and 300 captions of seven words."""
    rng = np.random.default_rng(0)
    images = PaddedArray(rng.standard_normal((60, 36, 4), dtype=np.float32), np.arange(60))
    tokens = Tokens(rng.integers(4, 99, 300 * 7), offsets([7] * 300))
    pairs = five_each(60)
    split = SimpleNamespace(images=images, tokens=tokens, captions=("",) * 300, pairs=pairs)
    return split, [Fold(np.arange(60), np.arange(300), np.arange(300), pairs)]


def streamed(method: Any) -> list[Ranks]:
    split, whole = many()
    return rank_split(method, split, CPU, whole, matrix_bytes=0).ranks.folds


def in_tiles_of(vectors: int) -> list[Ranks]:
    split, whole = many()
    sets = encode_split(crowded(), split, CPU)
    return rank_folds(score_encoded(crowded(), sets.images, sets.captions, CPU, vectors).numpy(), whole)


def test_out_of_memory_in_either_pass_both_begin_again_in_smaller_tiles() -> None:
    calm = crowded()
    assert same(streamed(calm), in_tiles_of(2048))
    assert not same(in_tiles_of(1024), in_tiles_of(2048))
    assert calm.tiles > 4
    for tile in range(1, calm.tiles + 1):
        assert same(streamed(crowded(fails_at=tile)), in_tiles_of(1024)), f"out of memory at tile {tile}"


def test_tiles_of_streamed_scores_shrink_until_they_fit_the_memory() -> None:
    assert same(streamed(crowded(room=300**2)), in_tiles_of(256))
    with pytest.raises(torch.OutOfMemoryError):
        streamed(crowded(room=0))


def test_looks_at_scores_that_are_never_held_together_see_each_of_them_in_both_directions() -> None:
    split, whole = many()
    expected = score_split(crowded(), split, CPU).scores
    for matrix_bytes in (0, 2**30):
        for by in (partial(look_at_split, crowded(), split, CPU), ranked_with(split, whole)):
            seen = {"i2t": np.full((60, 300), np.nan), "t2i": np.full((300, 60), np.nan)}
            strips: list[int] = []

            def look(direction: str, queries: np.ndarray, table: np.ndarray, seen=seen, strips=strips) -> None:
                seen[direction][queries] = table
                strips.append(len(queries))

            by(look, matrix_bytes=matrix_bytes)
            assert np.array_equal(seen["i2t"], expected) and np.array_equal(seen["t2i"], expected.T)
            assert (len(strips) > 2) == (matrix_bytes == 0)


def ranked_with(split: Any, whole: list[Fold]) -> Any:
    return lambda look, matrix_bytes: rank_split(crowded(), split, CPU, whole, matrix_bytes=matrix_bytes, look=look)
