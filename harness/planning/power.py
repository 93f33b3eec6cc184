"""The power of the boards' test, computed: no images are drawn, the test's own tail is asked where it calls a pair.

Two rows of n seeds on N images differ by D, which is normal about the true difference with the variance of
`Components.of_difference`. What their seeds show of the spread is chi-square with n - 1 degrees of freedom; for each
pair of such spreads the least significant |D| is found by the same `training_errors` and `tails` as a board's p, and
the power is the mean of P(|D| > least) over them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import combinations_with_replacement

import numpy as np
from scipy.special import chdtri, ndtr

from harness.evaluation.measures import MOST_RSUM
from harness.evaluation.statistics import LEVEL, Floats, tails, training_errors
from harness.planning.components import Components, planned_spread

QUANTILES = 12  # of each row's chi-square
HALVINGS = 25  # of an interval in which a number is looked for
FEWEST_SEEDS, MOST_SEEDS = 2, 100
FEWEST_IMAGES, MOST_IMAGES = 50, 1_000_000


class PlannedTest:
    """The test of two rows of so many seeds on so many images at a level."""

    def __init__(self, components: Components, seeds: int, images: int, level: float = LEVEL) -> None:
        self.sd = float(np.sqrt(components.of_difference(seeds, images)))
        self._least, self._weights = least_significant(components, seeds, images, level)

    def power(self, difference: float) -> float:
        """The probability that a true difference is found to be significant."""
        above, below = difference - self._least, -difference - self._least
        chances = ndtr(above / self.sd) + ndtr(below / self.sd)
        return float(np.average(chances, weights=self._weights))

    def detectable(self, power: float) -> float | None:
        """The least difference that is found with a probability; None where none is that rsum can have."""
        if self.power(MOST_RSUM) < power:
            return None
        low, high = 0.0, MOST_RSUM
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.power(middle) >= power else (middle, high)
        return high


def least_significant(components: Components, seeds: int, images: int, level: float) -> tuple[Floats, Floats]:
    """(k,) the least significant difference for each pair of spreads that two rows may have, and the weights."""
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    chis = chdtri(seeds - 1, 1 - shares) / (seeds - 1)
    spreads = [planned_spread(components, seeds, images, float(chi)) for chi in chis]
    pairs = [*combinations_with_replacement(spreads, 2)]
    errors = [training_errors(one, other)[0] for one, other in pairs]
    weights = np.array([1.0 if one is other else 2.0 for one, other in pairs])
    sds, degrees = (np.array(column) for column in zip(*errors, strict=True))
    swaps = (components.images + 2 * components.luck / seeds) / images
    taken = 2 * spreads[0].counted_twice
    left = max(0.0, 1 - taken / swaps) if swaps else 0.0
    low, high = np.zeros(len(errors)), np.full(len(errors), MOST_RSUM)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        is_found = tails(middle, left * (swaps + middle**2 / images), sds, degrees) < level
        low, high = np.where(is_found, low, middle), np.where(is_found, middle, high)
    return high, weights


def seeds_for(components: Components, images: int, difference: float, power: float, level: float) -> int | None:
    """The seeds of each row that a difference needs on so many images; None for more than MOST_SEEDS."""

    def is_enough(seeds: int) -> bool:
        return PlannedTest(components, seeds, images, level).power(difference) >= power

    return least_whole(is_enough, FEWEST_SEEDS, MOST_SEEDS)


def images_for(components: Components, seeds: int, difference: float, power: float, level: float) -> int | None:
    """The test images that a difference needs with so many seeds; None for more than MOST_IMAGES."""

    def is_enough(images: int) -> bool:
        return PlannedTest(components, seeds, images, level).power(difference) >= power

    return least_whole(is_enough, FEWEST_IMAGES, MOST_IMAGES)


def least_whole(is_enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least whole number of a range that is enough; None where none is."""
    if not is_enough(high):
        return None
    return low + bisect_left(range(low, high), True, key=is_enough)
