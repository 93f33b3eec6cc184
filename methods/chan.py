"""CHAN, cross-modal hard aligning network (Pan, Wu, Zhang; CVPR 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from harness.blocks.attention import Context, Queries, as_context, as_queries, products
from harness.blocks.encoders import RegionEncoder, WordEncoder
from harness.blocks.families import FragmentMethod
from harness.method import Encoded, Inputs


class CHAN(FragmentMethod):
    """Each word is assigned to the one region that is most like it; no attended vector exists."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        self_attention: bool  # of the regions, as in the runs with a BiGRU
        heads: int  # of the self-attention; dim is a multiple of them
        pooling: Literal["lse", "mean"]  # over words: of the runs with a BiGRU, with BERT
        pooling_temperature: float  # of LSE, a divisor

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.regions = RegionEncoder(inputs.feature_width, settings.dim)
        self.among_regions = SelfAttention(settings.dim, settings.heads) if settings.self_attention else None
        self.words = WordEncoder(inputs, settings.word_dim, settings.dim)

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """Unit regions (B, R, D)."""
        vectors = self.regions(regions, mask)
        if self.among_regions is not None:
            vectors = self.among_regions(vectors, mask)
        return Encoded(normalize(vectors, dim=-1), mask)

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """Unit words (B, T, D)."""
        return Encoded(normalize(self.words(tokens, mask), dim=-1), mask)

    def image_side(self, images: Encoded) -> Context:
        """Words are assigned to regions."""
        return as_context(images)

    def caption_side(self, captions: Encoded) -> Queries:
        """Words are assigned."""
        return as_queries(captions)

    def score_sides(self, images: Context, captions: Queries) -> Tensor:
        """(n, m)."""
        largest = cosines(images, captions).max(1).values  # c_j = max_i s_ij, (n, T, m)
        if self.settings.pooling == "mean":
            return (largest * captions.mask).sum(1) / captions.mask.sum(0)
        logits: Tensor = largest / self.settings.pooling_temperature
        return logits.masked_fill(captions.mask == 0, -torch.inf).logsumexp(1)

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """One for the region of a word, (n, m, T, R)."""
        of, by = as_context(images), as_queries(captions)
        assigned = cosines(of, by).max(1).indices.permute(0, 2, 1)  # (n, m, T)
        return one_hot(assigned, images.mask.shape[1]) * captions.mask[None, :, :, None].float()


class SelfAttention(nn.Module):
    """x + MHA(LN(x)): pre-norm self-attention among the vectors of a set, with a residual."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D), (B, L) -> (B, L, D); zeros where the mask is False."""
        x = self.norm(vectors)
        among, _ = self.attention(x, x, x, key_padding_mask=~mask, need_weights=False)
        attended: Tensor = (vectors + among) * mask.unsqueeze(2)
        return attended


def cosines(images: Context, captions: Queries) -> Tensor:
    """s_ij (n, R, T, m); -inf for padded regions."""
    product = products(images.vectors, captions.vectors)
    return product if images.mask is None else product.masked_fill(~images.mask, -torch.inf)
