"""BFAN: bidirectional focal attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, leaky_relu

from textbook.attention import focal
from textbook.formula import NOTHING, Formula


def bfan(s: Any, _: Any) -> Formula:
    """BFAN: words attend to regions, and regions to words."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        words, real = u.expand(len(v), -1, -1), torch.ones(len(v), len(u), dtype=torch.bool, device=u.device)
        return direction(v, mask, words, real, s) + direction(words, real, v, mask, s)

    return score


bfan_equal = bfan_prob = bfan


def direction(context: Tensor, mask: Tensor, queries: Tensor, real: Tensor, s: Any) -> Tensor:
    """Mean cosine of queries (n, K, D) and what they attend to in contexts (n, L, D), (n,)."""
    a = leaky_relu(context @ queries.transpose(1, 2), s.slope) * real[:, None]  # (n, L, K)
    a = a / (a.norm(dim=2, keepdim=True) + 1e-8)  # over the queries
    w = focal((s.temperature * a).masked_fill(~mask[..., None], NOTHING).softmax(1), mask, s.focus)
    cosines = cosine_similarity(queries, w.transpose(1, 2) @ context, dim=2)
    return (cosines * real).sum(1) / real.sum(1)
