"""Similarity at three levels: global with global, local with local, global with local (MSSAN, MSA)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from harness.blocks.attention import Relevance
from harness.blocks.focal import BothRoles, both_directions
from harness.blocks.tiles import in_full


class Levels(NamedTuple):
    """Sets of fragments, and each of them as a whole."""

    fragments: BothRoles
    whole: Tensor  # g, unit vectors, (n, D)
    mean: Tensor  # of the unit locals that meet the other side's g, (n, D)


def three_levels(images: Levels, captions: Levels, of_words: Relevance, of_regions: Relevance) -> Tensor:
    """(S_gg + S_ll + S_gl) / 3, (n, m).

    S_gg = g_v . g_u; S_ll = mean relevance of the words plus that of the regions; S_gl = the mean cosine of locals with
    the other side's g, averaged over both sides: a mean of cosines is one product with the mean of unit vectors.
    """
    whole = in_full(images.whole @ captions.whole.T)
    crossed = in_full(images.whole @ captions.mean.T) + in_full(images.mean @ captions.whole.T)
    return (whole + both_directions(images.fragments, captions.fragments, of_words, of_regions) + crossed / 2) / 3
