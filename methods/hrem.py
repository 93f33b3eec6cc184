"""HREM, hierarchical relation modelling (Fu, Mao, Song, Zhang; CVPR 2023), its fusion variant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, leaky_relu, log_softmax, normalize, pad, softmax

from harness.blocks.encoders import WordEncoder
from harness.blocks.families import EmbeddingMethod, one_vector
from harness.blocks.losses import hinge
from harness.blocks.pooling import masked_mean
from harness.blocks.residual_mlp import in_sets, real_rows
from harness.method import Batch, Encoded, Inputs

MAXIMA = 10  # the largest of a pair's maxima, which its relation is computed from
SLOPE = 0.1  # of the leaky rectifier of fragment similarities
STRIP = 16  # images whose fragment similarities are in memory at a time
SPHERE = 512  # d of the distance weights, whatever D is
NEAREST = 0.5  # distance below which all negatives have one weight
SAME = 1e-6  # the smallest distance; the root has no gradient at zero


class HREM(EmbeddingMethod):
    """Two towers; in training the vectors of a batch also attend to each other, along their relations."""

    steps: Tensor  # of training so far

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        heads: int
        dropout: float
        margin: float
        largest: int  # values of each dimension that are averaged
        largest_share: float  # of their mean in a vector; the rest is of the mean after self-attention
        plain_steps: int  # before the batch's relations are trained with
        relation_weight: float  # of a relation in the attention among a batch's vectors
        divergence_weight: float
        farthest: float  # distance from which nothing is drawn as a negative

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        s = settings
        self.regions = RegionMLP(inputs.feature_width, s.dim)
        self.words = WordEncoder(inputs, s.word_dim, s.dim)
        self.image_pooling, self.caption_pooling = (LargestAndContext(s) for _ in range(2))
        self.image_relation, self.caption_relation = FragmentRelation(), FragmentRelation()
        self.enhance = transformer_layer(s)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """(B, R, F) -> (B, 1, D)."""
        return one_vector(self.image_pooling(self.regions(regions, mask), mask))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """(B, T) -> (B, 1, D)."""
        return one_vector(self.caption_pooling(self.words(tokens, mask), mask))

    def loss(self, batch: Batch) -> Tensor:
        """Triplets of plain vectors; after some steps also of enhanced ones, and the divergence of relations."""
        regions = Encoded(self.regions(batch.regions, batch.region_mask), batch.region_mask)
        words = Encoded(self.words(batch.tokens, batch.token_mask), batch.token_mask)
        images = one_vector(self.image_pooling(*regions))
        captions = one_vector(self.caption_pooling(*words))
        of_images, of_captions = largest_maxima(regions, words)
        across = (self.image_relation(of_images), self.caption_relation(of_captions))
        enhanced = self._enhanced(images, captions, across, (of_images.mean, of_captions.mean))
        pairs = ((images, enhanced[1]), (enhanced[0], captions), enhanced)
        added = torch.stack([self._triplets(*pair, batch) for pair in pairs]).sum()
        added = added + self.settings.divergence_weight * divergence(self.score(images, captions).detach(), *across)
        total: Tensor = self._triplets(images, captions, batch) + self._begun() * added
        return total

    def _triplets(self, images: Encoded, captions: Encoded, batch: Batch) -> Tensor:
        return triplets(self.score(images, captions), batch, self.settings.margin, self.settings.farthest)

    def _enhanced(
        self, images: Encoded, captions: Encoded, across: tuple[Tensor, Tensor], means: tuple[Tensor, Tensor]
    ) -> tuple[Encoded, Encoded]:
        """The batch's 2B vectors after attention among those that are connected."""
        v, u = images.vectors[:, 0], captions.vectors[:, 0]
        similar = (v @ v.T, u @ u.T)
        bias = torch.cat(
            [
                torch.cat([connected(within(similar[0]), similar[0]), connected(across[0], means[0])], 1),
                torch.cat([connected(across[1], means[1]), connected(within(similar[1]), similar[1])], 1),
            ]
        )
        enhanced = self.enhance(torch.cat([v, u])[None], src_mask=self.settings.relation_weight * bias)[0]
        of_images, of_captions = enhanced.chunk(2)
        return one_vector(of_images), one_vector(of_captions)

    def _begun(self) -> Tensor:
        """1 once relations are trained with, else 0; counts the step in training."""
        begun: Tensor = (self.steps >= self.settings.plain_steps).float()
        if self.training:
            self.steps.add_(1)
        return begun


