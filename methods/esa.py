"""ESA, external space attention aggregation (Zhu, Zhang, Wei, Huang, Zhao; doi 10.1109/TCSVT.2023.3253548)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.blocks.encoders import WordEncoder
from harness.blocks.families import EmbeddingMethod, one_vector
from harness.blocks.pooling import masked_softmax
from harness.blocks.residual_mlp import ResidualMLP
from harness.method import Batch, Encoded, Inputs


class ESA(EmbeddingMethod):
    """Every dimension pools its set with weights of its own; trained on two partly hidden views of everything."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        hidden: float  # share of a set that a view does not see, in training
        dropout: float  # of word states

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.regions = ResidualMLP(inputs.feature_width, settings.dim)
        self.words = WordEncoder(inputs, settings.word_dim, settings.dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.image_weights = nn.Linear(settings.dim, settings.dim, bias=False)  # the softmax would take a bias away
        self.caption_weights = nn.Linear(settings.dim, settings.dim, bias=False)

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """(B, R, F) -> (B, 1, D)."""
        return one_vector(pooled(self.image_weights, self.regions(regions, mask), [mask]))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """(B, T) -> (B, 1, D)."""
        return one_vector(pooled(self.caption_weights, self.dropout(self.words(tokens, mask)), [mask]))

    def loss(self, batch: Batch) -> Tensor:
        """The hinge of two views of each image and two of each caption, all 2B against all 2B."""
        regions = self.regions(batch.regions, batch.region_mask)
        words = self.dropout(self.words(batch.tokens, batch.token_mask))
        images = one_vector(pooled(self.image_weights, regions, self._two_views(batch.region_mask)))
        captions = one_vector(pooled(self.caption_weights, words, self._two_views(batch.token_mask)))
        count = len(batch.positives)
        scores = self.score(images, captions).view(2, count, 2, count)
        return hinge_of_views(scores, batch, self.settings.margin)

    def _two_views(self, mask: Tensor) -> list[Tensor]:
        """What two views see of each set; outside of training a view hides nothing."""
        return [partly_hidden(mask, self.settings.hidden if self.training else 0.0) for _ in range(2)]


def pooled(weights: nn.Linear, vectors: Tensor, views: Sequence[Tensor]) -> Tensor:
    """sum_k A_k · f_k of each view, A the softmax of a linear layer over the set in each dimension.

    Vectors (B, L, D) with V masks (B, L) -> (V B, D), all sets of the first view first.
    """
    logits = weights(vectors)
    return torch.cat([(masked_softmax(logits, mask[..., None], dim=1) * vectors).sum(1) for mask in views])


def partly_hidden(mask: Tensor, share: float) -> Tensor:
    """(B, L): a mask without a share of its vectors, drawn at random; one of every set stays."""
    drawn = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1.0)
    return mask & ((drawn >= share) | (drawn == drawn.amax(1, keepdim=True)))


def hinge_of_views(scores: Tensor, batch: Batch, margin: float) -> Tensor:
    """The self-expanding triplet loss (SEL): scores (2, B, 2, B) of the views of images and of captions.

    A view of an image has the less similar of its caption's two views as positive, and the views of all captions that
    do not match it as negatives; and the other way round.
    """
    matching = scores.diagonal(dim1=1, dim2=3)  # (view of the image, of the caption, B)
    least_of_images, least_of_captions = matching.amin(1), matching.amin(0)
    positives = batch.positives[None, :, None, :]
    by_image = (margin + scores - least_of_images[:, :, None, None]).clamp_min(0).masked_fill(positives, 0.0)
    by_caption = (margin + scores - least_of_captions).clamp_min(0).masked_fill(positives, 0.0)
    if batch.hardest:
        return by_image.amax((2, 3)).sum() + by_caption.amax((0, 1)).sum()
    return by_image.sum() + by_caption.sum()
