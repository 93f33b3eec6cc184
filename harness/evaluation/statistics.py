"""How sure a leaderboard can be: intervals, paired tests and ties, from the ranks of single queries.

Everything is resampled by image, as its captions are found or missed together. What a seed changes is known from the
spread over seeds alone, so that rows of single runs never differ significantly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from harness.errors import DataError
from harness.evaluation.measures import CUTOFFS
from harness.evaluation.ranks import DIRECTIONS, Ints, group, sides
from harness.evaluation.records import TrialRanks

Floats = NDArray[np.float64]
Row = Sequence["Hits"]  # the runs of one method with one recipe, one a seed
LEVEL = 0.05
RESAMPLES = 10_000
BLOCK_BYTES = 2**26  # of resamples held together
TOGETHER = 64  # rows whose intervals are made at a time
SEED = 0  # the same ranks give the same bytes


class Hits(NamedTuple):
    """The queries that one run has answered, by image: the image itself, and its captions with it."""

    folds: Ints  # (N,) from 0
    queries: Floats  # (N, 2) the image itself, its captions
    answered: Floats  # (N, 2, 3) queries with a match among the first 1, 5, 10: the image itself, its captions


class Difference(NamedTuple):
    first: int
    second: int
    rsum: float  # the first one's mean over seeds, less the second one's
    p: float  # of a difference as large in either direction, if neither were better
    adjusted: float  # the same by Holm's method for all pairs of the table
    least: float  # no smaller difference of these two would have been significant, whatever the other rows


def hits_of(ranks: TrialRanks) -> Hits:
    """The hits of a trial. A caption of several images counts with the first of them."""
    images, first, of_image = np.unique(ranks.pairs[:, 0], return_index=True, return_inverse=True)
    _, first_pair = np.unique(ranks.pairs[:, 1], return_index=True)
    owner = of_image[first_pair]
    queries = np.stack([np.ones(len(images)), np.bincount(owner, minlength=len(images))], axis=1)
    answered = np.zeros((len(images), 2, len(CUTOFFS)))
    i2t, t2i = (group(sides(ranks.pairs, direction)[0]).smallest(ranks.ranks[direction]) for direction in DIRECTIONS)
    for column, k in enumerate(CUTOFFS):
        answered[:, 0, column] = i2t <= k
        answered[:, 1, column] = np.bincount(owner, weights=t2i <= k, minlength=len(images))
    return Hits(np.unique(ranks.folds[first], return_inverse=True)[1], queries, answered)


def recalls(hits: Hits) -> Floats:
    """(2, 3) R@1, R@5, R@10 of both directions in percent, the mean of the folds."""
    total: Floats = shares(hits).sum(axis=0)
    return total


def shares(hits: Hits) -> Floats:
    """(N, 2, 3) what each image adds to each recall, in percent."""
    folds = np.eye(hits.folds.max() + 1)[hits.folds]
    queries = folds @ (folds.T @ hits.queries)  # in the image's fold
    share: Floats = 100 * hits.answered / queries[:, :, None] / folds.shape[1]
    return share


def intervals(rows: Sequence[Row], resamples: int = RESAMPLES, level: float = LEVEL) -> Floats:
    """(rows, 7, 2) where the six recalls, in the order of `results.RECALLS`, and rsum lie with probability 1 - level.

    The percentile bootstrap by image, of the mean over a row's seeds: the spread over seeds is not in it.
    """
    _check_same(rows)
    parts = [rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER)]
    return np.concatenate([_ends(resampled_recalls(part, resamples), level) for part in parts])


def resampled(rows: Sequence[Row], resamples: int = RESAMPLES) -> Floats:
    """(resamples, rows) rsum of every row on the same images; DataError where runs answered different queries."""
    total: Floats = resampled_recalls(rows, resamples).sum(axis=2)
    return total


def resampled_recalls(rows: Sequence[Row], resamples: int = RESAMPLES) -> Floats:
    """(resamples, rows, 6) the recalls on images drawn with replacement within their fold; DataError as `resampled`."""
    _check_same(rows)
    one = rows[0][0]
    answered = np.stack([np.mean([hits.answered for hits in row], axis=0) for row in rows], axis=2)  # (N, 2, r, 3)
    folds = [np.concatenate(list(_drawn(one, answered, fold, resamples))) for fold in range(one.folds.max() + 1)]
    mean: Floats = np.mean(folds, axis=0)
    return mean


def _ends(drawn: Floats, level: float) -> Floats:
    whole = np.concatenate([drawn, drawn.sum(axis=2, keepdims=True)], axis=2)
    ends: Floats = np.quantile(whole, [level / 2, 1 - level / 2], axis=0).transpose(1, 2, 0)
    return ends


def differences(
    rows: Sequence[Row], resamples: int = RESAMPLES, level: float = LEVEL, retrained: bool = True
) -> list[Difference]:
    """Every two rows compared by a paired permutation test that swaps them image by image, all captions together.

    The t-distributed error of training is added, see `training_error`; a row of one seed is taken to spread as the
    others do, and without any row of several seeds p and least are nan. `retrained` False leaves it out.
    """
    _check_same(rows)
    pairs = list(combinations(range(len(rows)), 2))
    if not pairs:
        return []
    runs = [np.stack([shares(hits).sum(axis=(1, 2)) for hits in row]) for row in rows]  # (seeds, N) of rsum
    between = np.stack([runs[a].mean(axis=0) - runs[b].mean(axis=0) for a, b in pairs], axis=1)  # (N, pairs)
    swapped = np.concatenate(list(_swapped(np.column_stack([between, np.ones(len(between))]), resamples)))
    training = _retrained(runs, pairs, resamples) if retrained else np.zeros((resamples, len(pairs)))
    observed, drift = between.sum(axis=0), swapped[:, -1:] * between.mean(axis=0)
    beyond = np.abs(swapped[:, :-1] + training) >= np.abs(observed) - 1e-9
    p = np.where(np.isnan(training[0]), np.nan, (1 + beyond.sum(axis=0)) / (1 + resamples))
    least = np.quantile(np.abs(swapped[:, :-1] - drift + training), 1 - level, axis=0)  # of rows without a difference
    values = zip(observed, p, holm(p), least, strict=True)
    return [Difference(a, b, *map(float, numbers)) for (a, b), numbers in zip(pairs, values, strict=True)]


def holm(p: Floats) -> Floats:
    """Adjusted p-values by Holm's step-down method; where one is nan, all are."""
    order = np.argsort(p)
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return np.full_like(p, np.nan) if np.isnan(p).any() else adjusted


