"""What the store's ranks say of a board: intervals, groups, differences, and what is told where ranks are gone."""

from __future__ import annotations

import shutil
from itertools import combinations
from math import nan
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_results import log_ranked, ranks_of, spec_of

from harness.board.evidence import Evidence, assessed, groups_of, numbers
from harness.board.forms import files
from harness.board.publishing import publish
from harness.config.registry import Registry
from harness.config.sections import Training
from harness.errors import StoreError
from harness.evaluation.statistics import Difference
from harness.tracking.result_store import ResultStore
from harness.tracking.tracker import Tracker
from harness.trial.results import Current

QUALITY = {"good": 4, "same": 4, "bad": 400}  # the worst rank of each method
NOTHING = Registry({}, {})


@pytest.fixture
def tracker(store: str, tmp_path: Path) -> Tracker:
    """A store of three methods and three seeds, two of the methods alike; artifacts in a folder of their own."""
    tracker = Tracker(store, tmp_path / "artifacts")
    for method, worst in QUALITY.items():
        for seed in range(3):
            log_ranked(tracker, tmp_path, method, seed, worst)
    return tracker


def page(tracker: Tracker) -> tuple[str, Evidence]:
    """The only board of a store, and its evidence."""
    (one,) = found = assessed(ResultStore(tracker.uri).runs(), {}, ResultStore(tracker.uri).artifact)
    return files(found, {})["scenes-full.md"].decode(), one.evidence


@pytest.mark.slow
def test_rows_that_are_alike_name_each_other_and_one_that_is_worse_itself_alone(tracker: Tracker) -> None:
    text, evidence = page(tracker)
    assert evidence.groups == {0: "1–2", 1: "1–2", 2: "3"}
    assert "| bad | 3 |" in text.replace("| 3 | bad", "| bad")
    assert f"For good and same, no difference of rsum below {evidence.least:.1f} would have been significant." in text
    assert all(abs(one.rsum) > one.least for one in evidence.differences if one.adjusted < 0.05)
    assert [(one.first, one.second, one.adjusted < 0.05) for one in evidence.differences] == [
        (0, 1, False),
        (0, 2, True),
        (1, 2, True),
    ]
    assert all(low < row < high for row, (low, high) in zip(means(tracker), evidence.intervals.values(), strict=True))


def means(tracker: Tracker) -> list[float]:
    runs = ResultStore(tracker.uri).runs()
    sums = [[run.numbers["rsum"] for run in runs if run.spec.method == method] for method in QUALITY]
    return sorted(map(fmean, sums), reverse=True)


def first_id(tracker: Tracker, method: str) -> str:
    return next(run.run_id for run in ResultStore(tracker.uri).runs() if run.spec.method == method)


@pytest.mark.slow
def test_a_row_whose_ranks_are_gone_stays_on_the_board_and_says_so(tracker: Tracker) -> None:
    lost = first_id(tracker, "same")
    for folder in (Path(tracker.uri.removeprefix("sqlite:///")).parents[1] / "artifacts").rglob(lost):
        shutil.rmtree(folder)
    text, evidence = page(tracker)
    assert len(evidence.lost) == 1 and len(evidence.intervals) == 2
    (line,) = [line for line in text.splitlines() if line.startswith("|") and "no usable ranks in the store" in line]
    assert "Left out: same (no usable ranks in the store)." in text
    assert "same" in line and len(evidence.differences) == 1


@pytest.mark.slow
def test_ranks_that_are_damaged_are_as_good_as_gone(tracker: Tracker, tmp_path: Path) -> None:
    (file, *_) = sorted((tmp_path / "artifacts").rglob("ranks.npz"))
    file.write_bytes(file.read_bytes()[:50])
    assert len(page(tracker)[1].lost) == 1


@pytest.mark.slow
def test_ranks_of_other_queries_are_left_out_and_the_others_compared(tracker: Tracker, tmp_path: Path) -> None:
    run = first_id(tracker, "good")
    (file,) = (tmp_path / "artifacts").rglob(f"{run}/**/ranks.npz")
    np.savez(file, **ranks_of(spec_of(), images=59))
    text, evidence = page(tracker)
    assert len(evidence.lost) == 1 and len(evidence.differences) == 1
    assert "no usable ranks in the store" in text


@pytest.mark.slow
def test_one_row_alone_is_compared_with_nothing(store: str, tmp_path: Path) -> None:
    tracker = Tracker(store, tmp_path / "artifacts")
    for seed in range(3):
        log_ranked(tracker, tmp_path, "alone", seed, 4)
    text, evidence = page(tracker)
    assert len(evidence.intervals) == 1 and not evidence.differences
    assert "- Group" not in text and "## Differences" not in text


