"""HREM against its textbook: single images and captions, relations pair by pair, triplets one after another."""

from __future__ import annotations

import pytest
import torch
from single_sets import DOUBLE, batch, build, equal_with_gradients, textbook, vectors, vectors_equal_the_textbook

from harness.blocks.losses import hinge
from methods import hrem


def test_vectors_and_gradients_are_those_of_single_images_and_captions() -> None:
    vectors_equal_the_textbook("hrem", heads=3)


def test_the_loss_is_that_of_single_pairs_and_triplets(monkeypatch: pytest.MonkeyPatch) -> None:
    method, pairs = build("hrem", heads=3, relation_weight=1.5), batch()
    pairs.regions[2] += 0.5  # equal images would be equally similar: which half of a row they are in, rounding decides
    draws: list[list[int]] = []
    draw = hrem.drawn

    def recorded(log_weights: torch.Tensor) -> torch.Tensor:
        negatives = draw(log_weights)
        draws.append(negatives.tolist())
        return negatives

    monkeypatch.setattr(hrem, "drawn", recorded)

    def theirs() -> torch.Tensor:
        regions = [x[real] for x, real in zip(pairs.regions, pairs.region_mask, strict=True)]
        tokens = zip(pairs.tokens, pairs.token_mask, strict=True)
        words = [method.words(x[real][None], real[real][None])[0] for x, real in tokens]
        return textbook("hrem").loss(method, regions, words, pairs.positives, iter(draws))

    equal_with_gradients(method, lambda: method.loss(pairs), theirs)


def test_with_all_negatives_every_part_is_the_hinge_over_all_of_them() -> None:
    method, pairs = build("hrem", heads=3, plain_steps=1), batch(hardest=False)
    images, captions = vectors(method)
    torch.testing.assert_close(method.loss(pairs), hinge(images @ captions.T, pairs, 0.2))


def test_relations_are_trained_with_after_so_many_steps_of_training() -> None:
    method, pairs = build("hrem", heads=3, plain_steps=2, dropout=0.0).train(), batch()
    has_begun = []
    for _ in range(4):
        method.zero_grad()
        method.loss(pairs).backward()
        has_begun.append(bool(method.enhance.linear1.weight.grad.any()))
    assert has_begun == [False, False, True, True]
    assert torch.equal(method.state_dict()["steps"], torch.tensor(4))
    method.eval().loss(pairs)
    assert int(method.steps) == 4


def test_weights_of_negatives_are_those_of_the_formula() -> None:
    cosines = torch.tensor([[0.95, 0.9, 0.2, 0.19, -0.3, -0.5, -1.0]], dtype=DOUBLE)
    positives = torch.tensor([[True, False, False, False, False, False, False]])
    for first in (0, 2):  # of many weights one is nearly all: the others are compared without it
        row, match = cosines[:, first:], positives[:, first:]
        ours = hrem.distance_weights(row, match, 1.7).softmax(1)[0]
        expected = textbook("hrem").probabilities(row[0].tolist(), match[0].tolist(), 1.7)
        torch.testing.assert_close(ours, torch.tensor(expected, dtype=DOUBLE))
        assert ours[-1] == ours[-2] == 0  # too far


def test_negatives_are_drawn_in_proportion_to_their_weights() -> None:
    torch.manual_seed(0)
    log_weights = torch.tensor([0.1, 0.0, 0.2, 0.7]).log().repeat(20_000, 1)
    shares = torch.bincount(hrem.drawn(log_weights), minlength=4) / len(log_weights)
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.0, 0.2, 0.7]), rtol=0, atol=0.01)


def test_a_row_without_a_negative_near_enough_costs_nothing() -> None:
    scores = torch.tensor([[1.0, -0.9], [-0.9, 0.0]])
    pairs = batch()._replace(positives=torch.eye(2, dtype=torch.bool))
    assert hrem.triplets(scores, pairs, margin=0.2, farthest=1.7) == 0
    assert hrem.triplets(scores, pairs, margin=2.0, farthest=1.99) > 0
