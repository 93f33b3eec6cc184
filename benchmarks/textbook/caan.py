"""CAAN: context-aware attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import cosine_similarity

from textbook.formula import NOTHING, Formula, competing


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
