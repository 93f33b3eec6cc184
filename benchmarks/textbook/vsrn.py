"""VSRN: one image at a time, its graph region by region, the GRU's equations written out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from textbook.layers import standardised, states


def image(method: Any, regions: Tensor) -> Tensor:
    """Regions (R, F) of an image -> its unit vector (D,)."""
    state = states(method.reader, list(reasoned(method, regions)))[-1]
    if method.settings.state_norm:
        state = standardised(method.state_norm, state)
    return state / state.norm()


def caption(method: Any, words: Tensor) -> Tensor:
    """States (T, D) of a caption's words -> its unit vector (D,)."""
    return words[-1] / words[-1].norm()


def reasoned(method: Any, regions: Tensor) -> Tensor:
    """Regions (R, F) -> after the graph, (R, D)."""
    s, v = method.settings, regions @ method.regions.linear.weight.T + method.regions.linear.bias
    if s.normalise_first:
        v = normalised(v, s.normalise_over)
    for layer in method.graph:
        theta, phi, g = (v @ of.weight.T + of.bias for of in (layer.theta, layer.phi, layer.g))
        rows = []
        for i in range(len(v)):
            related = sum((theta[i] @ phi[j]) / len(v) * g[j] for j in range(len(v)))
            rows.append(v[i] + standardised(layer.norm, layer.W.weight @ related))
        v = torch.stack(rows)
    return normalised(v, s.normalise_over)


def normalised(v: Tensor, over: str) -> Tensor:
    """Each feature at unit length over the regions, or each region over the features."""
    rows = v.T if over == "regions" else v
    rows = torch.stack([row / row.norm() for row in rows])
    return rows.T if over == "regions" else rows


def surprise(method: Any, regions: Tensor, tokens: Tensor) -> Tensor:
    """-log p of a caption (T,) given an image (R, F)."""
    of = method.generator
    h = states(of.reader, list(reasoned(method, regions)))[-1]
    word, total = h.new_zeros(of.embedding.embedding_dim), h.new_zeros(())
    for token in tokens:
        (h,) = states(of.writer, [word], h)
        total = total - (of.output.weight @ h + of.output.bias).softmax(0)[token].log()
        word = of.embedding.weight[token]
    return total
