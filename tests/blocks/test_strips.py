"""Strips of contexts give what the whole tile gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import harness.blocks.strips
from harness.blocks.strips import growth, in_strips

SIZES: list[int] = []  # of the strips that were scored


def squared_sums(vectors: Tensor, weights: Tensor) -> Tensor:
    """(C, L, D), (C, L) -> (C,)."""
    SIZES.append(len(vectors))
    return (vectors * weights.unsqueeze(2)).sum((1, 2)).square()


@pytest.fixture(autouse=True)
def strips_of_two_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    SIZES.clear()
    torch.manual_seed(0)
    monkeypatch.setattr(harness.blocks.strips, "STRIP", 25)


@pytest.mark.parametrize(("recompute", "sizes"), [(False, [2, 2, 1]), (True, [2, 2, 1, 1, 2, 2])])
def test_strips_give_the_scores_and_gradients_of_the_whole(recompute: bool, sizes: list[int]) -> None:
    vectors, weights = torch.randn(5, 3, 4, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    scores = in_strips(squared_sums, vectors[0], vectors, weights, recompute=recompute)
    assert SIZES == [2, 2, 1]
    gradients = torch.autograd.grad(scores.sum(), (vectors, weights))
    assert sizes == SIZES, "strips are scored once more for gradients where that was asked for"
    whole = squared_sums(vectors, weights)
    torch.testing.assert_close(scores, whole)
    torch.testing.assert_close(gradients, torch.autograd.grad(whole.sum(), (vectors, weights)))


@torch.no_grad()
def test_without_gradients_no_strip_is_recomputed() -> None:
    vectors, weights = torch.randn(5, 3, 4), torch.randn(5, 3)
    scores = in_strips(squared_sums, vectors[0], vectors, weights, recompute=True)
    torch.testing.assert_close(scores, squared_sums(vectors, weights))
    assert SIZES == [2, 2, 1, 5]


def test_recomputed_strips_keep_no_tensor_but_their_inputs() -> None:
    vectors, weights = torch.randn(5, 3, 4, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x):
        in_strips(squared_sums, vectors[0], vectors, weights, recompute=True)
    assert sorted(set(kept)) == [3, 6, 12, 24], "numbers of weights and vectors of one and of two contexts"


def test_strips_are_computed_in_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        product = in_strips(torch.matmul, torch.ones(3, 4), torch.ones(5, 3, 4), torch.ones(5, 4, 2))
    assert product.dtype == torch.float32


@pytest.mark.parametrize(("numbers", "products", "times"), [(72, 36, 2.0), (90, 36, 2.5), (12, 36, 1.0)])
def test_a_tile_grows_by_its_largest_tensor_and_by_none_that_is_smaller(
    numbers: int, products: int, times: float
) -> None:
    assert growth(numbers, products) == times
