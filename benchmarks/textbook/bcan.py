"""BCAN: focal attention that is corrected by global and by local similarity, as released and as meant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, leaky_relu

from textbook.attention import focal, gated_pooling
from textbook.formula import NOTHING, Formula


def bcan(s: Any, method: Any) -> Formula:
    """BCAN; v is not at unit length."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        words, real = u.expand(len(v), -1, -1), torch.ones(len(v), len(u), dtype=torch.bool, device=u.device)
        g = v.new_full((len(v),), 0.9)  # any other number that is not the threshold would do: it cancels
        regions = v / v.norm(dim=2, keepdim=True).clamp_min(1e-12)
        if s.form == "abstract":
            image = gated_pooling(method.whole_image, regions, mask, of_mean=v)
            g = (image * gated_pooling(method.whole_caption, words, real)).sum(1)
        return direction(regions, mask, words, real, g, s) + direction(words, real, regions, mask, g, s)

    return score


def direction(context: Tensor, mask: Tensor, queries: Tensor, real: Tensor, g: Tensor, s: Any) -> Tensor:
    """Mean cosine of queries (n, K, D) and what they attend to in contexts (n, L, D), (n,)."""
    a = leaky_relu(context @ queries.transpose(1, 2), s.slope) * real[:, None]  # (n, L, K)
    a = s.temperature * a / (a.norm(dim=2, keepdim=True) + 1e-8)  # over the queries
    attend = released if s.form == "released" else abstract
    cosines = cosine(attend(a, context, mask, queries, g - s.global_threshold, s), context, queries)
    return (cosines * real).sum(1) / real.sum(1)


def released(a: Tensor, context: Tensor, mask: Tensor, queries: Tensor, shifted: Tensor, s: Any) -> Tensor:
    """Attention (n, L, K) from its logits, each correction divided by its sum."""
    w = a.masked_fill(~mask[..., None], NOTHING).softmax(1)
    before = cosine(w, context, queries)
    w = shifted[:, None, None] * w
    w = focal(w / w.sum(1, keepdim=True), mask, s.focus)
    delta = (cosine(w, context, queries) - before).detach()
    delta = torch.where(delta.abs() > 1e-9, delta, 1.0)  # zero over zero is left to the guard of the published code
    w = delta[:, None] * w
    return focal(w / w.sum(1, keepdim=True), mask, s.focus)


def abstract(a: Tensor, context: Tensor, mask: Tensor, queries: Tensor, shifted: Tensor, s: Any) -> Tensor:
    """Attention (n, L, K) from its logits, with corrections that do not cancel."""
    w = (shifted[:, None, None] * a).masked_fill(~mask[..., None], NOTHING).softmax(1)
    w = focal(w, mask, s.focus)
    delta = context @ queries.transpose(1, 2) - cosine(w, context, queries)[:, None]
    w = w * (s.temperature * delta).sigmoid()
    return focal(w / w.sum(1, keepdim=True), mask, s.focus)


def cosine(w: Tensor, context: Tensor, queries: Tensor) -> Tensor:
    """Of queries and what they attend to, (n, K)."""
    return cosine_similarity(queries, w.transpose(1, 2) @ context, dim=2)
