"""PCME++, improved probabilistic embeddings (Chun; ICLR 2024; arXiv 2305.18171), on precomputed regions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from harness.blocks.encoders import WordEncoder
from harness.blocks.families import EmbeddingMethod, one_vector
from harness.blocks.pooling_operator import GeneralizedPooling
from harness.blocks.residual_mlp import ResidualMLP
from harness.method import Batch, Encoded, Inputs

SOFTENED = 1e-4  # how far targets are from 0 and 1
LARGEST = 1e4  # of the divergence; beyond it is left out


class Gaussians(NamedTuple):
    """Normal distributions with independent dimensions."""

    mean: Tensor  # (B, D), unit vectors
    log_variance: Tensor  # (B, D)


class PCMEpp(EmbeddingMethod):
    """A normal distribution a side, scored by the expected squared distance of what is drawn from two of them."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        position_dim: int  # of the pooling operators
        temperature: float  # likewise
        scale: float  # a of the logit b - a · distance, at the start; learned
        shift: float  # b, likewise
        start_variance: float  # all dimensions together
        pseudo_weight: float  # of the loss with pseudo-positives
        divergence_weight: float  # of the divergence from N(0, 1)

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        s = settings
        self.regions, self.region_spread = (ResidualMLP(inputs.feature_width, s.dim) for _ in range(2))
        self.words = WordEncoder(inputs, s.word_dim, s.dim)
        self.word_spread = nn.Linear(s.dim, s.dim)
        for bias in (self.region_spread.fc.linear.bias, self.word_spread.bias):
            nn.init.constant_(bias, math.log(s.start_variance / s.dim))
        names = ("image_mean", "image_spread", "caption_mean", "caption_spread")
        self.pooling = nn.ModuleDict({name: GeneralizedPooling(s.position_dim, s.temperature) for name in names})
        self.scale, self.shift = nn.Parameter(torch.tensor(s.scale)), nn.Parameter(torch.tensor(s.shift))

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """(B, R, F) -> (B, 1, D + 1): the mean, and the variance of all dimensions together."""
        return encoded(self._images(regions, mask))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """(B, T) -> (B, 1, D + 1), likewise."""
        return encoded(self._captions(tokens, mask))

    def score(self, images: Encoded, captions: Encoded) -> Tensor:
        """-d = -(|m - m'|² + sum of both variances), (n, m)."""
        a, b = images.vectors[:, 0], captions.vectors[:, 0]
        scores: Tensor = 2 * (a[:, :-1] @ b[:, :-1].T) - 2 - (a[:, -1:] + b[:, -1])
        return scores

    def loss(self, batch: Batch) -> Tensor:
        """Cross entropy of every pair, later again with pseudo-positives, and the divergence of all distributions."""
        s = self.settings
        images = self._images(batch.regions, batch.region_mask)
        captions = self._captions(batch.tokens, batch.token_mask)
        logits = self.scale * self.score(encoded(images), encoded(captions)) + self.shift
        matching = 2 * cross_entropy(logits, batch.positives)
        if batch.hardest:
            matching = matching + s.pseudo_weight * with_pseudo_positives(logits, batch.positives)
        total: Tensor = matching + s.divergence_weight * (divergence(images) + divergence(captions))
        return total

    def _images(self, regions: Tensor, mask: Tensor) -> Gaussians:
        mean = self.pooling["image_mean"](self.regions(regions, mask), mask)
        spread = self.pooling["image_spread"](self.region_spread(regions, mask), mask)
        return Gaussians(normalize(mean, dim=1), spread)

    def _captions(self, tokens: Tensor, mask: Tensor) -> Gaussians:
        words = self.words(tokens, mask)
        mean = self.pooling["caption_mean"](words, mask)
        spread = self.pooling["caption_spread"](self.word_spread(words), mask)
        return Gaussians(normalize(mean, dim=1), spread)


def encoded(of: Gaussians) -> Encoded:
    """Distributions as one vector each: the mean, and the sum of the variances as a further number."""
    means = one_vector(of.mean)
    variance = of.log_variance.exp().sum(1)[:, None, None]
    return Encoded(torch.cat([means.vectors, variance], 2), means.mask)


def with_pseudo_positives(logits: Tensor, positives: Tensor) -> Tensor:
    """Cross entropies where also positive is what scores at least the true match of its row, and of its column."""
    matching = logits.diagonal()
    rows, columns = positives | (logits >= matching[:, None]), positives | (logits >= matching)
    return cross_entropy(logits, rows) + cross_entropy(logits, columns)


def cross_entropy(logits: Tensor, positives: Tensor) -> Tensor:
    """The mean over all pairs (B, B), whose targets are a little above 0 and below 1."""
    targets = positives.to(logits.dtype).clamp(SOFTENED, 1 - SOFTENED)
    return binary_cross_entropy_with_logits(logits, targets)


def divergence(of: Gaussians) -> Tensor:
    """KL from N(0, 1), the mean over distributions and dimensions; 0 beyond LARGEST."""
    each = (of.mean.square() + of.log_variance.exp() - of.log_variance - 1) / 2
    mean = each.mean()
    return torch.where(mean > LARGEST, 0.0, mean)
