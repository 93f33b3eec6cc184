"""SGRAF: similarity graph reasoning and attention filtration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from textbook.attention import gated_pooling, linear
from textbook.formula import NOTHING, Formula


def sgr(s: Any, method: Any) -> Formula:
    """SGR: the global node after all steps."""

    def reason(n: Tensor) -> Tensor:
        for step in method.steps:
            edges = (linear(step.query, n) @ (n @ step.key.weight.T).transpose(1, 2)).softmax(2)
            n = linear(step.result, edges @ n).relu()
        return n[:, 0]

    return nodes_first(s, method, reason)


def saf(s: Any, method: Any) -> Formula:
    """SAF: the weighted sum of all nodes."""

    def reason(n: Tensor) -> Tensor:
        a = linear(method.filter, n).sigmoid()
        summed = (a / a.sum(1, keepdim=True) * n).sum(1)
        return summed / summed.norm(dim=1, keepdim=True)

    return nodes_first(s, method, reason)


def nodes_first(s: Any, method: Any, reason: Callable[[Tensor], Tensor]) -> Formula:
    """The nodes of a caption and every image (n, 1 + T, S), and the score of what is made of them."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        a = leaky_relu(v @ u.T, s.slope) * mask[..., None]  # (n, R, T)
        a = a / (a.norm(dim=2, keepdim=True) + 1e-8)  # over the words
        attended = (s.temperature * a).masked_fill(~mask[..., None], NOTHING).softmax(1).transpose(1, 2) @ v
        local = similarity(method.local_similarity, u, attended / attended.norm(dim=2, keepdim=True))
        caption = gated_pooling(method.whole_caption, u[None], torch.ones_like(u[None, :, 0], dtype=torch.bool))
        of_all = similarity(method.global_similarity, gated_pooling(method.whole_image, v, mask), caption)
        return linear(method.last, reason(torch.cat([of_all[:, None], local], 1)))[:, 0].sigmoid()

    return score


def similarity(layer: Any, x: Tensor, y: Tensor) -> Tensor:
    """Of two vectors, a vector."""
    vector = linear(layer, (x - y) ** 2)
    return vector / vector.norm(dim=-1, keepdim=True)
