"""SGRAF: similarity graph reasoning (SGR), attention filtration (SAF) (Diao, Zhang, Ma, Lu; AAAI 2021; 2101.01368).

Two models, trained apart, of the same nodes: similarity vectors sv(x, y) = l2(W (x - y)^2) of the whole image and
caption, and of every word and what it attends to.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import normalize

from harness.blocks.attention import (
    Context,
    Queries,
    as_context,
    as_queries,
    attention_between,
    products,
    real_vectors,
    stacked_weights,
)
from harness.blocks.families import UnitFragments
from harness.blocks.pooling import GatedPooling, masked_softmax
from harness.blocks.strips import REGIONS, growth, in_strips
from harness.blocks.tiles import in_full
from harness.method import Encoded, Inputs

TINY = 1e-12  # the least norm that a vector is divided by, as in torch.nn.functional.normalize


class Images(NamedTuple):
    """What all tiles of a row share."""

    context: Context
    whole: Tensor  # (n, D)

    def split(self, size: int) -> list[Images]:
        """Consecutive images, so many at a time."""
        return list(map(Images, self.context.split(size), self.whole.split(size)))


class Captions(NamedTuple):
    """What all tiles of a column share."""

    queries: Queries
    vectors: Tensor  # (m, T, D)
    whole: Tensor  # (m, D)
    real: Tensor  # (m, 1 + T) of nodes


class SGRAF(UnitFragments):
    """Nodes of similarity; a subclass makes one score of those of a pair."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        width: int  # of a similarity vector
        margin: float
        temperature: float  # lambda
        slope: float  # of the rectifier
        dropout: float  # in the pooling of whole images and captions

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        dim = settings.dim
        self.whole_image = GatedPooling(dim, settings.dropout)
        self.whole_caption = GatedPooling(dim, settings.dropout)
        self.local_similarity = linear(dim, settings.width)
        self.global_similarity = linear(dim, settings.width)
        self.last = linear(settings.width, 1)

    @abstractmethod
    def reason(self, nodes: Tensor, real: Tensor) -> Tensor:
        """Nodes (C, Q, 1 + T, S), the global one first, mask (Q, 1 + T) -> one vector per pair, (C, Q, S)."""

    @property
    def tile_growth(self) -> float:
        """On a GPU the attended vectors of a tile, D numbers a word where the products have one a region, are whole."""
        return growth(self.settings.dim, REGIONS)

    def image_side(self, images: Encoded) -> Images:
        """Regions are attended to."""
        vectors = real_vectors(images)
        whole = self.whole_image(vectors, images.mask)
        return Images(as_context(images), whole)

    def caption_side(self, captions: Encoded) -> Captions:
        """Words attend."""
        vectors = real_vectors(captions)
        whole = self.whole_caption(vectors, captions.mask)
        real = torch.cat([captions.mask[:, :1], captions.mask], 1)
        return Captions(as_queries(captions), in_full(vectors), whole, real)

    def score_sides(self, images: Images, captions: Captions) -> Tensor:
        """(n, m), in strips of images whose attended vectors are computed again for gradients."""
        product = products(images.context.vectors, captions.queries.vectors)
        of_strip = partial(self.of_strip, captions=captions)
        nodes = captions.vectors[:, :, : self.settings.width]  # in size: most passes are over these
        return in_strips(of_strip, nodes, product, images, recompute=True)

    def of_strip(self, product: Tensor, of: Images, captions: Captions) -> Tensor:
        """(C, Q)."""
        reasoned = self.reason(self.nodes(product, of, captions), captions.real)
        score: Tensor = self.last(reasoned).squeeze(2).sigmoid()
        return score

    def nodes(self, product: Tensor, of: Images, captions: Captions) -> Tensor:
        """Similarity vectors of every pair, the global one first, (C, Q, 1 + T, S)."""
        weights = self.weights(product, of.context).permute(0, 3, 2, 1)  # (C, Q, T, R)
        attended = (weights.flatten(1, 2) @ in_full(of.context.vectors)).unflatten(1, weights.shape[1:3])
        local = self.local_similarity(squared_differences(captions.vectors, attended))
        whole = self.global_similarity((in_full(of.whole)[:, None] - in_full(captions.whole)).square())
        return normalize(torch.cat([whole.unsqueeze(2), local], 2), dim=3)

    def weights(self, product: Tensor, of: Context) -> Tensor:
        """Attention to the regions, (C, L, K, Q), up to a positive factor a word."""
        return stacked_weights(product, of, self.settings.temperature, self.settings.slope)

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """The attention of words, (n, m, T, R)."""
        return attention_between(self.weights, images, captions)


