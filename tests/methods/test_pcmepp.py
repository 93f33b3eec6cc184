"""PCME++ against its textbook: single images and captions, the loss pair by pair."""

from __future__ import annotations

import pytest
import torch
from single_sets import batch, build, equal_with_gradients, textbook, vectors_equal_the_textbook

from methods.pcmepp import Gaussians, divergence

SMALL = {"position_dim": 4, "pseudo_weight": 0.5, "divergence_weight": 0.1}


def test_vectors_and_gradients_are_those_of_single_images_and_captions() -> None:
    vectors_equal_the_textbook("pcmepp", position_dim=4)


def test_scores_and_gradients_are_those_of_single_pairs() -> None:
    method, pairs, formulas = build("pcmepp", position_dim=4), batch(), textbook("pcmepp")

    def ours() -> torch.Tensor:
        images = method.encode_images(pairs.regions, pairs.region_mask)
        return method.score(images, method.encode_captions(pairs.tokens, pairs.token_mask))

    def theirs() -> torch.Tensor:
        regions, words = single_sets(method)
        images = [formulas.gaussian_of_image(method, of) for of in regions]
        captions = [formulas.gaussian_of_caption(method, of) for of in words]
        return torch.stack([torch.stack([-formulas.distance(one, of) for of in captions]) for one in images])

    equal_with_gradients(method, ours, theirs)


@pytest.mark.parametrize("hardest", [True, False])
def test_the_loss_is_that_of_single_pairs_and_pseudo_positives_come_with_the_hardest(hardest: bool) -> None:
    method, pairs = build("pcmepp", **SMALL), batch(hardest)
    theirs = lambda: textbook("pcmepp").loss(method, *single_sets(method), pairs.positives, hardest)  # noqa: E731
    equal_with_gradients(method, lambda: method.loss(pairs), theirs)


def single_sets(method: torch.nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Regions of each image, and states of each caption's words."""
    pairs = batch()
    regions = [x[real] for x, real in zip(pairs.regions, pairs.region_mask, strict=True)]
    tokens = zip(pairs.tokens, pairs.token_mask, strict=True)
    return regions, [method.words(x[real][None], real[real][None])[0] for x, real in tokens]


def test_all_variances_together_start_where_the_setting_says() -> None:
    method = build("pcmepp", dim=512, position_dim=4, start_variance=0.3)
    for bias in (method.region_spread.fc.linear.bias, method.word_spread.bias):
        assert float(bias.detach().median().exp()) * 512 == pytest.approx(0.3, rel=0.05)


def test_a_divergence_beyond_the_largest_is_left_out() -> None:
    log_variance = torch.full((2, 3), 12.0, requires_grad=True)
    lost = divergence(Gaussians(torch.zeros(2, 3), log_variance))
    lost.backward()
    assert lost == 0 and not log_variance.grad.any()
    assert divergence(Gaussians(torch.zeros(2, 3), torch.zeros(2, 3))) == 0
