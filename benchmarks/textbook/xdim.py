"""X-Dim: words and what they attend to, compared across dimensions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from textbook.formula import NOTHING, Formula


def xdim(s: Any, method: Any) -> Formula:
    """X-Dim: the entries of z = l2(W (a * u)), summed."""
    w = dependency(method.dependencies)

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        a = leaky_relu((v @ torch.diag(w.sum(0)) @ u.T).tanh(), s.slope) * mask[..., None]  # (n, R, T)
        a = a / (a.norm(dim=2, keepdim=True) + 1e-8)  # over the words
        alpha = (method.log_temperature.exp() * a).masked_fill(~mask[..., None], NOTHING).softmax(1)
        attended = alpha.transpose(1, 2) @ v  # (n, T, D)
        z = (attended / attended.norm(dim=2, keepdim=True) * u) @ w.T
        return (z / z.norm(dim=2, keepdim=True)).sum(2).mean(1)

    return score


def dependency(part: Any) -> Tensor:
    """W, row after row."""
    rows = []
    for raw, k in zip(part.raw, part.deviations[:, 0], strict=True):
        p = 1 / (1 + (-raw).exp())
        deviation = ((p - p.mean()).square().sum() / (len(p) - 1)).sqrt()
        gated = (part.sharpness.exp() * (p - (p.mean() + k * deviation))).exp().tanh() * p
        rows.append(gated / gated.norm())
    return torch.stack(rows)
