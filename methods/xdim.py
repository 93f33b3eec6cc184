"""X-Dim, cross-dimensional semantic dependency (Zhang, Zhang, Hu, Zhu, Mao; ACM MM 2023).

A word u and what it attends to, a, are compared by z = l2(W (a * u)), whose entries are summed: W mixes dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.blocks.attention import (
    EPS,
    Context,
    Queries,
    as_context,
    as_queries,
    attended_vectors,
    pool,
    products,
    shares,
    stacked_weights,
)
from harness.blocks.families import UnitFragments
from harness.blocks.residual_mlp import ResidualMLP
from harness.blocks.strips import REGIONS, growth, in_strips
from harness.blocks.tiles import in_full
from harness.method import Encoded, Inputs


class Captions(NamedTuple):
    """What all tiles of a column share."""

    queries: Queries
    mapped: Tensor  # (K, Q, D), each dimension times its column sum of W
    dependency: Tensor  # W, (D, D)


class XDim(UnitFragments):
    """Words attend to regions; word and attended vector agree in dimensions that depend on each other."""

    region_encoder = ResidualMLP

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        temperature: float  # exp(theta) at the start
        slope: float  # of the rectifier
        deviations: float  # k_r at the start: standard deviations of a row's threshold above its mean
        sharpness: float  # tau at the start

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.dependencies = Dependencies(settings.dim, settings.deviations, settings.sharpness)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(settings.temperature)))  # theta

    @property
    def tile_growth(self) -> float:
        """On a GPU the attended vectors of a tile, D numbers a word where the products have one a region, are whole."""
        return growth(self.settings.dim, REGIONS)

    def image_side(self, images: Encoded) -> Context:
        """Regions are attended to."""
        return as_context(images)

    def caption_side(self, captions: Encoded) -> Captions:
        """Words attend."""
        queries, dependency = as_queries(captions), self.dependencies()
        return Captions(queries, queries.vectors * dependency.sum(0), dependency)

    def score_sides(self, images: Context, captions: Captions) -> Tensor:
        """(n, m), in strips of images whose attended vectors are computed again for gradients."""
        logits = products(images.vectors, captions.mapped)  # v^T diag(colsum W) u, (n, R, T, m)
        return in_strips(partial(self.of_strip, captions=captions), captions.mapped, logits, images, recompute=True)

    def of_strip(self, logits: Tensor, of: Context, captions: Captions) -> Tensor:
        """Mean over the words of sum(z) = 1^T W c / |W c| with c = a * u, (C, Q).

        1^T W c is what the attention's logits are made of, so the numerator is their weighted sum. The length of a
        cancels.
        """
        weights = self.weights(logits, of)
        attended = attended_vectors(weights, in_full(of.vectors))
        mixed = (attended * in_full(captions.queries.vectors)) @ captions.dependency.T  # (C, K, Q, D)
        scale = mixed.square().sum(3).clamp_min(EPS**2).rsqrt()
        return pool((weights * logits).sum(1) * scale, captions.queries, "avg", 1.0)

    def weights(self, logits: Tensor, of: Context) -> Tensor:
        """Attention to the regions, (C, L, K, Q), up to a positive factor a word."""
        return stacked_weights(logits.tanh(), of, self.log_temperature.exp(), self.settings.slope)

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """The attention of words, (n, m, T, R)."""
        of, by = self.image_side(images), self.caption_side(captions)
        weights = self.weights(products(of.vectors, by.mapped), of)
        return shares(weights, of, by.queries).permute(0, 3, 2, 1)


class Dependencies(nn.Module):
    """W (D, D): which dimensions go with which; a row keeps what is above its own threshold."""

    def __init__(self, dim: int, deviations: float, sharpness: float) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.randn(dim, dim))  # E
        self.deviations = nn.Parameter(deviations + 0.1 * torch.randn(dim, 1))  # k
        self.sharpness = nn.Parameter(torch.tensor(sharpness))  # tau

    def forward(self) -> Tensor:
        """Unit rows of tanh(exp(e^tau (P - t))) * P with P = sigmoid(E)."""
        p = self.raw.sigmoid()
        threshold = p.mean(1, keepdim=True) + self.deviations * p.std(1, keepdim=True)
        gate = (self.sharpness.exp() * (p - threshold)).exp().tanh()
        return normalize(gate * p, dim=1)
