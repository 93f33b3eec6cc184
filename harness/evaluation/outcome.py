"""From the scores of a split to ranks, measures and records, under a protocol. NumPy only.

Trials of our methods and score matrices from outside both go this way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.config.cards import ProtocolCard
from harness.data.split import Split
from harness.evaluation import positives
from harness.evaluation.measures import mean_measures
from harness.evaluation.positives import PositiveSet, SetRanks, rank_sets
from harness.evaluation.protocols import Fold, gallery, rank_folds
from harness.evaluation.ranks import Floats, Ranks
from harness.evaluation.records import Records, of_ranks, of_shortlists
from harness.evaluation.shortlists import Shortlist, shortlists


class SplitRanks(NamedTuple):
    """The ranks of a split's queries."""

    folds: Sequence[Ranks]
    shortlists: Sequence[Shortlist]  # of each fold
    sets: Sequence[SetRanks]  # of named sets of positives, on the whole split


class Outcome(NamedTuple):
    """The result of a split under a protocol."""

    measures: dict[str, float]  # means over folds; of sets of positives by set.measure
    gallery: dict[str, int]  # images, captions, folds
    releases: dict[str, str]  # of the sets of positives
    records: Records


def rank_scores(scores: Floats, folds: Sequence[Fold], sets: Sequence[PositiveSet] = ()) -> SplitRanks:
    """Rank the scores (N, M) of a whole split, fold by fold; NonFiniteError where one has no rank."""
    return SplitRanks(rank_folds(scores, folds), shortlists(scores, folds), rank_sets(scores, sets))


def outcome(protocol: ProtocolCard, split: Split, folds: Sequence[Fold], ranks: SplitRanks) -> Outcome:
    """The measures and records that follow from the ranks of a split's folds."""
    return Outcome(
        measures=mean_measures(ranks.folds) | positives.measures(ranks.sets),
        gallery=gallery(folds),
        releases=positives.releases(one.positives for one in ranks.sets),
        records=Records(
            protocol,
            of_ranks(split.pairs, folds, ranks.folds),
            ranks.sets,
            of_shortlists(ranks.shortlists, split.image_ids, split.captions),
        ),
    )
