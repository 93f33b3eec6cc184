"""Intervals, paired tests and ties: against scipy, simulations whose truth is known, and their own properties."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.stats
from simulated_runs import CAPTIONS, drawn, hits

from harness.config.cards import ProtocolCard
from harness.errors import DataError
from harness.evaluation.measures import mean_measures
from harness.evaluation.protocols import folds, rank_folds
from harness.evaluation.queries import Hits, hits_of, recalls, shares
from harness.evaluation.records import TrialRanks, of_ranks
from harness.evaluation.statistics import (
    Error,
    Spread,
    common_degrees,
    differences,
    intervals,
    is_tested,
    run_noise,
    tail,
    training_errors,
)


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


def test_a_caption_of_images_in_two_folds_is_a_query_in_both() -> None:
    pairs = np.array([[0, 0], [1, 1], [2, 2], [3, 3], [3, 0], [0, 3]])
    cuts = folds(ProtocolCard(name="p", images=4, captions=4, folds=2), 4, pairs)
    for seed in range(20):
        ranks = rank_folds(np.random.default_rng(seed).normal(size=(4, 4)), cuts)
        one = hits_of(of_ranks(pairs, cuts, ranks))
        assert one.queries.tolist() == [[1, 2], [1, 1], [1, 1], [1, 2]], "of each fold the first image that has it"
        assert rsum(one) == pytest.approx(mean_measures(ranks)["rsum"])


# --- intervals


def test_an_interval_is_of_the_draws_that_ask_a_caption_of_each_fold() -> None:
    queries, answered = np.array([[1.0, 1], [1, 0]]), np.ones((2, 2, 3))
    answered[1] = 0  # the second image has no caption that is its own: it is drawn twice in a quarter of cases
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (ends,) = intervals([[Hits(np.zeros(2, dtype=int), queries, answered)]])
    assert ends[:3].tolist() == [[50, 100]] * 3 and ends[3:6].tolist() == [[100, 100]] * 3
    assert ends[6].tolist() == [450, 600]


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


@pytest.mark.slow
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


def test_a_test_of_two_runs_is_scipys_paired_permutation_test() -> None:
    rng = np.random.default_rng(4)
    ease = rng.normal(size=10)
    first, second = drawn(rng, ease, 0.6), drawn(rng, ease, -0.2)
    (difference,) = differences([[first], [second]], resamples=20_000, retrained=False)
    values = [shares(one).sum(axis=(1, 2)) for one in (first, second)]
    theirs = scipy.stats.permutation_test(
        values, lambda a, b, axis: (a - b).sum(axis=axis), permutation_type="samples", vectorized=True
    )
    assert difference.rsum == pytest.approx(theirs.statistic)
    assert difference.p == pytest.approx(theirs.pvalue, abs=0.01) and 0 < difference.p < 0.5


@pytest.mark.parametrize("images", [2, 4, 6])
def test_a_difference_that_is_the_same_for_every_image_is_as_rare_as_its_signs(images: int) -> None:
    right, wrong = (hits(np.full(images, value), np.full((images, CAPTIONS), value)) for value in (1.0, 0.0))
    (difference,) = differences([[right], [wrong]], retrained=False)
    assert difference.rsum == pytest.approx(600) and difference.p == pytest.approx(2 / 2**images, abs=0.02)


# Seeds and luck of training of both rows: equal, unequal, and the cases that gave more alarms than 5 % before.
FAST = [(2, 2, 0.1, 0.1), (3, 3, 0.15, 0.15), (2, 10, 0.5, 0.05), (3, 3, 0.5, 0.0)]
LONG = [
    *((5, 5, 0.0, 0.0), (10, 10, 0.1, 0.1), (2, 10, 0.2, 0.2), (2, 3, 0.5, 0.0), (3, 10, 0.3, 0.3)),
    *((3, 3, 0.3, 0.05), (3, 10, 0.5, 0.0)),
]
ALARMS = [*FAST, *(pytest.param(*case, marks=pytest.mark.soak) for case in LONG)]


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second", "luck", "other"), ALARMS)
def test_equally_good_methods_differ_significantly_once_in_twenty_times(
    first: int, second: int, luck: float, other: float
) -> None:
    """Methods of one skill, trained with some luck: on the same images, each harder for one than for the other."""
    rng = np.random.default_rng(5)
    alarms, rounds = 0, 800
    for _ in range(rounds):
        ease = rng.normal(size=120) + rng.normal(size=(2, 120)) / 2  # shared, and of a method
        sides = zip(ease, (first, second), (luck, other), strict=True)
        rows = [[drawn(rng, own, sd * rng.normal()) for _ in range(seeds)] for own, seeds, sd in sides]
        alarms += differences(rows, resamples=300)[0].p < 0.05
    least = 0.0 if 2 in (first, second) else 0.035  # two seeds tell too little of their spread
    assert least <= alarms / rounds <= 0.065


def test_luck_of_training_counts_and_not_the_images_alone() -> None:
    """Every seed's difference is beyond what images explain, and its sign is a matter of luck."""
    rng = np.random.default_rng(6)
    ease = rng.normal(size=2000)
    rows = [[drawn(rng, ease, skill) for skill in skills] for skills in ((0.5, 0.1, 0.45), (0.2, 0.3, 0.0))]
    (found,) = differences(rows)
    one_model = [[row[0]] for row in rows]
    assert found.p > 0.05 and differences(one_model, retrained=False)[0].p < 0.001


