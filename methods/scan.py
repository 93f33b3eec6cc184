"""SCAN, stacked cross attention (Lee, Chen, Hua, Hu, He; ECCV 2018; arXiv 1803.08024), in both directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, device

from harness.blocks.attention import (
    Context,
    Queries,
    as_context,
    as_queries,
    attention_between,
    pool,
    products,
    relevance,
    stacked_weights,
)
from harness.blocks.families import UnitFragments
from harness.method import Encoded, ScorePrecision, Scorer


class SCAN(UnitFragments):
    """Unit regions and words; each query vector is compared with the context vectors that it attends to."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        temperature: float  # lambda_1, of the softmax over the context
        slope: float  # of the rectifier: 0 in the paper's text, 0.1 in its published code
        pooling: Literal["avg", "lse"]
        pooling_temperature: float  # lambda_2, of LSE

    def relevance(self, context: Context, queries: Queries) -> Tensor:
        """Relevance of each query set to each context set, (C, Q)."""
        s = self.settings
        product = products(context.vectors, queries.vectors)
        return pool(relevance(self.weights, product, product, context), queries, s.pooling, s.pooling_temperature)

    def kernel(self, contexts: int, queries: int, precision: ScorePrecision, device: device) -> Any:
        """The kernel of the relevance; None for sets or a temperature beyond it."""
        from harness.blocks.fused import Network, attention_kernel

        s = self.settings
        network = Network(s.temperature, s.slope, s.pooling, s.pooling_temperature)
        return attention_kernel(network, contexts, queries, s.dim, precision, device)

    def weights(self, logits: Tensor, of: Context) -> Tensor:
        """Attention to the context, (C, L, K, Q), up to a positive factor a query vector."""
        return stacked_weights(logits, of, self.settings.temperature, self.settings.slope)


class TextToImage(SCAN):
    """Words attend to regions: one relevance a word."""

    def image_side(self, images: Encoded) -> Context:
        """Regions are attended to."""
        return as_context(images)

    def caption_side(self, captions: Encoded) -> Queries:
        """Words attend."""
        return as_queries(captions)

    def score_sides(self, images: Context, captions: Queries) -> Tensor:
        """(n, m)."""
        return self.relevance(images, captions)

    def fused(self, images: int, captions: int, precision: ScorePrecision, device: device) -> Scorer | None:
        """Regions as contexts."""
        kernel = self.kernel(images, captions, precision, device)
        return Scorer(kernel.contexts, kernel.queries, kernel.scores) if kernel else None

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """The attention of words, (n, m, T, R)."""
        return attention_between(self.weights, images, captions)


class ImageToText(SCAN):
    """Regions attend to words: one relevance a region."""

    def image_side(self, images: Encoded) -> Queries:
        """Regions attend."""
        return as_queries(images)

    def caption_side(self, captions: Encoded) -> Context:
        """Words are attended to."""
        return as_context(captions)

    def score_sides(self, images: Queries, captions: Context) -> Tensor:
        """(n, m)."""
        return self.relevance(captions, images).T

    def fused(self, images: int, captions: int, precision: ScorePrecision, device: device) -> Scorer | None:
        """Words as contexts."""
        kernel = self.kernel(captions, images, precision, device)
        return Scorer(kernel.queries, kernel.contexts, lambda of, by: kernel.scores(by, of).T) if kernel else None

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """The attention of regions, (n, m, T, R)."""
        return attention_between(self.weights, captions, images).permute(1, 0, 3, 2)
