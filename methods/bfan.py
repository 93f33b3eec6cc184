"""BFAN, bidirectional focal attention (Liu, Mao, Liu, Zhang, Wang, Zhang; ACM MM 2019; arXiv 1909.11416)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, device
from torch.nn.functional import normalize

from harness.blocks.attention import Context, as_context, as_queries, products, relevance, shares, stacked_weights
from harness.blocks.encoders import RegionEncoder, WordEncoder
from harness.blocks.families import FragmentMethod
from harness.blocks.focal import BothRoles, Focus, both_directions, focused, in_both_roles
from harness.method import Encoded, Inputs, ScorePrecision, Scorer


class BFAN(FragmentMethod):
    """Words attend to regions and regions to words; each attends to nothing that is below a threshold of its own."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        temperature: float  # lambda
        slope: float  # of the rectifier
        focus: Focus

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.regions = RegionEncoder(inputs.feature_width, settings.dim)
        self.words = WordEncoder(inputs, settings.word_dim, settings.dim)

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """Unit regions (B, R, D)."""
        return Encoded(normalize(self.regions(regions, mask), dim=-1), mask)

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """Unit words (B, T, D)."""
        return Encoded(normalize(self.words(tokens, mask), dim=-1), mask)

    def image_side(self, images: Encoded) -> BothRoles:
        """Regions attend and are attended to."""
        return in_both_roles(images)

    def caption_side(self, captions: Encoded) -> BothRoles:
        """Words attend and are attended to."""
        return in_both_roles(captions)

    def score_sides(self, images: BothRoles, captions: BothRoles) -> Tensor:
        """(n, m)."""
        return both_directions(images, captions, self.relevance, self.relevance)

    def fused(self, images: int, captions: int, precision: ScorePrecision, device: device) -> Scorer | None:
        """A kernel per direction."""
        by_words = self.kernel(images, captions, precision, device)
        by_regions = self.kernel(captions, images, precision, device)
        if not by_words or not by_regions:
            return None
        return Scorer(
            lambda sets: (by_words.contexts(sets), by_regions.queries(sets)),
            lambda sets: (by_words.queries(sets), by_regions.contexts(sets)),
            lambda of, by: by_words.scores(of[0], by[0]) + by_regions.scores(by[1], of[1]).T,
        )

    def kernel(self, contexts: int, queries: int, precision: ScorePrecision, device: device) -> Any:
        """The kernel of one direction; None for sets or a temperature beyond it."""
        from harness.blocks.fused import Network, attention_kernel

        s = self.settings
        network = Network(s.temperature, s.slope, focus=s.focus)
        return attention_kernel(network, contexts, queries, s.dim, precision, device)

    def relevance(self, product: Tensor, of: Context) -> Tensor:
        """Cosine of every query vector with what it attends to, (C, K, Q)."""
        return relevance(self.weights, product, product, of)

    def weights(self, logits: Tensor, of: Context) -> Tensor:
        """Focal attention to the context, (C, L, K, Q), up to a positive factor a query vector."""
        s = self.settings
        return focused(stacked_weights(logits, of, s.temperature, s.slope), of, s.focus)

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """The focal attention of words, (n, m, T, R)."""
        of, by = as_context(images), as_queries(captions)
        weights = self.weights(products(of.vectors, by.vectors), of)
        return shares(weights, of, by).permute(0, 3, 2, 1)
