"""Tiles in strips: some of their contexts at a time, so that what is computed from these stays in the cache of a CPU.

Scores that need attended vectors, D numbers for each query vector of each pair, recompute them for gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

STRIP = 300_000  # numbers of a tile that a CPU processes at once, so that what follows from them stays in its cache
REGIONS, WORDS = 36, 12  # of an image and of a caption, about


class Splittable(Protocol):
    """What has one part per context: a tensor, or a tuple of tensors."""

    def split(self, size: int, /) -> Sequence[Any]:
        """Parts of `size` consecutive contexts."""


def in_strips(score: Callable[..., Tensor], one: Tensor, *parts: Splittable, recompute: bool = False) -> Tensor:
    """`score(*parts)` in strips of contexts, in full precision; `one` is the largest tensor of a single context.

    With `recompute` the memory holds only the parts until the gradients, for which a strip is scored once more.
    """
    score = partial(recomputed, score) if recompute else score
    size = strip(one)
    with torch.autocast(one.device.type, enabled=False):
        return torch.cat([score(*some) for some in zip(*(part.split(size) for part in parts), strict=True)])


def strip(one: Tensor) -> int:
    """How many tensors of this size a CPU should process at once, so that they stay in its cache."""
    return max(1, STRIP // one.numel()) if one.device.type == "cpu" else 2**31


def recomputed(score: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """`score(*inputs)`, of which only the inputs are kept in memory for gradients; `score` draws no random numbers."""
    if not torch.is_grad_enabled():
        return score(*inputs)
    scores: Tensor = checkpoint(score, *inputs, use_reentrant=False, preserve_rng_state=False)
    return scores


def growth(numbers: int, products: int) -> float:
    """How many times larger than the products of a tile a tensor is that has `numbers` where they have `products`."""
    return max(1.0, numbers / products)
