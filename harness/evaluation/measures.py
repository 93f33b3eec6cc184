"""From ranks to measures: R@K, median and mean rank, rsum, and measures over lists."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.ranks import Ranks, Way, best_of, ways

CUTOFFS = (1, 5, 10)


def measures(ranks: Ranks) -> dict[str, float]:
    """R@K (the share of queries with a positive in the first K, percent), rsum, median and mean rank, share of ties."""
    return hit_measures(*ways(ranks))


def hit_measures(i2t: Way, t2i: Way) -> dict[str, float]:
    """The same of two directions, whichever queries were asked."""
    firsts = {"i2t": best_of(i2t), "t2i": best_of(t2i)}
    recalls = {f"{way}_r{k}": _percent(first <= k) for way, first in firsts.items() for k in CUTOFFS}
    return {
        **recalls,
        "rsum": sum(recalls.values()),
        **{f"{way}_median_rank": float(np.median(first)) for way, first in firsts.items()},
        **{f"{way}_mean_rank": float(first.mean()) for way, first in firsts.items()},
        "i2t_tied": _percent(i2t.tied),
        "t2i_tied": _percent(t2i.tied),
    }


def list_measures(i2t: Way, t2i: Way) -> dict[str, float]:
    """What all positives of a query give, not its best one alone: mAP@R, R-precision and nDCG, in percent."""
    found = {way: _of_lists(of) for way, of in (("i2t", i2t), ("t2i", t2i))}
    return {f"{way}_{name}": found[way][name] for name in found["i2t"] for way in found}


def _of_lists(way: Way) -> dict[str, float]:
    """Each a mean over queries of a sum over the query's positives, the j-th of R at rank r."""
    order = np.lexsort((way.ranks, way.queries))
    queries, ranks = way.queries[order], way.ranks[order]
    starts = np.flatnonzero(np.r_[True, np.diff(queries) != 0])
    sizes = np.diff(np.r_[starts, len(queries)])
    size, place = np.repeat(sizes, sizes), np.arange(len(queries)) - np.repeat(starts, sizes) + 1
    inside, gains = ranks <= size, 1 / np.log2(1 + ranks)
    ideal = np.cumsum(1 / np.log2(1 + np.arange(1, sizes.max() + 1)))[sizes - 1]
    parts = {
        "map_r": inside * place / ranks / size,
        "r_precision": inside / size,
        "ndcg": gains / np.repeat(ideal, sizes),
    }
    return {name: 100.0 * float(np.add.reduceat(part, starts).mean()) for name, part in parts.items()}


def _percent(true: NDArray[np.bool_]) -> float:
    """The share of true ones, in percent."""
    return 100.0 * float(true.mean())
