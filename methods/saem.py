"""SAEM, self-attention embeddings (Wu, Wang, Song, Huang; ACM MM 2019; doi 10.1145/3343031.3350940)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from harness.blocks.encoders import RegionEncoder, WordEncoder
from harness.blocks.families import EmbeddingMethod, one_vector
from harness.blocks.losses import hinge
from harness.blocks.pooling import masked_mean
from harness.method import Batch, Encoded, Inputs

TAN2 = 1.0  # tan² of the angular loss's angle, 45 degrees
WIDTHS = (1, 2, 3)  # words under a convolution


class SAEM(EmbeddingMethod):
    """Regions through a self-attention layer, words through convolutions; hinge, angular loss and weight norms."""

    steps: Tensor  # of training so far

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int  # D; the feed-forward layer has 8 D units, each convolution 2 D channels
        word_dim: int
        heads: int
        dropout: float
        margin: float
        negatives: Literal["all", "recipe"]  # of the hinge: all of them always, or as `training.all_negatives_epochs`
        angular_weight: float
        angular_steps: int  # after so many steps the angular loss weighs a tenth, and so on; 0: never
        norm_weight: float  # of the l2 norms of the image branch's matrices

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        dim = settings.dim
        self.regions = RegionEncoder(inputs.feature_width, dim)
        self.attention = self_attention(dim, settings.heads, settings.dropout)
        self.words = WordEncoder(inputs, settings.word_dim, dim)
        self.phrases = nn.ModuleList(nn.Conv1d(dim, 2 * dim, width) for width in WIDTHS)
        self.dropout = nn.Dropout(settings.dropout)
        self.sentence = nn.Linear(2 * dim * len(WIDTHS), dim)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """The mean of the regions after self-attention among them."""
        return one_vector(masked_mean(self.attention(self.regions(regions, mask), src_key_padding_mask=~mask), mask))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """Each channel's largest response to one, two or three words in a row."""
        words = self.words(tokens, mask).transpose(1, 2)
        responses = [layer(pad(words, (0, width - 1))) for layer, width in zip(self.phrases, WIDTHS, strict=True)]
        largest = torch.cat(responses, 1).masked_fill(~mask[:, None], -torch.inf).amax(2)
        return one_vector(self.sentence(self.dropout(largest.relu())))

    def loss(self, batch: Batch) -> Tensor:
        """Hinge + weight of the step · angular loss in both directions + weight · sum of |W|."""
        s = self.settings
        images = self.encode_images(batch.regions, batch.region_mask)
        captions = self.encode_captions(batch.tokens, batch.token_mask)
        scores, i, c = self.score(images, captions), images.vectors[:, 0], captions.vectors[:, 0]
        by_image = angular(scores, c @ c.T, batch.positives)
        by_caption = angular(scores.T, i @ i.T, batch.positives.T)
        of_hinge = batch._replace(hardest=batch.hardest and s.negatives == "recipe")
        norms = torch.stack([matrix.norm() for matrix in self._image_matrices()]).sum()
        angles = self._angular_weight() * (by_image + by_caption)
        total: Tensor = hinge(scores, of_hinge, s.margin) + angles + s.norm_weight * norms
        return total

    def _angular_weight(self) -> Tensor:
        """The weight of this step; counts it in training."""
        s = self.settings
        tenths = self.steps // s.angular_steps if s.angular_steps else torch.zeros_like(self.steps)
        if self.training:
            self.steps.add_(1)
        weight: Tensor = s.angular_weight * 0.1**tenths
        return weight

    def _image_matrices(self) -> Iterator[Tensor]:
        """Weights of the image branch, without biases and layer norms; queries, keys and values apart."""
        layer = self.attention
        yield from (self.regions.linear.weight, *layer.self_attn.in_proj_weight.chunk(3))
        yield from (layer.self_attn.out_proj.weight, layer.linear1.weight, layer.linear2.weight)


def self_attention(dim: int, heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    """One layer of BERT: weights N(0, 0.02), biases zero."""
    layer = nn.TransformerEncoderLayer(dim, heads, 8 * dim, dropout, "gelu", batch_first=True)
    layer.dropout.p = 0.0  # BERT has none inside of the feed-forward part
    for name, parameter in layer.named_parameters():
        if "norm" not in name:
            nn.init.normal_(parameter, std=0.02) if parameter.ndim == 2 else nn.init.zeros_(parameter)
    return layer


def angular(anchors: Tensor, others: Tensor, positives: Tensor) -> Tensor:
    """Sum over anchors a_i of log(1 + exp(max_k x_ik)), x_ik = 4 t (a_i + p_i) · n_k - 2 (1 + t) a_i · p_i.

    anchors (B, B) has a_i · n_k, a_i · p_i on its diagonal; others (B, B) p_i · n_k; positives are no n_k.
    """
    x = 4 * TAN2 * (anchors + others) - 2 * (1 + TAN2) * anchors.diagonal()[:, None]
    return softplus(x.masked_fill(positives, -torch.inf).amax(1)).sum()
