"""ESA against its textbook: one image and one caption at a time, and the loss of two views in plain loops."""

from __future__ import annotations

import pytest
import torch
from single_sets import batch, build, textbook, vectors_equal_the_textbook
from torch import Tensor
from torch.nn.functional import normalize

from methods.esa import hinge_of_views, partly_hidden


def test_vectors_and_gradients_are_those_of_single_images_and_captions() -> None:
    vectors_equal_the_textbook("esa")


@pytest.mark.parametrize("hardest", [True, False])
def test_the_loss_of_views_is_that_of_plain_loops(hardest: bool) -> None:
    torch.manual_seed(0)
    views = [normalize(torch.randn(2, 4, 6, dtype=torch.float64), dim=2) for _ in range(2)]
    results = []
    for compute in (ours, textbook("esa").loss):
        images, captions = (of.clone().requires_grad_() for of in views)
        loss = compute(images, captions, batch().positives, 0.2, hardest)
        loss.backward()
        results.append((loss.detach(), images.grad, captions.grad))
    torch.testing.assert_close(*results)


def ours(images: Tensor, captions: Tensor, positives: Tensor, margin: float, hardest: bool) -> Tensor:
    scores = torch.einsum("aid,bjd->aibj", images, captions)
    return hinge_of_views(scores, batch(hardest)._replace(positives=positives), margin)


def test_without_hidden_vectors_both_views_are_the_set_itself() -> None:
    method, pairs = build("esa", hidden=0.0), batch()
    loss, hinge_alone = method.loss(pairs), super(type(method), method).loss(pairs)
    torch.testing.assert_close(loss, 2 * hinge_alone)  # as many rows and columns again, each with the same hardest


def test_a_view_hides_a_share_of_each_set_and_never_all_of_it() -> None:
    mask = torch.arange(30) < torch.tensor([30, 12, 1])[:, None].repeat(1000, 1)
    torch.manual_seed(0)
    view = partly_hidden(mask, 0.2)
    assert view.any(1).all() and not view[~mask].any() and view[2::3].sum() == 1000
    assert view[::3].sum() / mask[::3].sum() == pytest.approx(0.8, abs=0.01)
    assert torch.equal(partly_hidden(mask, 0.0), mask)
