"""BSSAN: word to region and object to word attention under one gate."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import cosine_similarity

from textbook.formula import NOTHING, Formula, competing


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
