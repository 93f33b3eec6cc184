"""BFAN: bidirectional focal attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, leaky_relu

from textbook.formula import Formula


def bfan(s: Any, _: Any) -> Formula:
    """BFAN, one pair after another."""

    def pair(v: Tensor, u: Tensor) -> Tensor:
        return direction(v, u, s) + direction(u, v, s)

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        return torch.stack([pair(of[real], u) for of, real in zip(v, mask, strict=True)])

    return score


bfan_equal = bfan_prob = bfan


def direction(context: Tensor, queries: Tensor, s: Any) -> Tensor:
    """Mean cosine of queries (K, D) and what they attend to in a context (L, D)."""
    a = leaky_relu(context @ queries.T, s.slope)  # (L, K)
    a = a / (a.norm(dim=1, keepdim=True) + 1e-8)  # over the queries
    w = (s.temperature * a).softmax(0)
    attended = torch.stack([focal(w[:, k], s.focus) for k in range(len(queries))]) @ context  # (K, D)
    return cosine_similarity(queries, attended, dim=1).mean()


def focal(w: Tensor, focus: str) -> Tensor:
    """Weights (L,) of one query: those with F_i > 0, to sum one; all where none is."""
    g = torch.ones_like(w) if focus == "equal" else w.detach().sqrt()
    f = torch.stack([sum(g[k] * (w[i] - w[k]) for k in range(len(w))) for i in range(len(w))])
    kept = (f > 1e-13).to(w.dtype)  # rounding is no relevance
    if not kept.any():
        kept = torch.ones_like(w)
    return w * kept / (w * kept).sum()
