"""`harness compare`: two rows of the boards or two runs, and what cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boards import run_of as logged
from sample_results import log_ranked, ranks_of, result_of, spec_of, two_methods
from tiny_project import Call

from harness.board.cells import probability
from harness.board.comparison import comparisons
from harness.board.evidence import Load, assessed, hits
from harness.board.standings import boards_of
from harness.evaluation import statistics
from harness.evaluation.queries import Hits, hits_of
from harness.evaluation.records import read_ranks
from harness.files import npz
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run
from harness.tracking.tracker import Tracker

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def tracker(project: Path) -> Tracker:
    """Two methods of three seeds, far apart, and one of a single seed on another board as well."""
    tracker = two_methods(project)
    for protocol in ("full", "half"):
        log_ranked(tracker, project, "alone", 0, worst=30, protocol=protocol)
    return tracker


def run_of(tracker: Tracker, method: str, protocol: str) -> Run:
    """The first run of a method under a protocol."""
    runs = ResultStore(tracker.uri).runs()
    return next(run for run in runs if (run.spec.method, run.spec.protocol) == (method, protocol))


def compared(call: Call, capsys: Captured, *names: str) -> list[dict[str, object]]:
    assert call("compare", *names, "--json") == 0, capsys.readouterr()
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_two_rows_are_compared_on_their_board(tracker: Tracker, call: Call, capsys: Captured) -> None:
    (found,) = compared(call, capsys, "worse", "good")
    assert found["board"] == "scenes/full" and found["verdict"] == "good (n = 3) is better than worse (n = 3)"
    low, high = found["interval"]
    assert low < found["difference"] < high < 0 and found["p"] < 0.05
    assert abs(found["difference"]) > found["least"] > 0
    (other,) = compared(call, capsys, "good", "worse")
    assert other["difference"] == -found["difference"] and other["p"] == pytest.approx(found["p"], abs=0.01)
    assert call("compare", "good", "worse") == 0
    page = capsys.readouterr().out
    assert "i2t R@1" in page and "good (n = 3) is better than worse (n = 3)" in page


def test_a_row_of_one_seed_is_not_tested(tracker: Tracker, call: Call, capsys: Captured) -> None:
    (found,) = compared(call, capsys, "alone", "good")
    assert (found["p"], found["least"], found["significant"]) == (None, None, None)
    assert found["verdict"].startswith("not tested: alone (n = 1): other seeds may move rsum")


@pytest.mark.slow
@pytest.mark.parametrize("worst", [4, 5, 6, 7])
def test_a_comparison_says_what_the_board_says(
    project: Path, tracker: Tracker, call: Call, capsys: Captured, worst: int
) -> None:
    """Also where two rows would differ as a pair alone, and do not among all pairs of the board."""
    for number in range(4):
        for seed in range(3):
            log_ranked(tracker, project, f"m{number}" + "x" * number, seed, worst=worst + number)
    store = ResultStore(tracker.uri)
    one = next(one for one in assessed(store.runs(), {}, store.artifact) if one.board.protocol == "full")
    for pair in one.evidence.differences:
        first, second = (one.board.ranked[place].method for place in (pair.first, pair.second))
        (found,) = comparisons(store.runs(), [one.board], [first, second], partial(hits, store))
        assert found.p == pytest.approx(pair.p, nan_ok=True) and found.is_significant == pair.is_significant
        assert ("is better than" in found.verdict) == pair.is_significant


def board_of(worst: Sequence[int]) -> tuple[list[Run], Load]:
    """Runs of rows of three seeds, and what loads their ranks."""
    runs, ranks = [], {}
    for row, seed in product(range(len(worst)), range(3)):
        spec, run_id = spec_of(f"m{row:02}", seed), f"{row} {seed}"
        runs.append(replace(logged(result_of(spec, 400 - row)), run_id=run_id))
        ranks[run_id] = npz(**ranks_of(spec_of(seed=3 * row + seed), images=200, worst=worst[row]))

    def load(run: str) -> Hits | None:
        own = read_ranks(ranks[run])
        return hits_of(own) if own else None

    return runs, load


def test_most_pairs_of_a_large_board_are_not_tested_for_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 630 pairs, the bounds of all decide some; a pair that does not differ alone needs no other."""
    (runs, load), pairs = board_of(range(40, 76)), []

    def tested(*pair: Any) -> float:
        pairs.append(pair)
        return one_pair(*pair)

    one_pair = statistics._share
    monkeypatch.setattr(statistics, "_share", tested)
    for other, is_significant, most in (("m01", False, 1), ("m20", True, 1), ("m08", True, 420)):
        pairs.clear()
        (found,) = comparisons(runs, boards_of(runs, {}), ["m00", other], load)
        assert found.is_significant == is_significant
        assert 1 <= len(pairs) <= most


