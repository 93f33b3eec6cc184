"""What single queries came to: R@K for every K, the hardest, and intervals of the six recalls, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from harness.config.cards import ProtocolCard
from harness.evaluation.measures import mean_measures
from harness.evaluation.protocols import folds, rank_folds
from harness.evaluation.queries import hardest, hits_of, lists, profile, queries
from harness.evaluation.ranks import DIRECTIONS as WAYS
from harness.evaluation.ranks import Direction
from harness.evaluation.records import TrialRankings, TrialRanks, of_ranks, of_shortlists
from harness.evaluation.shortlists import shortlists
from harness.evaluation.statistics import SEED, intervals, resampled

IDS, CAPTIONS = [f"picture {n}" for n in range(40)], [f"a caption, number {n}" for n in range(150)]


def run(seed: int, parts: int = 1) -> tuple[dict[str, float], TrialRanks, TrialRankings]:
    """Measures, ranks and heads of rankings of random scores, with captions spread unevenly over 40 images."""
    rng = np.random.default_rng(7)
    owners = np.sort(np.concatenate([np.arange(40), rng.integers(0, 40, 110)]))
    pairs = np.stack([owners, np.arange(150)], axis=1)
    protocol = ProtocolCard(name="p", images=40, captions=150, folds=parts)
    cuts = folds(protocol, 40, pairs)
    scores = np.random.default_rng(seed).normal(size=(40, 150))
    scores[owners, np.arange(150)] += 1.0
    ranks = rank_folds(scores, cuts)
    return (
        mean_measures(ranks),
        of_ranks(pairs, cuts, ranks),
        of_shortlists(shortlists(scores, cuts), IDS, CAPTIONS),
    )


def best_ranks(ranks: TrialRanks, way: Direction) -> dict[tuple[int, int], int]:
    """The rank of each query in its fold, as docs/reference/protocols.md says it, pair by pair."""
    best: dict[tuple[int, int], int] = {}
    for fold, pair, rank in zip(ranks.folds, ranks.pairs, ranks.ranks[way], strict=True):
        at = (int(fold), int(pair[WAYS.index(way)]))
        best[at] = min(int(rank), best.get(at, 10**9))
    return best


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("way", WAYS)
def test_recall_at_every_k_is_the_share_of_queries_in_each_fold_and_agrees_with_the_measures(
    parts: int, way: Direction
) -> None:
    measures, ranks, _ = run(0, parts)
    recalls = profile(queries(ranks, way))
    best = best_ranks(ranks, way)
    for k in range(1, 101):
        shares = [np.mean([rank <= k for (of, _), rank in best.items() if of == fold]) for fold in range(parts)]
        assert recalls[k - 1] == pytest.approx(100 * np.mean(shares))
    assert [recalls[k - 1] for k in (1, 5, 10)] == pytest.approx([measures[f"{way}_r{k}"] for k in (1, 5, 10)])


@pytest.mark.parametrize("parts", [1, 4])
def test_measures_of_lists_follow_from_the_ranks_that_are_kept(parts: int) -> None:
    measures, ranks, _ = run(0, parts)
    values = lists(ranks)
    assert values.keys() == {f"{way}_{name}" for way in WAYS for name in ("map_r", "r_precision", "ndcg")}
    assert values == pytest.approx({name: measures[name] for name in values})


@pytest.mark.parametrize("parts", [1, 4])
def test_the_hardest_queries_have_the_worst_mean_rank_over_seeds(parts: int) -> None:
    trials = [run(seed, parts) for seed in range(3)]
    runs = [{way: queries(ranks, way) for way in WAYS} for _, ranks, _ in trials]
    worst_queries = hardest(runs, trials[0][1], trials[0][2])
    assert worst_queries.is_named
    for way, hard in (("i2t", worst_queries.i2t), ("t2i", worst_queries.t2i)):
        means = [best_ranks(ranks, way) for _, ranks, _ in trials]
        worst = sorted((np.mean([of[at] for of in means]) for at in means[0]), reverse=True)
        assert [one.rank for one in hard] == pytest.approx(worst[:10])
        names, others = (IDS, CAPTIONS) if way == "i2t" else (CAPTIONS, IDS)
        for one in hard:
            number = names.index(one.query)
            assert np.mean([of[fold, at] for of in means for fold, at in of if at == number]) == pytest.approx(one.rank)
            assert number_of_match(trials[0][1], way, number) == others.index(one.match)
            assert first_found(trials[0][2], way, number) == others.index(one.first)


def number_of_match(ranks: TrialRanks, way: Direction, number: int) -> int:
    """The positive of a query that stands highest."""
    own = WAYS.index(way)
    places = [place for place, pair in enumerate(ranks.pairs) if pair[own] == number]
    return int(ranks.pairs[min(places, key=lambda place: ranks.ranks[way][place])][1 - own])


def first_found(rankings: TrialRankings, way: Direction, number: int) -> int:
    top = rankings.top[way]
    return int(top.results[[*top.queries].index(number)][0])


def test_without_heads_of_rankings_queries_have_numbers_and_nothing_is_said_to_be_found() -> None:
    _, ranks, _ = run(0)
    worst_queries = hardest([{way: queries(ranks, way) for way in WAYS}], ranks, None)
    assert not worst_queries.is_named and {one.first for one in (*worst_queries.i2t, *worst_queries.t2i)} == {""}
    assert all(one.query.startswith("image ") and one.match.startswith("caption ") for one in worst_queries.i2t)


@pytest.mark.parametrize("fault", ["fewer captions", "no texts", "other queries", "other folds"])
def test_rankings_that_do_not_fit_the_ranks_are_as_good_as_none(fault: str) -> None:
    _, ranks, rankings = run(0)
    top = rankings.top["i2t"]
    changed = {
        "fewer captions": rankings._replace(captions=["one"]),
        "no texts": rankings._replace(image_ids=(), captions=()),
        "other queries": rankings._replace(top={**rankings.top, "i2t": top._replace(queries=top.queries + 1)}),
        "other folds": rankings._replace(top={**rankings.top, "i2t": top._replace(folds=top.folds + 1)}),
    }
    runs = [{way: queries(ranks, way) for way in WAYS}]
    assert hardest(runs, ranks, rankings).is_named and not hardest(runs, ranks, changed[fault]).is_named


# --- intervals of the six recalls


def by_hand(ranks: TrialRanks, images: list[int]) -> list[float]:
    """The six recalls and rsum where each image stands as often as it was drawn, with its captions."""
    best_places: dict[str, list[int]] = {way: [] for way in WAYS}
    owner = {int(caption): int(image) for image, caption in ranks.pairs}
    for way in WAYS:
        best = {at: rank for (_, at), rank in best_ranks(ranks, way).items()}
        for image in images:
            numbers = [image] if way == "i2t" else [caption for caption, of in owner.items() if of == image]
            best_places[way] += [best[query] for query in numbers]
    recalls = [100 * float(np.mean([rank <= k for rank in best_places[way]])) for way in WAYS for k in (1, 5, 10)]
    return [*recalls, sum(recalls)]


def test_intervals_of_recalls_are_those_of_samples_counted_by_hand() -> None:
    both = [run(seed)[1] for seed in range(2)]
    draws = np.random.default_rng([SEED, 0]).integers(0, 40, (60, 40))
    samples = [np.mean([by_hand(ranks, [*draw]) for ranks in both], axis=0) for draw in draws.tolist()]
    theirs = np.quantile(samples, [0.025, 0.975], axis=0).T
    (ours,) = intervals([[hits_of(ranks) for ranks in both]], resamples=60)
    assert ours == pytest.approx(theirs)


def test_an_interval_of_a_recall_is_scipys_percentile_bootstrap_over_images() -> None:
    ranks = run(3)[1]
    best = {at: rank for (_, at), rank in best_ranks(ranks, "i2t").items()}
    inside = np.array([best[image] <= 10 for image in range(40)], dtype=float)
    theirs = scipy.stats.bootstrap(
        (inside,), lambda values, axis: 100 * values.mean(axis=axis), n_resamples=5000, method="percentile", rng=1
    ).confidence_interval
    low, high = intervals([[hits_of(ranks)]])[0, 2]
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=2.6)  # a step of one image


def test_the_last_interval_is_that_of_rsum_and_many_rows_are_the_same_as_few() -> None:
    rows = [[hits_of(run(seed)[1])] for seed in range(70)]
    every = intervals(rows, resamples=300)
    assert every.shape == (70, 7, 2) and every[66] == pytest.approx(intervals([rows[66]], resamples=300)[0])
    sums = [resampled(rows[66:67], 300)[:, 0], resampled(rows[:1], 300)[:, 0]]
    assert every[[66, 0], -1] == pytest.approx(np.quantile(sums, [0.025, 0.975], axis=1).T)
