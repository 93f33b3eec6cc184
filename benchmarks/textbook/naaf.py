"""NAAF: negative-aware attention, in training and in evaluation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from textbook.formula import Formula


def naaf(s: Any, method: Any) -> Formula:
    """NAAF, one pair after another."""
    t = method.threshold if method.training else method.safe_threshold

    def pair(v: Tensor, u: Tensor) -> Tensor:
        cosines = v @ u.T  # (R, T)
        m = cosines.max(0).values
        a = leaky_relu(cosines, s.slope)
        w = (s.temperature * a / (a.norm(dim=1, keepdim=True) + 1e-8)).softmax(0)
        alike = (5.0 * u @ u.T).softmax(1)
        words = []
        for j, word in enumerate(u):
            mismatched = m[j] < t if method.training else alike[j] @ (m - t) < 0
            negative = m[j] - t if mismatched else torch.zeros_like(m[j])
            words.append(negative + matched(v, word, t, s) + w[:, j] @ cosines[:, j])
        return torch.stack(words).mean()

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        return torch.stack([pair(of[real], u) for of, real in zip(v, mask, strict=True)])

    return score


def matched(v: Tensor, word: Tensor, t: Tensor, s: Any) -> Tensor:
    """The word times the unit vector attended to among the regions above the threshold; zero if there is none."""
    above = v[v @ word > t]
    if not len(above):
        return word.sum() * 0
    weights = (s.temperature * (above @ word - t)).exp()
    attended = (weights / weights.sum()) @ above
    return word @ (attended / attended.norm())
