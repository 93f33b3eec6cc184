"""SGR and SAF against their formulas."""

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

CARDS = pytest.mark.parametrize("name", ["sgr", "saf"])


@pytest.mark.parametrize(
    ("name", "changes"), [("sgr", {}), ("sgr", {"steps": 1}), ("saf", {}), ("saf", {"slope": 0.0})]
)
def test_scores_and_gradients_equal_the_formula(name: str, changes: dict[str, object]) -> None:
    for vectors in (1, 6, 1000):
        agrees_with_its_textbook(name, small(name, **changes), vectors)


@CARDS
def test_a_strip_of_every_image_gives_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.blocks.strips, "STRIP", 1)
    agrees_with_its_textbook(name, small(name), 1000)


@CARDS
def test_padding_decides_nothing_and_one_region_and_one_word_train(name: str) -> None:
    padding_decides_nothing(small(name))
    one_region_and_one_word_train(small(name))


@CARDS
@torch.no_grad()
def test_scores_are_shares_of_one_and_attention_of_words_sums_to_one(name: str) -> None:
    images, captions = encoded(method := small(name))
    scores, weights = method.score(images, captions), method.regions_of_words(images, captions)
    assert ((scores > 0) & (scores < 1)).all()
    torch.testing.assert_close(weights.sum(3), captions.mask.double().expand_as(weights.sum(3)))


@CARDS
def test_under_autocast_scores_stay_close(name: str) -> None:
    stays_close_under_autocast(small(name), tolerance=0.005)
