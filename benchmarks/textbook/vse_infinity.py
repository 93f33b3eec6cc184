"""VSE-infinity: one set at a time, its vectors sorted in every dimension, the GRU's equations written out."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from textbook.layers import pooled_by_rank, residual_mlp


def image(method: Any, regions: Tensor) -> Tensor:
    """Regions (R, F) of an image -> its unit vector (D,)."""
    return pooled(method.image_pooling, residual_mlp(method.regions, regions))


def caption(method: Any, words: Tensor) -> Tensor:
    """States (T, D) of a caption's words -> its unit vector (D,)."""
    return pooled(method.caption_pooling, words)


def pooled(gpo: Any, vectors: Tensor) -> Tensor:
    """sum_k theta_k · (the k-th largest of every dimension), at unit length."""
    vector = pooled_by_rank(gpo, vectors)
    return vector / vector.norm()
