"""HREM: one image and one caption at a time, one pair's relation after another, its loss triplet by triplet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from textbook.layers import standardised


def image(method: Any, regions: Tensor) -> Tensor:
    """Regions (R, F) of an image -> its unit vector (D,)."""
    return pooled(method.image_pooling, encoded(method, regions))


def caption(method: Any, words: Tensor) -> Tensor:
    """States (T, D) of a caption's words -> its unit vector (D,)."""
    return pooled(method.caption_pooling, words)


def encoded(method: Any, regions: Tensor) -> Tensor:
    """Regions (R, F) -> fragments (R, D)."""
    of = method.regions
    inner = standardised(of.norm, regions @ of.inner.weight.T).relu()
    return inner @ of.outer.weight.T + of.outer.bias


def pooled(of: Any, vectors: Tensor) -> Tensor:
    """share · mean of the k largest + (1 - share) · mean after the layer, at unit length."""
    largest = []
    for column in vectors.T:
        values = sorted(column, key=lambda value: float(value.detach()), reverse=True)[: of.largest]
        largest.append(sum(values) / len(values))
    context = transformer(of.layer, vectors, torch.zeros(len(vectors), len(vectors), dtype=vectors.dtype))
    vector = of.share * torch.stack(largest) + (1 - of.share) * sum(context) / len(context)
    return vector / vector.norm()


def transformer(layer: Any, x: Tensor, bias: Tensor) -> Tensor:
    """Attention of every head with a bias, then the feed-forward part; a layer norm after each."""
    of = layer.self_attn
    width = of.embed_dim // of.num_heads
    q, k, v = (x @ w.T + b for w, b in zip(of.in_proj_weight.chunk(3), of.in_proj_bias.chunk(3), strict=True))
    heads = []
    for head in range(of.num_heads):
        part = slice(head * width, (head + 1) * width)
        heads.append((q[:, part] @ k[:, part].T / math.sqrt(width) + bias).softmax(1) @ v[:, part])
    x = normed(x + torch.cat(heads, 1) @ of.out_proj.weight.T + of.out_proj.bias, layer.norm1)
    inner = (x @ layer.linear1.weight.T + layer.linear1.bias).relu()
    return normed(x + inner @ layer.linear2.weight.T + layer.linear2.bias, layer.norm2)


def normed(x: Tensor, norm: Any) -> Tensor:
    return layer_norm(x, x.shape[1:], norm.weight, norm.bias, norm.eps)


def maxima(own: Tensor, other: Tensor) -> list[Tensor]:
    """Fragments (L, D), those of the other side -> the ten largest of each own fragment's greatest similarity."""
    similar = [[of @ to for to in other] for of in own]
    similar = [[value if value > 0 else 0.1 * value for value in row] for row in similar]
    greatest = []
    for row in similar:
        lengths = [math.sqrt(sum(float(line[k]) ** 2 for line in similar)) for k in range(len(row))]
        greatest.append(max(value / length for value, length in zip(row, lengths, strict=True)))
    return sorted(greatest, key=float, reverse=True)[:10]


def relation(of: Any, values: Sequence[Tensor]) -> Tensor:
    """linear(ReLU(linear(ten values, zeros where there are fewer))) + their mean."""
    ten = torch.stack([*values, *[torch.zeros_like(values[0])] * (10 - len(values))])
    inner = (of.inner.weight @ ten + of.inner.bias).relu()
    return of.outer.weight[0] @ inner + of.outer.bias[0] + sum(values) / len(values)


def distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).norm().clamp_min(1e-6)


def half(row: Sequence[Tensor], similar: Sequence[Tensor]) -> Tensor:
    """The relations of the more similar half, and of what is as similar as its last; -inf for the others."""
    least = sorted((float(value.detach()) for value in similar), reverse=True)[(len(row) - 1) // 2]
    far = torch.full_like(row[0], -math.inf)
    return torch.stack([of if float(value.detach()) >= least else far for of, value in zip(row, similar, strict=True)])


def loss(
    method: Any, regions: Sequence[Tensor], words: Sequence[Tensor], positives: Tensor, negatives: Iterator[list[int]]
) -> Tensor:
    """Regions and word states of B pairs, which match, the drawn negatives of each row -> the loss with relations."""
    s, count = method.settings, range(len(regions))
    fragments = [encoded(method, x) for x in regions]
    v = torch.stack([image(method, x) for x in regions])
    u = torch.stack([caption(method, x) for x in words])
    of_images = [[maxima(fragments[i].detach(), words[j].detach()) for j in count] for i in count]
    of_captions = [[maxima(words[j].detach(), fragments[i].detach()) for i in count] for j in count]
    across = [
        [[relation(layer, values) for values in row] for row in rows]
        for layer, rows in ((method.image_relation, of_images), (method.caption_relation, of_captions))
    ]
    bias = []
    for i in count:
        inside = half([(-distance(v[i], x)).exp() for x in v], [v[i] @ x for x in v])
        bias.append(torch.cat([inside, half(across[0][i], [sum(of) / len(of) for of in of_images[i]])]))
    for j in count:
        inside = half([(-distance(u[j], x)).exp() for x in u], [u[j] @ x for x in u])
        bias.append(torch.cat([half(across[1][j], [sum(of) / len(of) for of in of_captions[j]]), inside]))
    enhanced = transformer(method.enhance, torch.cat([v, u]), s.relation_weight * torch.stack(bias))
    better_v, better_u = (torch.stack([row / row.norm() for row in part]) for part in enhanced.chunk(2))
    pairs = ((v, better_u), (better_v, u), (better_v, better_u), (v, u))
    total = sum(triplets(a, b, positives, next(negatives), next(negatives), s.margin) for a, b in pairs)
    return total + s.divergence_weight * (divergence(v, u, across[0]) + divergence(u, v, across[1]))


def divergence(a: Tensor, b: Tensor, relations: Sequence[Sequence[Tensor]]) -> Tensor:
    """The mean of KL(p || q) over rows, p = softmax exp(-distance), without a gradient, q = softmax relation."""
    total = torch.zeros((), dtype=a.dtype)
    for row, related in zip(a.detach(), relations, strict=True):
        p = torch.stack([(-distance(row, x)).exp() for x in b.detach()]).softmax(0)
        q = torch.stack(list(related)).softmax(0)
        total = total + sum(p[k] * (p[k] / q[k]).log() for k in range(len(p)))
    return total / len(a)


def triplets(
    a: Tensor, b: Tensor, positives: Tensor, of_images: list[int], of_captions: list[int], margin: float
) -> Tensor:
    """The sum over all true matches of [margin + negative - match]+, a drawn negative for each row."""
    total = torch.zeros((), dtype=a.dtype)
    for i in range(len(a)):
        for j in range(len(b)):
            if positives[i, j]:
                costs = (a[i] @ b[of_images[i]], a[of_captions[j]] @ b[j])
                total = total + sum((margin + cost - a[i] @ b[j]).clamp_min(0) for cost in costs)
    return total


def probabilities(cosines: Sequence[float], positives: Sequence[bool], farthest: float) -> list[float]:
    """p(negative) of a row, in proportion to r^(2 - d) (1 - r² / 4)^(-(d - 3) / 2), d = 512."""
    weights = []
    for cosine, positive in zip(cosines, positives, strict=True):
        r = math.sqrt(2 - 2 * cosine)
        near = max(r, 0.5)
        weight = near**-510.0 * (1 - near**2 / 4) ** (-509 / 2) if r < farthest else 0.0
        weights.append(0.0 if positive else weight)
    return [weight / sum(weights) for weight in weights]
