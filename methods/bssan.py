"""BSSAN, bi-directional spatial-semantic attention networks (Huang, Zhang, Zhao, Li; IEEE TIP 28(4), 2019).

A reconstruction from the abstract (doi 10.1109/TIP.2018.2882225); the card lists every choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, device, nn
from torch.nn.functional import normalize

from harness.blocks.attention import (
    Context,
    Queries,
    as_context,
    as_queries,
    products,
    relevance,
    shares,
    softmax_weights,
    stacked_weights,
)
from harness.blocks.encoders import RegionEncoder, WordEncoder
from harness.blocks.families import FragmentMethod
from harness.blocks.pooling import masked_softmax
from harness.method import Encoded, Inputs, ScorePrecision, Scorer


class Attended(NamedTuple):
    """A context, and its vectors under the bilinear map."""

    context: Context
    mapped: Tensor  # (C, L, D)


class Attending(NamedTuple):
    """Queries and their salience, (K, Q)."""

    queries: Queries
    salience: Tensor


class Images(NamedTuple):
    """Regions are attended to by words, objects attend to words; None for a network left out."""

    regions: Attended | None
    objects: Attending | None


class Captions(NamedTuple):
    """The same words in both places."""

    to_regions: Attending | None
    of_objects: Attended | None


class BSSAN(FragmentMethod):
    """Two attention networks, word to regions (W2R) and object to words (O2W), under one holistic gate."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        margin: float
        bidirectional: bool  # the word LSTM
        temperature: float  # both softmaxes start here, and learn theirs
        competition: bool  # O2W: a word's objects compete before an object's softmax over words
        networks: Literal["both", "w2r", "o2w"]  # the ablations

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        dim = settings.dim
        self.words = WordEncoder(inputs, settings.word_dim, dim, "lstm", settings.bidirectional)
        if self._w2r:
            self.regions = RegionEncoder(inputs.feature_width, dim)
            self.word_attention = Attention(dim, settings.temperature, competition=False)
        if self._o2w:
            self.objects = RegionEncoder(inputs.feature_width, dim)
            self.object_attention = Attention(dim, settings.temperature, settings.competition)
        if settings.networks == "both":
            self.gate = nn.Parameter(torch.zeros(()))  # g = sigmoid(gate) starts at one half

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """Unit regions beside unit objects, (B, R, 2D); one of them alone, (B, R, D), in an ablation."""
        layers = [*([self.regions] if self._w2r else []), *([self.objects] if self._o2w else [])]
        views = [layer(regions, mask) for layer in layers]
        return Encoded(torch.cat([normalize(view, dim=-1) for view in views], dim=-1), mask)

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """Unit LSTM states h_t, (B, T, D)."""
        return Encoded(normalize(self.words(tokens, mask), dim=-1), mask)

    def image_side(self, images: Encoded) -> Images:
        """Both views of the images, each in its network."""
        return self._image_side(self._networks, images)

    def caption_side(self, captions: Encoded) -> Captions:
        """The words in both networks."""
        return self._caption_side(self._networks, captions)

    def score_sides(self, images: Images, captions: Captions) -> Tensor:
        """g W2R + (1 - g) O2W, (n, m); one of them alone in an ablation."""
        return self._score_sides(self._networks, images, captions)

    def fused(self, images: int, captions: int, precision: ScorePrecision, device: device) -> Scorer | None:
        """A kernel per network."""
        w2r = self.word_attention.kernel(images, captions, precision, device) if self._w2r else None
        o2w = self.object_attention.kernel(captions, images, precision, device) if self._o2w else None
        if bool(w2r) != self._w2r or bool(o2w) != self._o2w:
            return None
        by = Networks(w2r, o2w)
        return Scorer(partial(self._image_side, by), partial(self._caption_side, by), partial(self._score_sides, by))

    def _image_side(self, networks: Networks, images: Encoded) -> Images:
        views, (w2r, o2w) = self._views(images), networks
        return Images(w2r.attended(views[0]) if w2r else None, o2w.attending(views[-1]) if o2w else None)

    def _caption_side(self, networks: Networks, captions: Encoded) -> Captions:
        w2r, o2w = networks
        return Captions(w2r.attending(captions) if w2r else None, o2w.attended(captions) if o2w else None)

    def _score_sides(self, networks: Networks, images: Images, captions: Captions) -> Tensor:
        w2r, o2w = networks
        if not o2w:
            return _word_to_region(w2r, images, captions)
        if not w2r:
            return _object_to_word(o2w, images, captions)
        gate = self.gate.sigmoid()
        return gate * _word_to_region(w2r, images, captions) + (1 - gate) * _object_to_word(o2w, images, captions)

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor:
        """alpha of W2R, (n, m, T, R); in the ablation without it beta of O2W."""
        views = self._views(images)
        if self._w2r:
            net = self.word_attention
            return net.attention(net.attended(views[0]), net.attending(captions)).permute(0, 3, 2, 1)
        net = self.object_attention
        return net.attention(net.attended(captions), net.attending(views[0])).permute(3, 0, 1, 2)

    def _views(self, images: Encoded) -> list[Encoded]:
        """Regions, objects, or both."""
        return [Encoded(view, images.mask) for view in images.vectors.split(self.settings.dim, dim=-1)]

    @property
    def _networks(self) -> Networks:
        return Networks(self.word_attention if self._w2r else None, self.object_attention if self._o2w else None)

    @property
    def _w2r(self) -> bool:
        return bool(self.settings.networks != "o2w")

    @property
    def _o2w(self) -> bool:
        return bool(self.settings.networks != "w2r")


