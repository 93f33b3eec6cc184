"""What rows cost on a board: a table, a mark where others were at work, and plots of what no row beats."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from boards import Page, changed, html_tables, one_of, only_board, only_page, run_of, three_seeds, unfinished
from sample_results import result_of, spec_of

from harness.board import charts
from harness.board.cells import notes
from harness.board.charts import INDEX_SIZE, QUERY_TIME
from harness.board.drawing import canvas
from harness.board.forms import as_json, webpage
from harness.board.plots import Pictures, expense_plot, plots
from harness.board.row_page import costs
from harness.board.tables import cost_table, device_hours, milliseconds
from harness.tracking.runs import Run
from harness.trial.ensembles import added_costs
from harness.trial.results import State

MEASURED = {"bytes_per_image": 4096.0, "bytes_per_caption": 512.0, "i2t_query_ms": 1234.5, "t2i_query_ms": 0.256}
RUNNING = {"device_seconds": 5400.0, "peak_memory_mb": 2048.0, "load": 0.5, "shared": 0.0}


def rows(method: str = "caan", rsum: float = 260.0, machine: str = "A CPU", **cost: float | None) -> list[Run]:
    """Three seeds with costs; None leaves one out."""
    found = []
    for run in three_seeds(method, rsum):
        assert run.result
        every = run.result.cost | MEASURED | RUNNING | cost
        known = {name: value for name, value in every.items() if value is not None}
        found.append(changed(run, cost=known, environment=run.result.environment | {"cpu": machine}))
    return found


@pytest.mark.slow
def test_the_costs_of_every_row_stand_in_a_table_on_both_pages() -> None:
    old = three_seeds("vsepp", 200.0)
    board = only_board([*rows(), *old])
    heads, first, second = cost_table(board)
    assert heads == [
        *("method", "parameters", "bytes/image", "bytes/caption", "i2t ms/query", "t2i ms/query"),
        *("device-hours", "peak MiB", "load"),
    ]
    assert first == ["caan", "1.20 M", "4,096", "512", "1,234", "0.256", "1.5", "2,048", "0.50"]
    assert second == ["vsepp", "1.20 M", *["–"] * 7], "results of earlier versions stay, with dashes"
    assert first in [line for table in html_tables(only_page([*rows(), *old])) for line in table]
    assert first in Page(webpage(one_of([*rows(), *old]), {})).lines()


def test_a_number_that_one_seed_lacks_is_a_dash_and_never_the_mean_of_the_others() -> None:
    first, *others = rows()
    assert first.result
    lacking = changed(first, cost={name: value for name, value in first.result.cost.items() if name != "t2i_query_ms"})
    assert cost_table(only_board([lacking, *others]))[1][5] == "–"


def test_a_row_that_was_timed_beside_others_says_so_in_its_notes_its_load_and_its_plots() -> None:
    first, second, third = rows(load=0.5)
    assert third.result
    beside = changed(third, cost=third.result.cost | {"load": 2.0, "shared": 1.0})
    board = only_board([first, second, beside])
    assert notes(board, board.ranked[0]) == ["timed beside others"]
    assert cost_table(board)[1][-1] == "1.00, shared"
    assert expense_plot(board, QUERY_TIME).numbers[0].endswith("0.256 ms per caption query, timed beside others")
    assert "beside" not in expense_plot(board, INDEX_SIZE).numbers[0], "bytes are the same whoever else is there"
    board = only_board([rows(shared=None)[0], second, beside])
    assert notes(board, board.ranked[0]) == ["timed beside others"], "though of one seed that is not known"
    alone = only_board(rows())
    assert notes(alone, alone.ranked[0]) == []
    assert dict(costs(alone.ranked[0]))["bytes of an encoded image"] == "4,096"


def test_the_rows_that_no_other_beats_are_joined_from_the_cheapest_up() -> None:
    points = [(1.0, 100.0), (2.0, 90.0), (4.0, 200.0), (4.0, 150.0)]
    assert charts.front(points, is_less_better=True) == [0, 2]
    assert charts.steps([points[2], points[0]], is_less_better=True) == [(1, 100), (4, 100), (4, 200)]


def test_query_times_compare_within_one_machine_and_bytes_on_all() -> None:
    runs = [
        *rows("caan", 260.0, t2i_query_ms=9.0),
        *rows("vsepp", 200.0, "Another", t2i_query_ms=1.0, bytes_per_image=512.0),
        *rows("bssan", 250.0, t2i_query_ms=20.0, bytes_per_image=8192.0),
        *three_seeds("chance", 5.0),
    ]
    board = only_board(runs)
    with canvas(7.2, 3.2) as figure:
        charts.tradeoff(figure, board, QUERY_TIME)
        lines = [[*map(tuple, line.get_xydata())] for line in figure.axes[0].get_lines() if line.get_marker() == "None"]
        assert sorted(map(len, lines)) == [1, 1], "of each machine the one row that no other of it beats"
    with canvas(7.2, 3.2) as figure:
        charts.tradeoff(figure, board, INDEX_SIZE)
        (path,) = [line.get_xydata() for line in figure.axes[0].get_lines() if line.get_marker() == "None"]
        assert [*map(tuple, path)] == [(512, 201), (4096, 201), (4096, 261)]
    assert "chance (no query was timed)" in expense_plot(board, QUERY_TIME).note
    assert (
        "of the same machine" in expense_plot(board, QUERY_TIME).note
        and "machine" not in expense_plot(board, INDEX_SIZE).note
    )


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["A CPU", "B CPU"])
def test_a_row_that_no_machine_of_the_board_has_timed_is_named_below_the_plot_and_not_drawn(machine: str) -> None:
    """As the row of weights that were scored here: their throughput is known, and they are compared with nobody's."""
    spec = spec_of("external:w", settings={"trained_on": "scenes", "weights": "caan recipe 0123"})
    weights = run_of(result_of(spec, 280.0, epochs=0, cost={"score_pairs_per_second": 1e6}))
    one = one_of([*rows(), *rows("vsepp", 200.0, machine), weights])
    (plot,) = (plot for plot in plots(one) if plot.file == "tradeoff.svg")
    assert plot.note.endswith("Left out: external:w (no machine in the store).")
    assert [number.partition(":")[0] for number in plot.numbers] == ["caan", "vsepp"]
    assert plot.paint and b"external:w" not in plot.svg


