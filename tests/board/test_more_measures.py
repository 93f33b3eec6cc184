"""Measures beyond the six recalls, and those of named sets of positives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from boards import Page, html_tables, one_of, only_board, only_page, row
from sample_results import result_of, spec_of

from harness.board.forms import as_json, webpage
from harness.board.tables import all_measures, more_measures, set_of
from harness.evaluation.measures import title

OTHERS = {"cxc.i2t_r1": 50.0, "cxc.rsum": 333.0, "eccv.i2t_map_r": 21.0, "i2t_ndcg": 70.0, "t2i_mean_rank": 1234.5}


def rows(method: str = "caan", **changes: Any) -> list[dict[str, Any]]:
    return [{**row(result_of(spec_of(method, seed))), **OTHERS, "i2t_ndcg": 70.0 + seed, **changes} for seed in (0, 1)]


def test_each_set_of_positives_has_a_table_with_the_columns_that_it_has() -> None:
    first, cxc, eccv = more_measures(only_board(rows()))
    assert (first.of, first.header) == ("", ("method", "i2t median rank", "i2t nDCG", "t2i mean rank"))
    assert first.rows == (("caan", "3.0", "70.5", "1,234"),)
    assert (cxc.of, cxc.header, cxc.rows) == ("cxc", ("method", "i2t R@1", "rsum"), (("caan", "50.0", "333.0"),))
    assert (eccv.of, eccv.header) == ("eccv", ("method", "i2t mAP@R"))


def test_a_column_that_no_row_has_in_full_is_left_out_and_a_row_that_lacks_it_shows_none() -> None:
    whole = rows()
    lacking = [{**line, "cxc.rsum": None} for line in rows("vsepp")]
    lacking[0]["i2t_ndcg"] = None
    tables = {one.of: one for one in more_measures(only_board([*whole, *lacking]))}
    assert tables["cxc"].rows == (("caan", "50.0", "333.0"), ("vsepp", "50.0", "–"))
    assert tables[""].rows[1][2] == "–", "never a mean over the seeds that happen to have it"
    assert "i2t nDCG" not in more_measures(only_board(lacking))[0].header


def test_runs_made_before_lists_were_measured_are_measured_from_their_ranks() -> None:
    board = only_board([{**line, "i2t_ndcg": None} for line in rows()])
    (first, *_) = more_measures(board, {0: {"i2t_map_r": 12.0, "i2t_ndcg": 34.0}})
    assert first.header == ("method", "i2t median rank", "i2t mAP@R", "i2t nDCG", "t2i mean rank")
    assert first.rows == (("caan", "3.0", "12.0", "34.0", "1,234"),)
    (first, *_) = more_measures(only_board(rows()), {0: {"i2t_ndcg": 34.0}})
    assert first.rows[0][2] == "70.5", "what a run has measured itself stands"


@pytest.mark.parametrize(
    ("name", "of"),
    [
        *(("i2t_map_r", ""), ("cxc.t2i_r5", "cxc"), ("eccv.rsum", "eccv")),
        *(("i2t_r1", None), ("rsum", None), ("i2t_tied", None), ("settings.i2t_weight", None), ("env.rsum", None)),
        *(("best_val_i2t_r1", None), ("best_val_cxc.rsum", None), ("val_rsum", None), ("seconds", None)),
    ],
)
def test_only_measures_on_test_are_measures(name: str, of: str | None) -> None:
    assert set_of(name) == of


def test_measures_are_named_as_papers_do() -> None:
    names = ("i2t_r50", "t2i_map_r", "i2t_r_precision", "t2i_ndcg", "cxc.t2i_r1", "cxc.rsum", "i2t_new_one")
    words = ["i2t R@50", "t2i mAP@R", "i2t R-precision", "t2i nDCG", "t2i R@1", "rsum", "i2t new one"]
    assert [title(name) for name in names] == words


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
