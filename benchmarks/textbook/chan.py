"""CHAN: hard assignment of words to regions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from textbook.formula import NOTHING, Formula


def chan(s: Any, _: Any) -> Formula:
    """CHAN: c_j = max_i s_ij, pooled over the words."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        c = (v @ u.T).masked_fill(~mask[..., None], NOTHING).max(1).values
        return c.mean(1) if s.pooling == "mean" else (c / s.pooling_temperature).exp().sum(1).log()

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
