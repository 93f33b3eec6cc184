"""Batches: order, matches, what is hidden, the same bits from a file and from a device's memory, made ahead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_split import EACH, IMAGES, split

from harness.config.sections import Training
from harness.data.regions import PaddedArray, Ragged, Regions, offsets
from harness.data.tokens import UNKNOWN
from harness.trial.batches import (
    PIECE,
    Batches,
    DeviceRegions,
    ReadAhead,
    batches_per_epoch,
    free_bytes,
    hide_regions,
    shuffled,
    source,
)

CPU = torch.device("cpu")


def batches(of: Any, training: Training, held: bool = False) -> Batches:
    return Batches(of, training, DeviceRegions(of.images, CPU) if held else source(of.images, CPU, 0), CPU)


def layout(name: str, dtype: str) -> Regions:
    """Nine images of several or of four regions, stored once or once a caption."""
    rng = np.random.default_rng(1)
    if name == "ragged":
        counts = rng.integers(1, 7, IMAGES)
        return Ragged(rng.standard_normal((counts.sum(), 5)).astype(dtype), offsets(counts))
    array = rng.standard_normal((IMAGES, 4, 5)).astype(dtype)
    return (
        PaddedArray(array, np.arange(IMAGES))
        if name == "padded"
        else PaddedArray(array.repeat(EACH, 0), np.arange(IMAGES) * EACH)
    )


each_layout = pytest.mark.parametrize("name", ["ragged", "padded", "a row per caption"])
each_type = pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])


def hidden_afterwards(images: Regions, training: Training, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
    """The oracle: whole images first, then a subset of their regions. Words must not be hidden."""
    for rows in shuffled(IMAGES * EACH, training.batch_size, rng):
        regions, mask = images.gather(rows // EACH)
        draw = np.where(mask, rng.random(mask.shape), 2.0)
        visible = mask & ((draw >= training.drop_regions) | (draw == draw.min(1, keepdims=True)))
        order = np.argsort(~visible, axis=1, kind="stable")[:, : visible.sum(1).max()]
        yield np.take_along_axis(regions, order[..., None], 1), np.take_along_axis(visible, order, 1)


@pytest.mark.parametrize("held", [False, True], ids=["read", "held"])
@each_layout
@each_type
def test_a_batch_is_whole_images_with_regions_hidden_to_the_bit(name: str, dtype: str, held: bool) -> None:
    images, training = layout(name, dtype), Training(batch_size=8, drop_regions=0.5, drop_words=0)
    actual = list(batches(split(images), training, held).epoch(np.random.default_rng(7)))
    expected = list(hidden_afterwards(images, training, np.random.default_rng(7)))
    assert len(actual) == len(expected) == 4
    for batch, (regions, mask) in zip(actual, expected, strict=True):
        assert batch.regions.dtype == torch.float32
        assert batch.regions.numpy().tobytes() == regions.tobytes()
        assert np.array_equal(batch.region_mask, mask)
    assert not all(mask.all() for _, mask in expected)


@each_layout
def test_words_hidden_and_matches_are_the_same_whether_regions_are_read_or_held(name: str) -> None:
    of, training = split(layout(name, "float16")), Training(batch_size=8, drop_regions=0.5, drop_words=0.5)
    read, held_batches = (list(batches(of, training, held).epoch(np.random.default_rng(7))) for held in (False, True))
    for one, other in zip(read, held_batches, strict=True):
        assert all(torch.equal(*both) for both in zip(one[:5], other[:5], strict=True))


def test_only_regions_in_use_are_held_and_as_they_are_stored() -> None:
    repeated = layout("a row per caption", "float16")
    assert len(repeated.rows) == IMAGES * EACH * 4
    held = DeviceRegions(repeated.first(5), CPU).rows
    assert held.shape == (5 * 4, 5) and held.dtype == torch.float16
    few = layout("ragged", "float32").first(2)
    assert len(DeviceRegions(few, CPU).rows) == few.counts.sum() < len(few.rows)


def test_regions_are_held_from_a_third_of_the_free_memory_downwards_and_never_on_a_cpu() -> None:
    images = layout("padded", "float16")
    needed = 2 * images.rows.size
    assert isinstance(source(images, CPU, 3 * needed), DeviceRegions)
    assert not isinstance(source(images, CPU, 3 * needed - 3), DeviceRegions)
    assert not isinstance(source(images, CPU, free_bytes(CPU)), DeviceRegions)


def test_more_regions_than_are_taken_to_a_device_at_a_time_are_all_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.trial.batches.HELD_ROWS", 7)
    images = layout("padded", "float32")
    assert np.array_equal(DeviceRegions(images, CPU).rows, images.rows)


def test_every_float16_is_read_as_the_float32_of_its_value() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[~np.isnan(every)]
    images = PaddedArray(every.reshape(7, -1, 1), np.arange(7))
    assert images.rows.size > PIECE
    rows = source(images, CPU, 0)(np.arange(len(images.rows)))
    assert rows.numpy().tobytes() == every.astype(np.float32).tobytes()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_layout
@each_type
def test_a_gpu_gets_the_batches_of_the_cpu(name: str, dtype: str) -> None:
    of, training, gpu = split(layout(name, dtype)), Training(batch_size=8, drop_regions=0.5), torch.device("cuda")
    for regions in (source(of.images, gpu, 0), source(of.images, gpu, free_bytes(gpu))):
        actual = ReadAhead(Batches(of, training, regions, gpu).epoch(np.random.default_rng(7)))
        expected = batches(of, training).epoch(np.random.default_rng(7))
        for ours, theirs in zip(actual, expected, strict=True):
            assert all(
                one.is_cuda and torch.equal(one.cpu(), other) for one, other in zip(ours[:5], theirs[:5], strict=True)
            )


def test_epochs_differ_in_order_and_cover_every_pair_once() -> None:
    rows = [np.concatenate(list(shuffled(26, 8, np.random.default_rng([0, epoch])))) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(26)) for order in rows)
    assert not np.array_equal(*rows)


@given(st.integers(2, 60), st.integers(2, 20))
def test_the_number_of_batches_is_what_shuffled_gives_and_none_has_a_single_pair(pairs: int, size: int) -> None:
    batches = list(shuffled(pairs, size, np.random.default_rng(0)))
    assert len(batches) == batches_per_epoch(pairs, size)
    assert all(len(batch) >= 2 for batch in batches)


def test_two_captions_of_one_image_in_a_batch_are_no_negatives() -> None:
    of = split()
    matches = batches(of, Training()).matches(of.pairs[[0, 1, 5]])
    assert matches.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_a_caption_that_matches_two_images_is_no_negative_for_the_other() -> None:
    shared = split()
    shared.pairs, shared.captions = np.array([[1, 1], [0, 0], [0, 1]]), ("a", "b")  # in any order
    matches = batches(shared, Training()).matches(shared.pairs[[1, 0]])
    assert matches.tolist() == [[True, True], [False, True]]


def test_matches_are_all_pairs_of_the_split_and_no_others() -> None:
    rng, of = np.random.default_rng(0), split()
    of.pairs = np.argwhere(rng.random((IMAGES, IMAGES * EACH)) < 0.3)[rng.permutation(40)]
    known = set(map(tuple, of.pairs.tolist()))
    queries = of.pairs[rng.permutation(40)[:25]]
    expected = [[(image, caption) in known for caption in queries[:, 1]] for image in queries[:, 0]]
    assert batches(of, Training()).matches(queries).tolist() == expected


def test_pairs_are_sorted_once_a_split(monkeypatch: pytest.MonkeyPatch) -> None:
    pair_batches = batches(split(), Training(batch_size=8))
    monkeypatch.setattr(np, "sort", lambda *_: pytest.fail("sorted again"))
    assert len(list(pair_batches.epoch(np.random.default_rng(0)))) == len(pair_batches) == 4


@settings(max_examples=30)
@given(st.floats(0.05, 0.95), st.integers(0, 10))
def test_hidden_regions_leave_at_least_one_and_only_real_ones(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.arange(6) < np.array([1, 4, 6])[:, None]
    places = np.where(mask, np.arange(18).reshape(3, 6), -1)
    visible, real = hide_regions(places, mask, share, rng)
    assert real.sum(1).min() >= 1 and (real.sum(1) <= mask.sum(1)).all()
    assert (visible[real] >= 0).all()
    assert all(set(some[here]) <= set(row) for some, here, row in zip(visible, real, places, strict=True))
    assert (np.diff(real.astype(int), axis=1) <= 0).all()  # the real ones come first


def test_hidden_words_become_unknown_and_specials_stay() -> None:
    of = split()
    of.tokens.ids[of.tokens.starts[:-1]] = 1
    batch = batches(of, Training(drop_words=0.5)).make(np.arange(27), np.random.default_rng(0))
    words = batch.token_mask.clone()
    words[:, 0] = False
    assert (batch.tokens[:, 0] == 1).all() and (batch.tokens[~batch.token_mask] == 0).all()
    assert 0.2 < (batch.tokens[words] == UNKNOWN).float().mean() < 0.8


def test_batches_are_made_ahead_in_order_and_only_one_of_them() -> None:
    numbers: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            numbers.append(number)
            yield number

    ahead = ReadAhead(items())  # type: ignore[arg-type]
    taken = []
    for item in ahead:
        deadline = time.monotonic() + 5
        while len(numbers) < min(item + 2, 5) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert numbers == list(range(min(item + 2, 5))), "one batch is ready while a step runs"
        taken.append(item)
    assert taken == list(range(5)) and ahead.waited >= 0


def test_a_batch_that_cannot_be_made_fails_the_step_that_needs_it() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise OSError("the disk is gone")

    taken = []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in ReadAhead(items()):  # type: ignore[arg-type]
            taken.append(item)
    assert taken == [0]
