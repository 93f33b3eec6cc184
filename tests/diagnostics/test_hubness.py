"""Hubness: counts of first places and the skew of N_k, as a slow loop over all scores gives them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import scipy.stats
from folds import card, five_each

from harness.diagnostics.hubness import Hubness, hubness, mean_hubness
from harness.diagnostics.table import Looks
from harness.evaluation.protocols import folds, rank_folds
from harness.evaluation.ranks import DIRECTIONS
from harness.evaluation.records import TrialRankings, TrialRanks, of_ranks, of_shortlists
from harness.evaluation.shortlists import shortlists


def records(scores: np.ndarray, parts: int = 1) -> tuple[TrialRanks, TrialRankings]:
    """What is stored of scores (n, 5 n)."""
    images, captions = scores.shape
    pairs = five_each(images)
    split = folds(card(images, captions, folds=parts), images, pairs)
    ids, texts = [f"image {n}" for n in range(images)], [f"text {n}" for n in range(captions)]
    heads = of_shortlists(shortlists(scores, split), ids, texts)
    return of_ranks(pairs, split, rank_folds(scores, split)), heads


def slow(table: np.ndarray, k: int = 10) -> tuple[Counter[int], list[int]]:
    """N_1 and N_k of all items, queries in rows."""
    order = np.argsort(-table, axis=1, kind="stable")
    among = Counter(order[:, :k].ravel().tolist())
    return Counter(order[:, 0].tolist()), [among[item] for item in range(table.shape[1])]


def test_first_places_and_skew_are_those_of_a_loop_over_all_scores() -> None:
    scores = np.random.default_rng(1).normal(size=(40, 200)).astype(np.float32)
    scores[:, 7] += 2  # a hub among captions
    of = hubness(*records(scores))
    assert of
    for direction, table, names in (("i2t", scores, "text"), ("t2i", scores.T, "image")):
        first, among = slow(table)
        (item, times), own = first.most_common(1)[0], of[direction]  # type: ignore[index]
        assert (own.item, own.times) == (f"{names} {item}", times)
        assert own.first == pytest.approx(100 * times / len(table))
        assert own.expected == pytest.approx(100 / table.shape[1])
        assert own.skew == pytest.approx(scipy.stats.skew(among))
        assert own.absent == pytest.approx(100 * np.mean(np.array(among) == 0))
        assert own.tied == 0 and own.k == 10
    assert of["i2t"].item == "text 7" and of["i2t"].skew > of["t2i"].skew


def test_folds_are_galleries_of_their_own_and_a_small_one_has_a_smaller_k() -> None:
    scores = np.random.default_rng(2).normal(size=(12, 60)).astype(np.float32)
    of, parts = hubness(*records(scores, parts=2)), (scores[:6, :30], scores[6:, 30:])
    assert of and of["t2i"].k == 6 and of["i2t"].k == 10
    assert of["i2t"].skew == pytest.approx(np.mean([scipy.stats.skew(slow(part)[1]) for part in parts]))
    assert of["t2i"].expected == pytest.approx(100 / 6)
    assert of["t2i"].skew == 0  # every image is among the first 6 of 6
    words = [line[0] for line in Looks(hubness=of).lines]
    assert "skew of N_10 and N_6" in words and "items in the first 10 and 6 of no query, %" in words


def test_equal_scores_are_counted_and_said() -> None:
    of = hubness(*records(np.zeros((8, 40), dtype=np.float32)))
    assert of and all(of[direction].tied == 100 for direction in DIRECTIONS)
    assert (of["i2t"].item, of["i2t"].first) == ("text 0", 100)  # the first of the split, by its order alone


def test_rankings_of_another_gallery_are_none_and_means_are_over_runs() -> None:
    rng = np.random.default_rng(3)
    runs = [records(rng.normal(size=(20, 100)).astype(np.float32)) for _ in range(2)]
    both = [hubness(*run) for run in runs]
    assert hubness(runs[0][0], records(np.ones((30, 150), dtype=np.float32))[1]) is None
    mean = mean_hubness([one for one in both if one])
    assert isinstance(mean["i2t"], Hubness) and both[0] and both[1]
    assert mean["i2t"].skew == pytest.approx((both[0]["i2t"].skew + both[1]["i2t"].skew) / 2)
    assert mean["i2t"].item == both[0]["i2t"].item