class RegionMLP(nn.Module):
    """Regions (B, R, F) -> (B, R, D): linear F -> D/2, batch norm, ReLU, linear D/2 -> D; Xavier-uniform.

    The first linear layer has no bias, as the batch norm after it takes it away.
    """

    def __init__(self, feature_width: int, dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(feature_width, dim // 2, bias=False)
        self.norm = nn.BatchNorm1d(dim // 2)
        self.outer = nn.Linear(dim // 2, dim)
        for layer in (self.inner, self.outer):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, regions: Tensor, mask: Tensor) -> Tensor:
        """Encoded regions, not normalised; zeros where the mask is False."""
        return in_sets(self.outer(self.norm(self.inner(real_rows(regions, mask))).relu()), mask)


class LargestAndContext(nn.Module):
    """share · mean of the k largest of each dimension + (1 - share) · mean after a transformer layer."""

    def __init__(self, settings: Any) -> None:
        super().__init__()
        self.layer = transformer_layer(settings)
        self.largest, self.share = settings.largest, settings.largest_share

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D), (B, L) -> (B, D)."""
        hidden = ~mask[..., None]
        ranked = vectors.masked_fill(hidden, -torch.inf).topk(min(self.largest, mask.shape[1]), 1).values
        count = mask.sum(1, keepdim=True).clamp(max=self.largest)
        largest = ranked.masked_fill(ranked == -torch.inf, 0.0).sum(1) / count
        context = masked_mean(self.layer(vectors, src_key_padding_mask=~mask), mask)
        pooled: Tensor = self.share * largest + (1 - self.share) * context
        return pooled


def transformer_layer(settings: Any) -> nn.TransformerEncoderLayer:
    """One layer of D wide feed-forward part, layer norms after its parts."""
    return nn.TransformerEncoderLayer(settings.dim, settings.heads, settings.dim, settings.dropout, batch_first=True)


class Maxima(NamedTuple):
    """The largest maxima of every pair, zeros beyond how many it has, and their mean."""

    values: Tensor  # (B, B, MAXIMA)
    mean: Tensor  # (B, B)


class FragmentRelation(nn.Module):
    """The relation of a pair: linear, ReLU, linear of its largest maxima, plus their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(MAXIMA, MAXIMA), nn.Linear(MAXIMA, 1)

    def forward(self, maxima: Maxima) -> Tensor:
        """(B, B)."""
        relation: Tensor = self.outer(self.inner(maxima.values).relu()).squeeze(2) + maxima.mean
        return relation


@torch.no_grad()
def largest_maxima(regions: Encoded, words: Encoded) -> tuple[Maxima, Maxima]:
    """Of image and caption (image rows): each region's largest similarity to a word; of caption and image: each word's.

    Similarities are products through a leaky ReLU; those that a maximum is taken of for each region have unit length
    over the regions, and those for each word over the words.
    """
    strips = zip(regions.vectors.split(STRIP), regions.mask.split(STRIP), strict=True)
    parts = [_strip(vectors, mask, words) for vectors, mask in strips]
    by_region, by_word = (torch.cat(of) for of in zip(*parts, strict=True))
    return _largest(by_region, regions.mask[:, None]), _largest(by_word.transpose(0, 1), words.mask[:, None])


def _strip(vectors: Tensor, mask: Tensor, words: Encoded) -> tuple[Tensor, Tensor]:
    """Maxima of each region (n, m, R) and of each word (n, m, T) of some images with all captions."""
    products = vectors.flatten(0, 1) @ words.vectors.flatten(0, 1).T
    similar = leaky_relu(products.view(*mask.shape, *words.mask.shape).transpose(1, 2), SLOPE)
    regions, tokens = ~mask[:, None, :, None], ~words.mask[None, :, None]
    similar = similar.masked_fill(regions | tokens, 0.0)
    by_region = normalize(similar, dim=2).masked_fill(tokens, -torch.inf).amax(3)
    return by_region, normalize(similar, dim=3).masked_fill(regions, -torch.inf).amax(2)


def _largest(maxima: Tensor, mask: Tensor) -> Maxima:
    """(B, B, L), (B, 1, L) -> the largest of each pair."""
    values = maxima.masked_fill(~mask, -torch.inf).topk(min(MAXIMA, maxima.shape[2]), 2).values
    values = values.masked_fill(values == -torch.inf, 0.0)
    mean = values.sum(2) / mask.sum(2).clamp(max=MAXIMA)
    return Maxima(pad(values, (0, MAXIMA - values.shape[2])), mean)


def within(cosines: Tensor) -> Tensor:
    """The relation exp(-|a - b|) of unit vectors."""
    return (-distances(cosines)).exp()


def distances(cosines: Tensor) -> Tensor:
    """|a - b| of unit vectors, SAME at least."""
    return (2 - 2 * cosines).clamp_min(SAME**2).sqrt()


def connected(relation: Tensor, similar: Tensor) -> Tensor:
    """Relations (B, B) of the most similar half of each row, and of what ties with its last; -inf elsewhere."""
    least = similar.detach().topk((len(similar) + 1) // 2, 1).values[:, -1:]
    return relation.masked_fill(similar < least, -torch.inf)


def divergence(cosines: Tensor, of_images: Tensor, of_captions: Tensor) -> Tensor:
    """KL(softmax exp(-distance) || softmax relation) of each image and of each caption, averaged over the batch."""
    near = within(cosines)
    rows = ((near, of_images), (near.T, of_captions))
    return torch.stack(
        [kl_div(log_softmax(of, 1), softmax(target, 1), reduction="batchmean") for target, of in rows]
    ).sum()


def triplets(scores: Tensor, batch: Batch, margin: float, farthest: float) -> Tensor:
    """The hinge with a negative drawn for each image and each caption, or with all of them; summed."""
    if not batch.hardest:
        return hinge(scores, batch, margin)
    total = scores.new_zeros(())
    for rows, positives in ((scores, batch.positives), (scores.T, batch.positives.T)):
        log_weights = distance_weights(rows.detach(), positives, farthest)
        negative = rows.gather(1, drawn(log_weights)[:, None])
        used = positives & (log_weights > -torch.inf).any(1, keepdim=True)
        total = total + (margin + negative - rows).clamp_min(0).masked_fill(~used, 0.0).sum()
    return total


def distance_weights(cosines: Tensor, positives: Tensor, farthest: float) -> Tensor:
    """log w = (2 - d) ln r - (d - 3) / 2 · ln(1 - r² / 4) of negatives, (B, B); -inf for positives and too far ones."""
    r = distances(cosines)
    near = r.clamp(NEAREST, farthest)
    log_weights = (2 - SPHERE) * near.log() - (SPHERE - 3) / 2 * (1 - near.square() / 4).log()
    return log_weights.masked_fill(positives | (r >= farthest), -torch.inf)


def drawn(log_weights: Tensor) -> Tensor:
    """One place of each row, drawn in proportion to the weights, (B,); Gumbel's way, which waits for no device."""
    smallest = torch.finfo(log_weights.dtype).tiny
    noise = -(-torch.rand_like(log_weights).clamp_min(smallest).log()).clamp_min(smallest).log()
    return (log_weights + noise).argmax(1)
