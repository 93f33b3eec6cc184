"""Focal attention: which weights stay."""

from __future__ import annotations

import pytest
import torch

from harness.blocks.attention import as_context
from harness.blocks.focal import focused
from harness.method import Encoded


def context(lengths: list[int]):
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return as_context(Encoded(torch.randn(*mask.shape, 3), mask))


def test_equal_focus_keeps_what_is_above_the_mean_of_the_real_weights() -> None:
    weights = torch.tensor([0.2, 0.5, 0.3, 9.0]).view(1, 4, 1, 1)  # the last is padding
    weights = torch.cat([weights, weights])
    kept = focused(weights, context([3, 4]), "equal")[:, :, 0, 0]
    assert kept.tolist() == [[0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0]]


def test_a_scale_of_the_weights_decides_nothing_and_prob_asks_for_more_than_equal() -> None:
    weights = torch.tensor([1.0, 4.0, 9.0, 16.0]).view(1, 4, 1, 1)
    for scale in (1e-6, 1.0, 1e6):
        assert (focused(weights * scale, context([4]), "equal") > 0).flatten().tolist() == [False, False, True, True]
        # sum w^1.5 / sum w^0.5 = 100 / 10
        assert (focused(weights * scale, context([4]), "prob") > 0).flatten().tolist() == [False, False, False, True]


@pytest.mark.parametrize("focus", ["equal", "prob"])
def test_where_nothing_is_relevant_all_stay(focus: str) -> None:
    weights = torch.full((2, 3, 2, 2), 0.1)
    kept = focused(weights, context([3, 1]), focus)
    assert (kept[0] == 0.1).all() and (kept[1, 0] == 0.1).all() and not kept[1, 1:].any()
