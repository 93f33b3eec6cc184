"""Findings of a validation: one per kind of fault, with its file and line, and how many more there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from harness.errors import NOWHERE, Location

EXAMPLES = 3


class Severity(StrEnum):
    ERROR = "error"  # nothing can be scored
    WARNING = "warning"  # results are questionable
    NOTE = "note"  # to be known


@dataclass(frozen=True)
class Finding:
    severity: Severity
    code: str  # a stable name, such as caption-in-two-splits
    message: str
    location: Location = NOWHERE  # of the first example
    count: int = 1
    examples: tuple[str, ...] = ()
    split: str = ""


@dataclass
class Report:
    dataset: str
    folder: str
    fingerprint: str = ""  # empty where the dataset cannot be opened
    files: dict[str, dict[str, int | str]] = field(default_factory=dict)
    splits: dict[str, dict[str, int | float | str]] = field(default_factory=dict)
    protocols: dict[str, dict[str, int | float]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        return Counter(finding.severity.value for finding in self.findings)

    @property
    def is_sound(self) -> bool:
        return not self.counts[Severity.ERROR]


def findings_of(
    severity: Severity, code: str, message: str, places: Sequence[tuple[Location, str]], split: str = "", count: int = 0
) -> Iterator[Finding]:
    """One finding of all places with a fault, each with a text; none where there is no place."""
    if places:
        examples = tuple(
            f"{location}: {text}" if text else str(location) for location, text in islice(places, EXAMPLES)
        )
        yield Finding(severity, code, message, places[0][0], count or len(places), examples, split)
