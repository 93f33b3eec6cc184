"""Regions and tokens: a gathered batch is what stacking single items gives, and its mask says what is real."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conversion.maps import cells
from harness.data.regions import PaddedArray, Ragged, Regions, grid_boxes, offsets
from harness.data.tokens import PAD, Tokens
from harness.extraction.extractors import cell_shares


@st.composite
def ragged(draw: st.DrawFn) -> tuple[list[np.ndarray], list[int]]:
    counts = draw(st.lists(st.integers(1, 5), min_size=1, max_size=8))
    width = draw(st.integers(1, 4))
    images = [np.random.default_rng(i).normal(size=(n, width)).astype(np.float32) for i, n in enumerate(counts)]
    return images, draw(st.lists(st.integers(0, len(images) - 1), max_size=10))


def stacked(images: Regions, indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The oracle: one image after the other."""
    longest = max((len(images[i]) for i in indices), default=0)
    regions = np.zeros((len(indices), longest, images.width), np.float32)
    mask = np.zeros((len(indices), longest), bool)
    for row, index in enumerate(indices):
        regions[row, : len(images[index])] = images[index]
        mask[row, : len(images[index])] = True
    return regions, mask


@given(ragged())
@settings(deadline=None)
def test_gathered_ragged_regions_are_the_stacked_single_images(case: tuple[list[np.ndarray], list[int]]) -> None:
    images, indices = case
    regions = Ragged.stack(images)
    batch, mask = regions.gather(indices)
    expected, real = stacked(regions, indices)
    np.testing.assert_array_equal(batch, expected)
    np.testing.assert_array_equal(mask, real)
    assert batch.dtype == np.float32
    for one, image in zip(images, (regions[i] for i in range(len(regions))), strict=True):
        np.testing.assert_array_equal(one, image)


@given(ragged(), st.integers(1, 8))
@settings(deadline=None)
def test_the_first_images_of_ragged_regions_are_unchanged(
    case: tuple[list[np.ndarray], list[int]], images: int
) -> None:
    whole = Ragged.stack(case[0])
    part = whole.first(images)
    assert len(part) == min(images, len(whole))
    np.testing.assert_array_equal(part.counts, whole.counts[:images])
    np.testing.assert_array_equal(part[-1], whole[len(part) - 1])


@given(st.integers(1, 6), st.integers(1, 5), st.lists(st.integers(0, 5), min_size=1, max_size=8))
@settings(deadline=None)
def test_an_image_repeated_once_a_caption_is_read_once(images: int, step: int, indices: list[int]) -> None:
    array = np.random.default_rng(0).normal(size=(images, 3, 2))
    indices = [index % images for index in indices]
    once, repeated = PaddedArray(array, np.arange(images)), PaddedArray(array.repeat(step, 0), np.arange(images) * step)
    for regions in (once, repeated):
        batch, mask = regions.gather(indices)
        np.testing.assert_array_equal(batch, array[indices].astype(np.float32))
        assert mask.all() and mask.shape == (len(indices), 3)
        np.testing.assert_array_equal(regions[images - 1], array[-1].astype(np.float32))


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize(
    "places",
    [
        [[8, 9, 10, 11], [0, 1, 2, 3]],  # whole images
        [[1, 2, 3, 4], [6, 7, 8, 9]],  # as long, but of two
        [[8, 9, 10, 11], [0, 1, 3, 2]],
        [[8, 9, 10, 11], [3, 2, -1, -1]],
        [[-1, 0, 1, 2]],
        [[0, 1, 2], [4, 5, 6]],
        [11, 3, -1],
        [],
    ],
)
def test_what_lies_at_a_place_is_fetched_and_nothing_at_minus_one(places: list[Any], step: int) -> None:
    array = np.random.default_rng(0).random((3, 4, 2), dtype=np.float32)
    indices = np.array(places, dtype=np.int64)
    out = np.full((*indices.shape, 2), 7, dtype=np.float32)
    PaddedArray(array.repeat(step, 0), np.arange(3) * step).fetch(indices, out)
    np.testing.assert_array_equal(out, np.concatenate([array.reshape(-1, 2), np.zeros((1, 2))])[indices])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_batch_is_written_where_it_is_wanted_without_a_second_copy(dtype: type) -> None:
    images = PaddedArray(np.ones((40, 36, 256), dtype), np.arange(20) * 2)
    places, out = np.arange(20 * 36).reshape(20, 36), np.zeros((20, 36, 256), dtype)
    tracemalloc.start()
    images.fetch(places, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert out.all() and peak < out.nbytes / 4


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=8), st.data())
@settings(deadline=None)
def test_gathered_tokens_are_the_padded_single_captions(captions: list[list[int]], data: st.DataObject) -> None:
    tokens = Tokens(np.concatenate(captions), offsets([len(ids) for ids in captions]))
    indices = data.draw(st.lists(st.integers(0, len(captions) - 1), min_size=1, max_size=6))
    batch, mask = tokens.gather(indices)
    assert batch.dtype == np.int64 and batch.shape[1] == max(len(captions[i]) for i in indices)
    for row, index in enumerate(indices):
        assert batch[row, mask[row]].tolist() == captions[index] == tokens[index].tolist()
        assert (batch[row, ~mask[row]] == PAD).all()
    np.testing.assert_array_equal(tokens.take(np.array(indices)).lengths, tokens.lengths[indices])


def test_the_boxes_of_a_grid_go_row_by_row_and_are_those_of_converted_and_of_extracted_maps() -> None:
    rows, columns = np.array([[0.0, 6.0], [6.0, 4.0]]), np.array([[0.0, 2.0], [2.0, 3.0], [5.0, 4.0]])
    boxes = [[0, 0, 2, 6], [2, 0, 3, 6], [5, 0, 4, 6], [0, 6, 2, 4], [2, 6, 3, 4], [5, 6, 4, 4]]
    assert grid_boxes(rows, columns).tolist() == boxes
    shares = cell_shares((2, 3), (2, 3), (1.0, 1.0))
    np.testing.assert_allclose(shares * (60, 48, 60, 48), cells((2, 3), (60, 48)), rtol=1e-6)
