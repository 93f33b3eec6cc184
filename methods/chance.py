"""Chance: random projections of both sides that know nothing of each other. The floor of every board."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.blocks.families import EmbeddingMethod, one_vector
from harness.blocks.pooling import masked_mean
from harness.method import Encoded, Inputs


class Chance(EmbeddingMethod):
    """Scores without any learning: the inner product of two independent random embeddings."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        margin: float

    image_projection: Tensor  # (F, D)
    word_vectors: Tensor  # (V, D)

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.register_buffer("image_projection", torch.randn(inputs.feature_width, settings.dim))
        self.register_buffer("word_vectors", torch.randn(inputs.vocabulary_size, settings.dim))

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """The mean region through a random projection."""
        return one_vector(masked_mean(regions, mask) @ self.image_projection)

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """The mean of random word vectors."""
        return one_vector(masked_mean(self.word_vectors[tokens], mask))
