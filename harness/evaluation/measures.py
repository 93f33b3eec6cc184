"""From ranks to measures: R@K, median and mean rank, rsum, and measures over lists.

R@K is the field's hit rate: a query counts as soon as any one of its positives is among the first K.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.ranks import DIRECTIONS, DirectedRanks, Direction, Ranks, best_ranks, directed, group

CUTOFFS = (1, 5, 10)
MOST_RSUM = 200.0 * len(CUTOFFS)  # every recall of both directions is 100
RECALL, RSUM, TIED = "r", "rsum", "tied"
MEDIAN, MEAN = "median_rank", "mean_rank"
MAP, PRECISION, NDCG = "map_r", "r_precision", "ndcg"
KINDS = (RECALL, MEDIAN, MEAN, PRECISION, MAP, NDCG, TIED)  # of one direction, those that are read most often first
TITLES = {
    MEDIAN: "median rank",
    MEAN: "mean rank",
    MAP: "mAP@R",
    PRECISION: "R-precision",
    NDCG: "nDCG",
    TIED: "ties %",
}
NAME = re.compile(
    r"(?:(?P<of>[a-z][a-z0-9_]*)\.)?"
    r"(?:(?P<direction>i2t|t2i)_(?:r(?P<k>[1-9][0-9]*)|(?P<kind>[a-z0-9_]+))|rsum)"
)


@dataclass(frozen=True)
class Measure:
    """A number that follows from ranks; it prints as the name it is stored under: `i2t_r1`, `cxc.t2i_map_r`, `rsum`."""

    direction: Direction | None  # None: both together, as rsum is
    kind: str
    k: int | None = None  # of R@K
    of: str = ""  # the named set of positives; empty: the split's own pairs

    def __str__(self) -> str:
        name = self.kind if self.direction is None else f"{self.direction}_{self.kind}{self.k or ''}"
        return f"{self.of}.{name}" if self.of else name

    @classmethod
    def parse(cls, name: str) -> Measure | None:
        """The measure that is stored under a name; None for the name of something else."""
        parts = NAME.fullmatch(name)
        if parts is None:
            return None
        of, direction, k = parts["of"] or "", cast(Direction | None, parts["direction"]), parts["k"]
        if direction is None:
            return cls(None, RSUM, of=of)
        return cls(direction, RECALL, int(k), of) if k else cls(direction, parts["kind"], of=of)

    @property
    def title(self) -> str:
        """The direction, and the measure as papers write it, without the set of positives: `i2t R@1`."""
        if self.direction is None:
            return self.kind
        words = f"R@{self.k}" if self.k else TITLES.get(self.kind, self.kind.replace("_", " "))
        return f"{self.direction} {words}"

    @property
    def is_rank(self) -> bool:
        return self.kind in (MEDIAN, MEAN)


def title(name: str) -> str:
    measure = Measure.parse(name)
    return measure.title if measure else name


def measures(ranks: Ranks) -> dict[str, float]:
    return hit_measures(*directed(ranks))


def mean_measures(folds: Sequence[Ranks]) -> dict[str, float]:
    return means([measures(ranks) | list_measures(*directed(ranks)) for ranks in folds])


def means(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each measure over folds or runs, all of which have the same ones."""
    return {name: float(np.mean([one[name] for one in several])) for name in several[0]}


def hit_measures(i2t: DirectedRanks, t2i: DirectedRanks, of: str = "") -> dict[str, float]:
    """What each query's best positive gives; `of` names the set of positives, where it is not the split's own."""
    best = {direction: best_ranks(ranks) for direction, ranks in zip(DIRECTIONS, (i2t, t2i), strict=True)}
    values = {Measure(one, RECALL, k, of): _percent(ranks <= k) for one, ranks in best.items() for k in CUTOFFS}
    values[Measure(None, RSUM, of=of)] = sum(values.values())
    values |= {Measure(direction, MEDIAN, of=of): float(np.median(ranks)) for direction, ranks in best.items()}
    values |= {Measure(direction, MEAN, of=of): float(ranks.mean()) for direction, ranks in best.items()}
    values |= {Measure("i2t", TIED, of=of): _percent(i2t.tied), Measure("t2i", TIED, of=of): _percent(t2i.tied)}
    return _by_name(values)


def list_measures(i2t: DirectedRanks, t2i: DirectedRanks, of: str = "") -> dict[str, float]:
    lists = dict(zip(DIRECTIONS, map(_of_lists, (i2t, t2i)), strict=True))
    kinds = (MAP, PRECISION, NDCG)
    return _by_name({Measure(one, kind, of=of): means[kind] for kind in kinds for one, means in lists.items()})


def _of_lists(directed: DirectedRanks) -> dict[str, float]:
    """Each a mean over queries of a sum over the query's positives, the j-th of R at rank r."""
    lists = group(directed.queries, by=directed.ranks)
    sizes, ranks = lists.sizes, directed.ranks[lists.order]
    size, place = np.repeat(sizes, sizes), lists.positions + 1
    inside, gains = ranks <= size, 1 / np.log2(1 + ranks)
    ideal = np.cumsum(1 / np.log2(1 + np.arange(1, sizes.max() + 1)))[sizes - 1]
    parts = {MAP: inside * place / ranks / size, PRECISION: inside / size, NDCG: gains / np.repeat(ideal, sizes)}
    return {kind: 100.0 * float(np.add.reduceat(part, lists.starts).mean()) for kind, part in parts.items()}


def _by_name(values: Mapping[Measure, float]) -> dict[str, float]:
    return {str(measure): value for measure, value in values.items()}


def _percent(true: NDArray[np.bool_]) -> float:
    return 100.0 * float(true.mean())