def test_two_rows_that_differ_as_a_pair_alone_do_not_among_many_that_are_alike() -> None:
    runs, load = board_of([40] * 8)
    (found,) = comparisons(runs, boards_of(runs, {}), ["m00", "m07"], load)
    assert found.p < 0.05 and not found.is_significant
    assert "only as a pair alone" in found.verdict


def test_two_runs_are_compared_as_they_were_trained(tracker: Tracker, call: Call, capsys: Captured) -> None:
    runs = [run_of(tracker, method, "full") for method in ("alone", "worse")]
    (found,) = compared(call, capsys, runs[0].run_id[:12], runs[1].key[:8])
    assert found["verdict"].endswith("as they were trained; other seeds may differ")
    assert found["sides"][0]["rsum"] == pytest.approx(runs[0].numbers["rsum"])


def test_what_cannot_be_compared_is_refused_with_the_reason(tracker: Tracker, call: Call, capsys: Captured) -> None:
    full, half = (run_of(tracker, "alone", name) for name in ("full", "half"))
    for names, words in (
        (("good", "wors"), "unknown row 'wors'; did you mean worse"),
        ((full.run_id, half.run_id), "the runs cannot be compared: protocol full and half"),
    ):
        assert call("compare", *names) == 2
        assert words in capsys.readouterr().err


def test_one_row_or_run_under_two_names_is_no_comparison(tracker: Tracker, call: Call, capsys: Captured) -> None:
    run = run_of(tracker, "alone", "full")
    for first, second, kind in (("good", "good", "row"), (run.run_id, run.key, "run")):
        assert call("compare", first, second) == 2
        assert f"{first} and {second} are one {kind}; give two that differ" in capsys.readouterr().err


def test_rows_whose_ranks_are_gone_are_a_data_error(tracker: Tracker, call: Call, capsys: Captured) -> None:
    for file in Path("runs").rglob("ranks.npz"):
        file.unlink()
    assert call("compare", "good", "worse") == 3
    assert "no usable ranks of good (n = 3); run it again with --force" in capsys.readouterr().err


@pytest.mark.slow
def test_a_method_of_several_recipes_is_named_by_its_label(tracker: Tracker, call: Call, capsys: Captured) -> None:
    for seed in range(3):
        log_ranked(tracker, Path(), "good", seed, worst=5, settings={"dim": 64, "margin": 0.2, "unit": True})
    assert call("compare", "good", "worse") == 2
    assert "good has several rows on scenes/full; name one of 'good (dim" in capsys.readouterr().err
    (found,) = compared(call, capsys, "good (dim 64)", "good (dim 256)")
    assert "do not differ significantly" in found["verdict"] or "is better" in found["verdict"]


@pytest.mark.parametrize(
    ("p", "text"),
    [
        *((0.0496, "0.0496"), (0.049996, "0.049996"), (0.0494, "0.049"), (0.05, "0.050"), (0.0504, "0.050")),
        *((float(np.nextafter(0.05, 0)), "0.049999999999999996"), (0.0009, "< 0.001"), (1.0, "1.000")),
    ],
)
def test_a_probability_never_reads_as_on_the_other_side_of_the_level(p: float, text: str) -> None:
    assert probability(p) == text
