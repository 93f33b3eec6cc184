"""fc + MLP over the real regions of padded sets, against plain layers over these regions alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.blocks.host import with_lengths
from harness.blocks.residual_mlp import ResidualMLP, in_sets, real_rows
from harness.contract.device_reads import DeviceReads

SIZES = torch.tensor([1, 4, 2])


def sets() -> tuple[Tensor, Tensor]:
    mask = with_lengths(torch.arange(4) < SIZES[:, None], SIZES.numpy())
    return torch.randn(3, 4, 5, dtype=torch.float64), mask


def encoder() -> ResidualMLP:
    torch.manual_seed(0)
    return ResidualMLP(5, 6).double()


@pytest.mark.parametrize("training", [True, False])
def test_regions_and_statistics_are_those_of_plain_layers_over_real_regions(training: bool) -> None:
    layer, other, (regions, mask) = encoder().train(training), nn.BatchNorm1d(3).double().train(training), sets()
    rows = torch.cat([regions[k, :size] for k, size in enumerate(SIZES.tolist())])
    linear = layer.fc.linear
    plain = rows @ linear.weight.T + linear.bias + layer.outer(other(rows @ layer.inner.weight.T).relu())
    torch.testing.assert_close(layer(regions, mask)[mask], plain)
    torch.testing.assert_close(layer.norm.running_mean, other.running_mean)
    torch.testing.assert_close(layer.norm.running_var, other.running_var)


def test_padding_is_zero_and_reaches_nothing() -> None:
    layer, (regions, mask) = encoder().train(), sets()
    regions.requires_grad_()
    encoded = layer(regions, mask)
    assert not encoded[~mask].any()
    encoded.square().sum().backward()
    assert regions.grad is not None and not regions.grad[~mask].any() and regions.grad[mask].any()
    torch.testing.assert_close(layer(torch.where(mask[..., None], regions, 100.0), mask), encoded)


def test_rows_go_back_to_their_sets() -> None:
    vectors, mask = sets()
    torch.testing.assert_close(in_sets(real_rows(vectors, mask), mask), vectors * mask[..., None])


def test_nothing_is_read_from_the_device() -> None:
    layer, (regions, mask) = encoder(), sets()
    with DeviceReads() as reads:
        layer(regions, mask).sum().backward()
    assert not reads.places
