"""How sure a leaderboard can be: intervals, paired tests and ties, from the ranks of single queries.

Everything is resampled by image, as its captions are found or missed together. What a seed changes is known from a
row's own spread over seeds alone: a row of one seed is never tested, and no row borrows the spread of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, isnan, nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from harness.errors import DataError
from harness.evaluation.measures import CUTOFFS
from harness.evaluation.queries import Hits, recalls, same_queries, shares

Floats = NDArray[np.float64]
Places = tuple[int, int]  # of the rows of a pair
Row = Sequence[Hits]  # the runs of one method with one recipe, one a seed
LEVEL, RESAMPLES = 0.05, 10_000
BLOCK_BYTES = 2**26  # of resamples held together
TOGETHER = 64  # rows whose intervals are made at a time
DIGITS = 6  # of rsum: what differs less is rounding
SEED = 0  # the same ranks give the same bytes
BENTKUS = 3.18  # times the normal tail of the same variance bounds P(swaps >= x) (Bentkus and Dzindzalieta 2015)
MOST_DEGREES, EVEN_WEIGHT = 3, 3
LOG_SCALES = np.arange(-60, 6, 0.25)  # of chi-square over its degrees of freedom: all that matters of 1 and more


class Difference(NamedTuple):
    """Two rows of a table compared; nan where either is not tested."""

    first: int
    second: int
    rsum: float  # the first one's mean over seeds, less the second one's
    p: float  # of a difference as large in either direction, if neither were better
    adjusted: float  # p by Benjamini and Hochberg's procedure for all tested pairs of the table
    least: float  # no smaller difference of these two would have been significant, whatever the other rows

    @property
    def is_tested(self) -> bool:
        return not isnan(self.p)

    @property
    def is_significant(self) -> bool:
        return self.adjusted < LEVEL


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
    return mean[~np.isnan(mean).any(axis=(1, 2))]  # without draws that ask no caption of a fold


def _ends(resampled: Floats, level: float) -> Floats:
    whole = np.concatenate([resampled, resampled.sum(axis=2, keepdims=True)], axis=2)
    ends: Floats = np.quantile(whole, [level / 2, 1 - level / 2], axis=0).transpose(1, 2, 0)
    return ends


def is_tested(row: Row) -> bool:
    """Whether a row can be compared as a method: it has several seeds, and rsum is not the same for all of them.

    This alone decides, for trained and untrained methods and for scores of files.
    """
    return len({round(float(recalls(hits).sum()), DIGITS) for hits in row}) > 1


def differences(rows: Sequence[Row], resamples: int = RESAMPLES, retrained: bool = True) -> list[Difference]:
    """Every two rows compared by a paired permutation test that swaps them image by image, all captions together.

    The t-distributed error of training is added, see `Spread`. A pair depends on its two rows alone. `retrained` False
    compares the runs as they are, without that error, and also rows of one run.
    """
    if len(rows) < 2:
        return []
    table = _table(rows, retrained)
    swapped = table.swapped(resamples)
    pairs = [
        _difference(table, first, second, swapped)
        if table.has_test(first, second)
        else Difference(first, second, table.pair(first, second).rsum, nan, nan, nan)
        for first, second in combinations(range(len(rows)), 2)
    ]
    adjusted = false_discovery_rates(np.array([pair.p for pair in pairs]))
    return [pair._replace(adjusted=float(value)) for pair, value in zip(pairs, adjusted, strict=True)]


def differ_significantly(rows: Sequence[Row], first: int, second: int, resamples: int = RESAMPLES) -> bool:
    """Whether `differences` finds two rows to differ significantly; of a large table in a small part of the time.

    No p is above its pair's bound, and no pair ceases to be significant where p of another one is smaller. So pairs
    that are significant by the bounds of all are decided, and nothing is drawn for them.
    """
    table, own = _table(rows), (min(first, second), max(first, second))
    bounds = {pair: min(1.0, table.pair(*pair).bound) for pair in table.pairs()}
    decided = _significant(bounds)
    if own not in bounds or own in decided:
        return own in decided
    swapped = table.swapped(resamples)
    p = {pair: min(bounds[pair], _share(table, *pair, swapped)) for pair in bounds if pair not in decided}
    return own in _significant(bounds | p)


def _significant(p: Mapping[Places, float]) -> set[Places]:
    adjusted = false_discovery_rates(np.array([*p.values()]))
    return {pair for pair, value in zip(p, adjusted, strict=True) if value < LEVEL}


def false_discovery_rates(p: Floats) -> Floats:
    """p adjusted by Benjamini and Hochberg's procedure; nan, which is a pair that is not tested, counts for nothing.

    Of the pairs below a level, no larger share than that level is expected to be of equally good methods.
    """
    is_pair_tested, adjusted = ~np.isnan(p), p.copy()
    if is_pair_tested.sum() > 1:  # else there is nothing to adjust, and the import takes longer than a small board
        from scipy.stats import false_discovery_control

        adjusted[is_pair_tested] = false_discovery_control(p[is_pair_tested], method="bh")
    return adjusted


class Spread(NamedTuple):
    """What the runs of a row say of training with other seeds.

    The luck of single queries is in the spread over seeds and in what swapping images gives. So that it counts once, a
    share of it is taken off the spread, the rest off the swaps: all off the spread where seeds are many, none where
    they are two, which may lie close together by chance, so that nothing would be left.
    """

    variance: float  # of rsum between seeds, on the same images
    queries: float  # of that, what the luck of single queries explains
    degrees: int  # of freedom
    runs: int  # that the row's mean is taken of

    @property
    def share(self) -> float:
        return 1 - 1 / self.degrees

    @property
    def training(self) -> float:
        """The variance that training adds to the row's mean; by chance it may be negative."""
        return (self.variance - self.share * self.queries) / self.runs

    @property
    def counted_twice(self) -> float:
        """The variance of the row's mean that is in the swaps and in `training`."""
        return (1 - self.share) * self.queries / self.runs