def test_a_row_without_a_spread_of_its_own_is_never_tested_whatever_stands_beside_it() -> None:
    rng = np.random.default_rng(7)
    ease = rng.normal(size=300)
    good, bad = drawn(rng, ease, 2.0), drawn(rng, ease, -2.0)
    beside = [[drawn(rng, ease, 0.1 * luck) for luck in rng.normal(size=5)] for _ in range(2)]
    rows = [[good], [bad], [good, good, good], *beside]
    assert [is_tested(row) for row in rows] == [False, False, False, True, True]
    pairs = differences(rows, resamples=500)
    for pair in pairs:
        assert pair.is_tested == ({pair.first, pair.second} == {3, 4})
        assert pair.is_tested or (np.isnan([pair.p, pair.adjusted, pair.least]).all() and not pair.is_significant)
    assert pairs[0].rsum == pytest.approx(rsum(good) - rsum(bad))
    assert pairs[-1].adjusted == pairs[-1].p, "pairs that are not tested count for nothing in the correction"
    assert differences([[good], [bad]], resamples=500, retrained=False)[0].is_significant, "the runs alone are"


def test_a_pair_depends_on_its_two_rows_alone_and_not_on_their_order() -> None:
    rng = np.random.default_rng(15)
    ease = rng.normal(size=200)
    skills = ((0.1, 0.3), (0.0, 0.1, 0.05), (0.5, 0.45, 0.6, 0.4), (-3.0, -3.01))
    rows = [[drawn(rng, ease, skill) for skill in row] for row in skills]
    for pair in differences(rows, resamples=1000):
        (alone,) = differences([rows[pair.first], rows[pair.second]], resamples=1000)
        (other,) = differences([rows[pair.second], rows[pair.first]], resamples=1000)
        assert alone[2:4] + alone[5:] == pytest.approx(pair[2:4] + pair[5:])
        assert (-other.rsum, other.p, other.least) == pytest.approx((pair.rsum, pair.p, pair.least))


@pytest.mark.slow
def test_many_rows_that_all_differ_are_found_to_differ() -> None:
    """10,000 swaps tell no p below 0.0001, which times 1,770 pairs is no longer significant."""
    rng = np.random.default_rng(16)
    ease = rng.normal(size=1000) * 2
    rows = [[drawn(rng, ease, skill + 0.001 * luck) for luck in rng.normal(size=5)] for skill in np.linspace(-5, 5, 60)]
    pairs = differences(rows, resamples=1000)
    assert len(pairs) == 1770 and np.mean([pair.is_significant for pair in pairs]) > 0.95


