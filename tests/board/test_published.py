"""Papers' numbers beside ours: when they compare, and what the verdict is."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest
import scipy.stats
from boards import Page, html_tables, run_of
from sample_results import result_of, spec_of

from harness.board.cells import HEADER, header
from harness.board.evidence import assessed
from harness.board.forms import FORMS, board_page, webpage
from harness.board.published import beside
from harness.board.row_page import method_page
from harness.board.standings import boards_of
from harness.campaign.current import current, other_sizes
from harness.config.cards import MethodCard, SplitSize
from harness.config.papers import PaperRecipe, Reported
from harness.config.project import Config
from harness.config.registry import discover
from harness.config.sections import Training
from harness.tracking.runs import Run
from harness.trial.results import Current

ROOT = Path(__file__).parents[2]
SUMS = (470.0, 474.0, 478.0)
LABEL = "caan (the paper's recipe)"


def card(rsum: float, **changes: object) -> MethodCard:
    """CAAN's own card, with another number for a dataset that needs no files here."""
    known = discover(Config(root=ROOT)).methods["caan"]
    values = {"dataset": "scenes", "protocol": "full", "i2t": (70.1, 91.6, 97.2), "t2i": (52.8, 79.0, 87.9)}
    number = Reported.model_validate({**values, "rsum": rsum, "source": "table 1", **changes})
    return known.model_copy(update={"reported": (*known.reported, number)})


def runs(seeds: int = 3, **changes: object) -> list[Run]:
    """Runs by the recipe of the paper."""
    size = {"settings": card(0.0).defaults, "training": Training(), "trained_as": "paper", **changes}
    return [run_of(result_of(spec_of("caan", seed, **size), SUMS[seed])) for seed in range(seeds)]


def verdict(rsum: float, seeds: int = 3, **changes: object) -> str:
    methods = {"caan": card(rsum, **changes)}
    (board,) = boards_of(runs(seeds), methods)
    (one,) = beside(board, methods)
    return one.verdict


def test_a_number_is_reproduced_where_one_more_run_could_have_given_it() -> None:
    width = scipy.stats.t.ppf(0.975, 2) * 4.0 * (4 / 3) ** 0.5 + 0.3
    assert verdict(474.0 + width - 0.1) == verdict(474.0 - width + 0.1) == "reproduced within noise"
    assert verdict(474.0 + width + 0.1) == "below" and verdict(474.0 - width - 0.1) == "above"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ensemble": True}, "not comparable: an ensemble of models"),
        ({"differs": "features of another detector"}, "not comparable: features of another detector"),
    ],
)
def test_what_does_not_compare_says_why(changes: dict[str, object], words: str) -> None:
    assert verdict(474.0, **changes) == words


def test_one_seed_reproduces_nothing() -> None:
    assert verdict(470.0, seeds=1) == "cannot be told from one seed"
    (board,) = boards_of(runs(1), {})
    assert isnan(board.ranked[0].sd)


def test_the_page_shows_it_in_a_table_of_its_own_and_never_ranks_it() -> None:
    methods = {"caan": card(600.0, note="quoted")}
    (one,) = assessed(runs(), methods, lambda _run, _name: None)
    ranked, _costs, _more, published = html_tables(board_page(one, methods))
    assert [cells[1] for cells in ranked[1:]] == [LABEL]
    assert published[1][:5] == [LABEL, "474.0", "600.0", "-126.0", "below"]
    assert published[1][-1] == "table 1; quoted"


def test_numbers_of_other_datasets_are_left_out() -> None:
    known = discover(Config(root=ROOT)).methods
    (board,) = boards_of(runs(), known)
    assert not list(beside(board, known))


def test_a_number_that_compares_is_a_column_beside_its_row_with_the_verdict() -> None:
    methods = {"caan": card(455.8)}
    (one,) = assessed(runs(), methods, lambda _run, _name: None)
    ranked, *_ = html_tables(board_page(one, methods))
    assert (ranked[0][-1], ranked[1][-1]) == ("published", "455.8 (+18.2, reproduced within noise)")
    assert header(one.board, {}) == HEADER


SMALL = {"settings": {**card(0.0).defaults, "dim": 256}, "training": Training(epochs=3), "trained_as": ""}
UNLIKE = ["dim 256 (1024)", "only 3 epochs (30 by default)", "train 500 images (29,000)"]
OTHER = "not compared: our recipe, not the paper's (--recipe paper)"


