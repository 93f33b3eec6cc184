"""looks.json, what is kept of a trial's scores besides its measures: never ranked, in no measure of its result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.data.split import Split
from harness.diagnostics.categories import CategoryTally
from harness.diagnostics.choices import ALWAYS, ENDS
from harness.evaluation.protocols import Fold
from harness.evaluation.ranks import Direction, Floats, Ints, look_at_all
from harness.files import read_own, write_own

LOOKS = "looks.json"


class StoredLooks(BaseModel):
    """The further looks that need all scores of a trial."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)  # extra: of a later version

    category: dict[str, float] = Field(
        default_factory=dict,
        description="i2t_map, t2i_map in percent; i2t_random, t2i_random: relevant items, %; queries, categories",
    )

    choices: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="of each set: accuracy with low and high, tied, choices"
    )

    @field_validator("choices")
    @classmethod
    def _can_be_shown(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for name, one in value.items():
            if not one.keys() >= {*ALWAYS} or len(one.keys() & {*ENDS}) == 1:
                raise ValueError(f"choices of {name[:60]!r} have {', '.join(ALWAYS)}, and both or none of {ENDS}")
        return value

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep."""
        return not (self.category or self.choices)


def parse_looks(data: bytes) -> StoredLooks:
    """The looks in the bytes of a looks.json; ValueError where they are damaged."""
    return StoredLooks.model_validate_json(data)


def read_looks(folder: Path) -> StoredLooks:
    """The looks in a trial's folder; empty where there are none, or where they are damaged."""
    return read_own(folder / LOOKS, parse_looks) or StoredLooks()


def save_looks(folder: Path, looks: StoredLooks) -> None:
    """Keep looks in a trial's folder, replacing those of an earlier evaluation."""
    if looks.is_empty:
        (folder / LOOKS).unlink(missing_ok=True)
    else:
        write_own(folder / LOOKS, looks.model_dump_json(indent=2))


class ScoreLooks:
    """Takes the further looks at the scores of a split, where its data say enough for any."""

    def __init__(self, split: Split, folds: Sequence[Fold]) -> None:
        labels, captions = split.labels, len(split.captions)
        self._tally = CategoryTally(split.pairs, folds, labels, captions) if labels else None

    @property
    def are_wanted(self) -> bool:
        """Whether the scores of the split have anything to say."""
        return self._tally is not None

    def take(self, direction: Direction, queries: Ints, table: Floats) -> None:
        """Look at the scores (q, G) of some queries of the split (q,) with all its items, higher is better."""
        if self._tally:
            self._tally.take(direction, queries, table)

    def of_all(self, scores: Floats) -> StoredLooks:
        """The looks at all scores (N, M)."""
        look_at_all(scores, self.take)
        return self.stored

    @property
    def stored(self) -> StoredLooks:
        """The looks at what was taken."""
        return StoredLooks(category=self._tally.measures() if self._tally else {})
