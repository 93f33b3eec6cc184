"""BCAN: focal attention that is corrected by global and by local similarity, as released and as meant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, leaky_relu

from textbook.formula import Formula


def bcan(s: Any, method: Any) -> Formula:
    """BCAN, one pair after another; v is not at unit length."""

    def pair(v: Tensor, u: Tensor) -> Tensor:
        g = torch.tensor(0.9, dtype=v.dtype)  # any other number that is not the threshold would do: it cancels
        if s.form == "abstract":
            g = whole(method.whole_image, v) @ whole(method.whole_caption, u)
        v = v / v.norm(dim=1, keepdim=True)
        return direction(v, u, g, s) + direction(u, v, g, s)

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        return torch.stack([pair(of[real], u) for of, real in zip(v, mask, strict=True)])

    return score


def whole(part: Any, x: Tensor) -> Tensor:
    """One vector of a set (L, D)."""
    by_mean = (part.mean.weight @ x.mean(0) + part.mean.bias).tanh()
    logits = [part.weight.weight[0] @ ((part.vectors.weight @ one + part.vectors.bias).tanh() * by_mean) for one in x]
    pooled = (torch.stack(logits).softmax(0)[:, None] * x).sum(0)
    return pooled / pooled.norm()


def direction(context: Tensor, queries: Tensor, g: Tensor, s: Any) -> Tensor:
    """Mean cosine of queries (K, D) and what they attend to in a context (L, D)."""
    a = leaky_relu(context @ queries.T, s.slope)  # (L, K)
    a = a / (a.norm(dim=1, keepdim=True) + 1e-8)  # over the queries
    return torch.stack([of_query(context, q, a[:, k], g, s) for k, q in enumerate(queries)]).mean()


def of_query(context: Tensor, q: Tensor, a: Tensor, g: Tensor, s: Any) -> Tensor:
    """The cosine of one query."""
    shifted = g - s.global_threshold
    if s.form == "abstract":
        w = focal((s.temperature * shifted * a).softmax(0), s.focus)
        delta = torch.stack([cosine(q, one) for one in context]) - cosine(q, w @ context)
        return cosine(q, focal(w * (s.temperature * delta).sigmoid(), s.focus) @ context)
    w = (s.temperature * a).softmax(0)
    before = cosine(q, w @ context)
    w = focal(shifted * w / (shifted * w).sum(), s.focus)
    delta = (cosine(q, w @ context) - before).detach()
    if delta.abs() > 1e-9:  # zero over zero is left to the guard of the published code
        w = delta * w / (delta * w).sum()
    return cosine(q, focal(w, s.focus) @ context)


def cosine(q: Tensor, c: Tensor) -> Tensor:
    """Of two vectors."""
    return cosine_similarity(q, c, dim=0)


def focal(w: Tensor, focus: str) -> Tensor:
    """BFAN's filter of the weights (L,) of one query: those with F_i > 0, to sum one; all where none is."""
    w = w / w.sum()
    g = torch.ones_like(w) if focus == "equal" else w.detach().sqrt()
    f = torch.stack([(g * (one - w)).sum() for one in w])
    kept = (f > 1e-13).to(w.dtype)  # rounding is no relevance
    if not kept.any():
        kept = torch.ones_like(w)
    return w * kept / (w * kept).sum()
