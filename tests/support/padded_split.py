"""A split of few images with many regions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from harness.data.regions import PaddedArray, Regions, offsets
from harness.data.tokens import UNKNOWN, Tokens

IMAGES, EACH = 9, 3


def split(images: Regions | None = None) -> Any:
    """Nine images of four regions with three captions each, a word to nine words long."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 12, IMAGES * EACH)
    return SimpleNamespace(
        images=images or PaddedArray(rng.random((IMAGES, 4, 3), dtype=np.float32), np.arange(IMAGES)),
        tokens=Tokens(rng.integers(UNKNOWN + 1, 40, lengths.sum()), offsets(lengths)),
        captions=tuple("a caption" for _ in lengths),
        pairs=np.stack([np.arange(IMAGES).repeat(EACH), np.arange(IMAGES * EACH)], 1),
    )
