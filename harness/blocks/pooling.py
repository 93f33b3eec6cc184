"""Sums over padded sets."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """(B, L, D), (B, L) -> (B, D): the mean over real vectors."""
    weight = mask.to(vectors.dtype).unsqueeze(-1)
    mean: Tensor = (vectors * weight).sum(1) / weight.sum(1)
    return mean


def masked_softmax(logits: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax over the real entries of one axis; the mask broadcasts to the logits."""
    return logits.masked_fill(~mask, -torch.inf).softmax(dim)
