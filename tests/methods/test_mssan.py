"""MSSAN against its formula, and its margin against a plain count."""

from __future__ import annotations

import pytest
import torch
from fragment_oracle import (
    agrees_with_its_textbook,
    encoded,
    one_region_and_one_word_train,
    padding_decides_nothing,
    small,
    stays_close_under_autocast,
    step,
)

from harness.blocks.losses import hinge


@pytest.mark.parametrize("vectors", [1, 6, 1000])
def test_scores_and_gradients_equal_the_formula(vectors: int) -> None:
    agrees_with_its_textbook("mssan", small("mssan"), vectors)


def test_padding_decides_nothing_and_one_region_and_one_word_train() -> None:
    padding_decides_nothing(small("mssan"))
    one_region_and_one_word_train(small("mssan"))


def test_under_autocast_scores_stay_close() -> None:
    stays_close_under_autocast(small("mssan"), tolerance=0.02)


@torch.no_grad()
@pytest.mark.parametrize(("hardest", "margin"), [(0.0, 0.2), (0.5, 0.3), (4.0, 0.4), (-1.0, 0.1)])
def test_the_loss_is_the_hinge_of_the_adapted_margin(hardest: float, margin: float) -> None:
    method, batch = small("mssan"), step()
    method.hardest.fill_(hardest)
    images, captions = encoded(method)
    scores = method.score(images, type(captions)(captions.vectors[1:], captions.mask[1:]))
    torch.testing.assert_close(method.loss(batch), hinge(scores, batch, margin))


@torch.no_grad()
def test_hardest_negatives_of_a_training_batch_move_the_margin() -> None:
    method = small("mssan")
    scores = torch.tensor([[0.9, 0.2, 0.4], [0.3, 0.8, 0.1], [0.6, 0.5, 0.7]], dtype=torch.float64)
    positives = torch.eye(3, dtype=torch.bool)
    positives[2, 0] = True  # 0.6 is no negative
    method.move(scores, positives)
    expected = 0.1 * sum([0.4, 0.3, 0.5, 0.3, 0.5, 0.4]) / 6
    assert method.hardest.item() == pytest.approx(expected)
    method.move(scores, torch.ones_like(positives))
    assert method.hardest.item() == pytest.approx(expected)


def test_the_margin_moves_in_training_alone() -> None:
    method = small("mssan")
    method.loss(step())
    assert method.hardest == 0
    method.train().loss(step())
    assert method.hardest != 0
