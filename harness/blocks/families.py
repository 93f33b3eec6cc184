"""Base classes of methods: fragment scoring, of unit regions and words too, and embedding scoring."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.blocks.encoders import RegionEncoder, WordEncoder
from harness.blocks.host import with_lengths
from harness.blocks.losses import hinge
from harness.blocks.tiles import in_full, in_tiles
from harness.method import Batch, Encoded, Inputs, Method


class FragmentMethod(Method):
    """A method that compares sets of regions with sets of words, trained by the hinge with tiled scores.

    A subclass writes `score_sides`, and `image_side` and `caption_side` where tiles of a row or column share work.
    """

    def score(self, images: Encoded, captions: Encoded) -> Tensor:
        """(n, R, D), (m, T, D) -> (n, m)."""
        return self.score_sides(self.image_side(images), self.caption_side(captions))

    @abstractmethod
    def score_sides(self, images: Any, captions: Any) -> Tensor:
        """The scores (n, m) of two sides."""

    def loss(self, batch: Batch) -> Tensor:
        """The bidirectional hinge over the batch."""
        images = self.encode_images(batch.regions, batch.region_mask)
        captions = self.encode_captions(batch.tokens, batch.token_mask)
        return hinge(in_tiles(self, images, captions), batch, self.settings.margin)


class UnitFragments(FragmentMethod):
    """A fragment method of unit regions and unit words, each encoded by one layer or network, as in SCAN.

    Its settings have `dim` and `word_dim`.
    """

    region_encoder: ClassVar[type[nn.Module]] = RegionEncoder  # (feature width, dim): regions, mask -> (B, R, D)

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.regions = self.region_encoder(inputs.feature_width, settings.dim)
        self.words = WordEncoder(inputs, settings.word_dim, settings.dim)

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """Unit regions (B, R, D)."""
        return Encoded(normalize(self.regions(regions, mask), dim=-1), mask)

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """Unit words (B, T, D)."""
        return Encoded(normalize(self.words(tokens, mask), dim=-1), mask)


class EmbeddingMethod(Method):
    """A method with one vector a side: the score is the inner product of unit vectors."""

    def score(self, images: Encoded, captions: Encoded) -> Tensor:
        """(n, 1, D), (m, 1, D) -> (n, m)."""
        return in_full(images.vectors[:, 0] @ captions.vectors[:, 0].T)

    def loss(self, batch: Batch) -> Tensor:
        """The bidirectional hinge over the batch."""
        images = self.encode_images(batch.regions, batch.region_mask)
        captions = self.encode_captions(batch.tokens, batch.token_mask)
        return hinge(self.score(images, captions), batch, self.settings.margin)


def one_vector(vectors: Tensor) -> Encoded:
    """(B, D) -> unit vectors as sets of length 1."""
    mask = torch.ones(len(vectors), 1, dtype=torch.bool, device=vectors.device)
    return Encoded(normalize(vectors, dim=-1).unsqueeze(1), with_lengths(mask, np.ones(len(vectors), dtype=np.int64)))
