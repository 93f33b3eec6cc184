"""SU-ITM, image-text matching with semantic uncertainty (Tuerhong, Dai, Tian, Wushouer; Neurocomputing 607, 2024).

A reconstruction from its abstract, on precomputed regions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.blocks.encoders import WordEncoder
from harness.blocks.families import EmbeddingMethod, one_vector
from harness.blocks.losses import hinge
from harness.blocks.pooling import masked_mean
from harness.blocks.residual_mlp import ResidualMLP
from harness.method import Batch, Encoded, Inputs


class Uncertain(NamedTuple):
    """Captions as normal distributions with independent dimensions."""

    mean: Tensor  # (B, D), unit vectors
    log_variance: Tensor  # (B, D)


class SUITM(EmbeddingMethod):
    """An image is a point and a caption a distribution, which is drawn from in training; its mean counts at test."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        variance: float  # of all dimensions together: of a caption at the start, and around an image's vector
        divergence_weight: float

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.regions = ResidualMLP(inputs.feature_width, settings.dim)
        self.words = WordEncoder(inputs, settings.word_dim, settings.dim)
        self.spread = nn.Linear(settings.dim, settings.dim)
        self.log_variance = math.log(settings.variance / settings.dim)
        nn.init.constant_(self.spread.bias, self.log_variance)

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """(B, R, F) -> (B, 1, D)."""
        return one_vector(masked_mean(self.regions(regions, mask), mask))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """(B, T) -> (B, 1, D), the means of the distributions."""
        return one_vector(self._captions(tokens, mask).mean)

    def loss(self, batch: Batch) -> Tensor:
        """The hinge of images and drawn captions, and how far an image's captions are from it as a distribution."""
        images = self.encode_images(batch.regions, batch.region_mask)
        captions = self._captions(batch.tokens, batch.token_mask)
        sample = one_vector(drawn(captions) if self.training else captions.mean)
        matching = hinge(self.score(images, sample), batch, self.settings.margin)
        distance = divergence(averaged(captions, batch.positives), images.vectors[:, 0], self.log_variance)
        total: Tensor = matching + self.settings.divergence_weight * distance.sum()
        return total

    def _captions(self, tokens: Tensor, mask: Tensor) -> Uncertain:
        words = masked_mean(self.words(tokens, mask), mask)
        return Uncertain(normalize(words, dim=1), self.spread(words))


def drawn(captions: Uncertain) -> Tensor:
    """mean + standard deviation · noise of N(0, 1), (B, D)."""
    noise = torch.randn_like(captions.mean)
    return captions.mean + (captions.log_variance / 2).exp() * noise


def averaged(captions: Uncertain, positives: Tensor) -> Uncertain:
    """The mean of the distributions of each image's captions in the batch: of their means, and of their variances."""
    share = positives.to(captions.mean.dtype)
    share = share / share.sum(1, keepdim=True)
    return Uncertain(share @ captions.mean, (share @ captions.log_variance.exp()).log())


def divergence(captions: Uncertain, images: Tensor, log_variance: float) -> Tensor:
    """KL(N(mean, variance) || N(image, its variance)), averaged over dimensions, (B,)."""
    ratio = captions.log_variance - log_variance
    away = (captions.mean - images).square() / math.exp(log_variance)
    return ((ratio.exp() + away - ratio - 1) / 2).mean(1)
