"""From the scores of a split, our methods' or others', to ranks, measures and records under a protocol."""

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
    folds: Sequence[Ranks]
    shortlists: Sequence[Shortlist]  # of each fold
    sets: Sequence[SetRanks]  # of named sets of positives, on the whole split


class Evaluation(NamedTuple):
    measures: dict[str, float]  # means over folds; of sets of positives by set.measure
    gallery: dict[str, int]  # images, captions, folds
    releases: dict[str, str]  # of the sets of positives
    records: Records


def rank_scores(scores: Floats, folds: Sequence[Fold], sets: Sequence[PositiveSet] = ()) -> SplitRanks:
    """Rank the scores (N, M) of a whole split, fold by fold; NonFiniteError where one has no rank."""
    return SplitRanks(rank_folds(scores, folds), shortlists(scores, folds), rank_sets(scores, sets))


def outcome(protocol: ProtocolCard, split: Split, folds: Sequence[Fold], ranks: SplitRanks) -> Evaluation:
    return Evaluation(
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
