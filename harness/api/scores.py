"""Any score matrix evaluated as our own trials are, with the interval of every recall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.api.frames import typed
from harness.board.markup import html_table
from harness.campaign.external_scores import evaluate_array
from harness.config.cards import DatasetCard
from harness.config.project import Config
from harness.diagnostics.hubness import Hubness, hubness
from harness.evaluation.measures import title
from harness.evaluation.queries import hits_of
from harness.evaluation.ranks import Direction
from harness.evaluation.records import Records
from harness.evaluation.statistics import intervals
from harness.trial.results import HEADLINE

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class ScoreEvaluation:
    """What a score matrix reaches on a dataset under a protocol."""

    dataset: str
    protocol: str
    measures: Mapping[str, float]  # i2t_r1 … t2i_r10, rsum, ranks, ties, mAP@R and its like
    intervals: Mapping[str, tuple[float, float]]  # 95 %, of the six recalls and rsum: the bootstrap by image
    gallery: Mapping[str, int]  # images, captions, folds
    warnings: tuple[str, ...]  # what looks odd, what is not measured
    records: Records  # ranks and top results
    hubness: Mapping[Direction, Hubness]
    category: Mapping[str, float]  # category-level mAP, where the dataset has labels; empty elsewhere

    def __repr__(self) -> str:
        """The rsum with its interval, for a notebook's cell."""
        low, high = self.intervals["rsum"]
        return f"<{self.dataset}/{self.protocol}: rsum {self.measures['rsum']:.1f}, 95 % {low:.1f} to {high:.1f}>"

    def frame(self) -> pandas.DataFrame:
        """One row per measure: its value, and the ends of its interval where it has one."""
        nothing = (None, None)
        rows = ((name, value, *self.intervals.get(name, nothing)) for name, value in self.measures.items())
        return typed(dict(zip(("measure", "value", "low", "high"), row, strict=True)) for row in rows)

    def _repr_html_(self) -> str:
        """The recalls with their intervals, as a notebook shows them."""
        numbers = {name: (self.measures[name], *self.intervals[name]) for name in HEADLINE}
        rows = ((title(name), *(f"{number:.1f}" for number in own)) for name, own in numbers.items())
        return html_table(f"{self.dataset}/{self.protocol}", ("", "value", "95 % low", "high"), rows, self.warnings)


def evaluated(scores: object, card: DatasetCard, protocol: str, config: Config) -> ScoreEvaluation:
    """Rank scores (N, M), all images of the protocol's split by all captions, higher is better."""
    under = card.protocol(protocol)
    test, looks, warnings = evaluate_array(scores, card, under, config.data, config.cache)
    records = test.records
    (ends,) = intervals([[hits_of(records.ranks)]])
    return ScoreEvaluation(
        dataset=card.name,
        protocol=under.name,
        measures=test.measures,
        intervals={name: (float(low), float(high)) for name, (low, high) in zip(HEADLINE, ends, strict=True)},
        gallery=test.gallery,
        warnings=warnings,
        records=records,
        hubness=hubness(records.ranks, records.rankings) or {},
        category=looks.category,
    )