class Error(NamedTuple):
    sd: float
    degrees: float  # of freedom of its t distribution


def spread(runs: Floats) -> Spread:
    """Of the shares (seeds, N) of a row's runs, two at least."""
    variance = float(runs.sum(axis=1).var(ddof=1))
    return Spread(variance, float(runs.var(axis=0, ddof=1).sum()), len(runs) - 1, len(runs))


def training_errors(first: Spread, second: Spread) -> list[Error]:
    """The errors that training adds to the difference of two rows.

    One of both together; where a row of two seeds meets one of more, each row has an error of its own, as in the
    solution of Behrens and Fisher.
    """
    both = (first, second)
    if min(first.runs, second.runs) == 2 != max(first.runs, second.runs):
        return [Error(sqrt(max(0.0, one.training)), one.degrees) for one in both]
    return [Error(sqrt(max(0.0, first.training + second.training)), common_degrees(first, second))]


def common_degrees(first: Spread, second: Spread) -> float:
    """The degrees of freedom of the spread of two rows together.

    Those of Welch and Satterthwaite are too many where few seeds of one row spread more than those of the other, and
    too few where both spread alike. What they add to the degrees of the smaller row counts by its third power, scaled
    so that false alarms are nearest to the level; at most MOST_DEGREES times those of the smaller row.
    """
    few, many = sorted((first.degrees, second.degrees))
    one, other = (row.variance / row.runs for row in (first, second))
    welch = (one + other) ** 2 / (one**2 / first.degrees + other**2 / second.degrees)
    evenness = max(0.0, (welch - few) / many)
    return min(few + EVEN_WEIGHT * many * evenness**3, MOST_DEGREES * few)


def tail(value: float, variance: float, error: Error) -> float:
    """The probability that a normal and a t-distributed error together are as far from 0, in either direction.

    A t variable is normal with a variance of degrees over chi-square: the sum is over the logarithm of that scale.
    """
    return float(tails(*(np.array([number]) for number in (value, variance, *error)))[0])


def tails(values: Floats, variances: Floats, sds: Floats, degrees: Floats) -> Floats:
    """(n,) `tail` of many values, each with its own variance and error."""
    weights = np.exp(degrees[:, None] / 2 * (LOG_SCALES - np.exp(LOG_SCALES)))
    sd = np.sqrt(variances[:, None] + sds[:, None] ** 2 * np.exp(-LOG_SCALES))
    below = weights * ndtr(-abs(values)[:, None] / np.maximum(sd, 1e-12))
    return np.asarray(2 * below.sum(axis=1) / weights.sum(axis=1))


def run_noise(sd: float, runs: int, mean_of: int = 1) -> float:
    """How far one more run lies at most from the mean of some others, 95 times in 100, by the t distribution.

    `sd` is the standard deviation over `runs` runs; nan for fewer than two, from which it is not known.
    """
    if runs < 2:
        return nan
    return float(stdtrit(runs - 1, 1 - LEVEL / 2)) * sd * sqrt(1 + 1 / mean_of)


def _check_same(rows: Sequence[Row]) -> None:
    for row in rows:
        if not same_queries(rows[0], row):
            raise DataError("the rows of a table have not answered the same queries; run them again on the same data")


def _drawn(hits: Hits, answered: Floats, fold: int, resamples: int) -> Iterator[Floats]:
    """Blocks (b, rows, 6) of the recalls of one fold whose images are drawn with replacement."""
    inside = np.flatnonzero(hits.folds == fold)
    rng, size = np.random.default_rng([SEED, fold]), len(inside)
    for count in _blocks(resamples, size):
        draws = rng.integers(0, size, (count, size)) + size * np.arange(count)[:, None]
        weights = np.bincount(draws.ravel(), minlength=count * size).reshape(count, size).astype(np.float64)
        queries = weights @ hits.queries[inside]
        queries[queries == 0] = nan
        both = [weights @ answered[inside, side].reshape(size, -1) / queries[:, side, None] for side in (0, 1)]
        yield 100 * np.concatenate([of.reshape(count, -1, len(CUTOFFS)) for of in both], axis=2)


