"""CAAN, context-aware attention network (Zhang, Lei, Zhang, Li; CVPR 2020; doi 10.1109/CVPR42600.2020.00359).

Step numbers are those of docs/methods/caan.md. Shapes: n images, m captions, R regions, T words, k width of Q.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.blocks.attention import EPS, attended_vectors, gram, products, real_vectors, unit
from harness.blocks.encoders import RegionEncoder, WordEncoder
from harness.blocks.families import FragmentMethod
from harness.blocks.pooling import masked_softmax
from harness.blocks.strips import WORDS, growth, strip
from harness.method import Encoded, Inputs


class Images(NamedTuple):
    """What all tiles of a row share."""

    vectors: Tensor  # V and V K beside each other, (n, 2, R, D)
    mask: Tensor  # (n, R)
    gram: Tensor  # (n, R, R)
    correlated: Tensor  # V Q1 for SA, V M1 V^T V Q1 for FA, (n, R, k)
    attended: Tensor  # V Q4, (n, R, k)

    def split(self, size: int) -> list[Images]:
        """Consecutive images, so many at a time."""
        return [Images(*part) for part in zip(*(of.split(size) for of in self), strict=True)]


class Captions(NamedTuple):
    """What all tiles of a column share."""

    vectors: Tensor  # U, (m, T, D)
    mask: Tensor  # (m, T)
    gram: Tensor  # (m, T, T)
    correlated: Tensor  # U Q3 for SA, U M2 U^T U Q3 for FA, (m, T, k)
    attended: Tensor  # U Q2, (m, T, k)


class CAAN(FragmentMethod):
    """Regions and words weigh each other by affinity and by what else in their own set attends alike."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        width: int  # k, of Q1 to Q4
        margin: float
        affinity_scale: float  # K starts at this multiple of the identity
        attention_over: Literal["other", "own"]  # step 2: the set whose sum normalises, see `attention`
        unit_fragments: bool  # regions and words at unit length before step 1
        correlation: Literal["semantic", "feature"]  # step 3: SA or its ablation FA
        similarity: Literal["cosine", "inner"]  # step 5

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        dim, width = settings.dim, settings.width
        self.regions = RegionEncoder(inputs.feature_width, dim)
        self.words = WordEncoder(inputs, settings.word_dim, dim)
        self.affinity = nn.Parameter(settings.affinity_scale * torch.eye(dim))  # K
        self.region_by_regions = nn.Linear(dim, width, bias=False)  # Q1
        self.region_by_words = nn.Linear(dim, width, bias=False)  # Q2
        self.word_by_words = nn.Linear(dim, width, bias=False)  # Q3
        self.word_by_regions = nn.Linear(dim, width, bias=False)  # Q4
        self.region_weight = nn.Linear(width, 1, bias=False)  # w_v
        self.word_weight = nn.Linear(width, 1, bias=False)  # w_u
        if settings.correlation == "feature":
            self.region_metric = nn.Parameter(torch.eye(dim))  # M1
            self.word_metric = nn.Parameter(torch.eye(dim))  # M2

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """Regions (B, R, D)."""
        return Encoded(self._scaled(self.regions(regions, mask)), mask)

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """Words (B, T, D)."""
        return Encoded(self._scaled(self.words(tokens, mask)), mask)

    @property
    def tile_growth(self) -> float:
        """The inner layers have k numbers a region and a word of every pair."""
        return growth(self.settings.width, WORDS)

    def image_side(self, images: Encoded) -> Images:
        """Products of the images alone."""
        vectors = real_vectors(images)
        correlated = self.region_by_regions(vectors)
        if self.settings.correlation == "feature":
            correlated = vectors @ self.region_metric @ (vectors.transpose(1, 2) @ correlated)
        both = torch.stack([vectors, vectors @ self.affinity], 1)
        return Images(both, images.mask, gram(vectors), correlated, self.word_by_regions(vectors))

    def caption_side(self, captions: Encoded) -> Captions:
        """Products of the captions alone."""
        vectors = real_vectors(captions)
        correlated = self.word_by_words(vectors)
        if self.settings.correlation == "feature":
            correlated = vectors @ self.word_metric @ (vectors.transpose(1, 2) @ correlated)
        return Captions(vectors, captions.mask, gram(vectors), correlated, self.region_by_words(vectors))

    def score_sides(self, images: Images, captions: Captions) -> Tensor:
        """(n, m), in strips of images whose inner layers stay in a cache."""
        product = products(images.vectors.flatten(1, 2), captions.vectors)  # V U^T and V K U^T, (n, 2R, m, T)
        size = strip(product[0])
        strips = zip(product.split(size), images.split(size), strict=True)
        return torch.cat([self.score_strip(of, part, captions) for of, part in strips])

    def score_strip(self, both: Tensor, images: Images, captions: Captions) -> Tensor:
        """(n, m) of V U^T and V K U^T, (n, 2R, m, T)."""
        product, affinity = both.chunk(2, dim=1)
        to_words, to_regions = self.attention(affinity, images, captions)
        region_weights = self.region_weights(to_words, images, captions)
        word_weights = self.word_weights(to_regions, images, captions)
        return self.similarity(product, images, captions, region_weights, word_weights)

    def attention(self, affinity: Tensor, images: Images, captions: Captions) -> tuple[Tensor, Tensor]:
        """Steps 1 and 2: Huv, which serves the regions, and Hvu, which serves the words, (n, R, m, T).

        Sources disagree on the normalising sums. `other`: a region's row of Huv is a unit vector over the words, a
        word's column of Hvu one over the regions. `own`: the regions share out each word, the words each region.
        """
        rectified = affinity.tanh().relu()
        over_words, over_regions = unit(rectified, 3), unit(rectified, 1)
        return (over_words, over_regions) if self.settings.attention_over == "other" else (over_regions, over_words)

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """Hvu, (n, m, T, R)."""
        of, by = self.image_side(images), self.caption_side(captions)
        affinity = products(of.vectors[:, 1], by.vectors)
        return self.attention(affinity, of, by)[1].permute(0, 2, 3, 1)

    def region_weights(self, to_words: Tensor, images: Images, captions: Captions) -> Tensor:
        """Steps 3 and 4: f_v, (n, m, R).

        Hv V Q1 + Huv U Q2 = Huv (Huv^T V Q1 + U Q2), since Hv = Huv Huv^T: never an R x R matrix a pair.
        """
        pairs = to_words.transpose(1, 2)  # (n, m, R, T)
        if self.settings.correlation == "semantic":
            hidden = pairs @ attended_vectors(to_words, images.correlated).add_(captions.attended)
        else:
            hidden = images.correlated[:, None] + pairs @ captions.attended
        return masked_softmax(self.region_weight(hidden.tanh_()).squeeze(-1), images.mask[:, None], dim=2)

    def word_weights(self, to_regions: Tensor, images: Images, captions: Captions) -> Tensor:
        """Steps 3 and 4: f_u, (n, m, T); Hu = Hvu^T Hvu is a small matrix a pair, as captions are short."""
        hidden = attended_vectors(to_regions, images.attended)
        if self.settings.correlation == "semantic":
            pairs = to_regions.transpose(1, 2)  # (n, m, R, T)
            alike = (pairs.transpose(2, 3) @ pairs).transpose(0, 1)  # (m, n, T, T)
            shared = alike.flatten(1, 2) @ captions.correlated  # one product a caption, (m, n T, k)
            hidden = hidden.add_(shared.unflatten(1, alike.shape[1:3]).transpose(0, 1))
        else:
            hidden = hidden.add_(captions.correlated)
        return masked_softmax(self.word_weight(hidden.tanh_()).squeeze(-1), captions.mask, dim=2)

    def similarity(
        self, product: Tensor, images: Images, captions: Captions, region_weights: Tensor, word_weights: Tensor
    ) -> Tensor:
        """Step 5 from V U^T without v_hat and u_hat: f_v^T (V U^T) f_u, and norms from the Gram matrices, (n, m)."""
        by_words = (product * region_weights.transpose(1, 2)[..., None]).sum(1)  # (n, m, T)
        inner = (by_words * word_weights).sum(2)
        if self.settings.similarity == "inner":
            return inner
        region_norm = ((region_weights @ images.gram) * region_weights).sum(2)
        word_norm = ((word_weights.transpose(0, 1) @ captions.gram).transpose(0, 1) * word_weights).sum(2)
        return inner / (region_norm * word_norm).clamp_min(EPS**2).sqrt()

    def _scaled(self, vectors: Tensor) -> Tensor:
        return normalize(vectors, dim=-1) if self.settings.unit_fragments else vectors
