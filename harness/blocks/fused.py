"""Scores of one attention network by one kernel (blocks.kernels), in the place of the passes of blocks.attention.

The algebra is that of blocks.attention, which stays the reference; sets are packed as blocks.packing says. Forward
only, on Hopper and later or in Triton's interpreter.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from harness.blocks.focal import Focus
from harness.blocks.kernels import score_tiles
from harness.blocks.packing import (
    HIGH_BITS,
    LOW_BITS,
    SETS,
    PackedContexts,
    PackedQueries,
    Precision,
    Side,
    Terms,
    block_grams,
    gathered,
    in_precision,
    in_terms,
    kernel_precision,
    packed,
)
from harness.method import Encoded, ScorePrecision

LONGEST = 128  # vectors of a set
WARMEST = 40.0  # the largest logit whose exp, and the square of that, are float32 without a largest subtracted


class Network(NamedTuple):
    """What becomes of the products of a tile of unit vectors.

    With a slope, logits are rectified and brought to unit length over the vectors of a query set, as in SCAN; without
    one they are taken as they are. `weighted` pools with weights that come with the queries.
    """

    temperature: float
    slope: float | None
    pooling: Literal["avg", "lse", "weighted"] = "avg"
    pooling_temperature: float = 1.0
    largest: float = 1.0  # logit before the temperature, at most: of unit vectors and of a unit length it is one
    mapped: bool = False  # logits are products with other vectors than the contexts
    focus: Focus | None = None  # which weights stay, as in BFAN; all without one


class Shape(NamedTuple):
    """How the kernel is cut: vectors of a tile of contexts and of queries, depth of a step, warps, steps in memory."""

    contexts: int = 128
    queries: int = 128
    depth: int = 64
    warps: int = 8
    stages: int = 4


class AttentionKernel:
    """One attention network: packs sets once, and scores contexts against queries as often as asked."""

    def __init__(self, network: Network, precision: Precision, shape: Shape) -> None:
        self.network, self.precision, self.shape = network, precision, shape

    def contexts(self, sets: Encoded, mapped: Tensor | None = None) -> PackedContexts:
        """Sets (C, L, D), and what gives the logits (C, L, D) where that is not the sets themselves."""
        tiles = packed(sets, self.shape.contexts, multiple=1 if self.network.mapped else 2)
        vectors = gathered(sets.vectors, tiles)
        # the interpreter has no bfloat16
        kind = torch.bfloat16 if vectors.is_cuda else torch.float32
        grams = in_terms(block_grams(vectors, tiles).flatten(0, 1), kind)
        if mapped is not None:
            vectors = torch.stack([vectors, gathered(mapped, tiles)], 1)
        return PackedContexts(len(sets.mask), tiles, self._terms(vectors, "contexts"), grams)

    def queries(self, sets: Encoded, weights: Tensor | None = None) -> PackedQueries:
        """Sets (Q, K, D), and weights (Q, K) to pool with."""
        tiles = packed(sets, self.shape.queries)
        vectors = gathered(sets.vectors, tiles)
        pooling = vectors.new_empty(0) if weights is None else gathered(weights.float().unsqueeze(2), tiles).squeeze(2)
        return PackedQueries(len(sets.mask), tiles, self._terms(vectors, "queries"), pooling)

    def _terms(self, vectors: Tensor, side: Side) -> Terms:
        return in_precision(vectors, self.precision, self.shape.depth, side)

    def scores(self, contexts: PackedContexts, queries: PackedQueries) -> Tensor:
        """Pooled cosines of every query set's vectors with what they attend to in every context set, (C, Q)."""
        network, shape, of, by = self.network, self.shape, contexts.tiles, queries.tiles
        scores = torch.empty(contexts.sets, queries.sets, device=queries.weights.device)
        left, right = queries.vectors.high.shape, contexts.vectors.high.shape
        pairs = right[0] // (2 * shape.contexts)
        score_tiles[(pairs * len(by.lengths),)](
            *blocks(queries.vectors, shape.queries, shape.depth),
            *blocks(contexts.vectors, 2 * shape.contexts, shape.depth),
            *blocks(contexts.grams, shape.contexts, shape.contexts),
            queries.weights,
            *of[:3],
            *by[:3],
            scores,
            pairs,
            len(by.lengths),
            queries.sets,
            network.temperature,
            network.slope or 0.0,
            network.pooling_temperature,
            1,  # as a number, so that a loop of one turn stays a loop
            WIDTH=left[1],
            CONTEXTS=shape.contexts,
            QUERIES=shape.queries,
            DEPTH=shape.depth,
            COUNT=SETS,
            RECTIFIED=network.slope is not None,
            MAPPED=network.mapped,
            POOLING=network.pooling,
            FOCUS=network.focus or "",
            THREE=self.precision.endswith("x3"),
            EIGHTHS=LOW_BITS + HIGH_BITS if self.precision == "fp16+fp8" else 0,
            EXACT=self.precision != "bf16",
            num_warps=shape.warps,
            num_stages=shape.stages,
        )
        return scores


def blocks(matrix: Terms, rows: int, columns: int) -> list[TensorDescriptor]:
    """Both terms, to be loaded in blocks of so many rows and columns; of eight bits twice as many columns."""
    wide = matrix.low.shape[1] // matrix.high.shape[1] * columns
    return [
        TensorDescriptor.from_tensor(matrix.high, [rows, columns]),
        TensorDescriptor.from_tensor(matrix.low, [rows, wide]),
    ]


def attention_kernel(
    network: Network, contexts: int, queries: int, dim: int, precision: ScorePrecision, device: torch.device
) -> AttentionKernel | None:
    """The kernel of a network for sets of at most so many vectors of D = dim; None for what it cannot do."""
    if max(contexts, queries) > LONGEST or network.temperature * network.largest > WARMEST or (network.slope or 0) > 1:
        return None
    kind = kernel_precision(precision, dim, network.mapped, device)
    return AttentionKernel(network, kind, fastest_shape(kind))


def fastest_shape(precision: Precision) -> Shape:
    """What was fastest on an H100: steps as deep as two or more of them fit the fast memory."""
    depth = 32 if precision.startswith("tf32") else 64
    return Shape(depth=depth, stages=2 if precision.endswith("x3") else 4)
