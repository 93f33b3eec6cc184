"""Whether training has collapsed: the method scores everything alike or at random, and further epochs do not help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.config.cards import ProtocolCard
from harness.config.sections import Training
from harness.data.split import Split
from harness.evaluation.protocols import expected_at_random, folds

NEAR = 0.01  # of what equal scores cost
EQUAL = 1e-5  # of the largest score
DEVIATIONS = 3.0  # above that of a random order, within which a val rsum is no better
STUCK_STEPS, MANY_STEPS = 50, 1000
FIRST_STEPS = 200  # at the full learning rate, in which a sound method may still be no better
TELLING = 30.0  # rsum; where random orders may reach more, val has too few images to tell
CURE = "train longer with all negatives (training.all_negatives_epochs), lower training.lr, or try another margin"


class LastEpoch(NamedTuple):
    """What an epoch shows of a collapse."""

    scores: NDArray[np.float32]  # of val, (N, M)
    losses: tuple[float, float]  # the lowest and the highest of its steps, per pair
    rsum: float  # of val
    best: float  # rsum of val so far
    epochs: int  # so far
    steps: int  # of it
    all_steps: int  # so far


class CollapseWatch:
    """Says after each epoch whether training has collapsed; what it remembers belongs into a checkpoint."""

    def __init__(self, val: Callable[[], Split], training: Training, margin: object, random_epochs: int) -> None:
        """`val` is called when its random orders are needed; random_epochs: [failures] random_epochs."""
        self._val, self._training, self._margin, self._first = val, training, margin, random_epochs
        self.reason = ""  # why training has collapsed
        self._flat_steps = 0  # in a row at the hinge of equal scores

    @property
    def state(self) -> dict[str, Any]:
        return {"collapse": self.reason, "flat_steps": self._flat_steps}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up the state of a checkpoint; those of earlier versions have none."""
        self.reason, self._flat_steps = state.get("collapse", ""), state.get("flat_steps", 0)

    @cached_property
    def _random(self) -> RandomOrder:
        return random_order(self._val())

    def look(self, last: LastEpoch) -> None:
        is_hardest = last.epochs > self._training.all_negatives_epochs
        is_flat = costs_as_equal_scores(*last.losses, self._margin)
        self._flat_steps = self._flat_steps + last.steps if is_hardest and is_flat else 0
        reasons = [scores_alike(last.scores), stuck(self._flat_steps, last.rsum, self._random)]
        if self._first and last.epochs >= self._first:
            steps = last.all_steps - self._training.warmup_steps
            reasons.append(no_better(last.best, last.epochs, steps, self._random))
        self.reason = next(filter(None, reasons), "")


class RandomOrder(NamedTuple):
    """The rsum of random orders of a whole split: its mean, and a bound of its standard deviation."""

    rsum: float
    deviation: float


def random_order(split: Split) -> RandomOrder:
    """Of nested hits, as those in the first 1, 5 and 10, the variance is below 5 p1 + 3 p5 + p10 per query.

    The deviations of both directions are added, as a pair with a high score is a hit in both.
    """
    gallery = ProtocolCard(name="all", images=len(split.images), captions=len(split.captions))
    expected = expected_at_random(folds(gallery, len(split.images), split.pairs))
    deviation = 0.0
    for direction, queries in (("i2t", len(split.images)), ("t2i", len(split.captions))):
        hits = [expected[f"{direction}_r{k}"] / 100 for k in (1, 5, 10)]
        deviation += 100 * (float(np.dot((5, 3, 1), hits)) / queries) ** 0.5
    return RandomOrder(expected["rsum"], deviation)


def costs_as_equal_scores(lowest: float, highest: float, margin: object) -> bool:
    """Whether every step of an epoch with the hardest negatives cost the hinge of equal scores.

    `lowest`, `highest`: the loss of a step, per pair.
    """
    if not isinstance(margin, float) or margin <= 0:
        return False
    equal = 2 * margin  # per pair: a margin in either direction
    return max(abs(lowest - equal), abs(highest - equal)) <= NEAR * equal


def stuck(steps: int, rsum: float, of: RandomOrder) -> str:
    """Why so many steps in a row at the hinge of equal scores show a collapse: val is random, or they are very many.

    A training may leave such a plateau after hundreds of steps, and its val rsum mostly does so first.
    """
    if steps < STUCK_STEPS or (steps < MANY_STEPS and not is_random(rsum, of)):
        return ""
    return f"the loss of each of the last {steps} steps was the hinge of equal scores, twice the margin per pair"


def is_random(rsum: float, of: RandomOrder) -> bool:
    """Whether random orders reach an rsum; False where val has too few images to tell."""
    return rsum <= of.rsum + DEVIATIONS * of.deviation <= TELLING


def scores_alike(scores: NDArray[np.float32]) -> str:
    """Why scores (N, M) show a collapse: all images, or all captions, are the same to the method."""
    limit = EQUAL * float(np.abs(scores).max())
    for axis, kind in enumerate(("images", "captions")):  # one alone is like itself
        spread = scores.max(axis).astype(np.float64) - scores.min(axis)  # float32 has no room for that of its ends
        if scores.shape[axis] > 1 and float(spread.max()) <= limit:
            return f"all {kind} of val have the same scores"
    return ""


def no_better(rsum: float, epochs: int, steps: int, of: RandomOrder) -> str:
    """Why the best val rsum of so many epochs shows a collapse: random orders reach it. `steps`: at the full rate."""
    if steps < FIRST_STEPS or not is_random(rsum, of):
        return ""
    return f"val rsum is {rsum:.1f} at best after {epochs} epochs, where a random order has {of.rsum:.1f}"
