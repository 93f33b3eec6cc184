"""VSRN against its textbook: one image and one caption at a time, for both readings of its norms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from single_sets import batch, build, equal_with_gradients, textbook, vectors, vectors_equal_the_textbook

from harness.blocks.losses import hinge

VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"normalise_over": "regions"},
    {"normalise_first": True, "state_norm": False},
)


@pytest.mark.parametrize("changes", VARIANTS)
def test_vectors_and_gradients_are_those_of_single_images_and_captions(changes: dict[str, Any]) -> None:
    vectors_equal_the_textbook("vsrn", **changes)


def test_the_loss_adds_the_surprise_of_a_caption_word_by_word() -> None:
    method, pairs = build("vsrn", generation_weight=0.5), batch()
    one_by_one = zip(pairs.regions, pairs.region_mask, pairs.tokens, pairs.token_mask, strict=True)

    def theirs() -> torch.Tensor:
        images, captions = vectors(method)
        each = [textbook("vsrn").surprise(method, x[real], tokens[seen]) for x, real, tokens, seen in one_by_one]
        return hinge(images @ captions.T, pairs, 0.2) + 0.5 * sum(each) / len(each)

    equal_with_gradients(method, lambda: method.loss(pairs), theirs)


def test_without_a_generator_the_loss_is_the_hinge() -> None:
    method, pairs = build("vsrn", generation_weight=0.0), batch()
    images, captions = vectors(method)
    assert method.generator is None
    torch.testing.assert_close(method.loss(pairs), hinge(images @ captions.T, pairs, 0.2))


def test_the_graph_changes_nothing_at_its_start() -> None:
    layer = type(build("vsrn").graph[0])(6).train()
    mask = torch.arange(3) < torch.tensor([[3], [1]])
    sets = torch.randn(2, 3, 6) * mask[..., None]
    torch.testing.assert_close(layer(sets, mask), sets)
