"""MSSAN: similarities at three levels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from textbook.attention import attended, gated_pooling, linear
from textbook.formula import Formula


def mssan(s: Any, method: Any) -> Formula:
    """MSSAN: global with global, local with local, global with local."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        words, real = u.expand(len(v), -1, -1), torch.ones_like(mask[:, :1]).expand(-1, len(u))
        of_image = gated_pooling(method.image_fusion.pooling, v, mask)
        of_caption = gated_pooling(method.caption_fusion.pooling, words, real)
        v_fused, u_fused = fused(method.image_fusion, v, of_image), fused(method.caption_fusion, words, of_caption)
        by_words = cosine_similarity(words, attended(words, real, v, mask, s.temperature, s.slope), dim=2)
        by_regions = cosine_similarity(v, attended(v, mask, words, real, s.region_temperature, s.slope), dim=2)
        crossed = mean(cosine_similarity(v_fused, of_caption[:, None], dim=2), mask)
        crossed = (crossed + mean(cosine_similarity(u_fused, of_image[:, None], dim=2), real)) / 2
        local = mean(by_words, real) + mean(by_regions, mask)
        return (cosine_similarity(of_image, of_caption, dim=1) + local + crossed) / 3

    return score


def fused(fusion: Any, x: Tensor, g: Tensor) -> Tensor:
    """Locals (n, L, D) with the global vector in them."""
    g = g[:, None].expand_as(x)
    gate = torch.sigmoid(linear(fusion.gate, torch.cat([x, g], 2)))
    return x + gate * g


def mean(cosines: Tensor, mask: Tensor) -> Tensor:
    """Over the real vectors, (n, L) -> (n,)."""
    return (cosines * mask).sum(1) / mask.sum(1)
