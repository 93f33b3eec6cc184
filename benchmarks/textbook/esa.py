"""ESA: one set and one dimension at a time; its loss row by row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from textbook.layers import residual_mlp


def image(method: Any, regions: Tensor) -> Tensor:
    """Regions (R, F) of an image -> its unit vector (D,)."""
    return pooled(method.image_weights, residual_mlp(method.regions, regions))


def caption(method: Any, words: Tensor) -> Tensor:
    """States (T, D) of a caption's words -> its unit vector (D,)."""
    return pooled(method.caption_weights, words)


def pooled(linear: Any, vectors: Tensor) -> Tensor:
    """Every dimension d: sum_k softmax_k(A_kd) f_kd; at unit length."""
    values = []
    for d in range(vectors.shape[1]):
        weights = (vectors @ linear.weight[d]).exp()
        values.append((weights * vectors[:, d]).sum() / weights.sum())
    vector = torch.stack(values)
    return vector / vector.norm()


def loss(images: Tensor, captions: Tensor, positives: Tensor, margin: float, hardest: bool) -> Tensor:
    """Views of images and captions (2, B, D), which images and captions match (B, B) -> SEL."""
    total = torch.zeros((), dtype=images.dtype)
    for rows, columns, match in ((images, captions, positives), (captions, images, positives.T)):
        for view in range(2):
            for i in range(len(match)):
                scores = [[rows[view, i] @ columns[other, k] for k in range(len(match))] for other in range(2)]
                positive = min(scores[0][i], scores[1][i])
                costs = [margin + of[k] - positive for of in scores for k in range(len(match)) if not match[i, k]]
                costs = [max(cost, 0 * cost) for cost in costs]
                total = total + (max(costs) if hardest else sum(costs))
    return total
