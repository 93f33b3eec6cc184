"""Attention that several textbooks of fragment methods have, of n sets at a time, its equations written out."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import leaky_relu

from textbook.formula import NOTHING


def attended(q: Tensor, query_mask: Tensor, c: Tensor, mask: Tensor, temperature: float, slope: float) -> Tensor:
    """What every query vector attends to by SCAN's attention, (n, K, D)."""
    a = leaky_relu(c @ q.transpose(1, 2), slope) * query_mask[:, None]  # (n, L, K)
    a = a / (a.norm(dim=2, keepdim=True) + 1e-8)  # over the queries
    alpha = (temperature * a).masked_fill(~mask[..., None], NOTHING).softmax(1)
    return alpha.transpose(1, 2) @ c


def focal(w: Tensor, mask: Tensor, focus: str) -> Tensor:
    """BFAN's filter of weights (n, L, K): those with F_i = sum_k g_k (w_i - w_k) above 0 or just below, to sum 1."""
    g = mask[..., None].to(w.dtype) if focus == "equal" else w.detach().sqrt()
    f = (g[:, None] * (w[:, :, None] - w[:, None])).sum(2)
    kept = (f >= -(2.0**-16) * (g * w).sum(1, keepdim=True)) & mask[..., None]
    return w * kept / (w * kept).sum(1, keepdim=True)


def gated_pooling(part: Any, x: Tensor, mask: Tensor, of_mean: Tensor | None = None) -> Tensor:
    """One vector of every set (n, L, D), whose vectors are weighed by how they go with its mean, or that of another."""
    mean = ((x if of_mean is None else of_mean) * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
    hidden = linear(part.vectors, x).tanh() * linear(part.mean, mean).tanh()
    p = (hidden @ part.weight.weight.T).masked_fill(~mask[..., None], NOTHING).softmax(1)
    pooled = (p * x).sum(1)
    return pooled / pooled.norm(dim=1, keepdim=True)


def linear(layer: Any, x: Tensor) -> Tensor:
    """A layer with bias."""
    return x @ layer.weight.T + layer.bias