class SGR(SGRAF):
    """Nodes exchange what they know, some steps long; the global one decides."""

    @dataclass(frozen=True)
    class Settings(SGRAF.Settings):
        """Settings of the card."""

        steps: int

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.steps = nn.ModuleList(GraphStep(settings.width) for _ in range(settings.steps))

    def reason(self, nodes: Tensor, real: Tensor) -> Tensor:
        """The global node after the last step, which no other node needs."""
        for step in self.steps[:-1]:
            nodes = step(nodes, nodes, real)
        reasoned: Tensor = self.steps[-1](nodes[:, :, :1], nodes, real)
        return reasoned.squeeze(2)


class SAF(SGRAF):
    """Each node has a weight of its own; their weighted sum decides."""

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.filter = linear(settings.width, 1)

    def reason(self, nodes: Tensor, real: Tensor) -> Tensor:
        """l2(sum a n) with a = sigmoid(linear n), in shares of one."""
        weights = self.filter(nodes).sigmoid() * real.unsqueeze(2)
        return normalize((weights / weights.sum(2, keepdim=True) * nodes).sum(2), dim=2)


class GraphStep(nn.Module):
    """n <- ReLU(Wr E n), E = softmax((Wq n) (Wk n)^T)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = linear(width, width)  # Wq
        self.key = linear(width, width, bias=False)  # Wk; a softmax does not see its bias
        self.result = linear(width, width)  # Wr

    def forward(self, asking: Tensor, nodes: Tensor, real: Tensor) -> Tensor:
        """Some of the nodes (C, Q, A, S), all nodes (C, Q, N, S), mask (Q, N) -> (C, Q, A, S).

        (Wq n_i)^T Wk n_j = (Wk^T Wq n_i)^T n_j: one product with the nodes in the place of two.
        """
        key = self.key.weight
        asked = functional.linear(asking, key.T @ self.query.weight, self.query.bias @ key)
        edges = masked_softmax(asked @ nodes.transpose(2, 3), real.unsqueeze(1), dim=3)
        return torch.relu(self.result(edges @ nodes))


def squared_differences(words: Tensor, attended: Tensor) -> Tensor:
    """(y - l2(x))^2 of words y (Q, T, D) and what they attend to in every image (C, Q, T, D)."""
    squares: Tensor = _SquaredDifferences.apply(words, attended)  # type: ignore[no-untyped-call]
    return squares


class _SquaredDifferences(torch.autograd.Function):
    """d^2 with d = y - u, u = x / |x|; written out, it passes half as often over the largest tensor of a step."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=3, keepdim=True).clamp_min_(TINY)
        d = torch.addcdiv(y, x, norm, value=-1)
        ctx.save_for_backward(y, d, norm)
        return d.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        y, d, norm = ctx.saved_tensors
        half = gradient * d
        by_y = half.sum(0).mul_(2)
        u = y - d
        along = (half * u).sum(3, keepdim=True)
        scale = 2 / norm
        return by_y, half.mul_(-scale).addcmul_(u, along.mul_(scale))


def linear(width: int, result: int, bias: bool = True) -> nn.Linear:
    """A linear layer, Xavier-uniform with zero bias."""
    layer = nn.Linear(width, result, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
