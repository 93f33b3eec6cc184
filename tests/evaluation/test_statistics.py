"""Intervals, paired tests and ties: against scipy, simulations whose truth is known, and their own properties."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from harness.config.cards import ProtocolCard
from harness.errors import DataError
from harness.evaluation.measures import mean_measures
from harness.evaluation.protocols import folds, rank_folds
from harness.evaluation.records import TrialRanks, of_ranks
from harness.evaluation.statistics import (
    Difference,
    Hits,
    differences,
    hits_of,
    holm,
    intervals,
    letters,
    recalls,
    run_noise,
    shares,
)

CAPTIONS = 5


def hits(images: np.ndarray, captions: np.ndarray, parts: int = 1) -> Hits:
    """Of chances (N,) and (N, 5) or of what came, 0 or 1; found at one rank is found at all."""
    answers = np.stack([np.stack([images, captions.sum(axis=1)], axis=1)] * 3, axis=2).astype(float)
    queries = np.stack([np.ones(len(images)), np.full(len(images), captions.shape[1])], axis=1)
    return Hits(np.repeat(np.arange(parts), len(images) // parts), queries, answers)


def drawn(rng: np.random.Generator, ease: np.ndarray, skill: float) -> Hits:
    """A run whose images are hard or easy together with their captions."""
    chance = scipy.stats.norm.cdf(ease + skill)
    return hits(rng.random(len(ease)) < chance, rng.random((len(ease), CAPTIONS)) < chance[:, None])


def rsum(one: Hits) -> float:
    return float(recalls(one).sum())


@pytest.mark.parametrize("parts", [1, 4])
def test_hits_add_up_to_the_measures_of_the_trial_that_kept_the_ranks(parts: int) -> None:
    rng = np.random.default_rng(0)
    owners = np.sort(np.concatenate([np.arange(40), rng.integers(0, 40, 110)]))
    pairs = np.stack([owners, np.arange(150)], axis=1)
    protocol = ProtocolCard(name="p", images=40, captions=150, folds=parts)
    cuts = folds(protocol, 40, pairs)
    ranks = rank_folds(rng.normal(size=(40, 150)), cuts)
    measures, values = mean_measures(ranks), recalls(hits_of(of_ranks(pairs, cuts, ranks)))
    for way, direction in enumerate(("i2t", "t2i")):
        for column, k in enumerate((1, 5, 10)):
            assert values[way, column] == pytest.approx(measures[f"{direction}_r{k}"])


def test_a_caption_of_several_images_is_one_query() -> None:
    pairs = np.array([[0, 0], [1, 0], [1, 1]])
    ranks = {"i2t": np.array([1, 1, 2]), "t2i": np.array([7, 1, 11])}
    one = hits_of(TrialRanks(pairs, np.zeros(3, dtype=int), ranks, {}))
    assert one.queries.tolist() == [[1, 1], [1, 1]]
    assert one.answered[:, 1].tolist() == [[1, 1, 1], [0, 0, 0]]


# --- intervals


def test_an_interval_is_scipys_percentile_bootstrap_over_images() -> None:
    rng = np.random.default_rng(1)
    one = drawn(rng, rng.normal(size=60), 0.3)

    def total(images: np.ndarray) -> float:
        picked = images.astype(int)
        return float((100 * one.answered[picked].sum(axis=0) / one.queries[picked].sum(axis=0)[:, None]).sum())

    theirs = scipy.stats.bootstrap(
        (np.arange(60),), total, vectorized=False, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    low, high = intervals([[one]])[0, -1]
    assert low == pytest.approx(theirs.low, abs=4) and high == pytest.approx(theirs.high, abs=4)
    assert high - low == pytest.approx(theirs.high - theirs.low, rel=0.05)


def test_an_interval_holds_the_truth_in_19_cases_of_20_and_one_that_ignores_images_does_not() -> None:
    rng = np.random.default_rng(3)
    truth = 600 * scipy.stats.norm.cdf(0.2 / np.sqrt(2))  # the mean over images of the normal ease
    inside = {"images": 0, "captions": 0}
    rounds = 400
    for _ in range(rounds):
        one = drawn(rng, rng.normal(size=100), 0.2)
        kinds = {"images": one, "captions": as_if_every_caption_were_alone(one)}
        for kind, run in kinds.items():
            low, high = intervals([[run]], resamples=400)[0, -1]
            inside[kind] += bool(low <= truth <= high)
    assert 0.92 < inside["images"] / rounds < 0.975
    assert inside["captions"] / rounds < 0.9


def as_if_every_caption_were_alone(one: Hits) -> Hits:
    """The same answers, with an image query and a caption query a row, in an order of their own."""
    count = len(one.answered)
    captions = np.concatenate([np.arange(CAPTIONS) < right for right in one.answered[:, 1, 0]])
    images = np.tile(one.answered[:, 0, 0], CAPTIONS)  # next to the captions of other images
    queries, both = np.ones((count * CAPTIONS, 2)), np.stack([images, captions], axis=1)
    return Hits(np.zeros(count * CAPTIONS, dtype=int), queries, np.repeat(both[:, :, None], 3, axis=2).astype(float))


def test_images_are_drawn_within_their_fold() -> None:
    right, wrong = np.ones(20), np.zeros(20)
    answers = np.concatenate([right, wrong])
    low, high = intervals([[hits(answers, np.repeat(answers[:, None], CAPTIONS, axis=1), parts=2)]])[0, -1]
    assert low == high == pytest.approx(300), "each fold is all right or all wrong, however it is drawn"


# --- differences


def test_a_test_of_equal_seeds_is_scipys_paired_permutation_test() -> None:
    rng = np.random.default_rng(4)
    ease = rng.normal(size=10)
    first, second = drawn(rng, ease, 0.6), drawn(rng, ease, -0.2)
    (difference,) = differences([[first, first], [second, second]], resamples=20_000)
    values = [shares(one).sum(axis=(1, 2)) for one in (first, second)]
    theirs = scipy.stats.permutation_test(
        values, lambda a, b, axis: (a - b).sum(axis=axis), permutation_type="samples", vectorized=True
    )
    assert difference.rsum == pytest.approx(theirs.statistic)
    assert difference.p == pytest.approx(theirs.pvalue, abs=0.01) and 0 < difference.p < 0.5


@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.1), (3, 0.15), (5, 0.0)])
def test_rows_that_differ_by_chance_alone_are_told_apart_once_in_twenty_times(seeds: int, spread: float) -> None:
    """Methods of one skill, trained with some luck: on the same images, each harder for one than for the other."""
    rng = np.random.default_rng(5)
    significant, rounds = 0, 1500
    for _ in range(rounds):
        ease = rng.normal(size=(1, 120)) + rng.normal(size=(2, 120)) / 2  # shared, and of a method
        rows = [[drawn(rng, own, spread * rng.normal()) for _ in range(seeds)] for own in ease]
        (difference,) = differences(rows, resamples=300)
        significant += difference.p < 0.05
    assert 0.035 <= significant / rounds <= 0.065


def test_luck_of_training_counts_and_not_the_images_alone() -> None:
    """Every seed's difference is beyond what images explain, and its sign is a matter of luck."""
    rng = np.random.default_rng(6)
    ease = rng.normal(size=2000)
    rows = [[drawn(rng, ease, skill) for skill in skills] for skills in ((0.5, 0.1, 0.45), (0.2, 0.3, 0.0))]
    (difference,) = differences(rows)
    one_model = [[row[0], row[0]] for row in rows]
    assert difference.p > 0.05 and differences(one_model)[0].p < 0.001


