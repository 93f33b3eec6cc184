"""The page of a ranked row: what it says, what it says is lost, and that the board leads to it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boards import HOSTILE, Page, html_tables, one_of, only_board, run_of
from markdown_it import MarkdownIt
from sample_results import folder_of, ranks_of, result_of, spec_of

from harness.board.evidence import Assessed, assessed
from harness.board.forms import as_json, attachments, board_page, files, webpage
from harness.board.row_page import facts, file_stem, method_page
from harness.config.cards import MethodCard
from harness.config.papers import Reported
from harness.config.project import Config
from harness.config.registry import discover
from harness.evaluation.records import RANKINGS, of_shortlists, ranking_arrays
from harness.evaluation.shortlists import shortlists
from harness.files import safe_name as safe
from harness.tracking.result_store import ResultStore
from harness.tracking.tracker import Tracker
from harness.trial.results import Budget

ROOT = Path(__file__).parents[2]
IMAGES = 20
TEXTS = [f"caption {n}: <b>two</b> | *dogs* &amp; {{{{ 7 * 7 }}}}" for n in range(2 * IMAGES)]
COST = {"train_pairs_per_second": 800.0, "score_pairs_per_second": 1e6, "peak_memory_mb": 812.4, "parameters": 1.2e6}


@pytest.fixture(scope="module")
def known() -> dict[str, MethodCard]:
    """CAAN's card with a number for a dataset that needs no files."""
    cards = dict(discover(Config(root=ROOT)).methods)
    number = {"dataset": "scenes", "protocol": "full", "i2t": (1, 2, 3), "t2i": (4, 5, 6), "rsum": 280.0}
    reported = Reported.model_validate({**number, "source": "table 1"})
    return {**cards, "caan": cards["caan"].model_copy(update={"reported": (reported,)})}


def heads(ranks: dict[str, Any]) -> dict[str, Any]:
    """A rankings.npz for the same queries."""
    from harness.config.cards import ProtocolCard
    from harness.evaluation.protocols import folds

    protocol = ProtocolCard(name="full", images=IMAGES, captions=2 * IMAGES)
    scores = np.random.default_rng(0).normal(size=(IMAGES, 2 * IMAGES))
    ids = [f"<id>{n}|" for n in range(IMAGES)]
    parts = folds(protocol, IMAGES, ranks["pairs"])
    return ranking_arrays(of_shortlists(shortlists(scores, parts), ids, TEXTS))


@pytest.fixture
def one(store: str, tmp_path: Path, known: dict[str, MethodCard]) -> Assessed:
    """The board of a row of three seeds whose runs keep all that ours do."""
    tracker = Tracker(store, tmp_path / "artifacts")
    for seed in range(3):
        result = result_of(spec_of("caan", seed, settings={"margin": 0.3, "dim": 1024}), 270.0 + seed, cost=COST)
        ranks = ranks_of(result.spec)
        folder = folder_of(tmp_path, result, ranks)
        np.savez(folder / RANKINGS, **heads(ranks))
        tracker.result(result, folder)
    (found,) = assessed(ResultStore(tracker.uri).runs(), known, ResultStore(tracker.uri).artifact)
    return found


def test_the_page_has_the_card_the_settings_the_runs_the_cost_and_the_published_number(
    one: Assessed, known: dict[str, MethodCard]
) -> None:
    page = method_page(one, known, 0)
    card, ranked = known["caan"], one.board.ranked[0]
    assert f"{card.title}, {card.fidelity}, {card.scoring} scoring. {card.summary}" in page
    assert "“Context-Aware Attention Network for Image-Text Retrieval”, CVPR 2020" in page
    assert page.count("\n- ") >= len(card.choices)
    lines = [line for table in html_tables(page) for line in table]
    assert ["margin", "0.3", "0.2"] in lines and ["dim", "1024", "1024"] in lines
    assert "| **0.3** |" in page and "| **1024** |" not in page
    assert ["training.epochs", "3", "3"] in lines
    for run in ranked.runs:
        (line,) = [line for line in lines if line[-1] == run.run_id]
        assert line[:2] == [str(run.spec.seed), f"{run.numbers['rsum']:.1f}"] and line[-2] == run.key
    assert ["peak memory, MiB", "812"] in lines and ["parameters", "1.20 M"] in lines
    verdict = "not compared: our recipe, not the paper's (--recipe paper)"
    assert ["271.0", "280.0", "-9.0", verdict] in [line[:4] for line in lines]
    assert ranked.command in page and ranked.machines[0] in page


def test_recalls_have_intervals_on_the_page_and_in_json(one: Assessed, known: dict[str, MethodCard]) -> None:
    lines = [line for table in html_tables(method_page(one, known, 0)) for line in table]
    low, high = one.evidence.recalls[0][1]
    assert ["i2t R@5", "45.2", f"{low:.1f} to {high:.1f}"] in lines and low < high
    (ranked,) = json.loads(as_json(one, known))["rows"]
    assert ranked["intervals"]["i2t_r5"] == [low, high]
    assert len(ranked["recall"]["t2i"]) == 100 and ranked["recall"]["t2i"][9] == one.evidence.profiles[0][1][9]
    assert ranked["curves"][2] == {"seed": 2, "val_rsum": {"1": 101.0, "2": 102.0, "3": 103.0}}


def test_the_hardest_queries_stand_with_their_words_and_break_no_table(
    one: Assessed, known: dict[str, MethodCard]
) -> None:
    hard = one.evidence.hardest[0]
    assert hard.is_named and len(hard.i2t) == len(hard.t2i) == 10
    *_, images, captions = html_tables(method_page(one, known, 0))
    assert images[0] == captions[0] == ["query", "mean rank", "match", "found first"]
    for table, found in ((images, hard.i2t), (captions, hard.t2i)):
        assert table[1:] == [[each.query, f"{each.rank:.1f}", each.match, each.first] for each in found]
    assert hard.t2i[0].query in TEXTS and hard.i2t[0].query.startswith("<id>")


