"""BFAN, bidirectional focal attention (Liu, Mao, Liu, Zhang, Wang, Zhang; ACM MM 2019; arXiv 1909.11416)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, device

from harness.blocks.attention import Context, attention_between, relevance, stacked_weights
from harness.blocks.families import UnitFragments
from harness.blocks.focal import BothRoles, Focus, both_directions, focused, in_both_roles
from harness.method import Encoded, ScorePrecision, Scorer


class BFAN(UnitFragments):
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
        return attention_between(self.weights, images, captions)