@pytest.mark.slow
def test_a_row_by_the_common_recipe_is_compared_with_no_number_and_says_so_in_every_form() -> None:
    methods = {"caan": card(455.8)}
    current = Current(resized=lambda _: ("train 500 images (29,000)",))
    (one,) = assessed(runs(**SMALL), methods, lambda _run, _name: None, current)
    ranked, _costs, _more, published = html_tables(board_page(one, methods))
    assert "published" not in ranked[0] and published[1][0] == "caan" and published[1][4] == OTHER
    assert OTHER in {cell for line in Page(webpage(one, methods)).lines() for cell in line}
    (row,) = (cells for table in html_tables(method_page(one, methods, 0)) for cells in table if "455.8" in cells)
    assert row[3] == OTHER
    (entry,) = json.loads(FORMS["json"](one, methods))["published"]
    assert entry["verdict"] == OTHER and entry["unlike_paper"] == UNLIKE


def test_both_recipes_of_a_method_stand_on_a_board_and_name_themselves() -> None:
    (board,) = boards_of([*runs(), *runs(**SMALL)], {})
    assert {row.differs for row in board.ranked} == {"", "the paper's recipe"}
    commands = {row.differs: row.command for row in board.ranked}
    assert commands["the paper's recipe"].endswith("--recipe paper") and "-s" in commands[""]


@pytest.mark.parametrize(("chosen", "words"), [("val", []), ("test", ["its epoch was chosen on test"])])
def test_what_a_recipe_does_not_repeat_stands_beside_the_verdict(chosen: str, words: list[str]) -> None:
    recipe = PaperRecipe(dataset="scenes", source="table 2", selected_on=chosen, differs="no BERT")
    methods = {"caan": card(455.8).model_copy(update={"recipes": (recipe,)})}
    (board,) = boards_of(runs(), methods)
    (one,) = beside(board, methods)
    assert one.verdict == f"reproduced within noise; not the paper's: {', '.join(['no BERT', *words])}"


def test_data_of_another_size_than_the_papers_is_said_beside_the_verdict_in_every_form() -> None:
    methods = {"caan": card(455.8)}
    current = Current(resized=lambda _: ("train 500 images (29,000)",))
    (one,) = assessed(runs(), methods, lambda _run, _name: None, current)
    (number,) = beside(one.board, methods)
    assert number.outcome == "reproduced within noise"
    long = f"reproduced within noise; not the paper's: {UNLIKE[-1]}"
    short = "455.8 (+18.2, reproduced within noise; settings or data are not the paper's)"
    ranked, _costs, _more, published = html_tables(board_page(one, methods))
    assert ranked[1][-1] == short and published[1][4] == long
    page = Page(webpage(one, methods))
    assert short in {cell for line in page.lines() for cell in line} and long in {
        c for line in page.lines() for c in line
    }
    (row,) = (cells for table in html_tables(method_page(one, methods, 0)) for cells in table if "455.8" in cells)
    assert row[3] == long
    assert "settings or data are not the paper's" in FORMS["latex"](one, methods)
    (entry,) = json.loads(FORMS["json"](one, methods))["published"]
    assert entry["verdict"] == long and entry["unlike_paper"] == UNLIKE[-1:]


def test_a_dataset_of_a_projects_own_size_is_not_the_one_that_papers_report_on() -> None:
    registry = discover(Config(root=ROOT))
    known = registry.datasets["f30k"]
    assert [*other_sizes(known, known)] == []
    own = known.model_copy(
        update={
            "splits": {**known.splits, "train": SplitSize(images=500, captions=2500)},
            "protocols": (known.protocols[0].model_copy(update={"split": "val", "images": 1014, "captions": 5070}),),
        }
    )
    sizes = ("train 500 images (29,000)", "protocol 1k 1,014 images (1,000)", "protocol 1k split val (test)")
    now = current(Config(root=ROOT), replace(registry, datasets={"f30k": own, "mine": own}))
    assert now.resized("f30k") == sizes and now.resized("mine") == now.resized("nothing") == ()
    (board,) = boards_of(runs(dataset="f30k", protocol="1k"), registry.methods, now)
    assert {one.unlike for one in beside(board, registry.methods)} == {sizes}


def test_a_row_without_a_number_has_an_empty_cell_and_the_order_of_rows_is_ours_alone() -> None:
    rows = [run_of(result_of(spec_of("vsepp", 0), 480.0)), *runs(1)]
    methods = {"caan": card(600.0)}
    (one,) = assessed(rows, methods, lambda _run, _name: None)
    ranked, *_ = html_tables(board_page(one, methods))
    assert [(cells[1], cells[-1]) for cells in ranked[1:]] == [
        ("vsepp", ""),
        (LABEL, "600.0 (-130.0, cannot be told from one seed)"),
    ]


def test_there_is_no_column_where_no_number_compares() -> None:
    methods = {"caan": card(474.0, ensemble=True)}
    (board,) = boards_of(runs(), methods)
    assert list(beside(board, methods)) and "published" not in header(board, methods)
