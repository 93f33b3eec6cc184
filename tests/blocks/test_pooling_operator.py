"""What the generalised pooling operator can become, and that padding is no rank."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.blocks.host import with_lengths
from harness.blocks.pooling_operator import GeneralizedPooling
from harness.contract.device_reads import DeviceReads

SIZES = torch.tensor([5, 3, 1, 3])


def pooling() -> GeneralizedPooling:
    torch.manual_seed(0)
    return GeneralizedPooling(dim=4, temperature=0.1).double()


def sets() -> tuple[Tensor, Tensor]:
    mask = with_lengths(torch.arange(5) < SIZES[:, None], SIZES.numpy())
    return torch.randn(4, 5, 3, dtype=torch.float64), mask


def test_ranks_that_weigh_alike_give_the_mean_and_the_first_alone_the_maximum() -> None:
    layer, (vectors, mask) = pooling(), sets()
    layer.linear.weight.data.zero_()
    alone = [vectors[k, :size] for k, size in enumerate(SIZES.tolist())]
    torch.testing.assert_close(layer(vectors, mask), torch.stack([of.mean(0) for of in alone]))
    layer.weights = lambda sizes, longest: torch.eye(longest, dtype=torch.float64)[:1].expand(len(sizes), -1)
    torch.testing.assert_close(layer(vectors, mask), torch.stack([of.amax(0) for of in alone]))


def test_weights_depend_on_the_size_alone_and_padding_has_none() -> None:
    layer = pooling()
    together, alone = layer.weights(SIZES.unique().numpy(), 7), layer.weights(SIZES[1:2].numpy(), 3)
    torch.testing.assert_close(together[1, :3], alone[0])
    assert not together[1, 3:].any()
    torch.testing.assert_close(together.sum(1), torch.ones(3, dtype=torch.float64))


def test_nothing_is_read_from_the_device_and_padding_gets_no_gradient() -> None:
    layer, (vectors, mask) = pooling(), sets()
    vectors.requires_grad_()
    with DeviceReads() as reads:
        layer(vectors, mask).square().sum().backward()
    assert not reads.places
    assert vectors.grad is not None and vectors.grad.isfinite().all() and not vectors.grad[~mask].any()
