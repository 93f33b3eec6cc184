"""X-Dim: words and what they attend to, compared across dimensions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from textbook.formula import Formula


def xdim(s: Any, method: Any) -> Formula:
    """X-Dim, one pair after another."""
    w = dependency(method.dependencies)

    def pair(v: Tensor, u: Tensor) -> Tensor:
        a = leaky_relu((v @ torch.diag(w.sum(0)) @ u.T).tanh(), s.slope)  # (R, T)
        a = a / (a.norm(dim=1, keepdim=True) + 1e-8)  # over the words
        attended = (method.log_temperature.exp() * a).softmax(0).T @ v  # (T, D)
        words = []
        for word, c in zip(u, attended, strict=True):
            z = w @ (c / c.norm() * word)
            words.append((z / z.norm()).sum())
        return torch.stack(words).mean()

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        return torch.stack([pair(of[real], u) for of, real in zip(v, mask, strict=True)])

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
