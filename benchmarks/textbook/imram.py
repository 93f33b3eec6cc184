"""IMRAM: attention in rounds, a memory in between."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from textbook.attention import attended
from textbook.formula import Formula


def imram(s: Any, method: Any) -> Formula:
    """IMRAM: the text version, the image version, or both added."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        words, real = u.expand(len(v), -1, -1), torch.ones_like(mask[:, :1]).expand(-1, len(u))
        total = torch.zeros_like(v[:, 0, 0])
        if s.direction != "image":
            total = total + rounds(words, real, v, mask, s, method.word_memory)
        if s.direction != "text":
            total = total + rounds(v, mask, words, real, s, method.region_memory)
        return total

    return score


def rounds(q: Tensor, query_mask: Tensor, c: Tensor, mask: Tensor, s: Any, memory: Any) -> Tensor:
    """Queries (n, K, D) attend to contexts (n, L, D) in all rounds -> (n,)."""
    original, total = q, torch.zeros_like(q[:, 0, 0])
    for k in range(s.rounds):
        a = attended(q, query_mask, c, mask, s.temperature, s.slope)
        cosines = cosine_similarity(original, a, dim=2) * query_mask
        total = total + cosines.sum(1) / query_mask.sum(1)
        if k + 1 < s.rounds:
            both = torch.cat([q, a], 2)
            w, b, dim = memory.layer.weight, memory.layer.bias, q.shape[2]
            g = torch.sigmoid(both @ w[:dim].T + b[:dim])
            o = torch.tanh(both @ w[dim:].T + b[dim:])
            q = g * q + (1 - g) * o
    return total
