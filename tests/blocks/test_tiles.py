"""Tiles: every set in one of them, none too large, the same scores whatever their size and whatever memory there is."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sums import CPU, Sums

from harness.blocks.host import lengths_of
from harness.blocks.tiles import PADDED, WHOLE, Tile, by_length, in_tiles, joined, runs
from harness.evaluation.scoring import score_encoded, scoring
from harness.method import Encoded, Inputs


def sets(count: int, longest: int, seed: int) -> Encoded:
    torch.manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,))
    return Encoded(torch.randn(count, longest, 4, dtype=torch.float64), torch.arange(longest) < lengths[:, None])


def whole(of: Encoded) -> list[Tile]:
    return [Tile(np.arange(len(of.mask)), of)]


def method() -> Any:
    return Sums(None, Inputs(4, 10))


ascending = st.lists(st.integers(1, 40), min_size=1, max_size=120).map(sorted)


@given(ascending, st.integers(1, 1000))
def test_runs_hold_every_set_once_and_no_more_than_asked(lengths: list[int], vectors: int) -> None:
    parts = parted(lengths, runs(lengths, vectors))
    assert list(itertools.chain(*parts)) == lengths and all(parts)
    for part in parts:
        assert len(part) * part[-1] <= vectors or len(part) == 1
        assert len(part) * part[-1] <= PADDED * sum(part) or len(part) <= WHOLE
        assert len(part) % WHOLE == 0 or len(part) < WHOLE or part is parts[-1]


@given(ascending, st.integers(1, 1000))
def test_runs_are_as_large_as_they_may_be(lengths: list[int], vectors: int) -> None:
    end = 0
    for part in parted(lengths, runs(lengths, vectors))[:-1]:
        end += len(part)
        more = [part + lengths[end : end + n] for n in range(1, WHOLE + 1 if len(part) >= WHOLE else 2)]
        assert any(
            len(of) * of[-1] > vectors or (len(of) > WHOLE and len(of) * of[-1] > PADDED * sum(of)) for of in more
        )


def parted(lengths: list[int], sizes: list[int]) -> list[list[int]]:
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    return [lengths[start : start + size] for start, size in zip(starts, sizes, strict=True)]


def test_a_tile_is_cut_to_its_longest_set_and_knows_its_places() -> None:
    of = sets(20, 9, 0)
    tiles = by_length(of, 12)
    assert sorted(np.concatenate([tile.places for tile in tiles])) == list(range(20))
    for places, cut in tiles:
        longest = int(of.mask[places].sum(1).max())
        assert cut.vectors.shape[1] == longest and cut.mask.any(0).all()
        assert torch.equal(cut.vectors, of.vectors[places, :longest])


@pytest.mark.parametrize("vectors", [1, 20, 40, 10**6])
def test_tiles_are_joined_to_larger_ones_that_hold_the_same_sets(vectors: int) -> None:
    of = sets(20, 9, 0)
    parts = by_length(of, 12)
    together = joined(parts, vectors)
    assert np.concatenate([tile.places for tile in together]).tolist() == [n for tile in parts for n in tile.places]
    assert len(together) == {1: len(parts), 10**6: 1}.get(vectors, len(together)) <= len(parts)
    for places, tile in together:
        longest = tile.vectors.shape[1]
        assert len(places) * longest <= vectors or vectors < 12
        assert torch.equal(tile.mask, of.mask[places, :longest]) and not of.mask[places, longest:].any()
        assert lengths_of(tile.mask).tolist() == tile.mask.sum(1).tolist()
        assert torch.equal(tile.vectors[tile.mask], of.vectors[places, :longest][tile.mask])


@given(ascending, st.integers(1, 1000), st.integers(1, 1000))
def test_small_runs_may_be_padded_at_will_where_that_is_cheaper(lengths: list[int], vectors: int, loose: int) -> None:
    parts = parted(lengths, runs(lengths, vectors, loose))
    assert list(itertools.chain(*parts)) == lengths and all(parts)
    for part in parts:
        assert len(part) * part[-1] <= vectors or len(part) == 1
        assert len(part) * part[-1] <= max(loose, PADDED * sum(part)) or len(part) <= WHOLE
    if len(lengths) * lengths[-1] <= min(loose, vectors):
        assert len(parts) == 1


@pytest.mark.parametrize("vectors", [1, 7, 30, 10**6])
def test_scores_are_the_same_in_tiles_of_any_size(vectors: int) -> None:
    images, captions = sets(9, 6, 1), sets(14, 8, 2)
    expected = method().score(images, captions)
    torch.testing.assert_close(in_tiles(method(), images, captions, vectors), expected)
    scored = score_encoded(method(), whole(images), whole(captions), CPU, vectors)
    torch.testing.assert_close(scored, expected.float())


def test_what_tiles_share_is_worked_out_once_a_row_and_once_a_column() -> None:
    images, captions, counted = sets(9, 6, 1), sets(14, 8, 2), method()
    in_tiles(counted, images, captions, 8)
    assert counted.rows == len(by_length(images, 8)) + len(by_length(captions, 8)) > 4


def test_tiles_shrink_until_they_fit_the_memory() -> None:
    images, captions, small = sets(9, 6, 1), sets(14, 8, 2), method()
    small.room = 100
    with pytest.raises(torch.OutOfMemoryError):
        in_tiles(small, images, captions, 512)
    scored = score_encoded(small, whole(images), whole(captions), CPU, 512)
    torch.testing.assert_close(scored, method().score(images, captions).float())


def test_a_pair_that_alone_does_not_fit_is_out_of_memory() -> None:
    small = method()
    small.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        score_encoded(small, whole(sets(2, 3, 1)), whole(sets(2, 3, 2)), CPU)


def test_scores_are_made_without_gradients_dropout_and_tf32_and_all_is_as_before() -> None:
    trained, before = method().train(), torch.backends.cudnn.allow_tf32
    with scoring(trained):
        assert not (trained.training or torch.is_grad_enabled() or torch.backends.cudnn.allow_tf32)
    assert trained.training and torch.is_grad_enabled() and torch.backends.cudnn.allow_tf32 == before