@pytest.mark.slow
def test_single_seeds_are_not_tested_and_share_no_group(store: str, tmp_path: Path) -> None:
    tracker = Tracker(store, tmp_path / "artifacts")
    for method, worst in QUALITY.items():
        log_ranked(tracker, tmp_path, method, 0, worst)
    text, evidence = page(tracker)
    assert not evidence.groups and not evidence.is_testable
    assert "fewer than two rows have several seeds" in text and "no difference of rsum below" not in text


@pytest.mark.slow
@pytest.mark.parametrize("method", ["floor", "external:CLIP"])
def test_untrained_and_external_rows_lend_no_spread_to_single_seeds(store: str, tmp_path: Path, method: str) -> None:
    tracker = Tracker(store, tmp_path / "artifacts")
    for name, worst in QUALITY.items():
        log_ranked(tracker, tmp_path, name, 0, worst)
    for seed in range(4):
        log_ranked(tracker, tmp_path, method, seed, 4000, training=Training(epochs=0), epochs=0)
    _, evidence = page(tracker)
    assert not evidence.is_testable and not evidence.groups
    for seed in (1, 2):
        log_ranked(tracker, tmp_path, "bad", seed, QUALITY["bad"])
    _, evidence = page(tracker)
    assert evidence.groups == {2: "3", 3: "4"}, "by their own spread"


@pytest.mark.slow
def test_the_smallest_difference_is_told_of_trained_rows(store: str, tmp_path: Path) -> None:
    tracker = Tracker(store, tmp_path / "artifacts")
    for seed in range(3):
        for name, worst in {"good": 4, "bad": 40}.items():
            log_ranked(tracker, tmp_path, name, seed, worst)
        log_ranked(tracker, tmp_path, "floor", seed, 2, training=Training(epochs=0), epochs=0)
    text, evidence = page(tracker)
    assert evidence.leading and (evidence.leading.first, evidence.leading.second) == (1, 2)
    assert f"For good and bad, no difference of rsum below {evidence.least:.1f} would have been significant." in text


def shown(group: str) -> set[int]:
    """The places that a cell names."""
    spans = [list(map(int, part.split("–"))) for part in group.split(", ")]
    return {number - 1 for span in spans for number in range(span[0], span[-1] + 1)}


@given(st.integers(2, 70), st.data())
def test_what_a_group_names_are_the_rows_that_do_not_differ_significantly(count: int, data: st.DataObject) -> None:
    dense = data.draw(st.floats(0, 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    untested = set(np.flatnonzero(rng.random(count) < 0.2))
    pairs = [
        Difference(one, other, 1.0, nan, nan, nan)
        if {one, other} & untested
        else Difference(one, other, 1.0, 0.01, 0.01 if rng.random() < dense else 0.9, 1.0)
        for one, other in combinations(range(count), 2)
    ]
    groups = groups_of(pairs)
    cells = {place: numbers(group, groups) for place, group in groups.items()}
    for pair in pairs:
        if pair.is_tested:
            assert (pair.second in shown(cells[pair.first])) == (not pair.is_significant)
            assert (pair.first in shown(cells[pair.second])) == (not pair.is_significant)
        assert pair.is_tested or not {pair.first, pair.second} <= cells.keys()
    assert all(place in shown(cell) for place, cell in cells.items())


def test_sixty_rows_that_all_differ_are_sixty_groups_and_sixty_that_do_not_are_one() -> None:
    for adjusted, cell in ((0.01, {str(place + 1) for place in range(60)}), (0.5, {"1–60"})):
        pairs = [Difference(one, other, 1.0, 0.01, adjusted, 1.0) for one, other in combinations(range(60), 2)]
        groups = groups_of(pairs)
        assert {numbers(group, groups) for group in groups.values()} == cell


def test_ranks_that_are_there_and_cannot_be_read_are_a_store_error(tracker: Tracker, tmp_path: Path) -> None:
    (file, *_) = sorted((tmp_path / "artifacts").rglob("ranks.npz"))
    file.unlink()
    file.mkdir()
    (file / "within").touch()
    with pytest.raises(StoreError):
        page(tracker)


@pytest.mark.slow
def test_a_published_board_is_the_same_bytes_again(tracker: Tracker, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    first = publish(ResultStore(tracker.uri), NOTHING, Current(), reports)
    assert first.files == tuple(reports / name for name in ("scenes-full.md", "scenes-full.html", "index.html"))
    assert len(first.changed) == 3 + 4 + 2 * 3
    assert not publish(ResultStore(tracker.uri), NOTHING, Current(), reports).changed


@pytest.mark.slow
def test_a_board_counts_as_written_where_only_the_page_of_a_row_was(tracker: Tracker, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    publish(ResultStore(tracker.uri), NOTHING, Current(), reports)
    (row,) = (reports / "scenes-full").glob("good-*.md")
    row.write_text("another")
    again = publish(ResultStore(tracker.uri), NOTHING, Current(), reports)
    assert again.changed == {reports / "scenes-full.md", row}