def test_single_runs_are_never_told_apart_by_themselves_and_spread_as_others_do_beside_them() -> None:
    rng = np.random.default_rng(7)
    ease = rng.normal(size=300)
    good, bad = drawn(rng, ease, 2.0), drawn(rng, ease, -2.0)
    alone = differences([[good], [bad]])
    assert np.isnan([alone[0].p, alone[0].adjusted, alone[0].least]).all()
    assert letters(2, alone) == ["a", "a"]
    beside = [[drawn(rng, ease, 0.1 * luck) for luck in rng.normal(size=5)] for _ in range(2)]
    results = differences([[good], [bad], *beside])
    assert results[0].adjusted < 0.05 and results[0].least > 0


def test_the_least_difference_is_a_matter_of_chance_and_not_of_the_difference_that_was_found() -> None:
    rng = np.random.default_rng(8)
    ease = rng.normal(size=400)
    results = []
    for skill in (0.0, 0.2, 1.0):
        rows = [[drawn(rng, ease, s + 0.02 * luck) for luck in rng.normal(size=6)] for s in (skill, 0.0)]
        results += differences(rows, resamples=2000)
    assert [abs(one.rsum) > one.least for one in results] == [one.p < 0.05 for one in results] == [False, True, True]
    assert results[2].least < 2 * results[0].least


