"""Layers that several textbooks of embedding methods have, of one set at a time, their equations written out."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def residual_mlp(of: Any, regions: Tensor) -> Tensor:
    """fc + MLP of regions (R, F) -> (R, D)."""
    inner = standardised(of.norm, regions @ of.inner.weight.T).relu()
    fc = regions @ of.fc.linear.weight.T + of.fc.linear.bias
    return fc + inner @ of.outer.weight.T + of.outer.bias


def standardised(norm: Any, x: Tensor) -> Tensor:
    """A batch norm with its running statistics."""
    return (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


def pooled_by_rank(gpo: Any, vectors: Tensor) -> Tensor:
    """GPO: sum_k theta_k · (the k-th largest of every dimension)."""
    theta = rank_weights(gpo, len(vectors))
    columns = []
    for column in vectors.T:
        largest_first = sorted(column, key=lambda value: float(value.detach()), reverse=True)
        columns.append(sum(weight * value for weight, value in zip(theta, largest_first, strict=True)))
    return torch.stack(columns)


def rank_weights(gpo: Any, size: int) -> Tensor:
    """theta of a set of so many vectors, (size,)."""
    codes = [code(rank, gpo.dim).to(gpo.linear.weight) for rank in range(size)]
    there, back = states(gpo.forwards, codes), states(gpo.backwards, codes[::-1])[::-1]
    g = [gpo.linear.weight[0] @ (one + other) / 2 for one, other in zip(there, back, strict=True)]
    return (torch.stack(g) / gpo.temperature).softmax(0)


def code(rank: int, dim: int) -> Tensor:
    """sin(rank / 10000^(2i / dim)), cos of the same, sin of the next, ..."""
    angles = [rank / 10_000 ** (2 * i / dim) for i in range(dim // 2)]
    return torch.tensor([wave for angle in angles for wave in (math.sin(angle), math.cos(angle))], dtype=torch.float64)


def states(gru: Any, inputs: list[Tensor], h: Tensor | None = None) -> list[Tensor]:
    """A GRU's state after every input: r, z, n of its equations."""
    h, after = inputs[0].new_zeros(gru.hidden_size) if h is None else h, []
    for x in inputs:
        of_x = (gru.weight_ih_l0 @ x + gru.bias_ih_l0).chunk(3)
        of_h = (gru.weight_hh_l0 @ h + gru.bias_hh_l0).chunk(3)
        r, z = (of_x[0] + of_h[0]).sigmoid(), (of_x[1] + of_h[1]).sigmoid()
        n = (of_x[2] + r * of_h[2]).tanh()
        h = (1 - z) * n + z * h
        after.append(h)
    return after
