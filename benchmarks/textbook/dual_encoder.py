"""Dual encoders: one image and one caption at a time; the losses pair by pair."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from textbook.layers import residual_mlp


def image(method: Any, regions: Tensor) -> Tensor:
    """Regions (R, F) of an image -> its unit vector (D,)."""
    return caption(method, residual_mlp(method.regions, regions))


def caption(_: Any, words: Tensor) -> Tensor:
    """States (T, D) of a caption's words -> their mean, at unit length (D,)."""
    mean = sum(words) / len(words)
    return mean / mean.norm()


def clip_loss(method: Any, images: Tensor, captions: Tensor, positives: Tensor) -> Tensor:
    """Unit vectors (B, D) of both sides, which match (B, B) -> the mean cross entropy of both directions."""
    scale, total = method.log_scale.exp(), torch.zeros((), dtype=images.dtype)
    for rows, columns, match in ((images, captions, positives), (captions, images, positives.T)):
        for i in range(len(rows)):
            among = [k for k in range(len(rows)) if k == i or not match[i, k]]
            weights = [(scale * rows[i] @ columns[k]).exp() for k in among]
            total = total - ((scale * rows[i] @ columns[i]).exp() / sum(weights)).log()
    return total / (2 * len(images))


def siglip_loss(method: Any, images: Tensor, captions: Tensor, positives: Tensor) -> Tensor:
    """-(1/B) sum_ij log sigmoid(y_ij (scale · cos + bias))."""
    scale, total = method.log_scale.exp(), torch.zeros((), dtype=images.dtype)
    for i in range(len(images)):
        for j in range(len(captions)):
            y = 1 if positives[i, j] else -1
            total = total - (y * (scale * images[i] @ captions[j] + method.bias)).sigmoid().log()
    return total / len(images)
