"""CAAN, context-aware attention network (Zhang, Lei, Zhang, Li; CVPR 2020; doi 10.1109/CVPR42600.2020.00359).

Step numbers are those of docs/methods/caan.md. Shapes: P pairs as (n, m), R regions, T words, k width of Q.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.blocks import EPS, FragmentMethod, RegionEncoder, WordEncoder, gram, masked_softmax, products
from harness.method import Encoded, Inputs


class CAAN(FragmentMethod):
    """Regions and words weigh each other by affinity and by what else in their own set attends alike."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        width: int  # k, of Q1 to Q4
        margin: float
        affinity_scale: float  # K starts at this multiple of the identity
        attention_over: Literal["other", "own"]  # step 2: the set whose sum normalises, see `attention`
        unit_fragments: bool  # regions and words at unit length before step 1
        correlation: Literal["semantic", "feature"]  # step 3: SA or its ablation FA
        similarity: Literal["cosine", "inner"]  # step 5

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        dim, width = settings.dim, settings.width
        self.regions = RegionEncoder(inputs.feature_width, dim)
        self.words = WordEncoder(inputs.vocabulary_size, settings.word_dim, dim)
        self.affinity = nn.Parameter(settings.affinity_scale * torch.eye(dim))  # K
        self.region_by_regions = nn.Linear(dim, width, bias=False)  # Q1
        self.region_by_words = nn.Linear(dim, width, bias=False)  # Q2
        self.word_by_words = nn.Linear(dim, width, bias=False)  # Q3
        self.word_by_regions = nn.Linear(dim, width, bias=False)  # Q4
        self.region_weight = nn.Linear(width, 1, bias=False)  # w_v
        self.word_weight = nn.Linear(width, 1, bias=False)  # w_u
        if settings.correlation == "feature":
            self.region_metric = nn.Parameter(torch.eye(dim))  # M1
            self.word_metric = nn.Parameter(torch.eye(dim))  # M2

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """Regions (B, R, D)."""
        return Encoded(self._scaled(self.regions(regions, mask)), mask)

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """Words (B, T, D)."""
        return Encoded(self._scaled(self.words(tokens, mask)), mask)

    def score(self, images: Encoded, captions: Encoded) -> Tensor:
        """(n, R, D), (m, T, D) -> (n, m)."""
        to_words, to_regions = self.attention(images, captions)
        region_weights, word_weights = self.weights(images, captions, to_words, to_regions)
        return self.similarity(images, captions, region_weights, word_weights)

    def attention(self, images: Encoded, captions: Encoded) -> tuple[Tensor, Tensor]:
        """Steps 1 and 2: Huv, which serves the regions, and Hvu, which serves the words, (n, m, R, T).

        Sources disagree on the normalising sums. `other`: a region's row of Huv is a unit vector over the words, a
        word's column of Hvu one over the regions. `own`: the regions share out each word, the words each region.
        """
        affinity = products(images.vectors @ self.affinity, captions.vectors).transpose(1, 2)
        real = images.mask[:, None, :, None] & captions.mask[None, :, None, :]
        rectified = affinity.tanh().relu() * real
        over_words = rectified / (rectified.norm(dim=3, keepdim=True) + EPS)
        over_regions = rectified / (rectified.norm(dim=2, keepdim=True) + EPS)
        return (over_words, over_regions) if self.settings.attention_over == "other" else (over_regions, over_words)

    def weights(
        self, images: Encoded, captions: Encoded, to_words: Tensor, to_regions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Steps 3 and 4: f_v (n, m, R) and f_u (n, m, T)."""
        regions, words = images.vectors, captions.vectors
        if self.settings.correlation == "semantic":
            # Hv V Q1 + Huv U Q2 = Huv (Huv^T V Q1 + U Q2), since Hv = Huv Huv^T: never an R x R matrix a pair
            by_words = to_words.transpose(2, 3) @ self.region_by_regions(regions)[:, None] + self.region_by_words(words)
            region_hidden = to_words @ by_words
            by_regions = to_regions @ self.word_by_words(words) + self.word_by_regions(regions)[:, None]
            word_hidden = to_regions.transpose(2, 3) @ by_regions
        else:
            alike_regions = gram_under(regions, self.region_metric) @ self.region_by_regions(regions)
            alike_words = gram_under(words, self.word_metric) @ self.word_by_words(words)
            region_hidden = alike_regions[:, None] + to_words @ self.region_by_words(words)
            word_hidden = alike_words + to_regions.transpose(2, 3) @ self.word_by_regions(regions)[:, None]
        region_logits = self.region_weight(region_hidden.tanh()).squeeze(-1)
        word_logits = self.word_weight(word_hidden.tanh()).squeeze(-1)
        region_weights = masked_softmax(region_logits, images.mask[:, None], dim=2)
        return region_weights, masked_softmax(word_logits, captions.mask[None], dim=2)

    def similarity(self, images: Encoded, captions: Encoded, region_weights: Tensor, word_weights: Tensor) -> Tensor:
        """Step 5 without building v_hat and u_hat: f_v^T (V U^T) f_u and norms from the Gram matrices, (n, m)."""
        product = products(images.vectors, captions.vectors).transpose(1, 2)
        inner = (region_weights.unsqueeze(2) @ product @ word_weights.unsqueeze(3)).flatten(2).squeeze(2)
        if self.settings.similarity == "inner":
            return inner
        region_norm = ((region_weights @ gram(images.vectors)) * region_weights).sum(2)
        word_norm = ((word_weights.transpose(0, 1) @ gram(captions.vectors)).transpose(0, 1) * word_weights).sum(2)
        return inner / (region_norm * word_norm).clamp_min(EPS**2).sqrt()

    def _scaled(self, vectors: Tensor) -> Tensor:
        return normalize(vectors, dim=-1) if self.settings.unit_fragments else vectors


def gram_under(vectors: Tensor, metric: Tensor) -> Tensor:
    """X M X^T within each set, (C, L, L): feature-based attention (FA)."""
    return vectors @ metric @ vectors.transpose(1, 2)
