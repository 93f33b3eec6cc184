"""Ranks by counting, against a slow plain oracle and against an implementation from outside the project."""

from __future__ import annotations

import tracemalloc

import ir_measures
import numpy as np
import pytest
from folds import make_case, pytrec_eval, slow_map_r, success
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DataError, NonFiniteError
from harness.evaluation.measures import hit_measures, list_measures, measures
from harness.evaluation.ranks import DirectedRanks, best_ranks, directed, rank, rank_direction


def oracle(scores: list[float], positives: list[int]) -> dict[int, int]:
    """Ranks of a query's positives by sorting: of one score, negatives come first and positives as they are given."""
    place = {item: position for position, item in enumerate(positives)}
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item in place, place.get(item, 0)))
    return {item: order.index(item) + 1 for item in positives}


def slow_ranks(scores: np.ndarray, pairs: np.ndarray) -> tuple[list[int], list[int]]:
    """The oracle in both directions, for every pair."""
    i2t, t2i = [], []
    for image, caption in pairs.tolist():
        captions = [c for i, c in pairs.tolist() if i == image]
        images = [i for i, c in pairs.tolist() if c == caption]
        i2t.append(oracle(scores[image].tolist(), captions)[caption])
        t2i.append(oracle(scores[:, caption].tolist(), images)[image])
    return i2t, t2i


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and pairs in any order with any number of positives on both sides."""
    images, captions = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    levels = draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**32 - 1))
    return make_case(np.random.default_rng(seed), images, captions, levels)


@given(cases())
@settings(max_examples=300, deadline=None)
def test_ranks_equal_those_of_a_slow_sorting_oracle(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, pairs = case
    ranks = rank(scores, pairs)
    assert (ranks.i2t.tolist(), ranks.t2i.tolist()) == slow_ranks(scores, pairs)
    assert ranks.i2t.dtype == ranks.t2i.dtype == np.int32


@given(cases())
@settings(max_examples=100, deadline=None)
def test_a_tie_is_counted_when_a_negative_has_the_score_of_the_best_positive(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, pairs = case
    ranks = rank(scores, pairs)
    positive = np.zeros(scores.shape, dtype=bool)
    positive[pairs[:, 0], pairs[:, 1]] = True
    for table, mask, tied in ((scores, positive, ranks.i2t_tied), (scores.T, positive.T, ranks.t2i_tied)):
        expected = [row[~m].tolist().count(row[m].max()) > 0 for row, m in zip(table, mask, strict=True)]
        assert tied.tolist() == expected


@given(cases(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_ranks_do_not_depend_on_the_order_of_the_gallery(case: tuple[np.ndarray, np.ndarray], random) -> None:
    scores, pairs = case
    images, captions = (random.sample(range(size), size) for size in scores.shape)
    moved = np.stack([np.argsort(images)[pairs[:, 0]], np.argsort(captions)[pairs[:, 1]]], axis=1)
    ranks, again = rank(scores, pairs), rank(scores[np.ix_(images, captions)], moved)
    assert np.array_equal(ranks.i2t, again.i2t) and np.array_equal(ranks.t2i, again.t2i)
    assert measures(ranks) == pytest.approx(measures(again))


@given(cases(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_best_rank_does_not_depend_on_the_order_of_the_pairs(case: tuple[np.ndarray, np.ndarray], random) -> None:
    scores, pairs = case
    shuffled = pairs[random.sample(range(len(pairs)), len(pairs))]
    for one, other in zip(directed(rank(scores, pairs)), directed(rank(scores, shuffled)), strict=True):
        assert np.array_equal(best_ranks(one), best_ranks(other))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("levels", [3, 40, 10**6], ids=["many ties", "some ties", "no ties"])
def test_recalls_agree_with_pytrec_eval_success(seed: int, levels: int) -> None:
    rng = np.random.default_rng([seed, levels])
    scores, pairs = make_case(rng, images=int(rng.integers(12, 30)), captions=int(rng.integers(20, 60)), levels=levels)
    scores = scores.astype(np.float32)  # what trec_eval computes in
    positive = np.zeros(scores.shape, dtype=bool)
    positive[pairs[:, 0], pairs[:, 1]] = True
    ours = measures(rank(scores, pairs))
    for way, table, mask in (("i2t", scores, positive), ("t2i", scores.T, positive.T)):
        theirs = success(table, mask)
        assert {k: ours[f"{way}_r{k}"] for k in theirs} == pytest.approx(theirs)


@given(cases())
@settings(max_examples=200, deadline=None)
def test_measures_of_whole_lists_agree_with_pytrec_eval_and_with_a_textbook_loop(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, pairs = case
    positive = np.zeros(scores.shape, dtype=bool)
    positive[pairs[:, 0], pairs[:, 1]] = True
    ours = list_measures(*directed(rank(scores, pairs)))
    for way, table, mask in (("i2t", scores, positive), ("t2i", scores.T, positive.T)):
        theirs = pytrec_eval(table, mask, [ir_measures.nDCG, ir_measures.Rprec])
        assert ours[f"{way}_ndcg"] == pytest.approx(theirs["nDCG"])
        assert ours[f"{way}_r_precision"] == pytest.approx(theirs["Rprec"])
        assert ours[f"{way}_map_r"] == pytest.approx(slow_map_r(table, mask))


def test_measures_of_whole_lists_worked_by_hand() -> None:
    way = DirectedRanks(np.array([7, 2, 7, 7]), np.array([4, 1, 1, 2], dtype=np.int32), np.array([False, False]))
    values = list_measures(way, way)
    # query 2 is answered; query 7 has its positives at 1, 2 and 4: the first R = 3 places are right, right, wrong
    assert values["i2t_map_r"] == pytest.approx(100 * (1 + (1 / 1 + 2 / 2) / 3) / 2)
    assert values["i2t_r_precision"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    dcg = [sum(1 / np.log2(1 + place) for place in places) for places in ((1, 2, 4), (1, 2, 3))]
    assert values["i2t_ndcg"] == pytest.approx(100 * (1 + dcg[0] / dcg[1]) / 2)


@given(cases(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_queries_left_out_are_not_asked_and_stay_candidates(case: tuple[np.ndarray, np.ndarray], random) -> None:
    scores, pairs = case
    for way, column, full in zip(("i2t", "t2i"), (0, 1), directed(rank(scores, pairs)), strict=True):
        queries = random.sample(sorted(set(pairs[:, column])), random.randint(1, len(set(pairs[:, column]))))
        mask = np.isin(pairs[:, column], queries)
        part = rank_direction(scores, pairs[mask], way)
        assert np.array_equal(part.ranks, full.ranks[mask])
        assert np.array_equal(part.tied, full.tied[np.isin(np.unique(pairs[:, column]), queries)])
        assert hit_measures(part, part)["i2t_r1"] == pytest.approx(
            100 * np.mean([full.ranks[pairs[:, column] == query].min() == 1 for query in queries])
        )


@pytest.mark.parametrize("way", ["i2t", "t2i"])
def test_pairs_of_one_direction_that_do_not_fit_the_scores_are_refused(way: str) -> None:
    scores = np.zeros((2, 3), dtype=np.float32)
    for pairs, message in (([[0, 3]], "names caption 3"), ([[1, 1], [1, 1]], "is there twice"), ([], "expected")):
        with pytest.raises(DataError, match=message):
            rank_direction(scores, np.array(pairs, dtype=np.int64).reshape(-1, 2), way)


def test_the_names_given_to_pytrec_eval_do_decide_its_ties() -> None:
    table, positive = np.zeros((2, 12)), np.eye(2, 12, dtype=bool)
    assert success(table, positive, pessimistic=True) == {1: 0, 5: 0, 10: 0}
    assert success(table, positive, pessimistic=False) == {1: 100, 5: 100, 10: 100}


def test_a_constant_scorer_gets_no_better_than_chance() -> None:
    pairs = np.stack([np.repeat(np.arange(20), 5), np.arange(100)], axis=1)
    values = measures(rank(np.full((20, 100), 0.5, dtype=np.float32), pairs))
    assert values["rsum"] == 0
    assert values["i2t_tied"] == values["t2i_tied"] == 100
    assert values["i2t_median_rank"] == 96 and values["t2i_median_rank"] == 20


def test_a_perfect_scorer_gets_everything() -> None:
    pairs = np.stack([np.repeat(np.arange(20), 5), np.arange(100)], axis=1)
    values = measures(rank(np.repeat(np.eye(20), 5, axis=1), pairs))
    assert values["rsum"] == 600 and values["i2t_mean_rank"] == values["t2i_mean_rank"] == 1
    assert values["i2t_tied"] == values["t2i_tied"] == 0


def test_measures_of_a_small_table_worked_by_hand() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.8, 0.2, 0.5]], dtype=np.float32)
    values = measures(rank(scores, np.array([[0, 0], [0, 1], [1, 2]])))
    # images: 0 has caption 0 on top; 1 has caption 2 behind caption 0. Captions: 0 -> 1, 1 -> behind, 2 -> tied
    assert (values["i2t_r1"], values["t2i_r1"]) == (50, pytest.approx(100 / 3))
    assert (values["i2t_mean_rank"], values["t2i_mean_rank"]) == (1.5, pytest.approx(5 / 3))
    assert (values["i2t_tied"], values["t2i_tied"]) == (0, pytest.approx(100 / 3))
    assert values["rsum"] == sum(values[f"{way}_r{k}"] for way in ("i2t", "t2i") for k in (1, 5, 10))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_never_ranked(bad: float) -> None:
    scores = np.zeros((300, 4), dtype=np.float32)
    scores[290, 2] = scores[299, 0] = bad
    pairs = np.stack([np.arange(300), np.arange(300) % 4], axis=1)
    with pytest.raises(NonFiniteError, match="image 290 and caption 2 "):
        rank(scores, pairs)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([[0, 0], [0, 1]], "image 1 has no pair"),
        ([[0, 0], [1, 0]], "caption 1 has no pair"),
        ([[0, 0], [1, 1], [2, 1]], "pair 2 names image 2; there are 2"),
        ([[0, 0], [1, -1]], "pair 1 names caption -1"),
        ([[0, 0], [1, 1], [0, 0]], r"pair 2 \(image 0, caption 0\) is there twice"),
        ([[0, 0, 0]], "expected"),
    ],
)
def test_pairs_that_do_not_fit_the_scores_are_refused(pairs: list[list[int]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        rank(np.zeros((2, 2), dtype=np.float32), np.array(pairs))


def test_more_rows_than_one_block_and_more_ties_than_a_byte_are_counted() -> None:
    scores = np.zeros((1000, 3), dtype=np.float32)
    pairs = np.stack([np.arange(1000), np.arange(1000) % 3], axis=1)
    ranks = rank(scores, pairs)
    assert best_ranks(directed(ranks)[1]).tolist() == [1000 - 333, 1001 - 333, 1001 - 333]


def test_ranking_copies_no_score_matrix() -> None:
    scores = np.random.default_rng(0).standard_normal((1000, 5000), dtype=np.float32)
    pairs = np.stack([np.repeat(np.arange(1000), 5), np.arange(5000)], axis=1)
    tracemalloc.start()
    rank(scores, pairs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < scores.nbytes / 4
