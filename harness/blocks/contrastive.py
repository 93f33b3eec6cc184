"""Contrastive losses of scaled cosines: that of CLIP (arXiv 2103.00020) and that of SigLIP (arXiv 2303.15343)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

LARGEST_LOG_SCALE = math.log(100.0)  # CLIP's


def softmax_loss(logits: Tensor, positives: Tensor) -> Tensor:
    """Cross entropy of each image among the captions of the batch, and of each caption among the images.

    logits (B, B), matching pairs on the diagonal; other true matches, of positives (B, B), are in no denominator.
    """
    own = torch.arange(len(logits), device=logits.device)
    others = positives & (own[:, None] != own)
    logits = logits.masked_fill(others, -torch.inf)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def sigmoid_loss(logits: Tensor, positives: Tensor) -> Tensor:
    """-(1/B) sum of log sigmoid(y logit) over all images and captions of a batch, y = 1 for true matches, else -1."""
    return softplus(torch.where(positives, -logits, logits)).sum() / len(logits)
