"""SCAN: stacked cross attention, in both directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, leaky_relu

from textbook.formula import NOTHING, Formula


def scan_t2i(s: Any, _: Any) -> Formula:
    """SCAN text to image: words attend to regions."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        a = leaky_relu(v @ u.T, s.slope) * mask[..., None]  # (n, R, T)
        a = a / (a.norm(dim=2, keepdim=True) + 1e-8)  # over the words, for each region
        alpha = (s.temperature * a).masked_fill(~mask[..., None], NOTHING).softmax(1)
        c = alpha.transpose(1, 2) @ v  # (n, T, D)
        return pooled(cosine_similarity(u.expand_as(c), c, dim=2), torch.ones_like(c[..., 0], dtype=torch.bool), s)

    return score


def scan_i2t(s: Any, _: Any) -> Formula:
    """SCAN image to text: regions attend to words."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        a = leaky_relu(v @ u.T, s.slope) * mask[..., None]  # (n, R, T)
        a = a / (a.norm(dim=1, keepdim=True) + 1e-8)  # over the regions, for each word
        alpha = (s.temperature * a).softmax(2)
        c = alpha @ u  # (n, R, D)
        return pooled(cosine_similarity(v, c, dim=2), mask, s)

    return score


def pooled(relevance: Tensor, mask: Tensor, s: Any) -> Tensor:
    """AVG or LSE over the real queries, (n, K) -> (n,)."""
    if s.pooling == "avg":
        return (relevance * mask).sum(1) / mask.sum(1)
    return ((s.pooling_temperature * relevance).exp() * mask).sum(1).log() / s.pooling_temperature
