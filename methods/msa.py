"""MSA, multi-level semantic alignment (Li, Yao, Zhang, Sun, Fu; J. BUAA 50(2), 2024).

A reconstruction from half of the abstract (doi 10.13700/j.bh.1001-5965.2022.0385); the card lists every choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.blocks.attention import attention_between, real_vectors, stacked_relevance, stacked_weights
from harness.blocks.encoders import RegionEncoder, WordEncoder
from harness.blocks.families import FragmentMethod
from harness.blocks.focal import in_both_roles
from harness.blocks.levels import Levels, three_levels
from harness.blocks.pooling import masked_mean
from harness.method import Encoded, Inputs


class MSA(FragmentMethod):
    """Global with global, local with local, and global with local; an image's global vector has a layer of its own."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        temperature: float  # of words that attend to regions
        region_temperature: float  # of regions that attend to words
        slope: float  # of the rectifier

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        dim = settings.dim
        self.regions = RegionEncoder(inputs.feature_width, dim)
        self.words = WordEncoder(inputs, settings.word_dim, dim)
        self.whole_image = nn.Linear(dim, dim)
        self.whole_caption = nn.Linear(dim, dim)

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """Regions (B, R, D), of any length: their mean is a linear map of the mean region feature."""
        return Encoded(self.regions(regions, mask), mask)

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """Words (B, T, D)."""
        return Encoded(self.words(tokens, mask), mask)

    def image_side(self, images: Encoded) -> Levels:
        """Regions and whole images."""
        return levels(images, self.whole_image)

    def caption_side(self, captions: Encoded) -> Levels:
        """Words and whole captions."""
        return levels(captions, self.whole_caption)

    def score_sides(self, images: Levels, captions: Levels) -> Tensor:
        """(n, m)."""
        s = self.settings
        of_words = stacked_relevance(s.temperature, s.slope)
        of_regions = stacked_relevance(s.region_temperature, s.slope)
        return three_levels(images, captions, of_words, of_regions)

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """The attention of words, (n, m, T, R)."""
        weights = partial(stacked_weights, temperature=self.settings.temperature, slope=self.settings.slope)
        return attention_between(weights, unit_sets(images), unit_sets(captions))


def levels(sets: Encoded, layer: nn.Linear) -> Levels:
    """Unit fragments with their mean, and l2(W mean(x) + b) of the fragments as they are encoded."""
    fragments = unit_sets(sets)
    whole = normalize(layer(masked_mean(real_vectors(sets), sets.mask)), dim=1)
    return Levels(in_both_roles(fragments), whole, masked_mean(real_vectors(fragments), fragments.mask))


def unit_sets(sets: Encoded) -> Encoded:
    """Sets of unit vectors."""
    return Encoded(normalize(real_vectors(sets), dim=2), sets.mask)