class Attention(nn.Module):
    """One attention network: bilinear attention of queries to a context, a cosine a query, a salience over queries."""

    def __init__(self, dim: int, temperature: float, competition: bool) -> None:
        super().__init__()
        self.bilinear = nn.Parameter(torch.eye(dim))  # W, from the identity
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.salience = nn.Parameter(torch.zeros(dim))  # q, from the mean
        self.competition = competition

    def attended(self, sets: Encoded) -> Attended:
        """Sets in the place of contexts."""
        context = as_context(sets)
        return Attended(context, context.vectors @ self.bilinear)

    def attending(self, sets: Encoded) -> Attending:
        """Sets in the place of queries."""
        salience = self.weights_of(sets).T
        return Attending(as_queries(sets), salience)

    def weights_of(self, sets: Encoded) -> Tensor:
        """The salience of vectors in their sets, (B, L)."""
        return masked_softmax(sets.vectors @ self.salience, sets.mask, dim=1)

    def forward(self, attended: Attended, attending: Attending) -> Tensor:
        """(C, Q)."""
        context, queries = attended.context, attending.queries
        logits, product = (products(vectors, queries.vectors) for vectors in (attended.mapped, context.vectors))
        return (relevance(self.weights, logits, product, context) * attending.salience).sum(1)

    def weights(self, logits: Tensor, of: Context) -> Tensor:
        """Attention to the context, (C, L, K, Q), up to a positive factor a query vector."""
        temperature = self.log_temperature.exp()
        if self.competition:
            return stacked_weights(logits, of, temperature, slope=0.0)
        return softmax_weights(temperature * logits, of)

    def kernel(self, contexts: int, queries: int, precision: ScorePrecision, device: device) -> FusedAttention | None:
        """The network as one kernel; None for sets or a temperature beyond it."""
        from harness.blocks.fused import Network, attention_kernel

        temperature = self.log_temperature.detach().exp().item()
        if self.competition:
            network = Network(temperature, 0.0, "weighted", mapped=True)
        else:
            largest = torch.linalg.matrix_norm(self.bilinear.detach(), 2).item()
            network = Network(temperature, None, "weighted", largest=largest, mapped=True)
        kernel = attention_kernel(network, contexts, queries, len(self.salience), precision, device)
        return FusedAttention(self, kernel) if kernel else None

    def attention(self, attended: Attended, attending: Attending) -> Tensor:
        """Attention to the context, (C, L, K, Q), summing to one a query vector."""
        weights = self.weights(products(attended.mapped, attending.queries.vectors), attended.context)
        return shares(weights, attended.context, attending.queries)


class FusedAttention(NamedTuple):
    """A network whose scores one kernel computes."""

    network: Attention
    of: Any  # harness.blocks.fused.AttentionKernel

    def attended(self, sets: Encoded) -> Any:
        """Sets in the place of contexts."""
        return self.of.contexts(sets, sets.vectors @ self.network.bilinear)

    def attending(self, sets: Encoded) -> Any:
        """Sets in the place of queries."""
        return self.of.queries(sets, self.network.weights_of(sets))

    def __call__(self, attended: Any, attending: Any) -> Any:
        """(C, Q)."""
        return self.of.scores(attended, attending)


class Networks(NamedTuple):
    """W2R and O2W, in torch or as kernels; None for one left out."""

    w2r: Attention | FusedAttention | None
    o2w: Attention | FusedAttention | None


def _word_to_region(network: Any, images: Images, captions: Captions) -> Tensor:
    """W2R: the regions each word means, (n, m)."""
    score: Tensor = network(images.regions, captions.to_regions)
    return score


def _object_to_word(network: Any, images: Images, captions: Captions) -> Tensor:
    """O2W: the words each object means, (n, m)."""
    score: Tensor = network(captions.of_objects, images.objects)
    return score.T
