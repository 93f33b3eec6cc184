"""BSSAN, bi-directional spatial-semantic attention networks (Huang, Zhang, Zhao, Li; IEEE TIP 28(4), 2019).

A reconstruction from the abstract (doi 10.1109/TIP.2018.2882225); the card lists every choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.blocks import (
    EPS,
    FragmentMethod,
    RegionEncoder,
    WordEncoder,
    attended_cosine,
    gram,
    masked_softmax,
    products,
)
from harness.method import Encoded, Inputs


class BSSAN(FragmentMethod):
    """Two attention networks, word to regions (W2R) and object to words (O2W), under one holistic gate."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        bidirectional: bool  # the word LSTM
        temperature: float  # both softmaxes start here, and learn theirs
        competition: bool  # O2W: a word's objects compete before an object's softmax over words
        networks: Literal["both", "w2r", "o2w"]  # the ablations

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        dim = settings.dim
        self.words = WordEncoder(inputs.vocabulary_size, settings.word_dim, dim, "lstm", settings.bidirectional)
        if settings.networks != "o2w":
            self.regions = RegionEncoder(inputs.feature_width, dim)
            self.word_attention = Attention(dim, settings.temperature, competition=False)
        if settings.networks != "w2r":
            self.objects = RegionEncoder(inputs.feature_width, dim)
            self.object_attention = Attention(dim, settings.temperature, settings.competition)
        if settings.networks == "both":
            self.gate = nn.Parameter(torch.zeros(()))  # g = sigmoid(gate) starts at one half

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """Unit regions beside unit objects, (B, R, 2D); one of them alone, (B, R, D), in an ablation."""
        views = [view(regions, mask) for view in self._views()]
        return Encoded(torch.cat([normalize(view, dim=-1) for view in views], dim=-1), mask)

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """Unit LSTM states h_t, (B, T, D)."""
        return Encoded(normalize(self.words(tokens, mask), dim=-1), mask)

    def score(self, images: Encoded, captions: Encoded) -> Tensor:
        """(n, R, 2D), (m, T, D) -> (n, m): g W2R + (1 - g) O2W."""
        views = images.vectors.split(self.settings.dim, dim=-1)
        if self.settings.networks == "w2r":
            return self.word_to_region(Encoded(views[0], images.mask), captions)
        if self.settings.networks == "o2w":
            return self.object_to_word(Encoded(views[0], images.mask), captions)
        gate = self.gate.sigmoid()
        by_words = self.word_to_region(Encoded(views[0], images.mask), captions)
        by_objects = self.object_to_word(Encoded(views[1], images.mask), captions)
        return gate * by_words + (1 - gate) * by_objects

    def word_to_region(self, regions: Encoded, words: Encoded) -> Tensor:
        """W2R: the regions each word means, (n, m)."""
        score: Tensor = self.word_attention(regions, words)
        return score

    def object_to_word(self, objects: Encoded, words: Encoded) -> Tensor:
        """O2W: the words each object means, (n, m)."""
        score: Tensor = self.object_attention(words, objects)
        return score.T

    def _views(self) -> list[nn.Module]:
        return [getattr(self, name) for name in ("regions", "objects") if hasattr(self, name)]


class Attention(nn.Module):
    """One attention network: bilinear attention of queries to a context, a cosine a query, a salience over queries."""

    def __init__(self, dim: int, temperature: float, competition: bool) -> None:
        super().__init__()
        self.bilinear = nn.Parameter(torch.eye(dim))  # W, from the identity
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.salience = nn.Parameter(torch.zeros(dim))  # q, from the mean
        self.competition = competition

    def forward(self, context: Encoded, queries: Encoded) -> Tensor:
        """(C, L, D), (Q, K, D) -> (C, Q)."""
        logits = products(context.vectors @ self.bilinear, queries.vectors)
        if self.competition:
            rectified = logits.relu() * queries.mask
            logits = rectified / (rectified.norm(dim=3, keepdim=True) + EPS)
        weights = masked_softmax(self.log_temperature.exp() * logits, context.mask[:, :, None, None], dim=1)
        cosines = attended_cosine(weights, products(context.vectors, queries.vectors), gram(context.vectors))
        salience = masked_softmax(queries.vectors @ self.salience, queries.mask, dim=1)
        return (cosines * salience).sum(2)
