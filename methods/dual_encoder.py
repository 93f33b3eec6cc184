"""Two encoders that are trained here, and a contrastive loss: CLIP's or SigLIP's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.blocks.contrastive import LARGEST_LOG_SCALE, sigmoid_loss, softmax_loss
from harness.blocks.encoders import WordEncoder
from harness.blocks.families import EmbeddingMethod, one_vector
from harness.blocks.pooling import masked_mean
from harness.blocks.residual_mlp import ResidualMLP
from harness.method import Batch, Encoded, Inputs


class DualEncoder(EmbeddingMethod):
    """The mean of encoded regions and the mean of word states; a subclass has the loss of their cosines."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        scale: float  # of cosines, at the start; learned

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.regions = ResidualMLP(inputs.feature_width, settings.dim)
        self.words = WordEncoder(inputs, settings.word_dim, settings.dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale)))

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """(B, R, F) -> (B, 1, D)."""
        return one_vector(masked_mean(self.regions(regions, mask), mask))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """(B, T) -> (B, 1, D)."""
        return one_vector(masked_mean(self.words(tokens, mask), mask))

    def cosines(self, batch: Batch) -> Tensor:
        """(B, B)."""
        images = self.encode_images(batch.regions, batch.region_mask)
        return self.score(images, self.encode_captions(batch.tokens, batch.token_mask))


class CLIP(DualEncoder):
    """Cross entropy of each image among the captions of the batch, and of each caption among the images."""

    def loss(self, batch: Batch) -> Tensor:
        """Mean over the batch and both directions; other true matches are in no denominator."""
        return softmax_loss(self.log_scale.clamp(max=LARGEST_LOG_SCALE).exp() * self.cosines(batch), batch.positives)


class SigLIP(DualEncoder):
    """Every image and caption of the batch for themselves: do they match?"""

    @dataclass(frozen=True)
    class Settings(DualEncoder.Settings):
        """Settings of the card."""

        bias: float  # at the start; learned

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.bias = nn.Parameter(torch.tensor(settings.bias))

    def loss(self, batch: Batch) -> Tensor:
        """-(1/B) sum of log sigmoid(y (scale · cosine + bias)), y = 1 for true matches, else -1."""
        return sigmoid_loss(self.log_scale.exp() * self.cosines(batch) + self.bias, batch.positives)
