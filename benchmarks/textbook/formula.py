"""A formula scores one caption against all images of a tile, and builds every attended vector.

Nothing is shared between captions, and nothing comes from the package but the parameters of a method.
Shapes: V (n, R, D) with mask (n, R), U (T, D).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

Formula = Callable[[Tensor, Tensor, Tensor], Tensor]  # V, mask, U -> (n,)
NOTHING = -torch.inf


def scores(formula: Formula, images: Any, captions: Any) -> Tensor:
    """(n, m), caption after caption."""
    columns = [formula(images.vectors, images.mask, words[real]) for words, real in zip(*captions, strict=True)]
    return torch.stack(columns, 1)


def formula(name: str, method: Any) -> Formula:
    """The formula of a method: the function with its name in the textbook's module with the name of its own module."""
    module = import_module(f"textbook.{type(method).__module__.rpartition('.')[2]}")
    return getattr(module, name)(method.settings, method)


def competing(logits: Tensor, dim: int) -> Tensor:
    """Rectified and L2-normalised along one axis."""
    rectified = logits.relu()
    return rectified / (rectified.norm(dim=dim, keepdim=True) + 1e-8)
