"""SGRL, self-attention guided representation learning (Qi, Zhang, Qi, Lu; Neurocomputing 450, 2021).

A reconstruction from the abstract (doi 10.1016/j.neucom.2021.03.129); the card lists every choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.blocks.attention import (
    Context,
    Queries,
    as_context,
    as_queries,
    products,
    real_vectors,
    relevance,
    shares,
    stacked_weights,
)
from harness.blocks.families import UnitFragments
from harness.blocks.pooling import masked_softmax
from harness.method import Batch, Encoded, Inputs


class Graded(NamedTuple):
    """Sets that attend and are attended to."""

    context: Context  # (1 + w) x
    queries: Queries  # x
    grades: Tensor  # 1 + w, (K, Q)
    shares: Tensor  # of each vector in the score, (K, Q); zero for padding


class SGRL(UnitFragments):
    """Regions and words are graded within their own set before they attend to one another; rare words count more."""

    documents: Tensor  # training captions seen
    occurrences: Tensor  # how many of them have a token, (V,)

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        width: int  # of the self-attention's inner layer
        margin: float
        temperature: float  # of words that attend to regions
        region_temperature: float  # of regions that attend to words
        slope: float  # of the rectifier

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        dim, width = settings.dim, settings.width
        self.region_grades = SelfAttention(dim, width)
        self.word_grades = SelfAttention(dim, width)
        self.register_buffer("documents", torch.tensor(0))
        self.register_buffer("occurrences", torch.zeros(inputs.vocabulary_size, dtype=torch.long))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """Unit words, and the idf of each behind them, (B, T, D + 1)."""
        words, _ = super().encode_captions(tokens, mask)
        return Encoded(torch.cat([words, self.idf()[tokens].unsqueeze(2).to(words.dtype)], 2), mask)

    def idf(self) -> Tensor:
        """log((1 + documents) / (1 + those with the token)) + 1, (V,); ones before the first batch."""
        return ((1 + self.documents) / (1 + self.occurrences)).log() + 1

    def image_side(self, images: Encoded) -> Graded:
        """Regions count as they are graded."""
        weights = self.region_grades(real_vectors(images), images.mask)
        return graded(images, weights, weights)

    def caption_side(self, captions: Encoded) -> Graded:
        """Words count by TF-IDF: a word's term frequency is the number of positions that have its idf."""
        words, idf = unpacked(captions)
        return graded(words, self.word_grades(real_vectors(words), words.mask), idf / idf.sum(1, keepdim=True))

    def score_sides(self, images: Graded, captions: Graded) -> Tensor:
        """(n, m): words that attend to regions and regions that attend to words, added."""
        by_words = self.directed(images.context, captions, self.settings.temperature)
        by_regions = self.directed(captions.context, images, self.settings.region_temperature)
        return by_words + by_regions.T

    def directed(self, of: Context, by: Graded, temperature: float) -> Tensor:
        """sum_j p_j cos(x_j, what it attends to), (C, Q)."""
        product = products(of.vectors, by.queries.vectors)
        weights = partial(stacked_weights, temperature=temperature, slope=self.settings.slope)
        return (relevance(weights, product * by.grades, product, of) * by.shares).sum(1)

    def loss(self, batch: Batch) -> Tensor:
        """The bidirectional hinge over the batch, whose captions are counted first."""
        if self.training:
            self.count(batch.tokens, batch.token_mask)
        return super().loss(batch)

    @torch.no_grad()
    def count(self, tokens: Tensor, mask: Tensor) -> None:
        """Count captions, and in how many of them each token is."""
        equal_before = (tokens[:, :, None] == tokens[:, None, :]).tril(-1).any(2)
        first = mask & ~equal_before
        self.documents = self.documents + len(tokens)
        self.occurrences = self.occurrences.index_add(0, tokens.flatten(), first.flatten().long())

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """The attention of words, (n, m, T, R)."""
        of, by = self.image_side(images).context, self.caption_side(captions)
        logits = products(of.vectors, by.queries.vectors) * by.grades
        weights = stacked_weights(logits, of, self.settings.temperature, self.settings.slope)
        return shares(weights, of, by.queries).permute(0, 3, 2, 1)


class SelfAttention(nn.Module):
    """w = softmax_l(w2 . tanh(W1 x_l)) within a set."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, width)  # W1
        self.weight = nn.Linear(width, 1, bias=False)  # w2; a softmax does not see a bias

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D), (B, L) -> (B, L)."""
        return masked_softmax(self.weight(self.inner(vectors).tanh()).squeeze(2), mask, dim=1)


def unpacked(captions: Encoded) -> tuple[Encoded, Tensor]:
    """Words (m, T, D) and their idf (m, T), zero for padding."""
    vectors = real_vectors(captions)
    return Encoded(vectors[..., :-1], captions.mask), vectors[..., -1]


def graded(sets: Encoded, weights: Tensor, pooling: Tensor) -> Graded:
    """Unit vectors with the weights (B, L) that grade them, and the shares (B, L) that pool them."""
    grades = 1 + weights
    context = as_context(Encoded(sets.vectors * grades.unsqueeze(2), sets.mask))
    queries = as_queries(sets)
    return Graded(context, queries, grades.T.contiguous(), pooling.T * queries.mask)
