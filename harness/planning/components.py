"""The variances that make rsum differ by chance, estimated from rows that have answered the same queries.

What image i adds to the rsum of run s of method r, times the number of images, is taken as

    z = mean of r + (r, i) + (r, s) + (r, s, i)

with `images` the variance over i of the difference of two methods' (r, i), `training` the variance of (r, s), which
moves all images alike, and `luck` that of (r, s, i), which is another one for each image and seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from harness.evaluation.queries import shares
from harness.evaluation.statistics import Floats, Row, Spread, is_tested, spread


class Components(NamedTuple):
    """Variances in squared points of rsum, of one image or one run."""

    training: float
    luck: float
    images: float

    def seed_sd(self, images: int) -> float:
        """The standard deviation of rsum over seeds on so many images, as boards have it behind ±."""
        return float(np.sqrt(self.training + self.luck / images))

    @property
    def image_sd(self) -> float:
        """The standard deviation over images of what one image says of the difference of two methods."""
        return float(np.sqrt(self.images))

    def of_difference(self, seeds: int, images: int) -> float:
        """The variance of the difference of two rows of so many seeds on so many images."""
        return 2 * (self.training + self.luck / images) / seeds + self.images / images


def seed_variances(rows: Sequence[Row]) -> tuple[float, float] | None:
    """`training` and `luck`, of all rows with several seeds by their degrees of freedom; None where there is none."""
    spreads = [(len(row[0].folds), spread(runs_of(row))) for row in rows if is_tested(row)]
    if not spreads:
        return None
    weights = [one.degrees for _, one in spreads]
    training = np.average([one.variance - one.queries for _, one in spreads], weights=weights)
    luck = np.average([images * one.queries for images, one in spreads], weights=weights)
    return max(0.0, float(training)), float(luck)


def image_variance(rows: Sequence[Row]) -> float | None:
    """`images`, the median over the pairs of rows; None for fewer than two rows."""
    pairs = [pair_variance(first, second) for first, second in combinations(rows, 2)]
    return float(np.median(pairs)) if pairs else None


def pair_variance(first: Row, second: Row) -> float:
    """The variance over images of the difference of two rows, less what the luck of their runs adds to it."""
    runs = [runs_of(row) for row in (first, second)]
    images = runs[0].shape[1]
    between = images**2 * float((runs[0].mean(axis=0) - runs[1].mean(axis=0)).var())
    luck = sum(images * spread(own).queries / len(own) for own in runs if len(own) > 1)
    return max(0.0, float(between - luck))


def unrelated_variance(row: Row) -> float:
    """The `images` of a row and another one whose answers to an image have nothing to do with its own: a bound."""
    runs = runs_of(row)
    return float(2 * runs.shape[1] ** 2 * runs.mean(axis=0).var())


def runs_of(row: Row) -> Floats:
    """(seeds, N) what each image adds to rsum."""
    return np.stack([shares(hits).sum(axis=(1, 2)) for hits in row])


def planned_spread(components: Components, seeds: int, images: int, chi: float = 1.0) -> Spread:
    """The spread of a planned row whose variance over seeds comes out as `chi` times the expected one."""
    own = components.training + components.luck / images
    queries = (components.training + components.luck) / images
    return Spread(chi * own, queries, seeds - 1, seeds)
