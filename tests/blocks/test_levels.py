"""Three levels of similarity against a plain computation per pair."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from harness.blocks.attention import Context
from harness.blocks.focal import in_both_roles
from harness.blocks.levels import Levels, three_levels
from harness.blocks.pooling import masked_mean
from harness.method import Encoded


def largest(product: Tensor, of: Context) -> Tensor:
    """A relevance that is easily computed again: the largest product."""
    return (product if of.mask is None else product.masked_fill(~of.mask, -torch.inf)).amax(1)


def random_levels(sizes: list[int]) -> tuple[Levels, list[Tensor]]:
    mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    vectors = normalize(torch.randn(*mask.shape, 6, dtype=torch.float64), dim=2)
    whole = normalize(torch.randn(len(sizes), 6, dtype=torch.float64), dim=1)
    levels = Levels(in_both_roles(Encoded(vectors, mask)), whole, masked_mean(vectors, mask))
    return levels, [row[real] for row, real in zip(vectors, mask, strict=True)]


def test_three_levels_are_those_of_every_pair() -> None:
    torch.manual_seed(0)
    (images, regions), (captions, words) = random_levels([3, 1, 4]), random_levels([2, 5, 1, 3])
    scores = three_levels(images, captions, largest, largest)
    for row, (v, g_v) in enumerate(zip(regions, images.whole, strict=True)):
        for column, (u, g_u) in enumerate(zip(words, captions.whole, strict=True)):
            cosines = v @ u.T
            local = cosines.amax(0).mean() + cosines.amax(1).mean()
            crossed = [cosine_similarity(x, g.expand_as(x)).mean() for x, g in ((v, g_u), (u, g_v))]
            expected = (g_v @ g_u + local + sum(crossed) / 2) / 3
            torch.testing.assert_close(scores[row, column], expected)
