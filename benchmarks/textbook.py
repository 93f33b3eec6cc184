"""The papers' formulas as they stand: one caption against all images of a tile, every attended vector built.

The yardstick of speed, and in the tests the oracle of values and gradients. Nothing is shared between captions and
nothing comes from the package but the parameters of a method. Shapes: V (n, R, D) with mask (n, R), U (T, D).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, leaky_relu

Formula = Callable[[Tensor, Tensor, Tensor], Tensor]  # V, mask, U -> (n,)
NOTHING = -torch.inf


def scores(formula: Formula, images: Any, captions: Any) -> Tensor:
    """(n, m), caption after caption."""
    columns = [formula(images.vectors, images.mask, words[real]) for words, real in zip(*captions, strict=True)]
    return torch.stack(columns, 1)


def formula(name: str, method: Any) -> Formula:
    """The formula of a method of the registry."""
    return {"scan_t2i": scan_t2i, "scan_i2t": scan_i2t, "caan": caan, "bssan": bssan}[name](method.settings, method)


def scan_t2i(s: Any, _: Any) -> Formula:
    """SCAN text to image: words attend to regions."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        a = leaky_relu(v @ u.T, s.slope) * mask[..., None]  # (n, R, T)
        a = a / (a.norm(dim=2, keepdim=True) + 1e-8)  # over the words, for each region
        alpha = (s.temperature * a).masked_fill(~mask[..., None], NOTHING).softmax(1)
        c = alpha.transpose(1, 2) @ v  # (n, T, D)
        return pooled(cosine_similarity(u.expand_as(c), c, dim=2), torch.ones_like(c[..., 0], dtype=torch.bool), s)

    return score


def scan_i2t(s: Any, _: Any) -> Formula:
    """SCAN image to text: regions attend to words."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        a = leaky_relu(v @ u.T, s.slope) * mask[..., None]  # (n, R, T)
        a = a / (a.norm(dim=1, keepdim=True) + 1e-8)  # over the regions, for each word
        alpha = (s.temperature * a).softmax(2)
        c = alpha @ u  # (n, R, D)
        return pooled(cosine_similarity(v, c, dim=2), mask, s)

    return score


def pooled(relevance: Tensor, mask: Tensor, s: Any) -> Tensor:
    """AVG or LSE over the real queries, (n, K) -> (n,)."""
    if s.pooling == "avg":
        return (relevance * mask).sum(1) / mask.sum(1)
    return ((s.pooling_temperature * relevance).exp() * mask).sum(1).log() / s.pooling_temperature


def bssan(s: Any, method: Any) -> Formula:
    """BSSAN: W2R, O2W and their gate."""

    def w2r(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        part = method.word_attention
        logits = v @ (u @ part.bilinear.T).T  # (n, R, T)
        if part.competition:
            logits = competing(logits * mask[..., None], 2)
        alpha = (part.log_temperature.exp() * logits).masked_fill(~mask[..., None], NOTHING).softmax(1)
        r = alpha.transpose(1, 2) @ v  # (n, T, D)
        return cosine_similarity(u.expand_as(r), r, dim=2) @ (u @ part.salience).softmax(0)

    def o2w(o: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        part = method.object_attention
        logits = o @ (u @ part.bilinear).T  # (n, R, T)
        if part.competition:
            logits = competing(logits * mask[..., None], 1)
        beta = (part.log_temperature.exp() * logits).softmax(2)
        w = beta @ u  # (n, R, D)
        salience = (o @ part.salience).masked_fill(~mask, NOTHING).softmax(1)
        return (cosine_similarity(o, w, dim=2) * salience).sum(1)

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        if s.networks != "both":
            return (w2r if s.networks == "w2r" else o2w)(v, mask, u)
        g = method.gate.sigmoid()
        return g * w2r(v[..., : s.dim], mask, u) + (1 - g) * o2w(v[..., s.dim :], mask, u)

    return score


def competing(logits: Tensor, dim: int) -> Tensor:
    """Rectified and L2-normalised along one axis."""
    rectified = logits.relu()
    return rectified / (rectified.norm(dim=dim, keepdim=True) + 1e-8)


def caan(s: Any, method: Any) -> Formula:
    """CAAN, by the numbers of its steps."""

    def score(v: Tensor, mask: Tensor, u: Tensor) -> Tensor:
        h = (v @ (u @ method.affinity.T).T).tanh().relu() * mask[..., None]  # 1: (n, R, T)
        huv, hvu = competing(h, 2), competing(h, 1)  # 2
        if s.attention_over == "own":
            huv, hvu = hvu, huv
        if s.correlation == "semantic":  # 3
            hv, hu = huv @ huv.transpose(1, 2), hvu.transpose(1, 2) @ hvu
        else:
            hv, hu = v @ method.region_metric @ v.transpose(1, 2), u @ method.word_metric @ u.T
        q1, q2 = method.region_by_regions.weight.T, method.region_by_words.weight.T
        q3, q4 = method.word_by_words.weight.T, method.word_by_regions.weight.T
        fv = (hv @ (v @ q1) + huv @ (u @ q2)).tanh() @ method.region_weight.weight.T  # 4
        fu = (hu @ (u @ q3) + hvu.transpose(1, 2) @ (v @ q4)).tanh() @ method.word_weight.weight.T
        fv, fu = fv.masked_fill(~mask[..., None], NOTHING).softmax(1), fu.softmax(1)
        v_hat, u_hat = (v * fv).sum(1), (u * fu).sum(1)  # 5: (n, D)
        return (v_hat * u_hat).sum(1) if s.similarity == "inner" else cosine_similarity(v_hat, u_hat, dim=1)

    return score
