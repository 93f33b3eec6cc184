"""SU-ITM's reconstruction: one image and one caption at a time, its loss in plain loops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from textbook.layers import residual_mlp


def image(method: Any, regions: Tensor) -> Tensor:
    """Regions (R, F) of an image -> its unit vector (D,)."""
    mean = sum(residual_mlp(method.regions, regions)) / len(regions)
    return mean / mean.norm()


def caption(_: Any, words: Tensor) -> Tensor:
    """States (T, D) of a caption's words -> the mean of its distribution (D,)."""
    mean = sum(words) / len(words)
    return mean / mean.norm()


def variance(method: Any, words: Tensor) -> Tensor:
    """States (T, D) of a caption's words -> the variance of each dimension (D,)."""
    return (method.spread.weight @ (sum(words) / len(words)) + method.spread.bias).exp()


def loss(method: Any, regions: list[Tensor], words: list[Tensor], positives: Tensor, hardest: bool) -> Tensor:
    """Regions and word states of B pairs, and which match -> the loss outside of training, without a draw."""
    s, count = method.settings, range(len(regions))
    v, u = [image(method, of) for of in regions], [caption(method, of) for of in words]
    variances, total = [variance(method, of) for of in words], torch.zeros((), dtype=torch.float64)
    for a, b, match in ((v, u, positives), (u, v, positives.T)):
        for i in count:
            costs = [s.margin + a[i] @ b[k] - a[i] @ b[i] for k in count if not match[i, k]]
            costs = [max(cost, 0 * cost) for cost in costs]
            total = total + (max(costs) if hardest else sum(costs))
    own = s.variance / s.dim
    for i in count:
        texts = [j for j in count if positives[i, j]]
        mean, spread = (sum(of[j] for j in texts) / len(texts) for of in (u, variances))
        each = [
            (spread[d] / own + (mean[d] - v[i][d]) ** 2 / own - 1 - (spread[d] / own).log()) / 2 for d in range(s.dim)
        ]
        total = total + s.divergence_weight * sum(each) / s.dim
    return total
