"""SAEM against its textbook: one image and one caption at a time, and the loss in plain loops."""

from __future__ import annotations

import pytest
import torch
from single_sets import batch, build, equal_with_gradients, textbook, vectors, vectors_equal_the_textbook


def test_vectors_and_gradients_are_those_of_single_images_and_captions() -> None:
    vectors_equal_the_textbook("saem", heads=3)


@pytest.mark.parametrize(("negatives", "hardest", "effective"), [("recipe", True, True), ("all", True, False)])
def test_the_loss_is_that_of_plain_loops(negatives: str, hardest: bool, effective: bool) -> None:
    method = build("saem", heads=3, negatives=negatives)
    positives = batch().positives
    theirs = lambda: textbook("saem").loss(method, *vectors(method), positives, effective)  # noqa: E731
    equal_with_gradients(method, lambda: method.loss(batch(hardest)), theirs)


def test_the_angular_loss_weighs_a_tenth_after_so_many_steps_of_training() -> None:
    method = build("saem", heads=3, angular_steps=2).train()
    weights = [float(method._angular_weight()) for _ in range(5)]
    assert weights == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005])
    assert float(method.eval()._angular_weight()) == pytest.approx(0.005) == float(method._angular_weight())
    assert torch.equal(method.state_dict()["steps"], torch.tensor(5))