def test_a_row_that_is_not_ranked_may_be_of_a_machine_that_the_board_does_not_number() -> None:
    cut = [*rows("bssan", 300.0, "C CPU")[:2], unfinished(spec_of("bssan", 2), State.INTERRUPTED)]
    one = one_of([*rows(), *rows("vsepp", 200.0, "B CPU"), *cut])
    told = {row["method"]: row["notes"] for row in json.loads(as_json(one, {}))["rows"]}
    assert told == {"caan": ["machine 1"], "vsepp": ["machine 2"], "bssan": ["another machine"]}


@pytest.mark.parametrize(
    ("form", "values", "texts"),
    [
        (milliseconds, (0.00004, 0.256, 9.996, 999.4, 999.6, 1234.4), "0.00004 0.256 10 999 1,000 1,234"),
        (device_hours, (36, 5400, 3600 * 99.4, 3600 * 99.6, 3600 * 1234.4), "0.01 1.5 99 100 1,234"),
    ],
)
def test_no_cost_is_written_with_a_power_of_ten(
    form: Callable[[float], str], values: tuple[float, ...], texts: str
) -> None:
    assert [form(value) for value in values] == texts.split()
    assert QUERY_TIME.text(1234.4) == "1,234 ms per caption query"


def test_boards_without_query_times_have_the_plots_that_they_had() -> None:
    old, new = one_of(three_seeds("caan", 260.0)), one_of(rows())
    assert [plot.file for plot in plots(old)] == ["rsum.svg", "tradeoff.svg", "recall.svg", "curves.svg"]
    assert {"query-time.svg", "index-size.svg"} == Pictures(new).files.keys() - Pictures(old).files.keys()


def test_members_of_an_ensemble_are_asked_and_kept_one_after_another() -> None:
    both = added_costs([MEASURED | RUNNING, MEASURED | RUNNING | {"load": 2.0, "shared": 1.0}])
    assert both["t2i_query_ms"] == pytest.approx(0.512) and both["bytes_per_image"] == 8192
    assert (both["device_seconds"], both["load"], both["shared"]) == (10800, 2.0, 1.0)
    assert "t2i_query_ms" not in added_costs([MEASURED, RUNNING]), "never a sum over the others"
