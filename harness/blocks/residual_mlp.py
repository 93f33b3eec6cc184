"""The image encoder "fc + MLP" of the VSE-infinity family, and batch norm over the real vectors of padded sets.

Real vectors are brought together before a batch norm: padding enters no statistic, and takes no time.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from harness.blocks.encoders import RegionEncoder
from harness.blocks.host import Ints, lengths_of, to_device


class ResidualMLP(nn.Module):
    """Regions (B, R, F) -> (B, R, D): fc(x) + MLP(x), MLP = linear F -> D/2, batch norm, ReLU, linear D/2 -> D.

    The first linear layer has no bias, as the batch norm after it takes it away.
    """

    def __init__(self, feature_width: int, dim: int) -> None:
        super().__init__()
        self.fc = RegionEncoder(feature_width, dim)
        self.inner = nn.Linear(feature_width, dim // 2, bias=False)
        self.norm = nn.BatchNorm1d(dim // 2)
        self.outer = nn.Linear(dim // 2, dim)

    def forward(self, regions: Tensor, mask: Tensor) -> Tensor:
        """Encoded regions, not normalised; zeros where the mask is False."""
        rows = real_rows(regions, mask)
        added = self.outer(self.norm(self.inner(rows)).relu())
        encoded: Tensor = self.fc(regions, mask) + in_sets(added, mask)
        return encoded


def real_rows(vectors: Tensor, mask: Tensor) -> Tensor:
    """(B, L, D) -> (n, D): the n real vectors of all sets, one set after another."""
    return vectors.flatten(0, 1).index_select(0, _places(mask))


def in_sets(rows: Tensor, mask: Tensor) -> Tensor:
    """(n, D) -> (B, L, D): real vectors back in their sets, with zeros for padding."""
    places = rows.new_zeros(mask.numel(), rows.shape[1])
    return places.index_copy(0, _places(mask), rows).view(*mask.shape, -1)


def _places(mask: Tensor) -> Tensor:
    """The places of real vectors among all, (n,)."""
    real: Ints = np.flatnonzero(np.arange(mask.shape[1]) < lengths_of(mask)[:, None])
    return to_device(real, mask.device)
