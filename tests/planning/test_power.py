"""What a plan promises, against the boards' own test on simulated runs; and what it says where the store has little."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from simulated_runs import drawn

from harness.evaluation.statistics import LEVEL, Row, differences
from harness.planning.components import Components, image_variance, pair_variance, seed_variances, unrelated_variance
from harness.planning.power import PlannedTest, images_for, least_whole, seeds_for

OWN, LUCK = 0.5, 0.08  # of an image for one method, and of a training
SPREAD = 1 + OWN**2 + LUCK**2 + 1  # of what decides an answer


def rows(rng: np.random.Generator, skills: list[float], seeds: int, images: int) -> list[Row]:
    """Methods of a skill, trained with some luck, for each of which other images are hard."""
    ease = rng.normal(size=images)
    own = rng.normal(size=(len(skills), images))
    return [
        [drawn(rng, ease + OWN * hard, skill + LUCK * rng.normal()) for _ in range(seeds)]
        for skill, hard in zip(skills, own, strict=True)
    ]


def rsum_of(skill: float) -> float:
    """The difference of rsum of two methods, one of which has this skill and the other none."""
    return 600 * float(scipy.stats.norm.cdf(skill / np.sqrt(SPREAD)) - 0.5)


@pytest.fixture(scope="module")
def components() -> Components:
    """Estimated from a store of sixteen rows of ten seeds, on more images than are planned."""
    pilot = rows(np.random.default_rng(1), [0.01 * place for place in range(16)], 10, 1500)
    seeds, images = seed_variances(pilot), image_variance(pilot)
    assert seeds and images
    return Components(*seeds, images)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("seeds", "images", "skill"), [(3, 200, 0.4), (5, 300, 0.24), (10, 200, 0.2)])
def test_simulated_power_is_within_three_points_of_what_was_promised(
    components: Components, seeds: int, images: int, skill: float
) -> None:
    promised = PlannedTest(components, seeds, images).power(rsum_of(skill))
    rng, rounds = np.random.default_rng(2), 800
    found = 0
    for _ in range(rounds):
        (pair,) = differences(rows(rng, [skill, 0.0], seeds, images), resamples=300)
        found += pair.p < LEVEL
    assert 0.6 < promised < 0.95
    assert found / rounds == pytest.approx(promised, abs=0.03)


def test_variances_are_those_that_runs_were_drawn_with(components: Components) -> None:
    density = float(scipy.stats.norm.pdf(0) / np.sqrt(SPREAD))
    assert components.training**0.5 == pytest.approx(600 * density * LUCK, rel=0.15)
    alone = rows(np.random.default_rng(3), [0.0, 0.0], 1, 4000)
    assert image_variance(alone[:1]) is None and seed_variances(alone) is None
    assert pair_variance(*alone) < unrelated_variance(alone[0]), "images are hard for both"


def test_what_is_needed_reaches_the_power_and_one_less_does_not(components: Components) -> None:
    difference = 35.0
    seeds = seeds_for(components, 500, difference, 0.8, LEVEL)
    assert seeds and seeds > 2
    powers = [PlannedTest(components, n, 500).power(difference) for n in (seeds - 1, seeds)]
    assert powers[0] < 0.8 <= powers[1]
    images = images_for(components, 5, difference, 0.8, LEVEL)
    assert images
    assert PlannedTest(components, 5, images - 1).power(difference) < 0.8
    detectable = PlannedTest(components, 5, images).detectable(0.8)
    assert detectable and detectable == pytest.approx(difference, abs=0.1)


def test_what_no_number_of_seeds_or_images_reaches_is_not_promised(components: Components) -> None:
    assert seeds_for(components, 500, 1.0, 0.8, LEVEL) is None
    assert images_for(components, 2, 1.0, 0.8, LEVEL) is None
    assert PlannedTest(components, 2, 50, level=1e-12).detectable(0.8) is None
    assert least_whole(lambda number: number >= 7, 1, 9) == 7


def test_a_stricter_level_and_fewer_seeds_find_less_and_no_difference_is_found_in_one_of_twenty(
    components: Components,
) -> None:
    power = PlannedTest(components, 5, 300).power(30.0)
    assert PlannedTest(components, 5, 300, LEVEL / 10).power(30.0) < power
    assert PlannedTest(components, 3, 300).power(30.0) < power
    assert PlannedTest(components, 5, 300).power(0.0) == pytest.approx(LEVEL, abs=0.015)
