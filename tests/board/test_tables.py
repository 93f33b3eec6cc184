"""Tables beside a board: the grid of trial states, and measures beyond the six recalls, also of named positives."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from boards import (
    Page,
    failed,
    html_tables,
    one_of,
    only_board,
    only_page,
    run_of,
    three_seeds,
    unfinished,
    with_measures,
)
from sample_results import result_of, spec_of

from harness.board.forms import as_json, index, webpage
from harness.board.standings import Board, boards_of
from harness.board.tables import all_measures, grid, index_rows, more_measures, rows_across, set_of
from harness.evaluation.measures import title
from harness.tracking.runs import Run
from harness.trial.results import Failure, State

OTHERS = {"cxc.i2t_r1": 50.0, "cxc.rsum": 333.0, "eccv.i2t_map_r": 21.0, "i2t_ndcg": 70.0, "t2i_mean_rank": 1234.5}


def rows(method: str = "caan") -> list[Run]:
    runs = [run_of(result_of(spec_of(method, seed))) for seed in (0, 1)]
    return [with_measures(run, {**OTHERS, "i2t_ndcg": 70.0 + run.spec.seed}) for run in runs]


def test_each_set_of_positives_has_a_table_with_the_columns_that_it_has() -> None:
    first, cxc, eccv = more_measures(only_board(rows()))
    assert (first.of, first.header) == ("", ("method", "i2t median rank", "i2t nDCG", "t2i mean rank"))
    assert first.rows == (("caan", "3.0", "70.5", "1,234"),)
    assert (cxc.of, cxc.header, cxc.rows) == ("cxc", ("method", "i2t R@1", "rsum"), (("caan", "50.0", "333.0"),))
    assert (eccv.of, eccv.header) == ("eccv", ("method", "i2t mAP@R"))


def test_a_column_that_no_row_has_in_full_is_left_out_and_a_row_that_lacks_it_shows_none() -> None:
    whole = rows()
    lacking = [with_measures(run, {"cxc.rsum": None}) for run in rows("vsepp")]
    lacking[0] = with_measures(lacking[0], {"i2t_ndcg": None})
    tables = {one.of: one for one in more_measures(only_board([*whole, *lacking]))}
    assert tables["cxc"].rows == (("caan", "50.0", "333.0"), ("vsepp", "50.0", "–"))
    assert tables[""].rows[1][2] == "–", "never a mean over the seeds that happen to have it"
    assert "i2t nDCG" not in more_measures(only_board(lacking))[0].header


def test_runs_made_before_lists_were_measured_are_measured_from_their_ranks() -> None:
    board = only_board([with_measures(run, {"i2t_ndcg": None}) for run in rows()])
    (first, *_) = more_measures(board, {0: {"i2t_map_r": 12.0, "i2t_ndcg": 34.0}})
    assert first.header == ("method", "i2t median rank", "i2t mAP@R", "i2t nDCG", "t2i mean rank")
    assert first.rows == (("caan", "3.0", "12.0", "34.0", "1,234"),)
    (first, *_) = more_measures(only_board(rows()), {0: {"i2t_ndcg": 34.0}})
    assert first.rows[0][2] == "70.5", "what a run has measured itself stands"


@pytest.mark.parametrize(
    ("name", "of"),
    [
        *(("i2t_map_r", ""), ("cxc.t2i_r5", "cxc"), ("eccv.rsum", "eccv")),
        *(("i2t_r1", None), ("rsum", None), ("i2t_tied", None), ("seconds", None)),
    ],
)
def test_a_further_measure_is_known_by_its_name(name: str, of: str | None) -> None:
    assert set_of(name) == of


def test_only_measures_on_test_are_measures() -> None:
    result = result_of(spec_of(settings={"i2t_weight": 1.0}), val={"rsum": 1.0, "i2t_r1": 2.0, "cxc.rsum": 3.0})
    assert all_measures(only_board([run_of(result)]).ranked[0], {}).keys() == result.measures.keys()


def test_measures_are_named_as_papers_do() -> None:
    names = ("i2t_r50", "t2i_map_r", "i2t_r_precision", "t2i_ndcg", "cxc.t2i_r1", "cxc.rsum", "i2t_new_one")
    words = ["i2t R@50", "t2i mAP@R", "i2t R-precision", "t2i nDCG", "t2i R@1", "rsum", "i2t new one"]
    assert [title(name) for name in names] == words


@pytest.mark.slow
def test_every_form_has_them() -> None:
    found = rows()
    lines = [line for table in html_tables(only_page(found)) for line in table]
    assert any(line[0] == "caan" and {"3.0", "70.5", "1,234"} <= {*line} for line in lines)
    one = one_of(found)
    assert ["caan", "50.0", "333.0"] in Page(webpage(one, {})).lines()
    assert "Measures on cxc" in Page(webpage(one, {})).texts("h2")
    (ranked,) = json.loads(as_json(one, {}))["rows"]
    assert ranked["measures"]["cxc.rsum"] == 333.0 and ranked["measures"]["i2t_ndcg"] == 70.5
    assert {"rsum", "i2t_r1"} <= all_measures(one.board.ranked[0], {}).keys()


def test_every_state_of_a_trial_has_a_word_of_its_own() -> None:
    done = three_seeds("caan", 260.0)
    specs = [spec_of(f"m{place}") for place in range(6)]
    other = [
        Run(specs[0], State.WAITING),
        *(unfinished(specs[1], State.RUNNING), unfinished(specs[2], State.PRUNED)),
        *(failed(specs[3], Failure.NONFINITE), unfinished(specs[4], State.INTERRUPTED)),
        run_of(result_of(specs[5], measures={})),
    ]
    old = [
        run_of(result_of(spec_of("data", data_fingerprint="0" * 64)), started=5, ended=10),
        run_of(result_of(spec_of("rule", protocol_version=0)), started=4, ended=9),
        run_of(result_of(spec_of("caan", source="0" * 64)), started=3, ended=8),
    ]
    limited = run_of(result_of(spec_of("quick", limit=20)))
    trials = [*done, *other, *old, limited]
    (heads, *lines) = grid(only_board(trials))
    assert heads == ["method", "seed 0", "seed 1", "seed 2"]
    found = {(line[0].split(" (")[0], line[1]) for line in lines}
    assert found == {
        ("caan", "done"),
        *(("m0", "not run"), ("m1", "running"), ("m2", "pruned")),
        *(("m3", "failed: nonfinite"), ("m4", "interrupted"), ("m5", "no rsum")),
        *(("data", "stale data"), ("rule", "stale protocol"), ("caan", "stale source")),
        ("quick", "limited to 20"),
    }
    assert len({state for _, state in found}) == len(found)
    assert all(line[2:] == ["–", "–"] for line in lines[1:]), "nobody has asked for other seeds of these"


def test_a_stale_trial_says_which_version_has_changed() -> None:
    now = {"training_version": 1, "evaluation_version": 1}
    runs = [
        run_of(result_of(spec_of("caan", **now))),
        run_of(result_of(spec_of("trained", **now | {"training_version": 0}))),
        run_of(result_of(spec_of("measured", **now | {"evaluation_version": 0}))),
        *(run_of(result_of(spec_of("external:x", source=f"{end}" * 64, **now)), ended=end) for end in (5000, 6000)),
    ]
    (_, *lines) = grid(only_board(runs))
    assert {(line[0].split(" (")[0], line[1]) for line in lines} == {
        *(("caan", "done"), ("trained", "stale trainer"), ("measured", "stale evaluation")),
        *(("external:x", "done"), ("external:x", "stale file")),
    }


def test_a_board_whose_trials_are_all_ranked_needs_no_grid() -> None:
    assert grid(only_board(three_seeds("caan", 260.0))) == []
    assert "Where every trial stands" not in only_page(three_seeds("caan", 260.0))


def test_the_page_shows_the_grid_where_anything_is_missing() -> None:
    trials = three_seeds("caan", 260.0)
    trials[1] = failed(trials[1].spec, Failure.OOM_HOST, "a|b")
    tables = html_tables(only_page(trials))
    assert [["method", "seed 0", "seed 1", "seed 2"], ["caan", "done", "failed: oom_host", "done"]] in tables
    assert [["method", "done", "missing"], ["caan", "2", "seed 1: failed (oom_host): a|b"]] in tables


def boards_of_two() -> list[Board]:
    runs = [*three_seeds("caan", 260.0), *three_seeds("vsepp", 280.0)]
    others = [*three_seeds("caan", 420.0, dataset="photos"), *three_seeds("saf", 400.0, dataset="photos")]
    return sorted(boards_of([*runs, *others], {}), key=lambda board: board.dataset)


def test_all_boards_stand_in_one_table_with_the_first_row_of_each() -> None:
    head, photos, scenes = index_rows(boards_of_two())
    assert head[:2] == ["dataset", "protocol"] and photos[0] == "photos" and scenes[0] == "scenes"
    assert photos[-3:] == ["2", "caan", "421.0 ± 1.0"] and scenes[-3:] == ["2", "vsepp", "281.0 ± 1.0"]


def test_rows_across_boards_have_a_mean_where_they_stand_on_all_and_come_first() -> None:
    lines = rows_across(boards_of_two())
    assert [line[0] for line in lines] == ["method", "caan", "saf", "vsepp"]
    assert lines[1][1:] == ["421.0 ± 1.0", "261.0 ± 1.0", "341.0"]
    assert lines[2][1:] == ["401.0 ± 1.0", "–", "–"] and lines[3][1:] == ["–", "281.0 ± 1.0", "–"]
    assert rows_across(boards_of_two()[:1]) == []


def test_the_page_of_all_boards_escapes_what_others_named_and_asks_no_one_for_anything() -> None:
    hostile = [replace(board, dataset=f"<b>{board.dataset}</b>") for board in boards_of_two()]
    ((name, data),) = index(hostile).items()
    page = data.decode()
    assert name == "index.html" and "<b>" not in page and "&lt;b&gt;photos" in page
    assert not re.search(r"https?:|url\(|<script", page) and index([]) == {}
