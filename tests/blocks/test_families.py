"""The base class of unit regions and words."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from harness.blocks.encoders import RegionEncoder
from harness.blocks.families import UnitFragments
from harness.blocks.residual_mlp import ResidualMLP
from harness.contract.samples import INPUTS, random_sets


class Plain(UnitFragments):
    """Regions through one linear layer."""

    def score_sides(self, images: Tensor, captions: Tensor) -> Tensor:
        raise NotImplementedError


class Deep(Plain):
    """Regions through fc + MLP."""

    region_encoder = ResidualMLP


@pytest.mark.parametrize(("kind", "encoder"), [(Plain, RegionEncoder), (Deep, ResidualMLP)])
def test_regions_go_through_the_encoder_that_the_class_names_and_every_real_vector_has_unit_length(
    kind: type[UnitFragments], encoder: type
) -> None:
    method = kind(SimpleNamespace(dim=6, word_dim=5), INPUTS)
    assert type(method.regions) is encoder
    images, captions = random_sets([3, 1], seed=1, width=INPUTS.feature_width), random_sets([2, 4], seed=2)
    for sets, lengths in ((method.encode_images(*images), [3, 1]), (method.encode_captions(*captions), [2, 4])):
        assert sets.vectors.shape == (2, max(lengths), 6)
        torch.testing.assert_close(sets.vectors.norm(dim=2), sets.mask.float())
        assert sets.mask.sum(1).tolist() == lengths
