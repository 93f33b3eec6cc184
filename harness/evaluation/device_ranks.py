"""Ranks and shortlists of scores that lie on a GPU: to the bit those of `ranks` and `shortlists`, by counting there.

Five hundred million scores take the host seconds to receive, count and sort; counts and heads of rankings are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.blocks.host import to_device
from harness.evaluation import ranks
from harness.evaluation.outcome import SplitRanks
from harness.evaluation.positives import PositiveSet, rank_sets
from harness.evaluation.protocols import Fold, rank_folds
from harness.evaluation.protocols import block as part_of
from harness.evaluation.ranks import Counting, Ints
from harness.evaluation.shortlists import LENGTH, Shortlist

AT_ONCE = 2**26  # scores looked at together, of which a few copies are made
PLACES = 2**32 - 1


def rank_on_device(scores: Tensor, folds: Sequence[Fold], sets: Sequence[PositiveSet] = ()) -> SplitRanks:
    """Rank the float32 scores (N, M) of a whole split, fold by fold; raises as `outcome.rank_scores` does."""
    return SplitRanks(
        rank_folds(scores, folds, ON_DEVICE),
        [shortlist(part_of(scores, fold), fold) for fold in folds],
        rank_sets(scores, sets, ON_DEVICE),
    )


def check_finite(scores: Tensor) -> None:
    """Raise as `ranks.check_finite` does, which then looks for the first such score."""
    if not scores.isfinite().all():
        ranks.check_finite(scores.cpu().numpy())


def scores_at(scores: Tensor, images: Ints, captions: Ints) -> NDArray[np.float32]:
    """Single scores (P,), on the host."""
    values: NDArray[np.float32] = scores[_at(images, scores), _at(captions, scores)].cpu().numpy()
    return values


def count_in_rows(scores: Tensor, rows: Ints, thresholds: NDArray[Any], compare: ranks.Compare) -> Ints:
    """How many scores of each given row compare true with its threshold, (P,)."""
    parts = max(1, AT_ONCE // scores.shape[1])
    limits = to_device(np.ascontiguousarray(thresholds), scores.device)
    pairs = zip(_at(rows, scores).split(parts), limits.split(parts), strict=True)
    counts: Ints = torch.cat([compare(scores[at], limit[:, None]).sum(1) for at, limit in pairs]).cpu().numpy()
    return counts


def count_in_columns(scores: Tensor, columns: Ints, thresholds: NDArray[Any], compare: ranks.Compare) -> Ints:
    """How many scores of each given column compare true with its threshold, (P,)."""
    return count_in_rows(scores.T.contiguous(), columns, thresholds, compare)


def shortlist(scores: Tensor, fold: Fold) -> Shortlist:
    """The heads of all rankings of a fold, from all of its scores."""
    heads = Shortlist(fold)
    heads.captions, heads.caption_scores = leading(scores, heads.length)
    heads.images, heads.image_scores = leading(scores.T, heads.length)
    return heads


def leading(scores: Tensor, length: int = LENGTH) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Places and scores (n, length) of the highest of each row (n, m), best first, equals in order of place."""
    parts = scores.split(max(1, AT_ONCE // scores.shape[1]))
    places = torch.cat([_leading_places(part, min(length, scores.shape[1])) for part in parts])
    return places.int().cpu().numpy(), scores.gather(1, places).cpu().numpy()


def _leading_places(scores: Tensor, length: int) -> Tensor:
    """By whole numbers that order as the scores do and, where these are equal, the other way round as their places."""
    bits = (scores.contiguous() + 0.0).view(torch.int32)  # + 0.0: both zeros are one score
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    backwards = PLACES - torch.arange(scores.shape[1], device=scores.device)
    best = (ordered * 2**32 + backwards).topk(length, dim=1).values
    return PLACES - (best & PLACES)


def _at(numbers: Ints, scores: Tensor) -> Tensor:
    return to_device(np.ascontiguousarray(numbers), scores.device)


ON_DEVICE = Counting(check_finite, scores_at, count_in_rows, count_in_columns)
