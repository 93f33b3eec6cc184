"""Dual encoders against their textbook: one image and one caption at a time, the losses pair by pair."""

from __future__ import annotations

import pytest
from single_sets import batch, build, equal_with_gradients, textbook, vectors, vectors_equal_the_textbook


def test_vectors_and_gradients_are_those_of_single_images_and_captions() -> None:
    vectors_equal_the_textbook("clip_loss")


@pytest.mark.parametrize("name", ["clip_loss", "siglip_loss"])
def test_the_loss_is_that_of_single_pairs(name: str) -> None:
    method, pairs = build(name), batch()
    of_paper = getattr(textbook("dual_encoder"), name)
    equal_with_gradients(
        method, lambda: method.loss(pairs), lambda: of_paper(method, *vectors(method), pairs.positives)
    )


def test_the_scale_of_clip_is_a_hundred_at_most() -> None:
    method, pairs = build("clip_loss"), batch()
    losses = []
    for log_scale in (4.6052, 9.0):
        method.log_scale.data.fill_(log_scale)
        losses.append(float(method.loss(pairs).detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_scale_that_a_step_took_beyond_the_bound_is_learned_on() -> None:
    method, pairs = build("clip_loss"), batch()
    method.log_scale.data.fill_(9.0)
    method.loss(pairs).backward()
    assert method.log_scale.grad and method.log_scale.exp().item() == pytest.approx(100.0)
