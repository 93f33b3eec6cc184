"""MSSAN: similarities at three levels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, leaky_relu

from textbook.formula import NOTHING, Formula


def mssan(s: Any, method: Any) -> Formula:
    """MSSAN: global with global, local with local, global with local."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        words, real = u.expand(len(v), -1, -1), torch.ones_like(mask[:, :1]).expand(-1, len(u))
        of_image, of_caption = whole(method.image_fusion, v, mask), whole(method.caption_fusion, words, real)
        v_fused, u_fused = fused(method.image_fusion, v, of_image), fused(method.caption_fusion, words, of_caption)
        by_words = cosine_similarity(words, attended(words, real, v, mask, s.temperature, s), dim=2)
        by_regions = cosine_similarity(v, attended(v, mask, words, real, s.region_temperature, s), dim=2)
        crossed = mean(cosine_similarity(v_fused, of_caption[:, None], dim=2), mask)
        crossed = (crossed + mean(cosine_similarity(u_fused, of_image[:, None], dim=2), real)) / 2
        local = mean(by_words, real) + mean(by_regions, mask)
        return (cosine_similarity(of_image, of_caption, dim=1) + local + crossed) / 3

    return score


def whole(fusion: Any, x: Tensor, mask: Tensor) -> Tensor:
    """One vector of every set (n, L, D)."""
    pooling = fusion.pooling
    average = (x * mask[..., None]).sum(1) / mask.sum(1)[:, None]
    hidden = linear(pooling.vectors, x).tanh() * linear(pooling.mean, average).tanh()[:, None]
    p = (hidden @ pooling.weight.weight[0]).masked_fill(~mask, NOTHING).softmax(1)
    pooled = (p[..., None] * x).sum(1)
    return pooled / pooled.norm(dim=1, keepdim=True)


def fused(fusion: Any, x: Tensor, g: Tensor) -> Tensor:
    """Locals (n, L, D) with the global vector in them."""
    g = g[:, None].expand_as(x)
    gate = torch.sigmoid(linear(fusion.gate, torch.cat([x, g], 2)))
    return x + gate * g


def attended(q: Tensor, query_mask: Tensor, c: Tensor, mask: Tensor, temperature: float, s: Any) -> Tensor:
    """SCAN's attention of every query vector, (n, K, D)."""
    a = leaky_relu(c @ q.transpose(1, 2), s.slope) * query_mask[:, None]  # (n, L, K)
    a = a / (a.norm(dim=2, keepdim=True) + 1e-8)  # over the queries
    weights = (temperature * a).masked_fill(~mask[..., None], NOTHING).softmax(1)
    return weights.transpose(1, 2) @ c


def mean(cosines: Tensor, mask: Tensor) -> Tensor:
    """Over the real vectors, (n, L) -> (n,)."""
    return (cosines * mask).sum(1) / mask.sum(1)


def linear(layer: Any, x: Tensor) -> Tensor:
    """A layer with bias."""
    return x @ layer.weight.T + layer.bias