def letters(count: int, differences: Sequence[Difference], level: float = LEVEL) -> list[str]:
    """A letter for each row of a table that is sorted: rows that share one do not differ significantly.

    The compact letter display of Piepho (2004).
    """
    groups = [frozenset(range(count))]
    for pair in (difference for difference in differences if difference.adjusted < level):
        split = [group - {row} for group in groups for row in (pair.first, pair.second) if {*pair[:2]} <= group]
        groups = _maximal([group for group in groups if not {*pair[:2]} <= group] + split)
    named = sorted(groups, key=sorted)
    return ["".join(_letter(number) for number, group in enumerate(named) if row in group) for row in range(count)]


class Spread(NamedTuple):
    variance: float  # between seeds, on the same images
    training: float  # of that, what is left without the luck of single queries; by chance it may be negative
    degrees: int  # of freedom
    runs: int  # that the row's mean is taken of


def spread(row: Floats) -> Spread:
    """Of the shares (seeds, N) of a row's runs, two at least."""
    variance = float(row.sum(axis=1).var(ddof=1))
    return Spread(variance, variance - float(row.var(axis=0, ddof=1).sum()), len(row) - 1, len(row))


def pooled(spreads: Sequence[Spread]) -> Spread:
    degrees = sum(one.degrees for one in spreads)
    variance, training = (sum(one.degrees * one[part] for one in spreads) / degrees for part in (0, 1))
    return Spread(variance, training, degrees, 1)


