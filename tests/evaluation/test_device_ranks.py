"""Ranks and shortlists by torch, as on a GPU: to the bit those by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.config.cards import ProtocolCard
from harness.errors import NonFiniteError
from harness.evaluation import device_ranks, scoring
from harness.evaluation.device_ranks import rank_on_device
from harness.evaluation.outcome import SplitRanks, rank_scores
from harness.evaluation.positives import PositiveSet
from harness.evaluation.protocols import Fold, folds

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def a_fold(images: int, captions: int) -> Fold:
    """One fold of a split whose captions belong to its images in turn."""
    numbers = np.arange(captions)
    pairs = np.stack([numbers % images, numbers], 1)
    return Fold(np.arange(images), numbers, numbers, pairs)


def check_equal(ours: SplitRanks, expected: SplitRanks) -> None:
    for of, by in zip(ours.folds, expected.folds, strict=True):
        for name in of._fields:
            assert np.array_equal(getattr(of, name), getattr(by, name)), name
    for of, by in zip(ours.shortlists, expected.shortlists, strict=True):
        for name in ("captions", "caption_scores", "images", "image_scores"):
            assert np.array_equal(getattr(of, name), getattr(by, name)), name
            assert getattr(of, name).dtype == getattr(by, name).dtype
    for of, by in zip(ours.sets, expected.sets, strict=True):
        for direction in (1, 2):
            for mine, theirs in zip(of[direction], by[direction], strict=True):
                assert np.array_equal(mine, theirs)


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 30),
    more=st.integers(0, 40),
    values=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    at_once=st.sampled_from([1, 50, 2**26]),
)
def test_ranks_shortlists_and_ties_are_those_of_the_host(
    images: int, more: int, values: int, seed: int, at_once: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-values, values + 1, (images, images + more)).astype(np.float32) / values
    scores[rng.random(scores.shape) < 0.2] *= -1.0  # zeros of both signs
    fold = a_fold(*scores.shape)
    pairs = fold.pairs[rng.random(len(fold.pairs)) < 0.5]
    sets = [PositiveSet("some", pairs, pairs, "")] if len(pairs) else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_ranks, "AT_ONCE", at_once)
        ours = rank_on_device(torch.from_numpy(scores).to(DEVICE), [fold], sets)
    check_equal(ours, rank_scores(scores, [fold], sets))


def test_folds_are_ranked_each_in_its_own_gallery() -> None:
    pairs = np.stack([np.arange(50) // 5, np.arange(50)], 1)
    halves = folds(ProtocolCard(name="two", images=10, captions=50, folds=2), 10, pairs)
    scattered = folds(ProtocolCard(name="some", images=4, captions=20), 10, pairs, gallery=np.array([1, 3, 4, 8]))
    scores = np.random.default_rng(0).standard_normal((10, 50)).astype(np.float32)
    for parts in (halves, scattered):
        check_equal(rank_on_device(torch.from_numpy(scores).to(DEVICE), parts), rank_scores(scores, parts))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_without_a_rank_is_named_as_on_the_host(value: float) -> None:
    scores = np.zeros((4, 9), dtype=np.float32)
    scores[2, 7] = value
    with pytest.raises(NonFiniteError, match="image 2 and caption 7"):
        rank_on_device(torch.from_numpy(scores).to(DEVICE), [a_fold(4, 9)])


def test_a_gpu_without_room_leaves_the_ranks_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> SplitRanks:
        raise torch.OutOfMemoryError

    class OnGpu:
        """Scores that say that they lie on a GPU."""

        device = torch.device("cuda")

        def cpu(self) -> torch.Tensor:
            return torch.from_numpy(scores)

    scores: NDArray[np.float32] = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    monkeypatch.setattr(scoring, "rank_on_device", full)
    fold = a_fold(4, 9)
    check_equal(scoring.rank_there(OnGpu(), [fold], []), rank_scores(scores, [fold]))  # type: ignore[arg-type]
