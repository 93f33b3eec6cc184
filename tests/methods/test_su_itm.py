"""SU-ITM's reconstruction against its textbook: single images and captions, the loss in plain loops."""

from __future__ import annotations

import pytest
import torch
from single_sets import batch, build, equal_with_gradients, textbook, vectors_equal_the_textbook

from methods.su_itm import Uncertain, drawn


def test_vectors_and_gradients_are_those_of_single_images_and_captions() -> None:
    vectors_equal_the_textbook("su_itm")


@pytest.mark.parametrize("hardest", [True, False])
def test_the_loss_is_that_of_plain_loops(hardest: bool) -> None:
    method, pairs = build("su_itm"), batch(hardest)

    def theirs() -> torch.Tensor:
        regions = [x[real] for x, real in zip(pairs.regions, pairs.region_mask, strict=True)]
        tokens = zip(pairs.tokens, pairs.token_mask, strict=True)
        words = [method.words(x[real][None], real[real][None])[0] for x, real in tokens]
        return textbook("su_itm").loss(method, regions, words, pairs.positives, hardest)

    equal_with_gradients(method, lambda: method.loss(pairs), theirs)


def test_captions_are_drawn_from_their_distribution() -> None:
    torch.manual_seed(0)
    mean, variance = torch.tensor([0.5, -1.0]), torch.tensor([0.04, 2.0])
    sample = drawn(Uncertain(mean.expand(20_000, 2), variance.log().expand(20_000, 2)))
    torch.testing.assert_close(sample.mean(0), mean, rtol=0, atol=0.03)
    torch.testing.assert_close(sample.var(0), variance, rtol=0.05, atol=0)


def test_a_caption_is_drawn_in_training_and_its_mean_outside_of_it() -> None:
    method, pairs = build("su_itm"), batch()
    method.regions.eval()
    assert method.loss(pairs) == method.loss(pairs)
    method.training = True
    assert method.loss(pairs) != method.loss(pairs)
