"""The further looks at a run or a row, as lines of cells and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.diagnostics.categories import ASKED, CATEGORIES, MAP, RELEVANT
from harness.diagnostics.choices import ENDS
from harness.diagnostics.hubness import Hubness, mean_hubness
from harness.diagnostics.looks import StoredLooks
from harness.evaluation.ranks import DIRECTIONS, Direction

TIED = 0.05  # percent of queries from which ties are worth a line
HEADER = ("look", *DIRECTIONS)
Line = tuple[str, str, str]  # under HEADER


@dataclass(frozen=True)
class Looks:
    """What is known of a trial's scores, or of a row's as means over its runs, besides the measures of its result."""

    hubness: Mapping[Direction, Hubness] = field(default_factory=dict)  # empty where rankings are gone
    category: Mapping[str, float] = field(default_factory=dict)  # empty where no scores or no labels were at hand

    choices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of each set: accuracy and its like

    @property
    def lines(self) -> list[Line]:
        """A line per look."""
        return [*_hubness_lines(self.hubness), *_category_lines(self.category), *_choice_lines(self.choices)]

    def as_json(self) -> dict[str, Any]:
        """The numbers by name."""
        hubness = {direction: one.as_json() for direction, one in self.hubness.items()}
        return {"hubness": hubness, "category": dict(self.category), "choices": dict(self.choices)}


def looks_of(hubness: Mapping[Direction, Hubness] | None, stored: StoredLooks) -> Looks:
    """The looks at one run."""
    return Looks(hubness or {}, stored.category, stored.choices)


def mean_looks(runs: Sequence[Looks]) -> Looks:
    """The means over a row's runs; a look that any of them lacks is left out."""
    names = [name for name in runs[0].category if all(name in run.category for run in runs)]
    category = {name: float(np.mean([run.category[name] for run in runs])) for name in names}
    hubness = mean_hubness([run.hubness for run in runs]) if all(run.hubness for run in runs) else {}
    sets = [name for name in runs[0].choices if all(name in run.choices for run in runs)]
    choices = {name: _mean_numbers([run.choices[name] for run in runs]) for name in sets}
    return Looks(hubness, category, choices)


def _mean_numbers(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The means over runs; no interval of several, as the mean of their ends is none of the mean."""
    common = [name for name in several[0] if all(name in one for one in several)]
    names = [name for name in common if len(several) == 1 or name not in ENDS]
    return {name: float(np.mean([one[name] for one in several])) for name in names}


def _hubness_lines(hubness: Mapping[Direction, Hubness]) -> Iterator[Line]:
    if not hubness:
        return
    both = [hubness[direction] for direction in DIRECTIONS]
    yield _line("most returned item stands first, % of queries", (f"{one.first:.1f}" for one in both))
    yield _line("the same if all items came equally often", (f"{one.expected:.2f}" for one in both))
    yield _line("most returned item", (one.item for one in both))
    ks = [*dict.fromkeys(str(one.k) for one in both)]  # another one where images or captions are fewer than K
    yield _line(f"skew of {' and '.join(f'N_{k}' for k in ks)}", (f"{one.skew:.2f}" for one in both))
    yield _line(f"items in the first {' and '.join(ks)} of no query, %", (f"{one.absent:.1f}" for one in both))
    if any(one.tied >= TIED for one in both):
        yield _line("queries whose first place is tied, %", (f"{one.tied:.1f}" for one in both))


def _category_lines(category: Mapping[str, float]) -> Iterator[Line]:
    if not category:
        return
    of = f", {category[CATEGORIES]:.0f} categories" if CATEGORIES in category else ""
    names = {
        f"category-level mAP, %{of}": (MAP, ".1f"),
        "items that share a category with the query, %": (RELEVANT, ".1f"),
        "queries with a category": (ASKED, ",.0f"),
    }
    for words, (name, form) in names.items():
        values = (category.get(f"{direction}_{name}") for direction in DIRECTIONS)
        yield _line(words, ("–" if value is None else format(value, form) for value in values))


def _choice_lines(choices: Mapping[str, Mapping[str, float]]) -> Iterator[Line]:
    """A line per set: images ask for one of two captions, so that the other direction has none."""
    for name, one in choices.items():
        ties = f", ties {one['tied']:.1f} %" if one["tied"] >= TIED else ""
        words = f"two-way choices of {name}, % right of {one['choices']:,.0f}{ties}"
        interval = " ({:.1f} to {:.1f})".format(*(one[end] for end in ENDS)) if ENDS[0] in one else ""
        yield words, f"{one['accuracy']:.1f}{interval}", "–"


def _line(words: str, values: Iterator[str]) -> Line:
    i2t, t2i = values
    return words, i2t, t2i
