"""VSE-infinity: one set at a time, its vectors sorted in every dimension, the GRU's equations written out."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def image(method: Any, regions: Tensor) -> Tensor:
    """Regions (R, F) of an image -> its unit vector (D,)."""
    of = method.regions
    inner = regions @ of.inner.weight.T
    inner = (inner - of.norm.running_mean) / (of.norm.running_var + of.norm.eps).sqrt()
    inner = (inner * of.norm.weight + of.norm.bias).relu()
    fc = regions @ of.fc.linear.weight.T + of.fc.linear.bias
    return pooled(method.image_pooling, fc + inner @ of.outer.weight.T + of.outer.bias)


def caption(method: Any, words: Tensor) -> Tensor:
    """States (T, D) of a caption's words -> its unit vector (D,)."""
    return pooled(method.caption_pooling, words)


def pooled(gpo: Any, vectors: Tensor) -> Tensor:
    """sum_k theta_k · (the k-th largest of every dimension), at unit length."""
    theta = weights(gpo, len(vectors))
    columns = []
    for column in vectors.T:
        largest_first = sorted(column, key=lambda value: float(value.detach()), reverse=True)
        columns.append(sum(weight * value for weight, value in zip(theta, largest_first, strict=True)))
    vector = torch.stack(columns)
    return vector / vector.norm()


def weights(gpo: Any, size: int) -> Tensor:
    """theta of a set of so many vectors, (size,)."""
    codes = [code(rank, gpo.dim).to(gpo.linear.weight) for rank in range(size)]
    there, back = states(gpo.forwards, codes), states(gpo.backwards, codes[::-1])[::-1]
    g = [gpo.linear.weight[0] @ (one + other) / 2 for one, other in zip(there, back, strict=True)]
    return (torch.stack(g) / gpo.temperature).softmax(0)


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
