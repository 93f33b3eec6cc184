"""VSE++ (Faghri, Fleet, Kiros, Fidler; BMVC 2018), on precomputed regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.blocks.encoders import RegionEncoder, WordEncoder
from harness.blocks.families import EmbeddingMethod, one_vector
from harness.blocks.pooling import masked_mean
from harness.method import Encoded, Inputs


class VSEpp(EmbeddingMethod):
    """One unit vector a side; bidirectional hinge with the hardest negative of the batch."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.regions = RegionEncoder(inputs.feature_width, settings.dim)
        self.words = WordEncoder(inputs, settings.word_dim, settings.dim, bidirectional=False)

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """The mean of the projected regions."""
        return one_vector(masked_mean(self.regions(regions, mask), mask))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """The GRU's state at the last real word."""
        states = self.words(tokens, mask)
        last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, states.shape[2])
        return one_vector(states.gather(1, last).squeeze(1))
