"""MSA: similarities at three levels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from textbook.attention import attended
from textbook.formula import Formula


def msa(s: Any, method: Any) -> Formula:
    """MSA: global with global, local with local, global with local."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        real = torch.ones_like(mask[:, :1]).expand(-1, len(u))
        of_image = mean(v, mask) @ method.whole_image.weight.T + method.whole_image.bias
        of_caption = u.mean(0) @ method.whole_caption.weight.T + method.whole_caption.bias
        v = v / v.norm(dim=2, keepdim=True).masked_fill(~mask[..., None], 1.0)
        words = (u / u.norm(dim=1, keepdim=True)).expand(len(v), -1, -1)
        by_words = cosine_similarity(words, attended(words, real, v, mask, s.temperature, s.slope), dim=2)
        by_regions = cosine_similarity(v, attended(v, mask, words, real, s.region_temperature, s.slope), dim=2)
        local = mean(by_words, real) + mean(by_regions, mask)
        crossed = mean(cosine_similarity(v, of_caption.expand_as(v), dim=2), mask)
        crossed = crossed + mean(cosine_similarity(words, of_image[:, None], dim=2), real)
        return (cosine_similarity(of_image, of_caption.expand_as(of_image), dim=1) + local + crossed / 2) / 3

    return score


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """Over the real vectors of every set, (n, L, ...) -> (n, ...)."""
    real = mask.reshape(*mask.shape, *[1] * (values.ndim - 2))
    return (values * real).sum(1) / real.sum(1)
