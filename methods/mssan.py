"""MSSAN, multi-level symmetric semantic alignment network (Wang, Di, Liu, Gao; Neurocomputing 599, 2024).

A reconstruction from the abstract; the card lists every choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.blocks.attention import attention_between, real_vectors, stacked_relevance, stacked_weights
from harness.blocks.families import UnitFragments
from harness.blocks.focal import in_both_roles
from harness.blocks.levels import Levels, three_levels
from harness.blocks.losses import hinge
from harness.blocks.pooling import GatedPooling, masked_mean
from harness.blocks.tiles import in_tiles
from harness.method import Batch, Encoded, Inputs

MOMENTUM = 0.9  # of the mean similarity of hardest negatives


class MSSAN(UnitFragments):
    """Similarity of global with global, local with local, and global with local, under a margin that adapts."""

    hardest: Tensor  # moving mean similarity of hardest negatives

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float  # m, which adapts
        least_margin: float
        most_margin: float
        temperature: float  # of words that attend to regions
        region_temperature: float  # of regions that attend to words
        slope: float  # of the rectifier

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.image_fusion = Fusion(settings.dim)
        self.caption_fusion = Fusion(settings.dim)
        self.register_buffer("hardest", torch.tensor(0.0))

    def image_side(self, images: Encoded) -> Levels:
        """Regions and whole images."""
        return Levels(in_both_roles(images), *self.image_fusion(real_vectors(images), images.mask))

    def caption_side(self, captions: Encoded) -> Levels:
        """Words and whole captions."""
        return Levels(in_both_roles(captions), *self.caption_fusion(real_vectors(captions), captions.mask))

    def score_sides(self, images: Levels, captions: Levels) -> Tensor:
        """(n, m)."""
        s = self.settings
        of_words = stacked_relevance(s.temperature, s.slope)
        of_regions = stacked_relevance(s.region_temperature, s.slope)
        return three_levels(images, captions, of_words, of_regions)

    def loss(self, batch: Batch) -> Tensor:
        """The bidirectional hinge over the batch, whose hardest negatives then move the margin."""
        images = self.encode_images(batch.regions, batch.region_mask)
        captions = self.encode_captions(batch.tokens, batch.token_mask)
        scores, margin = in_tiles(self, images, captions), self.margin()
        if self.training:
            self.move(scores, batch.positives)
        return margin * hinge(scores / margin, batch, 1.0)

    def margin(self) -> Tensor:
        """m (1 + moving mean of the hardest negatives), within bounds."""
        s = self.settings
        adapted: Tensor = s.margin * (1 + self.hardest)
        return adapted.clamp(s.least_margin, s.most_margin)

    @torch.no_grad()
    def move(self, scores: Tensor, positives: Tensor) -> None:
        """Move the mean by the hardest negatives of a batch, of both directions; not where it has none."""
        negatives = scores.masked_fill(positives, -torch.inf)
        hardest = torch.cat([negatives.amax(1), negatives.amax(0)])
        some = hardest.isfinite()
        mean = hardest.where(some, 0.0).sum() / some.sum().clamp_min(1)
        moved = MOMENTUM * self.hardest + (1 - MOMENTUM) * mean
        self.hardest = torch.where(some.any(), moved, self.hardest).to(self.hardest.dtype)

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """The attention of words, (n, m, T, R)."""
        weights = partial(stacked_weights, temperature=self.settings.temperature, slope=self.settings.slope)
        return attention_between(weights, images, captions)


class Fusion(nn.Module):
    """A set's global vector g, and its locals l2(x + sigmoid(W [x; g]) * g)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pooling = GatedPooling(dim, 0.0)
        self.gate = nn.Linear(2 * dim, dim)

    def forward(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, D), (B, L) -> g, and the mean of the locals that have it in them, (B, D) each."""
        whole = self.pooling(vectors, mask)
        of_each = whole.unsqueeze(1).expand_as(vectors)
        gate = self.gate(torch.cat([vectors, of_each], 2)).sigmoid()
        return whole, masked_mean(normalize(vectors + gate * of_each, dim=2), mask)