def test_the_same_ranks_give_the_same_numbers_again_in_whatever_order_the_rows_stand() -> None:
    rng = np.random.default_rng(9)
    ease = rng.normal(size=80)
    rows = [[drawn(rng, ease, skill) for _ in range(2)] for skill in (0.0, 0.5, 1.0)]
    first, again = (differences(rows, resamples=500) for _ in range(2))
    assert first == again and np.array_equal(intervals(rows, 500), intervals(rows, 500))
    assert np.allclose(intervals(rows[::-1], 500)[::-1], intervals(rows, 500))


def test_rows_that_answered_other_queries_are_refused() -> None:
    rng = np.random.default_rng(10)
    rows = [[drawn(rng, rng.normal(size=count), 0.0)] for count in (30, 31)]
    for compare in (intervals, differences):
        with pytest.raises(DataError, match="the same queries"):
            compare(rows)


def test_one_row_has_an_interval_and_no_differences() -> None:
    rng = np.random.default_rng(11)
    row = [drawn(rng, rng.normal(size=50), 0.0)]
    assert differences([row]) == [] and intervals([row], 100).shape == (1, 7, 2)
    assert letters(1, []) == ["a"]


@pytest.mark.parametrize("others", [1, 4])
def test_one_more_run_lies_within_the_noise_of_the_others_in_19_cases_of_20(others: int) -> None:
    """Four runs tell the spread; the further one is compared with one of them, or with their mean."""
    runs = np.random.default_rng(12).normal(200, 3, (20_000, 5))
    beyond = [
        abs(more - np.mean(known[:others])) > run_noise(float(np.std(known, ddof=1)), 4, mean_of=others)
        for *known, more in runs
    ]
    assert np.mean(beyond) == pytest.approx(0.05, abs=0.01 if others == 4 else 0.03)
    assert np.isnan(run_noise(3.0, 1))


# --- many pairs


def test_holm_is_the_textbooks() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])
    assert np.isnan(holm(np.array([0.01, np.nan]))).all()


PAIRS = [*combinations(range(7), 2)]


@given(st.integers(1, 7), st.sets(st.sampled_from(PAIRS)))
def test_two_rows_share_a_letter_exactly_where_they_are_not_told_apart(count: int, apart: set[tuple[int, int]]) -> None:
    pairs = [pair for pair in PAIRS if max(pair) < count]
    named = letters(count, [Difference(*pair, 1.0, 0.0, 0.01 if pair in apart else 0.5, 1.0) for pair in pairs])
    assert all(named) and "a" in named[0]
    for first, second in pairs:
        assert bool({*named[first]} & {*named[second]}) == ((first, second) not in apart)
