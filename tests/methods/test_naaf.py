"""NAAF against its formula, and its thresholds."""

from __future__ import annotations

import pytest
import torch
from fragment_oracle import (
    agrees_with_its_textbook,
    encoded,
    one_region_and_one_word_train,
    padding_decides_nothing,
    small,
)
from torch.distributions import Normal
from torch.nn.functional import normalize

import methods.naaf as naaf
from harness.method import Encoded


def with_thresholds(training: bool, t: float):
    method = small("naaf").train(training)
    method.threshold.fill_(t if training else 0.9)
    method.safe_threshold.fill_(0.9 if training else t)
    return method


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("t", [0.0, 0.3, 0.8])
def test_scores_and_gradients_equal_the_formula(training: bool, t: float) -> None:
    for vectors in (1, 6, 1000):
        agrees_with_its_textbook("naaf", with_thresholds(training, t), vectors)


@pytest.mark.parametrize("training", [True, False])
def test_padding_decides_nothing_and_one_region_and_one_word_train(training: bool) -> None:
    padding_decides_nothing(with_thresholds(training, 0.3))
    one_region_and_one_word_train(small("naaf"))


def test_at_the_crossing_matched_words_are_as_likely_as_mismatched_ones() -> None:
    numbers = [torch.tensor(x, dtype=torch.float64) for x in (0.6, 0.1, 0.2, 0.15)]
    for alpha in (1.0, 2.0):
        t = naaf.crossing((numbers[0], numbers[1]), (numbers[2], numbers[3]), alpha)
        one, other = (Normal(*of).log_prob(t).exp() for of in (numbers[:2], numbers[2:]))
        ratios = (one / other).item(), (other / one).item()
        assert 0.2 < t < 0.6 and any(ratio == pytest.approx(alpha, rel=1e-6) for ratio in ratios)


def test_a_threshold_that_is_no_number_or_no_cosine_is_zero() -> None:
    old = torch.tensor(0.5)
    for new, expected in ((0.4, 0.43), (-0.1, 0.15), (1.2, 0.15), (float("nan"), 0.15), (float("inf"), 0.15)):
        assert naaf.moved(old, torch.tensor(new)).item() == pytest.approx(expected)


def matching(count: int, words: int) -> tuple[Encoded, Encoded]:
    """Pairs whose words are noisy copies of one region of their image."""
    torch.manual_seed(0)
    regions = normalize(torch.randn(count, 4, 32), dim=2)
    captions = normalize(regions[:, :1] + 0.1 * torch.randn(count, words, 32), dim=2)
    return Encoded(regions, torch.ones(count, 4, dtype=torch.bool)), Encoded(
        captions, torch.ones(count, words, dtype=torch.bool)
    )


def test_thresholds_lie_between_the_cosines_of_matched_and_mismatched_words() -> None:
    method = small("naaf").float().train()
    images, captions = matching(50, 6)
    for _ in range(8):
        method.move_thresholds(images, captions, method.score(images, captions))
    matched = naaf.largest_cosines(images, captions)
    worst = naaf.largest_cosines(Encoded(*(of.roll(1, 0) for of in images)), captions)
    assert worst.mean() < method.threshold < matched.mean()
    assert worst.mean() < method.safe_threshold < matched.mean()


def test_thresholds_stay_where_few_words_are_ranked_right_and_in_evaluation() -> None:
    method = small("naaf").float().train()
    method.threshold.fill_(0.3)
    images, captions = matching(50, 6)
    scores = method.score(images, captions)
    method.move_thresholds(images, captions, -scores)
    assert method.threshold == torch.tensor(0.3)
    images, captions = matching(20, 6)
    method.move_thresholds(images, captions, method.score(images, captions))
    assert method.threshold == torch.tensor(0.3)


@torch.no_grad()
def test_attention_of_words_sums_to_one() -> None:
    images, captions = encoded(method := small("naaf"))
    weights = method.regions_of_words(images, captions)
    torch.testing.assert_close(weights.sum(3), captions.mask.double().expand_as(weights.sum(3)))
