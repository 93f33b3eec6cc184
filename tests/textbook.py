"""The papers' formulas, one pair at a time, every attended vector built: the oracle of the exact score algebra."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, leaky_relu

from harness.method import Encoded


def each_pair(score, images: Encoded, captions: Encoded) -> Tensor:
    """(n, m) from a function of one image's real regions (R, D) and one caption's real words (T, D)."""
    return torch.stack([torch.stack([score(v, u) for u in real(captions)]) for v in real(images)])


def real(encoded: Encoded) -> list[Tensor]:
    """Each set without its padding."""
    return [vectors[mask] for vectors, mask in zip(encoded.vectors, encoded.mask, strict=True)]


def stacked_attention(context: Tensor, queries: Tensor, temperature: float, slope: float) -> Tensor:
    """SCAN: relevance of every query vector, (K,)."""
    s = queries @ context.T  # (K, L)
    a = leaky_relu(s, slope)
    a = a / (a.norm(dim=0, keepdim=True) + 1e-8)  # over the query vectors, for each context vector
    alpha = (temperature * a).softmax(1)
    return cosine_similarity(queries, alpha @ context, dim=1)


def scan(settings, way: str):
    def score(v: Tensor, u: Tensor) -> Tensor:
        context, queries = (v, u) if way == "t2i" else (u, v)
        relevance = stacked_attention(context, queries, settings.temperature, settings.slope)
        if settings.pooling == "avg":
            return relevance.mean()
        t = settings.pooling_temperature
        return (t * relevance).exp().sum().log() / t

    return score


def caan(method):
    s = method.settings

    def score(v: Tensor, u: Tensor) -> Tensor:
        h = (v @ method.affinity @ u.T).tanh().relu()  # step 1
        huv = h / (h.norm(dim=1, keepdim=True) + 1e-8)  # step 2
        hvu = h / (h.norm(dim=0, keepdim=True) + 1e-8)
        if s.attention_over == "own":
            huv, hvu = hvu, huv
        if s.correlation == "semantic":  # step 3
            hv, hu = huv @ huv.T, hvu.T @ hvu
        else:
            hv, hu = v @ method.region_metric @ v.T, u @ method.word_metric @ u.T
        q1, q2 = method.region_by_regions.weight.T, method.region_by_words.weight.T
        q3, q4 = method.word_by_words.weight.T, method.word_by_regions.weight.T
        fv = ((hv @ v @ q1 + huv @ u @ q2).tanh() @ method.region_weight.weight.T).softmax(0)  # step 4
        fu = ((hu @ u @ q3 + hvu.T @ v @ q4).tanh() @ method.word_weight.weight.T).softmax(0)
        v_hat, u_hat = (v.T @ fv).squeeze(1), (u.T @ fu).squeeze(1)  # step 5
        return v_hat @ u_hat if s.similarity == "inner" else cosine_similarity(v_hat, u_hat, dim=0)

    return score


def bssan(method):
    s = method.settings

    def network(context: Tensor, queries: Tensor, part) -> Tensor:
        logits = queries @ (context @ part.bilinear).T  # (K, L)
        if part.competition:
            rectified = logits.relu()
            logits = rectified / (rectified.norm(dim=0, keepdim=True) + 1e-8)
        alpha = (part.log_temperature.exp() * logits).softmax(1)
        cosines = cosine_similarity(queries, alpha @ context, dim=1)
        return cosines @ (queries @ part.salience).softmax(0)

    def score(v: Tensor, u: Tensor) -> Tensor:
        regions, objects = v[:, : s.dim], v[:, -s.dim :]
        if s.networks == "w2r":
            return network(regions, u, method.word_attention)
        if s.networks == "o2w":
            return network(u, objects, method.object_attention)
        g = method.gate.sigmoid()
        by_words, by_objects = network(regions, u, method.word_attention), network(u, objects, method.object_attention)
        return g * by_words + (1 - g) * by_objects

    return score
