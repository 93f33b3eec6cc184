"""Pooling gated by the mean."""

from __future__ import annotations

import torch

from harness.blocks.pooling import GatedPooling


@torch.no_grad()
def test_a_set_is_weighed_by_its_agreement_with_its_mean_and_padding_by_nothing() -> None:
    torch.manual_seed(0)
    pooling = GatedPooling(4, share=0.4).eval()
    vectors, mask = torch.randn(2, 3, 4), torch.tensor([[True, True, True], [True, True, False]])
    pooled = pooling(vectors, mask)
    for one, real, result in zip(vectors, mask, pooled, strict=True):
        by_mean = pooling.mean(one[real].mean(0)).tanh()
        logits = [pooling.weight(pooling.vectors(x).tanh() * by_mean) for x in one[real]]
        summed = sum(p * x for p, x in zip(torch.stack(logits).softmax(0), one[real], strict=True))
        torch.testing.assert_close(result, summed / summed.norm())
    vectors[1, 2] = 100.0
    assert torch.equal(pooling(vectors, mask), pooled)


def test_dropout_is_of_training_alone() -> None:
    pooling, vectors, mask = GatedPooling(8, share=0.4), torch.randn(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)
    first, second = (pooling(vectors, mask) for _ in range(2))
    assert not torch.equal(first, second)