def training_error(first: Spread, second: Spread) -> tuple[float, float]:
    """Standard error that training adds to the difference of two rows, and its degrees of freedom (Satterthwaite's).

    The luck of single queries is in the spread over seeds and in what swapping images gives: it counts there alone.
    """
    both = (first, second)
    error = sum(one.training / one.runs for one in both)
    total, below = (sum((one.variance / one.runs) ** k / one.degrees ** (k - 1) for one in both) for k in (1, 2))
    return max(0.0, error) ** 0.5, total**2 / below if below else 1.0


def run_noise(sd: float, runs: int, mean_of: int = 1) -> float:
    """How far one more run lies at most from the mean of some others, 95 times in 100, by the t distribution.

    `sd` is the standard deviation over `runs` runs; nan for fewer than two, from which it is not known.
    """
    if runs < 2:
        return nan
    return float(stdtrit(runs - 1, 1 - LEVEL / 2)) * sd * sqrt(1 + 1 / mean_of)


def same_queries(first: Row, second: Row) -> bool:
    one = first[0]
    parts = ((hits.folds, one.folds, hits.queries, one.queries) for hits in (*first, *second))
    return all(np.array_equal(a, b) and np.array_equal(c, d) for a, b, c, d in parts)


def _check_same(rows: Sequence[Row]) -> None:
    for row in rows:
        if not same_queries(rows[0], row):
            raise DataError("the rows of a table have not answered the same queries; run them again on the same data")


def _drawn(hits: Hits, answered: Floats, fold: int, resamples: int) -> Iterator[Floats]:
    """Blocks (b, rows, 6) of the recalls of one fold whose images are drawn with replacement."""
    inside = np.flatnonzero(hits.folds == fold)
    rng, size = np.random.default_rng([SEED, fold]), len(inside)
    for count in _blocks(resamples, size):
        drawn = rng.integers(0, size, (count, size)) + size * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size).astype(np.float64)
        queries = weights @ hits.queries[inside]
        both = [weights @ answered[inside, side].reshape(size, -1) / queries[:, side, None] for side in (0, 1)]
        yield 100 * np.concatenate([of.reshape(count, -1, len(CUTOFFS)) for of in both], axis=2)


def _swapped(between: Floats, resamples: int) -> Iterator[Floats]:
    """Blocks (b, pairs) of the difference where each image's answers belong to either row with one half."""
    rng = np.random.default_rng([SEED, 1])
    for count in _blocks(resamples, len(between)):
        yield (2.0 * rng.integers(0, 2, (count, len(between)), dtype=np.int8) - 1) @ between


def _retrained(runs: Sequence[Floats], pairs: Sequence[tuple[int, int]], resamples: int) -> Floats:
    """(resamples, pairs) what training with other seeds adds to the differences; nan where that is unknown."""
    several = [spread(row) for row in runs if len(row) > 1]
    if not several:
        return np.full((resamples, len(pairs)), np.nan)
    spreads = [spread(row) if len(row) > 1 else pooled(several) for row in runs]
    rng = np.random.default_rng([SEED, 2])
    errors = [training_error(spreads[a], spreads[b]) for a, b in pairs]
    return np.stack([error * rng.standard_t(free, resamples) for error, free in errors], axis=1)


def _blocks(resamples: int, size: int) -> Iterator[int]:
    most = max(1, BLOCK_BYTES // (8 * size))
    for start in range(0, resamples, most):
        yield min(most, resamples - start)


def _maximal(groups: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    different = list(dict.fromkeys(groups))
    return [group for group in different if not any(group < other for other in different)]


def _letter(number: int) -> str:
    """a, b, …, z, aa, ab, …"""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("a") + number % 26)
