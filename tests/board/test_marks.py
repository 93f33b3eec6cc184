"""What a reader would misread: reconstructions, pretrained models, val beside test, R@K in too small a gallery."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from boards import changed, one_of, only_board, three_seeds
from rich.console import Console

from harness.board.cells import headings, label, named
from harness.board.evidence import Assessed
from harness.board.forms import FORMS
from harness.board.row_page import method_page
from harness.board.standings import boards_of
from harness.campaign.current import current
from harness.config.cards import MethodCard
from harness.config.project import Config
from harness.config.registry import Registry, discover
from harness.config.sections import Training
from harness.terminal.board_page import terminal_table
from harness.trial.results import Current

ROOT = Path(__file__).parents[2]
SMALL = {"images": 8, "captions": 40, "folds": 1}
SAYS = "fewer than K wrong answers are in this gallery"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover(Config(root=ROOT))


@pytest.fixture(scope="module")
def methods(registry: Registry) -> dict[str, MethodCard]:
    return dict(registry.methods)


def printed(one: Assessed, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(terminal_table(*one))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain(page: str) -> str:
    """A page without the escapes of markdown and LaTeX."""
    return page.replace("{*}", "*").replace("&#46;", ".").replace("&#42;", "*").replace("\\*", "*").replace("\\", "")


MARKS = {"bssan": "reconstruction", "zero_shot": "zero-shot"}  # of the best row; caan's has none


@pytest.fixture(scope="module", params=MARKS)
def best(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def marked(methods: dict[str, MethodCard], best: str) -> Assessed:
    return one_of([*three_seeds(best, 290.0), *three_seeds("caan", 260.0)], methods)


@pytest.mark.parametrize("form", ["md", "html", "latex"])
def test_the_row_of_a_reconstruction_or_a_pretrained_model_says_so_in_every_form(
    marked: Assessed, methods: dict[str, MethodCard], form: str, best: str
) -> None:
    page, mark = plain(FORMS[form](marked, methods)), MARKS[best]
    name, other = (methods[best].title, methods["caan"].title) if form == "latex" else (best, "caan")
    line = next(line for line in page.splitlines() if f"{name}, {mark}" in line)
    assert other not in line and f"{other}, {mark}" not in page
    assert page.count(f", {mark}, {mark}") == 0, "a title that ends in the mark would say it twice"


def test_the_row_of_one_says_so_in_tables_of_data_and_in_the_terminal(
    marked: Assessed, methods: dict[str, MethodCard], best: str
) -> None:
    mark = MARKS[best]
    lines = csv.DictReader(io.StringIO(FORMS["csv"](marked, methods)))
    assert {line["method"]: line["fidelity"] for line in lines} == {best: mark, "caan": "paper"}
    rows = json.loads(FORMS["json"](marked, methods))["rows"]
    assert [row["fidelity"] for row in rows] == [mark, "paper"]
    assert mark in printed(marked, 120)
    assert mark in method_page(marked, methods, 0).split("## Method")[0]
    row = marked.board.ranked[0]
    assert (label(row), named(row)) == (best, f"{best}, {mark}"), "commands know it by its label"


def test_val_rsum_stands_with_the_size_of_its_gallery(registry: Registry) -> None:
    assert current(Config(root=ROOT), registry).val_images("scenes") == 300
    assert current(Config(root=ROOT), registry).val_images("nowhere") == 0
    one = one_of(three_seeds("caan", 260.0))
    sized = one._replace(board=replace(one.board, val_images=1300))
    for page in (FORMS["md"](sized, {}), FORMS["html"](sized, {}), method_page(sized, {}, 0)):
        assert "val rsum, 1,300 images" in page
    assert json.loads(FORMS["json"](sized, {}))["val_images"] == 1300
    assert "val rsum," not in FORMS["md"](one, {}), "not known: nothing is claimed"


@pytest.fixture(scope="module")
def crowded() -> Assessed:
    return one_of([changed(run, gallery=SMALL) for run in three_seeds("caan", 260.0)])


@pytest.mark.slow
def test_an_r_at_k_that_any_scores_reach_is_marked_with_a_note_in_every_form(crowded: Assessed) -> None:
    assert crowded.board.saturated == ("t2i_r10",)
    for name in ("md", "html", "latex"):
        page = plain(FORMS[name](crowded, {}))
        head = "R@10*" if name == "latex" else "t2i R@10*"  # under its direction there
        assert head in page and page.count("R@10*") == page.count(head) and SAYS in page, name
    text = " ".join(printed(crowded, 200).split())
    assert "R@10*" in text and SAYS in text
    assert json.loads(FORMS["json"](crowded, {}))["saturated"] == ["t2i_r10"]
    assert next(csv.DictReader(io.StringIO(FORMS["csv"](crowded, {}))))["saturated"] == "t2i_r10"
    page = plain(method_page(crowded, {}, 0))
    assert "t2i R@10*" in page and SAYS in page


def test_the_gallery_and_its_marks_are_those_of_the_rows_and_not_of_a_newer_run_that_is_stale() -> None:
    rows = three_seeds("caan", 260.0)
    of, newer = rows[0].spec, three_seeds("vsepp", 250.0, protocol_version=2)
    later = [replace(changed(run, gallery=SMALL), started=5000, ended=6000) for run in newer]
    now = Current(data=lambda _: of.data_fingerprint, protocol=lambda *_: 1, source=lambda _: of.source)
    (board,) = boards_of([*rows, *later], {}, now)
    assert [row.method for row in board.ranked] == ["caan"] and [row.method for row in board.stale] == ["vsepp"]
    assert board.version == 1 and rows[0].result
    assert (board.gallery, board.saturated) == (rows[0].result.gallery, ())


@pytest.mark.parametrize(
    ("images", "captions", "marked"),
    [
        (11, 55, []),
        (10, 50, ["t2i R@10*"]),
        (5, 25, ["t2i R@5*", "t2i R@10*"]),
        (2, 10, ["i2t R@10*", "t2i R@5*", "t2i R@10*"]),
    ],
)
def test_exactly_the_r_at_k_are_marked_whose_k_reaches_the_gallery(
    images: int, captions: int, marked: list[str]
) -> None:
    gallery = {"images": images, "captions": captions, "folds": 1}
    board = only_board([changed(run, gallery=gallery) for run in three_seeds("caan", 260.0)])
    names = [f"{way} R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]
    assert [name for name in headings(board, names) if name.endswith("*")] == marked


def test_a_large_gallery_has_no_mark_and_no_note() -> None:
    page = FORMS["md"](one_of(three_seeds("caan", 260.0)), {})
    assert SAYS not in page and "R@10*" not in plain(page)


@pytest.mark.slow
def test_a_row_says_which_of_its_settings_are_not_those_of_the_paper(methods: dict[str, MethodCard]) -> None:
    paper = dict(methods["caan"].defaults)
    small = {**methods["vsepp"].defaults, "dim": 128, "margin": 0.0931243}
    one = one_of([*three_seeds("caan", 260.0, settings=paper), *three_seeds("vsepp", 250.0, settings=small)], methods)
    assert [row.unlike_paper for row in one.board.ranked] == [(), ("dim 128 (1024)", "margin 0.09312 (0.2)")]
    says = "not the paper's: dim 128 (1024), margin 0.09312 (0.2)"
    for form in ("md", "html", "latex"):
        page = plain(FORMS[form](one, methods)).replace("&#39;", "'").replace("&#x27;", "'")
        lines = [line for line in page.splitlines() if says in line]
        assert len(lines) == 1, form
    assert f"2: {says}" in printed(one, 200) and "1: default" not in printed(one, 200)
    rows = json.loads(FORMS["json"](one, methods))["rows"]
    assert [row["unlike_paper"] for row in rows] == [[], ["dim 128 (1024)", "margin 0.09312 (0.2)"]]


def test_at_the_sizes_of_the_papers_there_is_no_such_column(methods: dict[str, MethodCard]) -> None:
    one = one_of(three_seeds("caan", 260.0, settings=dict(methods["caan"].defaults)), methods)
    assert "settings from" not in FORMS["md"](one, methods)
    untrained = one_of(three_seeds("chance", 6.0, settings={"dim": 128}), methods)
    assert "settings from" not in FORMS["md"](untrained, methods), "no paper, no size of a paper"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training", "says"),
    [
        ({"precision": "bf16"}, ["trained in bf16"]),
        ({"precision": "fp32"}, []),
        ({}, []),
        ({"precision": "bf16", "score_precision": "tf32"}, ["trained in bf16", "scored in tf32"]),
    ],
)
def test_a_row_says_in_which_precision_it_was_trained_and_scored(
    training: dict[str, str], says: list[str], methods: dict[str, MethodCard]
) -> None:
    recipe = Training.model_validate({"epochs": 3, **training})
    one = one_of(three_seeds("caan", 260.0, training=recipe), methods)
    for form in ("md", "html", "latex", "csv", "json"):
        page = plain(FORMS[form](one, methods))
        for text in ("trained in bf16", "scored in tf32"):
            assert (text in page) == (text in says and form not in ("latex", "csv")), form
