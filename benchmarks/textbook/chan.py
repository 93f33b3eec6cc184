"""CHAN: hard assignment of words to regions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from textbook.formula import Formula


def chan(s: Any, _: Any) -> Formula:
    """CHAN, one image after another."""

    def pair(v: Tensor, u: Tensor) -> Tensor:
        c = torch.stack([cosine_similarity(v, word[None], dim=1).max() for word in u])
        return c.mean() if s.pooling == "mean" else (c / s.pooling_temperature).exp().sum().log()

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        return torch.stack([pair(of[real], u) for of, real in zip(v, mask, strict=True)])

    return score


def self_attention(part: Any, x: Tensor, heads: int) -> Tensor:
    """One set of vectors (L, D), head after head."""
    normed = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    normed = normed * part.norm.weight + part.norm.bias
    mapped = normed @ part.attention.in_proj_weight.T + part.attention.in_proj_bias
    outputs = []
    for q, k, v in zip(*(of.chunk(heads, dim=1) for of in mapped.chunk(3, dim=1)), strict=True):
        outputs.append((q @ k.T / math.sqrt(q.shape[1])).softmax(1) @ v)
    return x + torch.cat(outputs, 1) @ part.attention.out_proj.weight.T + part.attention.out_proj.bias
