"""Layers, losses and the exact score algebra that papers share.

The algebra: a cosine between a query vector q and an attended vector c = sum_l a_l x_l needs c itself nowhere.
With s_l = q . x_l and the Gram matrix G = X X^T of the context, q . c = a . s and |c|^2 = a^T G a. So one matrix
product of all context vectors with all query vectors serves a whole tile, and no (n, m, L, D) tensor is ever built.

A tile of products has the layout (C, L, Q, K): C context sets of L vectors, Q query sets of K vectors.
Text-to-image attention has images as contexts and captions as queries; image-to-text is its mirror.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, normalize, pad

from harness.method import Batch, Encoded, Method

EPS = 1e-8
Score = Callable[[Encoded, Encoded], Tensor]


class RegionEncoder(nn.Module):
    """Regions (B, R, F) -> (B, R, D) by one linear layer, Xavier-uniform with zero bias (SCAN's)."""

    def __init__(self, feature_width: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_width, dim)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, regions: Tensor, mask: Tensor) -> Tensor:
        """Projected regions, not normalised; zeros where the mask is False."""
        projected: Tensor = self.linear(regions)
        return projected * mask.unsqueeze(2)


class WordEncoder(nn.Module):
    """Tokens (B, T) -> (B, T, D): embedding uniform(-0.1, 0.1) and a recurrent layer, its directions averaged.

    The backward direction is a layer of its own over each caption turned round in place: padding stays at the end,
    where it reaches no real word. Captions go through in groups of about equal length; packed sequences, torch's own
    answer to padding, took 1.6 times as long in training on a CPU.
    """

    GROUP = 64

    def __init__(
        self,
        vocabulary_size: int,
        word_dim: int,
        dim: int,
        cell: Literal["gru", "lstm"] = "gru",
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        layer = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.embedding = nn.Embedding(vocabulary_size, word_dim)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.forwards = layer(word_dim, dim)
        self.backwards = layer(word_dim, dim) if bidirectional else None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """States of every word; zeros where the mask is False."""
        order = mask.sum(1).argsort(stable=True)
        groups = [self._states(tokens[part], mask[part]) for part in order.split(self.GROUP)]
        return torch.cat(groups)[order.argsort()] * mask.unsqueeze(2)

    def _states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) of captions of about equal length, computed up to the longest of them."""
        longest = int(mask.sum(1).max())
        words = self.embedding(tokens[:, :longest]).transpose(0, 1)  # (longest, B, word_dim)
        states = self.forwards(words)[0]
        if self.backwards is not None:
            turned = turned_round(mask[:, :longest]).T.unsqueeze(2)
            back = self.backwards(words.gather(0, turned.expand_as(words)))[0]
            states = (states + back.gather(0, turned.expand_as(back))) / 2
        return pad(states.transpose(0, 1), (0, 0, 0, tokens.shape[1] - longest))


def turned_round(mask: Tensor) -> Tensor:
    """(B, T) -> (B, T): the position each position has when the real part of its row is read backwards."""
    place = torch.arange(mask.shape[1], device=mask.device)
    last = mask.sum(1, keepdim=True) - 1
    return torch.where(mask, last - place, place)


def masked_mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """(B, L, D), (B, L) -> (B, D): the mean over real vectors."""
    weight = mask.to(vectors.dtype).unsqueeze(-1)
    mean: Tensor = (vectors * weight).sum(1) / weight.sum(1)
    return mean


def masked_softmax(logits: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax over the real entries of one axis; the mask broadcasts to the logits."""
    return logits.masked_fill(~mask, -torch.inf).softmax(dim)


def products(context: Tensor, queries: Tensor) -> Tensor:
    """All inner products (C, L, D) x (Q, K, D) -> (C, L, Q, K) in one matrix product."""
    product = context.flatten(0, 1) @ queries.flatten(0, 1).T
    return product.view(*context.shape[:2], *queries.shape[:2])


def gram(vectors: Tensor) -> Tensor:
    """(C, L, D) -> (C, L, L): inner products within each set."""
    return vectors @ vectors.transpose(1, 2)


