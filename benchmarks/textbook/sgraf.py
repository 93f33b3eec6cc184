"""SGRAF: similarity graph reasoning and attention filtration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from textbook.formula import Formula


def sgr(s: Any, method: Any) -> Formula:
    """SGR: the global node after all steps."""

    def reason(n: Tensor) -> Tensor:
        for step in method.steps:
            edges = (linear(step.query, n) @ (n @ step.key.weight.T).T).softmax(1)
            n = linear(step.result, edges @ n).relu()
        return n[0]

    return nodes_first(s, method, reason)


def saf(s: Any, method: Any) -> Formula:
    """SAF: the weighted sum of all nodes."""

    def reason(n: Tensor) -> Tensor:
        a = linear(method.filter, n).sigmoid()
        summed = (a / a.sum() * n).sum(0)
        return summed / summed.norm()

    return nodes_first(s, method, reason)


def nodes_first(s: Any, method: Any, reason: Callable[[Tensor], Tensor]) -> Formula:
    """One pair after another: its nodes, and the score of what is made of them."""

    def pair(v: Tensor, u: Tensor) -> Tensor:
        a = leaky_relu(v @ u.T, s.slope)  # (R, T)
        a = a / (a.norm(dim=1, keepdim=True) + 1e-8)  # over the words
        attended = (s.temperature * a).softmax(0).T @ v  # (T, D)
        nodes = [similarity(method.global_similarity, whole(method.whole_image, v), whole(method.whole_caption, u))]
        nodes += [similarity(method.local_similarity, x, c / c.norm()) for x, c in zip(u, attended, strict=True)]
        return linear(method.last, reason(torch.stack(nodes)))[0].sigmoid()

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        return torch.stack([pair(of[real], u) for of, real in zip(v, mask, strict=True)])

    return score


def similarity(layer: Any, x: Tensor, y: Tensor) -> Tensor:
    """Of two vectors, a vector."""
    vector = linear(layer, (x - y) ** 2)
    return vector / vector.norm()


def whole(part: Any, x: Tensor) -> Tensor:
    """One vector of a set (L, D)."""
    hidden = linear(part.vectors, x).tanh() * linear(part.mean, x.mean(0)).tanh()
    pooled = ((hidden @ part.weight.weight[0]).softmax(0)[:, None] * x).sum(0)
    return pooled / pooled.norm()


def linear(layer: Any, x: Tensor) -> Tensor:
    """A layer with bias."""
    return x @ layer.weight.T + layer.bias
