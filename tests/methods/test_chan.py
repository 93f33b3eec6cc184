"""CHAN against its formula."""

from __future__ import annotations

import pytest
import torch
from fragment_oracle import (
    agrees_with_its_textbook,
    encoded,
    inputs,
    one_region_and_one_word_train,
    padding_decides_nothing,
    small,
    stays_close_under_autocast,
)
from textbook.chan import self_attention


@pytest.mark.parametrize("changes", [{}, {"pooling": "mean"}, {"pooling_temperature": 0.5, "self_attention": False}])
def test_scores_and_gradients_equal_the_formula(changes: dict[str, object]) -> None:
    for vectors in (1, 6, 1000):
        agrees_with_its_textbook("chan", small("chan", heads=4, **changes), vectors)


def test_regions_attend_to_the_real_regions_of_their_image() -> None:
    method = small("chan", heads=3)
    images, _ = encoded(method)
    regions, mask, _, _ = inputs()
    for vectors, features, real in zip(images.vectors, regions, mask, strict=True):
        plain = features[real] @ method.regions.linear.weight.T + method.regions.linear.bias
        attended = self_attention(method.among_regions, plain, heads=3)
        torch.testing.assert_close(vectors[real], attended / attended.norm(dim=1, keepdim=True))
        assert not vectors[~real].any()


def test_padding_decides_nothing_and_one_region_and_one_word_train() -> None:
    padding_decides_nothing(small("chan", heads=4))
    one_region_and_one_word_train(small("chan", heads=4))


def test_the_region_of_a_word_is_the_one_it_is_scored_by() -> None:
    method = small("chan", heads=4, pooling="mean")
    images, captions = encoded(method)
    weights = method.regions_of_words(images, captions)
    cosines = torch.einsum("nmtr,nrd,mtd->nm", weights.double(), images.vectors, captions.vectors)
    torch.testing.assert_close(cosines / captions.mask.sum(1), method.score(images, captions))


def test_under_autocast_scores_stay_close() -> None:
    stays_close_under_autocast(small("chan", heads=4, pooling="mean"), tolerance=0.02)
