"""The correction for the many pairs of a board, against scipy, and what it shows on boards whose truth is known."""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from simulated_runs import drawn

from harness.board.evidence import groups_of
from harness.evaluation import statistics
from harness.evaluation.queries import Hits
from harness.evaluation.statistics import differ_significantly, differences, false_discovery_rates


def test_false_discovery_rates_are_the_textbooks() -> None:
    assert false_discovery_rates(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert false_discovery_rates(np.array([0.9, 0.8])) == pytest.approx([0.9, 0.9])
    assert false_discovery_rates(np.array([0.01, np.nan, 0.03])) == pytest.approx([0.02, np.nan, 0.03], nan_ok=True)
    assert np.isnan(false_discovery_rates(np.array([np.nan, np.nan]))).all()
    assert false_discovery_rates(np.array([])).size == 0


@given(st.lists(st.floats(0, 1) | st.just(nan), max_size=30), st.data())
def test_false_discovery_rates_are_between_p_and_bonferronis_and_fall_with_any_p(
    values: list[float], data: st.DataObject
) -> None:
    """What `harness compare` relies on: with p alone, or with p times the pairs, one pair is often decided."""
    p = np.array(values)
    tested = ~np.isnan(p)
    adjusted = false_discovery_rates(p)
    assert np.array_equal(np.isnan(adjusted), ~tested)
    assert (adjusted[tested] >= p[tested] * (1 - 1e-12)).all()
    assert (adjusted[tested] <= p[tested] * tested.sum() * (1 + 1e-12)).all()
    assert adjusted[tested] == pytest.approx(scipy.stats.false_discovery_control(p[tested])), "as of tested pairs alone"
    smaller = p * np.array([data.draw(st.floats(0, 1)) for _ in values])
    assert (false_discovery_rates(smaller)[tested] <= adjusted[tested] * (1 + 1e-12)).all()


def drawn_table(rng: np.random.Generator, ends: tuple[float, float], most_seeds: int) -> list[list[Hits]]:
    """Nine rows whose skills lie evenly between two ends, of one to `most_seeds` seeds."""
    ease = rng.normal(size=150)
    seeds = rng.integers(1, most_seeds + 1, 9)
    return [
        [drawn(rng, ease, skill + 0.02 * luck) for luck in rng.normal(size=n)]
        for n, skill in zip(seeds, np.linspace(*ends, 9), strict=True)
    ]


# How far the rows lie apart; below 99 swaps most pairs are decided without any.
TABLES = [((0.0, 0.05), 3), ((0.0, 0.6), 3), ((-1.0, 1.0), 4), ((-4.0, 4.0), 6), ((-4.0, 4.0), 3)]


@pytest.mark.slow
@pytest.mark.parametrize(("ends", "most_seeds"), TABLES)
@pytest.mark.parametrize("resamples", [40, 99, 400, 2000])
def test_one_pair_of_a_table_differs_significantly_where_all_pairs_together_say_so(
    ends: tuple[float, float], most_seeds: int, resamples: int
) -> None:
    rows = drawn_table(np.random.default_rng(resamples), ends, most_seeds)
    for pair in differences(rows, resamples):
        for places in ((pair.first, pair.second), (pair.second, pair.first)):
            assert differ_significantly(rows, *places, resamples) == pair.is_significant, pair


def test_a_pair_of_a_large_table_is_decided_without_swaps_or_with_those_of_few_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(20)
    ease = rng.normal(size=100)
    skills = np.sort([*np.linspace(-2, 2, 39), 0])  # the 20th and the 21st row are equally good
    rows = [[drawn(rng, ease, skill + 0.02 * rng.normal()) for _ in range(5)] for skill in skills]
    one_pair, pairs = statistics._share, []

    def counted(*arguments: Any) -> float:
        pairs.append(arguments)
        return one_pair(*arguments)

    monkeypatch.setattr(statistics, "_share", counted)
    assert not differ_significantly(rows, 19, 20, resamples=1000)
    assert 0 < len(pairs) < 780 / 4, "the others are decided by their bounds"
    monkeypatch.setattr(statistics, "_swapped", lambda *_: pytest.fail("swaps were drawn"))
    assert differ_significantly(rows, 0, 39, resamples=1000)


def test_a_board_of_many_rows_shows_the_differences_that_are_clear() -> None:
    """26 rows of three seeds from 264 to 6, with spreads from 3 to 30: by Holm's method, few if any of 325 pairs."""
    rng = np.random.default_rng(21)
    ease = 0.5 * rng.normal(size=500)
    lucks = np.resize([0.02, 0.1, 0.03, 0.05], 26)
    rows = [
        [drawn(rng, ease, skill + luck * rng.normal()) for _ in range(3)]
        for skill, luck in zip(np.linspace(-0.2, -2.5, 26), lucks, strict=True)
    ]
    pairs = {(pair.first, pair.second): pair for pair in differences(rows)}
    assert pairs[0, 25].is_significant and not pairs[12, 13].is_significant
    groups = groups_of([*pairs.values()])
    assert 25 not in groups[0] and len(groups[0]) < 6 and len(groups[25]) < 13, "no group is the whole board"
    assert sum(pair.is_significant for pair in pairs.values()) > 325 / 2
    assert sum(pair.p * 325 < 0.05 for pair in pairs.values()) < 325 / 4, "what Bonferroni's method would show"