def test_the_tail_of_a_normal_and_a_t_variable_is_that_of_either_where_it_is_alone_and_of_both_in_between() -> None:
    for degrees in (1, 2.5, 9):
        ours = [tail(value, 0.0, Error(2.0, degrees)) for value in (0.1, 2, 20, 2000)]
        assert ours == pytest.approx(2 * scipy.stats.t.sf([0.05, 1, 10, 1000], degrees), rel=1e-6)
    assert tail(-5.0, 4.0, Error(0.0, 1)) == pytest.approx(2 * scipy.stats.norm.sf(2.5))
    rng = np.random.default_rng(17)
    both = 2 * rng.normal(size=200_000) + 1.5 * rng.standard_t(3, 200_000)
    assert tail(6.0, 4.0, Error(1.5, 3)) == pytest.approx(np.mean(np.abs(both) > 6), rel=0.05)


def test_errors_of_training_are_of_both_rows_together_and_two_seeds_beside_more_have_an_error_of_their_own() -> None:
    first, second = Spread(9.0, 0.0, 4, 5), Spread(4.0, 0.0, 4, 5)
    (error,) = training_errors(first, second)
    assert error.sd == pytest.approx((13 / 5) ** 0.5)
    (error,) = training_errors(first, Spread(0.0, 0.0, 4, 5))
    theirs = scipy.stats.ttest_1samp([-1, -1, 0, 1, 1], 2)
    assert error.degrees == 4
    assert tail(2.0, 0.0, Error(5**-0.5, 4)) == pytest.approx(theirs.pvalue), "where one row has all the spread"
    (error,) = training_errors(Spread(4.0, 0.0, 2, 3), Spread(4.0, 0.0, 19, 20))
    assert error.degrees <= 6, "no more than three times those of the smaller row"
    assert [one.degrees for one in training_errors(Spread(1.0, 0.0, 1, 2), second)] == [1, 4]


@pytest.mark.parametrize(("first", "second"), [(3, 3), (3, 5), (3, 10), (4, 4), (5, 5), (5, 10), (10, 10)])
def test_the_degrees_of_freedom_keep_the_level_whatever_share_of_the_spread_a_row_has(first: int, second: int) -> None:
    """Normal errors of training alone, computed: Welch's degrees give up to 6.9 % where three seeds meet ten."""
    points = (np.arange(60) + 0.5) / 60
    drawn_variances = [scipy.stats.chi2.ppf(points, n - 1) / (n - 1) for n in (first, second)]
    for share in (0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 1):  # of the first row
        one, other = np.meshgrid(share * drawn_variances[0], (1 - share) * drawn_variances[1])
        degrees = [
            common_degrees(Spread(a * first, 0, first - 1, first), Spread(b * second, 0, second - 1, second))
            for a, b in zip(one.ravel(), other.ravel(), strict=True)
        ]
        limit = scipy.stats.t.ppf(0.975, degrees) * np.sqrt((one + other).ravel())
        assert 0.03 <= 2 * scipy.stats.norm.sf(limit).mean() <= 0.06
        assert first != second or 2 * scipy.stats.norm.sf(limit).mean() >= 0.038


def test_the_luck_of_queries_is_taken_off_the_spread_or_off_the_swaps_and_never_off_both() -> None:
    for seeds in (2, 3, 10):
        row = Spread(9.0, 2.0, seeds - 1, seeds)
        assert row.training - row.counted_twice == pytest.approx((9.0 - 2.0) / seeds)
    assert Spread(9.0, 2.0, 1, 2).training == 9.0 / 2, (
        "two seeds may lie close together by chance: nothing is taken off"
    )


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


@pytest.mark.slow
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
