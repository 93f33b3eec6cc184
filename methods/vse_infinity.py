"""VSE-infinity (Chen, Hu, Wu, Jiang, Wang; CVPR 2021; arXiv 2011.04305): one learned pooling operator a side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.blocks.encoders import WordEncoder
from harness.blocks.families import EmbeddingMethod, one_vector
from harness.blocks.pooling_operator import GeneralizedPooling
from harness.blocks.residual_mlp import ResidualMLP
from harness.method import Encoded, Inputs


class VSEInfinity(EmbeddingMethod):
    """Regions and words pooled with weights by rank, which are learned; the hinge."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        position_dim: int  # of the code of a rank, and of the GRU over them
        temperature: float  # the softmax over ranks is of g / temperature

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.regions = ResidualMLP(inputs.feature_width, settings.dim)
        self.words = WordEncoder(inputs, settings.word_dim, settings.dim)
        self.image_pooling = GeneralizedPooling(settings.position_dim, settings.temperature)
        self.caption_pooling = GeneralizedPooling(settings.position_dim, settings.temperature)

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """(B, R, F) -> (B, 1, D)."""
        return one_vector(self.image_pooling(self.regions(regions, mask), mask))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """(B, T) -> (B, 1, D)."""
        return one_vector(self.caption_pooling(self.words(tokens, mask), mask))