def _swapped(values: Floats, resamples: int) -> Iterator[Floats]:
    """Blocks (b, columns) of the sums of values (N, columns) where each image's count with either sign by one half."""
    rng = np.random.default_rng([SEED, 1])
    for count in _blocks(resamples, len(values)):
        yield (2.0 * rng.integers(0, 2, (count, len(values)), dtype=np.int8) - 1) @ values


@dataclass(frozen=True)
class _Table:
    means: Floats  # (N, rows) what each image adds to rsum, the mean over seeds
    spreads: Sequence[Spread | None]  # None: the row is not tested as a method
    retrained: bool

    def has_test(self, first: int, second: int) -> bool:
        return not self.retrained or bool(self.spreads[first] and self.spreads[second])

    def pairs(self) -> list[Places]:
        """The pairs that are tested."""
        return [pair for pair in combinations(range(len(self.spreads)), 2) if self.has_test(*pair)]

    def pair(self, first: int, second: int) -> _Pair:
        both = [spread for place in (first, second) if (spread := self.spreads[place])]
        between = self.means[:, first] - self.means[:, second]
        variance, twice = float(between.var() * len(between)), sum(one.counted_twice for one in both)
        left = 1 - twice / variance if variance > twice else float(not twice)
        return _Pair(between, training_errors(*both) if len(both) == 2 else [], left)

    def swapped(self, resamples: int) -> Floats:
        """(resamples, rows + 1) rsum where each image counts with either sign; last, the sum of the signs."""
        values = np.column_stack([self.means, np.ones(len(self.means))])
        return np.concatenate([*_swapped(values, resamples)])


class _Pair(NamedTuple):
    between: Floats  # (N,) what each image adds to the difference
    errors: Sequence[Error]  # that training adds; none where the runs are compared as they are
    left: float  # of the variance of swaps, what is not in the errors

    @property
    def rsum(self) -> float:
        return float(self.between.sum())

    @property
    def bound(self) -> float:
        """What p is at most; infinite where only swaps can tell."""
        if len(self.errors) != 1:
            return inf
        return BENTKUS * tail(self.rsum, self.left * float((self.between**2).sum()), self.errors[0])


def _table(rows: Sequence[Row], retrained: bool = True) -> _Table:
    _check_same(rows)
    runs = [np.stack([shares(hits).sum(axis=(1, 2)) for hits in row]) for row in rows]  # (seeds, N) of rsum
    spreads = [spread(run) if retrained and is_tested(row) else None for run, row in zip(runs, rows, strict=True)]
    return _Table(np.stack([run.mean(axis=0) for run in runs], axis=1), spreads, retrained)


def _difference(table: _Table, first: int, second: int, swapped: Floats) -> Difference:
    """One pair, not yet adjusted. What is drawn depends on the two rows and not on their order or on other rows."""
    pair = table.pair(first, second)
    p = min(_share(table, first, second, swapped), pair.bound)  # the bound where swaps are too few to tell how rare
    luck, training = _chance(pair, swapped[:, first] - swapped[:, second])
    without = luck - sqrt(pair.left) * swapped[:, -1] * pair.between.mean()  # of rows without a difference
    least = np.quantile(np.abs([without + training, without - training]), 1 - LEVEL)
    return Difference(first, second, pair.rsum, float(p), nan, float(least))


def _share(table: _Table, first: int, second: int, swapped: Floats) -> float:
    """How often chance gives as large a difference, by the swaps alone."""
    pair = table.pair(first, second)
    luck, training = _chance(pair, swapped[:, first] - swapped[:, second])
    count = sum(np.count_nonzero(np.abs(luck + sign * training) >= abs(pair.rsum) - 1e-9) for sign in (1, -1)) / 2
    return (1 + count) / (1 + len(luck))


def _chance(pair: _Pair, luck: Floats) -> tuple[Floats, Floats]:
    """What chance gives a pair: by the swaps, and by errors of training in either direction."""
    training = sum((_drawn_error(error, len(luck)) for error in pair.errors), np.zeros(len(luck)))
    return sqrt(pair.left) * luck, training


def _drawn_error(error: Error, resamples: int) -> Floats:
    """(resamples,) that depend on the error alone."""
    rng = np.random.default_rng([SEED, 2, round(1000 * error.degrees)])
    drawn: Floats = error.sd * rng.standard_t(error.degrees, resamples)
    return drawn


def _blocks(resamples: int, size: int) -> Iterator[int]:
    most = max(1, BLOCK_BYTES // (8 * size))
    for start in range(0, resamples, most):
        yield min(most, resamples - start)
