"""IMRAM, iterative matching with recurrent attention memory (Chen, Ding, Liu, Lin, Liu, Han; CVPR 2020; 2003.03772)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from harness.blocks.attention import (
    Context,
    Queries,
    as_context,
    as_queries,
    attended_cosine,
    attended_vectors,
    pool,
    products,
    shares,
    stacked_weights,
)
from harness.blocks.families import UnitFragments
from harness.blocks.strips import REGIONS, WORDS, growth, in_strips
from harness.blocks.tiles import in_full
from harness.method import Encoded, Inputs


class Attended(NamedTuple):
    """A context, and what its vectors add to the layers of a memory, (C, L, 2 D); None where there is no memory."""

    context: Context
    mapped: Tensor | None

    def split(self, size: int) -> list[Attended]:
        """Consecutive contexts, so many at a time."""
        contexts = self.context.split(size)
        mapped = self.mapped.split(size) if self.mapped is not None else [None] * len(contexts)
        return list(map(Attended, contexts, mapped))


class Attending(NamedTuple):
    """Queries, and what their vectors add to the layers of a memory in the first round, (K, Q, 2 D)."""

    queries: Queries
    mapped: Tensor | None


class Sides(NamedTuple):
    """Sets in the roles that a direction gives them; None for a role without use."""

    context: Attended | None
    queries: Attending | None


class IMRAM(UnitFragments):
    """Fragments attend K times; in between, a gated memory takes in what they attended to."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        direction: Literal["text", "image", "full"]  # words attend, regions attend, or both
        rounds: int  # K
        temperature: float  # lambda
        slope: float  # of the rectifier

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        dim, several = settings.dim, settings.rounds > 1
        self.by_words, self.by_regions = settings.direction != "image", settings.direction != "text"
        self.word_memory = Memory(dim) if several and self.by_words else None
        self.region_memory = Memory(dim) if several and self.by_regions else None

    @property
    def tile_growth(self) -> float:
        """On a GPU the memories of a tile are whole: 2 D numbers per vector that attends, R or T products."""
        if self.settings.rounds == 1:
            return 1.0
        return growth(2 * self.settings.dim, WORDS if self.by_regions else REGIONS)

    def image_side(self, images: Encoded) -> Sides:
        """Regions are attended to, attend, or both."""
        context = attended(images, self.word_memory) if self.by_words else None
        return Sides(context, attending(images, self.region_memory) if self.by_regions else None)

    def caption_side(self, captions: Encoded) -> Sides:
        """Words attend, are attended to, or both."""
        context = attended(captions, self.region_memory) if self.by_regions else None
        return Sides(context, attending(captions, self.word_memory) if self.by_words else None)

    def score_sides(self, images: Sides, captions: Sides) -> Tensor:
        """(n, m)."""
        scores = []
        if images.context and captions.queries:
            scores.append(self.directed(images.context, captions.queries, self.word_memory))
        if captions.context and images.queries:
            scores.append(self.directed(captions.context, images.queries, self.region_memory).T)
        return torch.stack(scores).sum(0)

    def directed(self, of: Attended, by: Attending, memory: Memory | None) -> Tensor:
        """Scores of one direction, (C, Q), in strips of contexts whose memories are recomputed for gradients."""
        product = products(of.context.vectors, by.queries.vectors)
        of_strip = partial(self.of_strip, by=by, memory=memory)
        one = by.queries.vectors if memory else product[0]
        return in_strips(of_strip, one, product, of, recompute=memory is not None)

    def of_strip(self, product: Tensor, of: Attended, by: Attending, memory: Memory | None) -> Tensor:
        """S = sum_k mean_j cos(q_j, what it attends to in round k), of the original q_j, (C, Q)."""
        rounds = self.attention(product, of, by, memory)
        relevance = torch.stack([attended_cosine(weights, product, of.context.gram) for weights in rounds])
        return pool(relevance.sum(0), by.queries, "avg", 1.0)

    def attention(self, product: Tensor, of: Attended, by: Attending, memory: Memory | None) -> Iterator[Tensor]:
        """The attention of each round, (C, L, K, Q), up to a positive factor a query vector."""
        settings, logits, vectors, mapped = self.settings, product, in_full(by.queries.vectors), by.mapped
        for later in reversed(range(settings.rounds)):
            weights = stacked_weights(logits, of.context, settings.temperature, settings.slope)
            yield weights
            if memory and later:
                mapped = memory.of_queries(vectors) if mapped is None else mapped
                vectors, mapped = refined(vectors, mapped, shares(weights, of.context, by.queries), of), None
                logits = products_of_each(of.context, vectors) * by.queries.mask

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """The attention of the last round, (n, m, T, R): of words, or, where these do not attend, of regions."""
        of, by = self.image_side(images), self.caption_side(captions)
        if of.context and by.queries:
            return self.last_shares(of.context, by.queries, self.word_memory).permute(0, 3, 2, 1)
        assert by.context and of.queries
        return self.last_shares(by.context, of.queries, self.region_memory).permute(3, 0, 1, 2)

    def last_shares(self, of: Attended, by: Attending, memory: Memory | None) -> Tensor:
        """(C, L, K, Q)."""
        *_, weights = self.attention(products(of.context.vectors, by.queries.vectors), of, by, memory)
        return shares(weights, of.context, by.queries)


class Memory(nn.Module):
    """g = sigmoid(Wg [q; a]) and o = tanh(Wo [q; a]), in one layer whose halves are Wg and Wo."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.layer = nn.Linear(2 * dim, 2 * dim)

    def of_queries(self, vectors: Tensor) -> Tensor:
        """What q adds to both halves, biases included, (..., 2 D)."""
        return linear(vectors, self.layer.weight[:, : self.dim], self.layer.bias)

    def of_context(self, vectors: Tensor) -> Tensor:
        """What a adds if it is that vector, (..., 2 D): sums of vectors add such sums."""
        return linear(vectors, self.layer.weight[:, self.dim :])


def attended(sets: Encoded, memory: Memory | None) -> Attended:
    """Sets as contexts; mapped once, so that no attended vector is."""
    context = as_context(sets)
    return Attended(context, in_full(memory.of_context(context.vectors)) if memory else None)


def attending(sets: Encoded, memory: Memory | None) -> Attending:
    """Sets as queries."""
    queries = as_queries(sets)
    return Attending(queries, in_full(memory.of_queries(queries.vectors)) if memory else None)


def refined(vectors: Tensor, mapped: Tensor, weights: Tensor, of: Attended) -> Tensor:
    """q := g q + (1 - g) o of q (K, Q, D) or (C, K, Q, D) and its attention (C, L, K, Q) -> (C, K, Q, D)."""
    assert of.mapped is not None
    gate, new = (mapped + attended_vectors(weights, of.mapped)).chunk(2, -1)
    return torch.lerp(in_full(new).tanh(), in_full(vectors), in_full(gate).sigmoid())


def products_of_each(context: Context, vectors: Tensor) -> Tensor:
    """(C, L, K, Q): context vectors times the query vectors (C, K, Q, D) that are theirs alone."""
    product: Tensor = in_full(context.vectors) @ vectors.flatten(1, 2).transpose(1, 2)
    return product.view(*product.shape[:2], *vectors.shape[1:3])
