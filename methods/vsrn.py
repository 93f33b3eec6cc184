"""VSRN, visual semantic reasoning (Li, Zhang, Li, Li, Fu; ICCV 2019; arXiv 1909.02701)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, pad

from harness.blocks.encoders import RegionEncoder, WordEncoder
from harness.blocks.families import EmbeddingMethod, one_vector
from harness.blocks.losses import hinge
from harness.blocks.residual_mlp import in_sets, real_rows
from harness.method import Batch, Encoded, Inputs

LAYERS = 4  # of the graph


class VSRN(EmbeddingMethod):
    """Regions reason in a graph, and a GRU reads them in order; they also have to tell the caption."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        width: int  # of the caption generator
        margin: float
        normalise_over: Literal["features", "regions"]  # l2 of each region, or of each feature over the regions
        normalise_first: bool  # before the graph too
        state_norm: bool  # batch norm of the state after the last region
        generation_weight: float  # of the caption generation loss; 0 leaves the generator out
        dropout_in: float  # of the regions and words that the generator reads
        dropout_out: float  # of the states that it tells words from

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        dim = settings.dim
        self.regions = RegionEncoder(inputs.feature_width, dim)
        self.graph = nn.ModuleList(GraphLayer(dim) for _ in range(LAYERS))
        self.reader = nn.GRU(dim, dim, batch_first=True)
        self.state_norm = nn.BatchNorm1d(dim) if settings.state_norm else nn.Identity()
        self.words = WordEncoder(inputs, settings.word_dim, dim, bidirectional=False)
        self.generator = CaptionGenerator(inputs.vocabulary_size, settings) if settings.generation_weight else None

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """The state after the last region."""
        return self._pooled(self._reasoned(regions, mask), mask)

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """The state after the last word."""
        return one_vector(last_state(self.words(tokens, mask), mask))

    def loss(self, batch: Batch) -> Tensor:
        """The hinge, and the negative log likelihood of a caption, averaged over the batch."""
        s, regions = self.settings, self._reasoned(batch.regions, batch.region_mask)
        captions = self.encode_captions(batch.tokens, batch.token_mask)
        matching = hinge(self.score(self._pooled(regions, batch.region_mask), captions), batch, s.margin)
        if self.generator is None:
            return matching
        surprise = self.generator(regions, batch.region_mask, batch.tokens, batch.token_mask)
        total: Tensor = matching + s.generation_weight * surprise.mean()
        return total

    def _reasoned(self, regions: Tensor, mask: Tensor) -> Tensor:
        """Regions after the graph, (B, R, D)."""
        over = {"regions": 1, "features": 2}[self.settings.normalise_over]
        vectors = self.regions(regions, mask)
        if self.settings.normalise_first:
            vectors = normalize(vectors, dim=over)
        for layer in self.graph:
            vectors = layer(vectors, mask)
        return normalize(vectors, dim=over)

    def _pooled(self, regions: Tensor, mask: Tensor) -> Encoded:
        return one_vector(self.state_norm(last_state(self.reader(regions)[0], mask)))


class GraphLayer(nn.Module):
    """v + BN(W (theta v)(phi v)^T / R · g v); the batch norm's scale and shift start at zero.

    W has no bias, as the batch norm after it takes it away.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Linear(dim, dim) for _ in range(3))
        self.W = nn.Linear(dim, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)
        nn.init.zeros_(self.norm.weight)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """(B, R, D), zeros where the mask is False -> the same."""
        size = mask.sum(1)[:, None, None]
        affinity = self.theta(vectors) @ self.phi(vectors).transpose(1, 2) / size
        related = affinity @ (self.g(vectors) * mask[..., None])
        updated: Tensor = vectors + in_sets(self.norm(self.W(real_rows(related, mask))), mask)
        return updated


class CaptionGenerator(nn.Module):
    """One GRU reads the regions, another tells the caption from its last state, word after word."""

    def __init__(self, vocabulary_size: int, settings: Any) -> None:
        super().__init__()
        self.reader = nn.GRU(settings.dim, settings.width, batch_first=True)
        self.embedding = nn.Embedding(vocabulary_size, settings.word_dim)
        self.writer = nn.GRU(settings.word_dim, settings.width, batch_first=True)
        self.output = nn.Linear(settings.width, vocabulary_size)
        self.dropout_in, self.dropout_out = nn.Dropout(settings.dropout_in), nn.Dropout(settings.dropout_out)

    def forward(self, regions: Tensor, region_mask: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, R, D), (B, T) -> -log p of each caption, (B,); zeros stand before the first word."""
        start = last_state(self.reader(self.dropout_in(regions))[0], region_mask)
        before = pad(self.dropout_in(self.embedding(tokens[:, :-1])), (0, 0, 1, 0))
        states = self.dropout_out(self.writer(before, start[None].contiguous())[0])
        surprise = cross_entropy(self.output(states).transpose(1, 2), tokens, reduction="none")
        return surprise.masked_fill(~mask, 0.0).sum(1)


def last_state(states: Tensor, mask: Tensor) -> Tensor:
    """(B, L, D) -> (B, D): the state at the last real place."""
    last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, states.shape[2])
    return states.gather(1, last).squeeze(1)
