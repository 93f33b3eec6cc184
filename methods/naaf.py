"""NAAF, negative-aware attention framework (Zhang, Mao, Wang, Zhang; CVPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.blocks.attention import (
    Context,
    Queries,
    as_context,
    as_queries,
    attended_cosine,
    attention_between,
    pool,
    products,
    stacked_weights,
)
from harness.blocks.families import UnitFragments
from harness.blocks.losses import hinge
from harness.blocks.pooling import masked_softmax
from harness.blocks.strips import in_strips
from harness.blocks.tiles import in_tiles
from harness.method import Batch, Encoded, Inputs

SMOOTHING = 5.0  # of a caption's words by one another, in evaluation
SAFE = 3.0  # standard deviations of matched words that the threshold of evaluation lies below their mean
FEWEST = 200  # words of a batch from which its statistics count
NEW = 0.7  # what a batch has of the new threshold


class Captions(NamedTuple):
    """What all tiles of a column share."""

    queries: Queries
    alike: Tensor  # (Q, K, K), softmax_k(5 u_j . u_k); zeros for padding


class NAAF(UnitFragments):
    """Words that no region matches count against a pair: a threshold that is learned from statistics says which."""

    threshold: Tensor  # t, of training
    safe_threshold: Tensor  # of evaluation

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        temperature: float  # lambda
        slope: float  # of the rectifier
        alpha: float  # what a mismatched word taken for a matched one costs, against the other mistake

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.register_buffer("threshold", torch.tensor(0.0))
        self.register_buffer("safe_threshold", torch.tensor(0.0))

    def image_side(self, images: Encoded) -> Context:
        """Regions are attended to."""
        return as_context(images)

    def caption_side(self, captions: Encoded) -> Captions:
        """Words attend, and smooth one another."""
        queries = as_queries(captions)
        words = queries.vectors.transpose(0, 1)
        alike = masked_softmax(SMOOTHING * words @ words.transpose(1, 2), captions.mask[:, None], dim=2)
        return Captions(queries, alike)

    def score_sides(self, images: Context, captions: Captions) -> Tensor:
        """(n, m), in strips of images."""
        product = products(images.vectors, captions.queries.vectors)
        relevance = in_strips(partial(self.relevance, captions=captions), product[0], product, images)
        return pool(relevance, captions.queries, "avg", 1.0)

    def relevance(self, product: Tensor, of: Context, captions: Captions) -> Tensor:
        """Negative part and both positive parts of every word, (C, K, Q)."""
        threshold = self.threshold if self.training else self.safe_threshold
        largest = product if of.mask is None else product.masked_fill(~of.mask, -torch.inf)
        below = largest.max(1).values - threshold  # m_j - t
        negative = below.clamp_max(0) if self.training else smoothed_negative(below, captions)
        weights = self.weights(product, of)
        mean = (weights * product).sum(1) / weights.sum(1)
        return negative + self.matched(product, of, threshold) + mean

    def matched(self, product: Tensor, of: Context, threshold: Tensor) -> Tensor:
        """Cosine with what is attended to among the regions above the threshold, (C, K, Q); 0 where there is none."""
        with torch.no_grad():
            above = torch.gt(product, threshold, out=torch.empty_like(product))  # ones and zeros
        weights = (self.settings.temperature * (product - threshold)).exp() * above
        return attended_cosine(weights, product, of.gram)

    def weights(self, product: Tensor, of: Context) -> Tensor:
        """SCAN's attention to the context, (C, L, K, Q), up to a positive factor a query vector; zeros for padding."""
        weights = stacked_weights(product, of, self.settings.temperature, self.settings.slope)
        return weights if of.mask is None else weights * of.mask.to(weights.dtype)

    def loss(self, batch: Batch) -> Tensor:
        """The bidirectional hinge over the batch, whose words then move the thresholds."""
        images = self.encode_images(batch.regions, batch.region_mask)
        captions = self.encode_captions(batch.tokens, batch.token_mask)
        scores = in_tiles(self, images, captions)
        if self.training:
            self.move_thresholds(images, captions, scores)
        return hinge(scores, batch, self.settings.margin)

    @torch.no_grad()
    def move_thresholds(self, images: Encoded, captions: Encoded, scores: Tensor) -> None:
        """Take the words of captions that find their image first: matched by it, mismatched by the worst image."""
        real = captions.mask & (scores.diagonal() >= scores.amax(0))[:, None]
        matched = moments(largest_cosines(images, captions), real)
        worst = Encoded(*(of.index_select(0, scores.argmin(0)) for of in images))
        mismatched = moments(largest_cosines(worst, captions), real)
        enough = real.sum() > FEWEST
        optimal, safe = crossing(matched, mismatched, self.settings.alpha), matched[0] - SAFE * matched[1]
        self.threshold = torch.where(enough, moved(self.threshold, optimal), self.threshold)
        self.safe_threshold = torch.where(enough, moved(self.safe_threshold, safe), self.safe_threshold)

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """The attention of words to all regions, (n, m, T, R)."""
        return attention_between(self.weights, images, captions)


def smoothed_negative(below: Tensor, captions: Captions) -> Tensor:
    """m_j - t (C, K, Q) of words for which its mean over the words alike is below zero; 0 for others."""
    smoothed = (below.permute(2, 0, 1) @ captions.alike.to(below.dtype).transpose(1, 2)).permute(1, 2, 0)
    return torch.where(smoothed < 0, below, 0.0)


def largest_cosines(images: Encoded, captions: Encoded) -> Tensor:
    """m_j of the words of every caption in the image of its own row, (B, T)."""
    cosines = captions.vectors.float() @ images.vectors.float().transpose(1, 2)
    return cosines.masked_fill(~images.mask[:, None], -torch.inf).amax(2)


def moments(values: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the real values."""
    count = real.sum().clamp_min(1)
    mean = (values * real).sum() / count
    return mean, (((values - mean) * real).square().sum() / count).sqrt()


def crossing(matched: tuple[Tensor, Tensor], mismatched: tuple[Tensor, Tensor], alpha: float) -> Tensor:
    """t at which matched and mismatched words are as likely, as two normal densities, the one weighed by alpha."""
    (mu, sd), (other_mu, other_sd) = matched, mismatched
    a = sd.square() - other_sd.square()
    b = 2 * (mu * other_sd.square() - other_mu * sd.square())
    logarithm = (other_sd / (alpha * sd)).log()
    c = (other_mu * sd).square() - (mu * other_sd).square() + 2 * (sd * other_sd).square() * logarithm
    t: Tensor = (-b + (b.square() - 4 * a * c).sqrt()) / (2 * a)
    return t


def moved(old: Tensor, new: Tensor) -> Tensor:
    """Part of the new threshold and part of the old; a new one outside of [0, 1], or that is no number, is 0."""
    inside = (new >= 0) & (new <= 1)
    return (NEW * torch.where(inside, new, 0.0) + (1 - NEW) * old).to(old.dtype)
