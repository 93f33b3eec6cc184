"""PCME++: one image and one caption at a time; distances and cross entropies pair by pair."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from textbook.layers import pooled_by_rank, residual_mlp


def image(method: Any, regions: Tensor) -> Tensor:
    """Regions (R, F) of an image -> its mean and the sum of its variances (D + 1,)."""
    return joined(*gaussian_of_image(method, regions))


def caption(method: Any, words: Tensor) -> Tensor:
    """States (T, D) of a caption's words -> its mean and the sum of its variances (D + 1,)."""
    return joined(*gaussian_of_caption(method, words))


def joined(mean: Tensor, log_variance: Tensor) -> Tensor:
    return torch.cat([mean, sum(of.exp() for of in log_variance)[None]])


def gaussian_of_image(method: Any, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) at unit length and log variance (D,)."""
    mean = pooled_by_rank(method.pooling["image_mean"], residual_mlp(method.regions, regions))
    return mean / mean.norm(), pooled_by_rank(
        method.pooling["image_spread"], residual_mlp(method.region_spread, regions)
    )


def gaussian_of_caption(method: Any, words: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) at unit length and log variance (D,)."""
    mean = pooled_by_rank(method.pooling["caption_mean"], words)
    spread = words @ method.word_spread.weight.T + method.word_spread.bias
    return mean / mean.norm(), pooled_by_rank(method.pooling["caption_spread"], spread)


def distance(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """E|z - z'|² = |m - m'|² + sum of both variances."""
    return (one[0] - other[0]).square().sum() + one[1].exp().sum() + other[1].exp().sum()


def loss(method: Any, regions: list[Tensor], words: list[Tensor], positives: Tensor, pseudo: bool) -> Tensor:
    """Regions and word states of B pairs, and which match -> the loss, with or without pseudo-positives."""
    s, count = method.settings, range(len(regions))
    images = [gaussian_of_image(method, of) for of in regions]
    captions = [gaussian_of_caption(method, of) for of in words]
    total = torch.zeros((), dtype=torch.float64)
    for i in count:
        for j in count:
            logit, own, partner = (
                method.shift - method.scale * distance(images[a], captions[b]) for a, b in ((i, j), (i, i), (j, j))
            )
            true = bool(positives[i, j])
            total = total + 2 * entropy(logit, true)
            for match in (own, partner) if pseudo else ():
                total = total + s.pseudo_weight * entropy(logit, true or bool(logit >= match))
    spreads = [divergence(*of) for side in (images, captions) for of in side]
    return total / len(regions) ** 2 + s.divergence_weight * sum(spreads) / len(regions)


def entropy(logit: Tensor, positive: bool) -> Tensor:
    """-y log p - (1 - y) log(1 - p), y = 0.9999 or 0.0001."""
    y = 1 - 1e-4 if positive else 1e-4
    return -y * logit.sigmoid().log() - (1 - y) * (-logit).sigmoid().log()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)), the mean over dimensions."""
    variance = log_variance.exp()
    return sum((variance[d] + mean[d] ** 2 - 1 - variance[d].log()) / 2 for d in range(len(mean))) / len(mean)
