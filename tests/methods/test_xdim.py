"""X-Dim against its formula."""

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
)

import harness.blocks.strips


@pytest.mark.parametrize("changes", [{}, {"deviations": 0.5, "sharpness": 2.0, "temperature": 5.0}])
def test_scores_and_gradients_equal_the_formula(changes: dict[str, object]) -> None:
    for vectors in (1, 6, 1000):
        agrees_with_its_textbook("xdim", small("xdim", **changes), vectors)


def test_a_strip_of_every_image_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.blocks.strips, "STRIP", 1)
    agrees_with_its_textbook("xdim", small("xdim"), 1000)


def test_padding_decides_nothing_and_one_region_and_one_word_train() -> None:
    padding_decides_nothing(small("xdim"))
    one_region_and_one_word_train(small("xdim"))


@torch.no_grad()
def test_attention_of_words_sums_to_one() -> None:
    images, captions = encoded(method := small("xdim"))
    weights = method.regions_of_words(images, captions)
    torch.testing.assert_close(weights.sum(3), captions.mask.double().expand_as(weights.sum(3)))


def test_under_autocast_scores_stay_close() -> None:
    stays_close_under_autocast(small("xdim"), tolerance=0.05)
