"""NAAF: negative-aware attention, in training and in evaluation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, leaky_relu

from textbook.formula import NOTHING, Formula


def naaf(s: Any, method: Any) -> Formula:
    """NAAF: a negative part and two positive ones of every word."""
    t = method.threshold if method.training else method.safe_threshold

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        cosines, real = v @ u.T, mask[..., None]  # (n, R, T)
        m = cosines.masked_fill(~real, NOTHING).max(1).values
        mismatched = m < t if method.training else (m - t) @ (5.0 * u @ u.T).softmax(1).T < 0
        negative = torch.where(mismatched, m - t, 0.0)
        a = leaky_relu(cosines, s.slope) * real
        a = a / (a.norm(dim=2, keepdim=True) + 1e-8)  # over the words
        w = (s.temperature * a).masked_fill(~real, NOTHING).softmax(1)
        return (negative + matched(v, real, u, t, s) + (w * cosines).sum(1)).mean(1)

    return score


def matched(v: Tensor, real: Tensor, u: Tensor, t: Tensor, s: Any) -> Tensor:
    """Words times the unit vectors attended to among the regions above the threshold; zero where there is none."""
    cosines = v @ u.T
    weights = torch.where((cosines > t) & real, (s.temperature * (cosines - t)).exp(), 0.0)
    some = weights.sum(1, keepdim=True) > 0
    weights = weights / torch.where(some, weights.sum(1, keepdim=True), 1.0)
    return cosine_similarity(u.expand(len(v), -1, -1), weights.transpose(1, 2) @ v, dim=2) * some[:, 0]
