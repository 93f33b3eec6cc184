"""PCME++: one image and one caption at a time; distances and cross entropies pair by pair."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


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
    mean = pooled(method.pooling["image_mean"], encoded(method.regions, regions))
    return mean / mean.norm(), pooled(method.pooling["image_spread"], encoded(method.region_spread, regions))


def gaussian_of_caption(method: Any, words: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) at unit length and log variance (D,)."""
    mean = pooled(method.pooling["caption_mean"], words)
    spread = words @ method.word_spread.weight.T + method.word_spread.bias
    return mean / mean.norm(), pooled(method.pooling["caption_spread"], spread)


def encoded(of: Any, regions: Tensor) -> Tensor:
    """fc + MLP of regions (R, F) -> (R, D)."""
    inner = regions @ of.inner.weight.T
    inner = (inner - of.norm.running_mean) / (of.norm.running_var + of.norm.eps).sqrt()
    inner = (inner * of.norm.weight + of.norm.bias).relu()
    fc = regions @ of.fc.linear.weight.T + of.fc.linear.bias
    return fc + inner @ of.outer.weight.T + of.outer.bias


def pooled(gpo: Any, vectors: Tensor) -> Tensor:
    """sum_k theta_k · (the k-th largest of every dimension)."""
    codes = [code(rank, gpo.dim).to(gpo.linear.weight) for rank in range(len(vectors))]
    there, back = states(gpo.forwards, codes), states(gpo.backwards, codes[::-1])[::-1]
    g = [gpo.linear.weight[0] @ (one + other) / 2 for one, other in zip(there, back, strict=True)]
    theta = (torch.stack(g) / gpo.temperature).softmax(0)
    columns = []
    for column in vectors.T:
        largest_first = sorted(column, key=lambda value: float(value.detach()), reverse=True)
        columns.append(sum(weight * value for weight, value in zip(theta, largest_first, strict=True)))
    return torch.stack(columns)


def code(rank: int, dim: int) -> Tensor:
    """sin(rank / 10000^(2i / dim)), cos of the same, sin of the next, ..."""
    angles = [rank / 10_000 ** (2 * i / dim) for i in range(dim // 2)]
    return torch.tensor([wave for angle in angles for wave in (math.sin(angle), math.cos(angle))], dtype=torch.float64)


def states(gru: Any, inputs: list[Tensor]) -> list[Tensor]:
    """A GRU's state after every input: r, z, n of its equations."""
    h, after = inputs[0].new_zeros(gru.hidden_size), []
    for x in inputs:
        of_x = (gru.weight_ih_l0 @ x + gru.bias_ih_l0).chunk(3)
        of_h = (gru.weight_hh_l0 @ h + gru.bias_hh_l0).chunk(3)
        r, z = (of_x[0] + of_h[0]).sigmoid(), (of_x[1] + of_h[1]).sigmoid()
        n = (of_x[2] + r * of_h[2]).tanh()
        h = (1 - z) * n + z * h
        after.append(h)
    return after


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
