"""Focal attention (BFAN): weights below a threshold of their own are dropped, in both directions of a pair."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from harness.blocks.attention import Context, Queries, Relevance, as_context, as_queries, pool, products
from harness.method import Encoded

Focus = Literal["equal", "prob"]
HAIR = 2.0**-16  # of a threshold; of weights that differ by less, rounding would decide


class BothRoles(NamedTuple):
    """Sets that attend and are attended to."""

    context: Context
    queries: Queries


def in_both_roles(sets: Encoded) -> BothRoles:
    """Sets as contexts and as queries."""
    return BothRoles(as_context(sets), as_queries(sets))


def focused(weights: Tensor, context: Context, focus: Focus) -> Tensor:
    """Attention (C, L, K, Q) without what is not relevant to its query vector, up to a positive factor of that.

    Vector i of a context stays where sum_k g_k (w_i - w_k) > 0: g_k is 1 (equal) or sqrt(w_k) (prob). One that is below
    its threshold by less than a hair stays, too, so that equal weights stay all together, as those of the regions that
    match a caption of one word. The choice passes no gradient.
    """
    real = weights if context.mask is None else weights * context.mask.to(weights.dtype)
    with torch.no_grad():
        least = threshold(real, context, focus) * (1 - HAIR)
        relevant = torch.ge(real, least, out=torch.empty_like(real))  # numbers: a CPU is slow at numbers times bools
    return real * relevant


def threshold(weights: Tensor, context: Context, focus: Focus) -> Tensor:
    """What the weight of a relevant vector is above, (C, 1, K, Q), of weights that are zero for padding."""
    if focus == "equal":
        count = weights.shape[1] if context.mask is None else context.mask.sum(1, keepdim=True)
        return weights.sum(1, keepdim=True) / count
    roots = weights.sqrt()
    return (roots * weights).sum(1, keepdim=True) / roots.sum(1, keepdim=True)


def both_directions(images: BothRoles, captions: BothRoles, of_words: Relevance, of_regions: Relevance) -> Tensor:
    """Scores (n, m): mean relevance of the words plus that of the regions, from one matrix of products."""
    product = products(images.context.vectors, captions.queries.vectors)  # (n, R, T, m)
    mirror = product.permute(3, 2, 1, 0).contiguous()  # (m, T, R, n)
    by_words = pool(of_words(product, images.context), captions.queries, "avg", 1.0)
    by_regions = pool(of_regions(mirror, captions.context), images.queries, "avg", 1.0)
    return by_words + by_regions.T
