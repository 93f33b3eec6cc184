"""Losses that papers share."""

from __future__ import annotations

from torch import Tensor

from harness.method import Batch


def hinge(scores: Tensor, batch: Batch, margin: float) -> Tensor:
    """Bidirectional hinge summed over a batch, with the hardest negative or with all of them (VSE++, VSE0).

    scores (B, B), matching pairs on the diagonal; other true matches of the batch are no negatives.
    """
    matching = scores.diagonal()
    by_image = (margin + scores - matching[:, None]).clamp_min(0).masked_fill(batch.positives, 0.0)
    by_caption = (margin + scores - matching[None, :]).clamp_min(0).masked_fill(batch.positives, 0.0)
    if batch.hardest:
        return by_image.amax(1).sum() + by_caption.amax(0).sum()
    return by_image.sum() + by_caption.sum()
