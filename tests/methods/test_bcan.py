"""BCAN against its formula, in both forms."""

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

FORMS = pytest.mark.parametrize("form", ["released", "abstract"])


@FORMS
@pytest.mark.parametrize("focus", ["equal", "prob"])
def test_scores_and_gradients_equal_the_formula(form: str, focus: str) -> None:
    for vectors in (1, 6, 1000):
        agrees_with_its_textbook("bcan", small("bcan", form=form, focus=focus), vectors)


@FORMS
def test_padding_decides_nothing_and_one_region_and_one_word_train(form: str) -> None:
    padding_decides_nothing(small("bcan", form=form))
    one_region_and_one_word_train(small("bcan", form=form))


def test_the_correction_of_the_abstract_reaches_every_parameter() -> None:
    method = small("bcan", form="abstract").train()
    method.loss(step()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in method.parameters())


@torch.no_grad()
def test_the_length_of_a_region_counts_in_the_mean_of_the_whole_image_alone() -> None:
    method = small("bcan", form="abstract").eval()
    regions = torch.randn(1, 4, method.settings.dim, dtype=torch.float64)
    mask = torch.ones(1, 4, dtype=torch.bool)
    longer = regions * torch.tensor([5.0, 1, 1, 1], dtype=torch.float64)[None, :, None]
    gate = method.whole_image
    gate.mean.weight.zero_()
    torch.testing.assert_close(gate(longer, mask), gate(regions, mask))


@torch.no_grad()
def test_released_with_equal_focus_is_bfan() -> None:
    one, other = small("bcan", focus="equal"), small("bfan_equal")
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(one.score(*encoded(one)), other.score(*encoded(other)))


@torch.no_grad()
def test_attention_of_words_sums_to_one() -> None:
    for form in ("released", "abstract"):
        images, captions = encoded(method := small("bcan", form=form))
        weights = method.regions_of_words(images, captions)
        torch.testing.assert_close(weights.sum(3), captions.mask.double().expand_as(weights.sum(3)))


@FORMS
def test_under_autocast_scores_stay_close(form: str) -> None:
    stays_close_under_autocast(small("bcan", form=form, temperature=6.0), tolerance=0.05)
