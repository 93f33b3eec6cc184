"""SGRL: graded regions and words, attention in both directions, words pooled by TF-IDF."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from textbook.attention import attended
from textbook.formula import NOTHING, Formula


def sgrl(s: Any, method: Any) -> Formula:
    """SGRL; the last number of a word is its idf."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        u, idf = u[:, :-1], u[:, -1]
        words, real = u.expand(len(v), -1, -1), torch.ones_like(mask[:, :1]).expand(-1, len(u))
        alpha, beta = grades(method.region_grades, v, mask), grades(method.word_grades, words, real)
        x, y = (1 + alpha)[..., None] * v, (1 + beta)[..., None] * words
        by_words = cosine_similarity(words, attended(y, real, x, mask, s.temperature, s.slope), dim=2)
        by_regions = cosine_similarity(v, attended(x, mask, y, real, s.region_temperature, s.slope), dim=2)
        return (idf / idf.sum() * by_words).sum(1) + (alpha * by_regions * mask).sum(1)

    return score


def grades(part: Any, x: Tensor, mask: Tensor) -> Tensor:
    """Self-attention within every set (n, L, D), (n, L)."""
    hidden = (x @ part.inner.weight.T + part.inner.bias).tanh() @ part.weight.weight[0]
    return hidden.masked_fill(~mask, NOTHING).softmax(1)
