"""BCAN, bidirectional correct attention network (Liu, Wang, Meng, Liu, Liu; ICIP 2021).

The published code multiplies attention by one number per pair (global correct unit, GCU) and by one per query (local
correct unit, LCU), and then divides by the sum of the weights, so both cancel: what is left is BFAN with its focal
filter applied twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from torch import Tensor
from torch.nn.functional import leaky_relu, normalize

from harness.blocks.attention import (
    Context,
    attended_cosine,
    products,
    real_vectors,
    shares,
    softmax_weights,
    stacked_weights,
    unit,
)
from harness.blocks.encoders import RegionEncoder, WordEncoder
from harness.blocks.families import FragmentMethod
from harness.blocks.focal import BothRoles, Focus, both_directions, focused, in_both_roles
from harness.blocks.pooling import GatedPooling, masked_mean, masked_softmax
from harness.blocks.strips import in_strips
from harness.blocks.tiles import in_full
from harness.method import Encoded, Inputs


class UnitPooling(GatedPooling):
    """Unit vectors in one, each weighed by how it goes with the mean of the vectors as they were before."""

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D), (B, L) -> (B, D)."""
        units, mean = normalize(vectors, dim=-1), masked_mean(vectors, mask)
        by_vector, by_mean = self.vectors(units).tanh(), self.mean(mean).tanh()
        logits = self.weight(self._dropped(by_vector) * self._dropped(by_mean).unsqueeze(1))
        weights = masked_softmax(logits, mask.unsqueeze(2), dim=1)
        return normalize((weights * units).sum(1), dim=1)


class Side(NamedTuple):
    """Images or captions: their vectors, and one vector for the whole of each where the form has any."""

    locals: BothRoles
    whole: Tensor | None  # (n, D) unit vectors


class BCAN(FragmentMethod):
    """Focal attention in both directions; the form of the abstract corrects it by global and local similarity."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        temperature: float  # lambda
        slope: float  # of the rectifier
        focus: Focus
        form: Literal["released", "abstract"]
        global_threshold: float  # of the form "abstract": the global similarity that turns attention round
        dropout: float  # of the form "abstract", in the pooling of whole images and captions

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.regions = RegionEncoder(inputs.feature_width, settings.dim)
        self.words = WordEncoder(inputs, settings.word_dim, settings.dim)
        if settings.form == "abstract":
            self.whole_image = UnitPooling(settings.dim, settings.dropout)
            self.whole_caption = UnitPooling(settings.dim, settings.dropout)

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """Regions (B, R, D), not normalised: the whole image is pooled by their mean."""
        return Encoded(self.regions(regions, mask), mask)

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """Unit words (B, T, D)."""
        return Encoded(normalize(self.words(tokens, mask), dim=-1), mask)

    def image_side(self, images: Encoded) -> Side:
        """Unit regions, and the pooled image."""
        return self._side(images, "whole_image")

    def caption_side(self, captions: Encoded) -> Side:
        """Unit words, and the pooled caption."""
        return self._side(captions, "whole_caption")

    def score_sides(self, images: Side, captions: Side) -> Tensor:
        """(n, m)."""
        similarity = self.similarity(images, captions)
        mirrored = None if similarity is None else similarity.T
        directions = partial(self.relevance, similarity), partial(self.relevance, mirrored)
        return both_directions(images.locals, captions.locals, *directions)

    def similarity(self, images: Side, captions: Side) -> Tensor | None:
        """g of the global correct unit, (n, m); None where it cancels."""
        if images.whole is None or captions.whole is None:
            return None
        return in_full(images.whole @ captions.whole.T)

    def relevance(self, similarity: Tensor | None, product: Tensor, of: Context) -> Tensor:
        """Cosine of every query vector with what it attends to, (C, K, Q), in strips of contexts."""
        if similarity is None:
            return in_strips(partial(self.of_strip, None), product[0], product, of)
        return in_strips(self.of_strip, product[0], similarity, product, of)

    def of_strip(self, similarity: Tensor | None, product: Tensor, of: Context) -> Tensor:
        """(C, K, Q)."""
        return attended_cosine(self.weights(similarity, product, of), product, of.gram)

    def weights(self, similarity: Tensor | None, product: Tensor, of: Context) -> Tensor:
        """Attention to the context, (C, L, K, Q), up to a positive factor a query vector."""
        s = self.settings
        if similarity is None:
            return focused(focused(stacked_weights(product, of, s.temperature, s.slope), of, s.focus), of, s.focus)
        w = focused(self.globally_corrected(similarity, product, of), of, s.focus)
        return focused(self.locally_corrected(w, product, of), of, s.focus)

    def globally_corrected(self, similarity: Tensor, product: Tensor, of: Context) -> Tensor:
        """GCU: logits times (g - threshold), so that a pair that does not match attends to what matches least."""
        shifted = self.settings.temperature * (similarity - self.settings.global_threshold)
        logits = unit(leaky_relu(product, self.settings.slope), 2)
        return softmax_weights(shifted[:, None, None] * logits, of)

    def locally_corrected(self, weights: Tensor, product: Tensor, of: Context) -> Tensor:
        """LCU: less weight for vectors that match their query less than what it attends to does."""
        delta = product - attended_cosine(weights, product, of.gram).unsqueeze(1)
        gate: Tensor = (self.settings.temperature * delta).sigmoid()
        return weights * gate

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """The attention of words, (n, m, T, R)."""
        of, by = self.image_side(images), self.caption_side(captions)
        product = products(of.locals.context.vectors, by.locals.queries.vectors)
        weights = self.weights(self.similarity(of, by), product, of.locals.context)
        return shares(weights, of.locals.context, by.locals.queries).permute(0, 3, 2, 1)

    def _side(self, sets: Encoded, pooling: str) -> Side:
        vectors, whole = real_vectors(sets), None
        if self.settings.form == "abstract":
            whole = getattr(self, pooling)(vectors, sets.mask)
        return Side(in_both_roles(Encoded(normalize(vectors, dim=-1), sets.mask)), whole)