def test_the_web_page_has_the_same_in_a_part_that_folds(one: Assessed, known: dict[str, MethodCard]) -> None:
    page = Page(webpage(one, known))
    found = facts(one, known, 0)
    lines = page.lines()
    assert [tag for tag, _, _ in page.elements].count("details") == 1 + 4 + 1, "of the row, of four plots, of its curve"
    for cells in (*found.seeds, *map(list, found.recalls), *map(list, found.costs), *found.published):
        assert cells in lines
    for hard in (*one.evidence.hardest[0].i2t, *one.evidence.hardest[0].t2i):
        assert [hard.query, f"{hard.rank:.1f}", hard.match, hard.first] in lines
    assert ["margin", "0.3", "0.2"] in lines and "0.3" in page.texts("strong")
    assert set(known["caan"].choices) <= set(page.texts("li"))


def links(page: str) -> list[str]:
    """What a page links to and shows, as a markdown renderer sees it."""
    tokens = [child for token in MarkdownIt("commonmark").enable("table").parse(page) for child in token.children or []]
    return [
        str(token.attrs.get("href", token.attrs.get("src"))) for token in tokens if token.type in ("link_open", "image")
    ]


@pytest.mark.slow
def test_every_link_and_picture_of_a_board_and_its_rows_leads_to_a_file_that_is_written(
    one: Assessed, known: dict[str, MethodCard]
) -> None:
    made = files([one], known)
    stem = file_stem(one.board, 0)
    board = set(links(made["scenes-full.md"].decode()))
    plots = {f"scenes-full/{name}.svg" for name in ("rsum", "tradeoff", "recall", "curves")}
    assert board == {f"scenes-full/{stem}.md", *plots} and board <= made.keys()
    inner = set(links(made[f"scenes-full/{stem}.md"].decode()))
    assert inner == {"../scenes-full.md", f"{stem}-curve.svg"} and f"scenes-full/{stem}-curve.svg" in made
    assert [*made] == ["scenes-full.md", *dict(attachments(one, known))]


def test_what_older_runs_do_not_keep_is_said() -> None:
    ranks_alone = one_of([run_of(result_of(spec_of("caan", seed))) for seed in range(2)])
    page = method_page(ranks_alone, {}, 0)
    assert "Its runs have no rankings.npz" in page.replace("&#46;", ".")
    assert "| image " in page and "found first |" not in page and "There is no card of it here." in page
    bare = Assessed(ranks_alone.board, type(ranks_alone.evidence)(lost=frozenset({0})))
    page = method_page(bare, {}, 0)
    assert "no usable ranks of its runs" in page and "no epochs of its runs" in page
    assert "## Hardest queries" not in page and "## Learning curve" not in page
    names = ["rsum.svg", "tradeoff.svg", f"{file_stem(bare.board, 0)}.md"]
    assert [*dict(attachments(bare, {}))] == [f"scenes-full/{name}" for name in names]


def test_a_row_whose_settings_a_search_has_found_says_what_it_took_and_where_it_went() -> None:
    spent = Budget(campaign="a/b", trials=40, epochs=200, seconds=7200, device_seconds=7200)
    found = [run_of(result_of(spec_of("caan", seed), search=spent)) for seed in range(2)]
    page = method_page(one_of(found), {}, 0).replace("&#95;", "_").replace("&#46;", ".")
    assert "Settings from search a/b: 40 trials, 200 epochs, 2.00 h, 2.00 device h. How the search went" in page
    assert f"stands in search-{safe('a/b')}.md" in page
    assert "How the search went" not in method_page(one_of([run_of(result_of(spec_of("caan")))]), {}, 0)


def test_a_row_has_a_page_of_its_own_whose_name_no_other_row_changes() -> None:
    first, second = (run_of(result_of(spec_of("caan", settings={"dim": dim}), 260.0 + dim)) for dim in (8, 16))
    alone = only_board([first])
    board = only_board([first, second, run_of(result_of(spec_of("vsepp")))])
    stems = [file_stem(board, place) for place in range(3)]
    assert len(set(stems)) == 3 and file_stem(alone, 0) in stems
    assert stems == [f"{ranked.method}-{ranked.recipe[:8]}" for ranked in board.ranked]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*HOSTILE, "../../away", ".hidden", "a" * 300, "external:Their Model", "a\n```\n<b>", ""]
)
def test_a_page_stays_in_its_folder_whatever_the_name_of_its_method(name: str) -> None:
    one = one_of([run_of(result_of(spec_of(name))), run_of(result_of(spec_of("caan")))])
    paths = {*dict(attachments(one, {}))}
    assert all(re.fullmatch(r"scenes-full/\w[\w.-]{0,80}\.(md|svg)", path) for path in paths)
    made = board_page(one, {})
    assert {link for link in links(made) if link.endswith(".md")} <= paths
    place = next(place for place, ranked in enumerate(one.board.ranked) if ranked.method != "caan")
    for page in (made, method_page(one, {}, place)):
        tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(page)
        kinds = {inner.type for token in tokens for inner in (token, *(token.children or []))}
        assert not {kind for kind in kinds if kind.startswith("html")}
        assert page.endswith(f"{one.board.ranked[-1 if page == made else place].command}\n{fence(page)}\n")


def fence(page: str) -> str:
    """The marks that end the last block of code."""
    return page.splitlines()[-1]