def attended_cosine(weights: Tensor, product: Tensor, context_gram: Tensor) -> Tensor:
    """Cosine of every unit query vector with its attended context, which is never built.

    weights, product (C, L, Q, K), context_gram (C, L, L) -> (C, Q, K): a . s / sqrt(a^T G a).
    """
    numerator = (weights * product).sum(1)
    spread = (context_gram @ weights.flatten(2)).view_as(weights)
    return numerator / (weights * spread).sum(1).clamp_min(EPS**2).sqrt()


def stacked_attention(
    product: Tensor, context_mask: Tensor, query_mask: Tensor, temperature: float, slope: float
) -> Tensor:
    """SCAN's attention weights over the context, (C, L, Q, K) -> (C, L, Q, K).

    Rectified products, L2-normalised over the query vectors of a set, then a softmax over the context.
    """
    rectified = torch.where(query_mask, leaky_relu(product, slope), 0.0)
    rectified = rectified / (rectified.norm(dim=3, keepdim=True) + EPS)
    return masked_softmax(temperature * rectified, context_mask[:, :, None, None], dim=1)


def pool(relevance: Tensor, mask: Tensor, how: Literal["avg", "lse"], temperature: float) -> Tensor:
    """(C, Q, K) with mask (Q, K) -> (C, Q): mean, or log(sum exp(t r)) / t, over the real vectors."""
    if how == "avg":
        return (relevance * mask).sum(2) / mask.sum(1)
    return (temperature * relevance).masked_fill(~mask, -torch.inf).logsumexp(2) / temperature


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


def in_tiles(score: Score, images: Encoded, captions: Encoded, rows: int, columns: int) -> Tensor:
    """The scores of a method, tile by tile: sets sorted by length so that tiles carry little padding.

    Exactly `score(images, captions)` to rounding, for any number of images `rows` and of captions `columns` a tile.
    """
    image_tiles, image_places = _by_length(images, rows)
    caption_tiles, caption_places = _by_length(captions, columns)
    scores = torch.cat([torch.cat([score(i, c) for c in caption_tiles], 1) for i in image_tiles])
    return scores[image_places][:, caption_places]


def _by_length(sets: Encoded, size: int) -> tuple[list[Encoded], Tensor]:
    """Sets in tiles of about equal length, cut to it; and where each set went."""
    order = sets.mask.sum(1).argsort(stable=True)
    tiles = [_cut(Encoded(sets.vectors[part], sets.mask[part])) for part in order.split(size)]
    return tiles, order.argsort()


def _cut(sets: Encoded) -> Encoded:
    """Without the columns that are padding in every set."""
    longest = int(sets.mask.sum(1).max())
    return Encoded(sets.vectors[:, :longest], sets.mask[:, :longest])


class FragmentMethod(Method):
    """A method that compares sets of regions with sets of words, trained by the hinge with tiled scores."""

    TRAINING_TILE = (32, 32)  # images, captions: among the best of seven shapes on a CPU

    def loss(self, batch: Batch) -> Tensor:
        """The bidirectional hinge over the batch."""
        images = self.encode_images(batch.regions, batch.region_mask)
        captions = self.encode_captions(batch.tokens, batch.token_mask)
        scores = in_tiles(self.score, images, captions, *self.TRAINING_TILE)
        return hinge(scores, batch, self.settings.margin)


class EmbeddingMethod(Method):
    """A method with one vector a side: the score is the inner product of unit vectors."""

    def score(self, images: Encoded, captions: Encoded) -> Tensor:
        """(n, 1, D), (m, 1, D) -> (n, m)."""
        return images.vectors[:, 0] @ captions.vectors[:, 0].T

    def loss(self, batch: Batch) -> Tensor:
        """The bidirectional hinge over the batch."""
        images = self.encode_images(batch.regions, batch.region_mask)
        captions = self.encode_captions(batch.tokens, batch.token_mask)
        return hinge(self.score(images, captions), batch, self.settings.margin)


def one_vector(vectors: Tensor) -> Encoded:
    """(B, D) -> unit vectors as sets of length 1."""
    return Encoded(
        normalize(vectors, dim=-1).unsqueeze(1), torch.ones(len(vectors), 1, dtype=torch.bool, device=vectors.device)
    )
