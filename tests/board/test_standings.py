from __future__ import annotations

import html
import random
import shlex
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from math import isnan
from pathlib import Path

import pytest
from boards import (
    all_files,
    changed,
    failed,
    html_tables,
    only_board,
    only_page,
    pages_of,
    run_of,
    three_seeds,
    unfinished,
)
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sample_results import folder_of, reports_of, result_of, spec_of

from harness.board import cells
from harness.board.cells import HEADER
from harness.board.evidence import Assessed, Evidence, assessed
from harness.board.forms import FORMS
from harness.board.markup import escaped
from harness.board.publishing import write
from harness.board.standings import SECTIONS, boards_of
from harness.campaign.current import current
from harness.config.cards import MethodCard
from harness.config.project import Config, built_in, load
from harness.config.registry import discover, settings_for
from harness.config.sections import Training
from harness.errors import ConfigError, StoreError
from harness.terminal.board_page import tables
from harness.tracking.columns import epoch_metrics
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run
from harness.tracking.tracker import Tracker
from harness.trial.results import Failure, State

ROOT = Path(__file__).parents[2]
LAST = spec_of(seed=2)


def test_methods_are_ranked_by_mean_rsum_over_seeds_with_n_and_standard_deviation() -> None:
    page = only_page([*three_seeds("caan", 260.0), *three_seeds("bssan", 270.0), run_of(result_of(spec_of("vsepp")))])
    header, *found = html_tables(page)[0]
    assert header == list(HEADER)
    assert [cells[:4] for cells in found] == [
        ["1", "bssan", "3", "271.0 ± 1.0"],
        ["2", "vsepp", "1", "270.0"],
        ["3", "caan", "3", "261.0 ± 1.0"],
    ]
    assert [cells[-1] for cells in found] == ["", "n = 1", ""]
    assert found[0][6:12] == ["45.2"] * 6


def test_equal_means_stand_in_the_order_of_their_names() -> None:
    board = only_board([*three_seeds("vsepp", 260.0), *three_seeds("caan", 260.0)])
    assert [standing.method for standing in board.ranked] == ["caan", "vsepp"]


@pytest.mark.parametrize(
    ("lacking", "reason", "state"),
    [
        (Run(LAST, State.WAITING), "seed 2: not run", "not run"),
        (unfinished(LAST, State.RUNNING, epoch=5), "seed 2: running or cut off after epoch 5", "running"),
        (unfinished(LAST, State.INTERRUPTED), "seed 2: interrupted in its first epoch", "interrupted"),
        (failed(LAST, Failure.OOM, "no\nmemory"), "seed 2: failed (oom): no memory", "failed: oom"),
        (run_of(result_of(LAST, measures={})), "seed 2: no rsum in the store", "no rsum"),
    ],
    ids=lambda value: value.state.value if isinstance(value, Run) else "",
)
def test_a_method_with_a_missing_seed_is_not_averaged_over_the_others(lacking: Run, reason: str, state: str) -> None:
    page = only_page([*three_seeds("caan", 260.0)[:2], lacking])
    assert "No method is complete yet." in page
    assert html_tables(page) == [
        [["method", "seed 0", "seed 1", "seed 2"], ["caan", "done", "done", state]],
        [["method", "done", "missing"], ["caan", "2", reason]],
    ]


def test_seeds_missing_for_one_reason_are_named_together() -> None:
    runs = [Run(spec_of(seed=seed), State.WAITING) for seed in (0, 1, 2)]
    assert only_board(runs).incomplete[0].reason == "seeds 0, 1, 2: not run"


def test_a_mean_is_not_taken_over_the_seeds_that_happen_to_have_a_measure() -> None:
    first, second, third = three_seeds("caan", 260.0)
    rows = [first, changed(second, cost={}), third]
    assert isnan(only_board(rows).ranked[0].means["score_pairs_per_second"])


def test_a_setting_of_any_length_stands_whole_in_the_command_and_beside_the_name() -> None:
    long = "x" * 7000
    runs = [run_of(result_of(spec_of(settings={"text": text}))) for text in (long, "y")]
    rows = {row.differs: row.command for row in only_board(runs).ranked}
    assert {*rows} == {f"text {long}", "text y"} and f"settings.caan.text={long}" in rows[f"text {long}"]


def test_rows_of_other_data_or_protocol_versions_are_stale_and_never_in_the_table() -> None:
    old = [replace(other, started=5, ended=10) for other in three_seeds("caan", 290.0, data_fingerprint="0" * 64)]
    older = [replace(other, started=4, ended=9) for other in three_seeds("vsepp", 295.0, protocol_version=0)]
    board = only_board([*old, *older, *three_seeds("bssan", 260.0)])
    assert [standing.method for standing in board.ranked] == ["bssan"]
    assert [(standing.method, standing.reason) for standing in board.stale] == [
        ("vsepp", "data abababababab, protocol version 0"),
        ("caan", "data 000000000000, protocol version 1"),
    ]
    assert board.data == "ab" * 32


def test_an_earlier_source_of_a_method_is_stale_once_the_later_one_has_a_result() -> None:
    old = [replace(other, started=5, ended=10) for other in three_seeds("caan", 290.0, source="0" * 64)]
    assert len(only_board(old).ranked) == 1
    board = only_board([*old, run_of(result_of(spec_of("caan")))])
    assert [standing.n for standing in board.ranked] == [1]
    assert [standing.reason for standing in board.stale] == ["an earlier source of the method, 000000000000"]


def test_limited_trials_are_listed_apart_and_never_ranked() -> None:
    board = only_board([*three_seeds("caan", 260.0), run_of(result_of(spec_of("vsepp", limit=20), 500.0))])
    assert [standing.method for standing in board.ranked] == ["caan"]
    assert [standing.method for standing in board.limited] == ["vsepp"]
    assert "--limit 20" in board.limited[0].command


def test_two_recipes_of_a_method_say_what_differs() -> None:
    other = three_seeds("caan", 250.0, settings={"dim": 64, "margin": 0.2, "unit": True})
    board = only_board([*three_seeds("caan", 260.0), *other, *three_seeds("bssan", 255.0)])
    assert [(standing.method, standing.differs) for standing in board.ranked] == [
        ("caan", "dim 256"),
        ("bssan", ""),
        ("caan", "dim 64"),
    ]


SHORT = Training(epochs=4, precision="bf16")


def test_what_was_never_ranked_puts_nothing_behind_the_names_of_ranked_rows() -> None:
    runs = [run_of(result_of(spec_of(name, training=SHORT), 260.0)) for name in ("bssan", "caan")]
    runs += [unfinished(spec_of("bssan"), State.INTERRUPTED), Run(spec_of("bssan", 1), State.WAITING)]
    runs += [run_of(result_of(spec_of("caan", limit=600), 300.0)), failed(spec_of("vsepp"))]
    board = only_board(runs)
    assert [(row.method, row.differs) for row in board.ranked] == [("bssan", ""), ("caan", "")]
    told = {row.method: row.differs for row in board.incomplete}
    assert told == dict.fromkeys(("bssan", "vsepp"), "training.epochs 3, training.precision auto"), "these differ"


def test_the_recipe_of_a_board_is_said_once_in_every_form_and_by_rows_that_have_another() -> None:
    runs = [run_of(result_of(spec_of(name, training=SHORT), 260.0)) for name in ("bssan", "caan")]
    board = only_board(runs)
    recipe = (
        "epochs 4 (default 3), batch_size 128, optimizer adam, lr 0.001, all_negatives_epochs 1 (default 2), drop_words"
    )
    assert board.training["training.epochs"] == "4" and recipe in cells.recipe(board)
    one = Assessed(board, Evidence())
    pages = {form: FORMS[form](one, {}) for form in ("md", "html", "latex")}
    pages["terminal"] = str(tables([one])[0].caption)
    assert all(page.count("epochs 4 (default 3)") == 1 for page in pages.values()), "at the top, and behind no name"
    assert not any("otherwise" in page.partition("Recipe")[2][:300] for page in pages.values())


def test_a_recipe_by_default_is_said_as_such_and_one_that_nothing_was_trained_by_is_not() -> None:
    usual = built_in().for_dataset("scenes").training
    (board,) = boards_of([run_of(result_of(spec_of(training=usual)))], {})
    stated = "epochs 3, batch_size 128, optimizer adam, lr 0.001, all_negatives_epochs 2, drop_words 0.0"
    assert cells.recipe(board) == f"{stated}, all else by default", "what scenes want otherwise is named, too"
    untrained = spec_of("chance", training=usual.model_copy(update={"epochs": 0}))
    assert not cells.recipe(only_board([run_of(result_of(untrained, epochs=0))]))


def test_a_row_of_other_training_than_most_says_so_whatever_its_method() -> None:
    runs = [run_of(result_of(spec_of(name, training=SHORT), 260.0)) for name in ("bssan", "caan")]
    runs += [run_of(result_of(spec_of("vsepp", training=SHORT.model_copy(update={"epochs": 12})), 250.0))]
    board = only_board(runs)
    assert [row.differs for row in board.ranked] == ["", "", "training.epochs 12"]
    assert "a row that was trained otherwise" in cells.recipe(board)


@pytest.mark.slow
def test_ties_uncommitted_changes_and_mixed_machines_are_noted() -> None:
    first = result_of(spec_of("caan"))
    tied = first.measures | {"i2t_tied": 12.34}
    other = first.environment | {"cpu": "Another CPU", "dirty": "yes"}
    second = result_of(spec_of("vsepp"), measures=tied, environment=other)
    board = only_board([run_of(first), run_of(second)])
    assert len(board.machines) == 2
    found = {cells[1]: cells[-1] for cells in html_tables(only_page([run_of(first), run_of(second)]))[0][1:]}
    assert found["caan"] == "n = 1; machine 1"
    assert found["vsepp"] == "n = 1; uncommitted changes; machine 2; i2t ties 12.3 %"


@pytest.mark.slow
def test_each_dataset_and_protocol_has_its_own_board_and_two_never_share_a_file() -> None:
    def runs(*boards: tuple[str, str]) -> list[Run]:
        return [run_of(result_of(spec_of(dataset=name, protocol=protocol))) for name, protocol in boards]

    assert set(pages_of(runs(("a", "1k"), ("b", "5k")))) == {"a-1k.md", "b-5k.md"}
    with pytest.raises(ConfigError, match=r"a-b-c\.md"):
        pages_of(runs(("a-b", "c"), ("a", "b-c")))


def test_a_board_stays_in_its_folder(tmp_path: Path) -> None:
    pages = pages_of([run_of(result_of(spec_of(protocol="../../away")))])
    assert write(pages, tmp_path / "reports") == [tmp_path / "reports" / "scenes-.._.._away-7c0ab3.md"]
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        write(pages, tmp_path / "file")


@pytest.mark.slow
def test_boards_are_the_same_bytes_whatever_the_order_of_the_rows() -> None:
    other = three_seeds("caan", 250.3, settings={"dim": 64})
    rows = [*three_seeds("caan", 260.1), *other, *three_seeds("vsepp", 255.7), run_of(result_of(spec_of("a", limit=3)))]
    made = all_files(rows)
    for seed in range(3):
        assert all_files(random.Random(seed).sample(rows, len(rows))) == made


@pytest.fixture(scope="module")
def cards() -> dict[str, MethodCard]:
    return dict(discover(Config(root=ROOT)).methods)


def test_the_command_of_a_row_reproduces_its_spec(cards: dict[str, MethodCard], tmp_path: Path) -> None:
    name = next(name for name, card in cards.items() if "margin" in card.defaults)
    plain = built_in().for_dataset("scenes")
    settings = settings_for(cards[name], plain) | {"margin": 0.125}
    training = plain.training.model_copy(update={"epochs": 7, "drop_after": (2, 5), "schedule": "step"})
    spec = spec_of(name, settings=settings, training=training, limit=30)
    (board,) = boards_of([run_of(result_of(spec.model_copy(update={"seed": seed}))) for seed in (4, 2)], cards)
    words = shlex.split(board.limited[0].command)
    assert words[:2] == ["harness", "run"]
    flags = [words[place : place + 2] for place in range(2, len(words), 2)]
    assert [value for flag, value in flags if flag != "-s"] == [name, "scenes", "full", "2,4", "30"]
    overrides = [value for flag, value in flags if flag == "-s"]
    assert len(overrides) == 4
    (tmp_path / "harness.toml").touch()
    config = load(tmp_path / "harness.toml", overrides).for_dataset("scenes")
    assert config.training == spec.training
    assert settings_for(cards[name], config) == settings


def test_the_command_of_a_row_says_what_the_project_has_otherwise(cards: dict[str, MethodCard], tmp_path: Path) -> None:
    file = tmp_path / "harness.toml"
    file.write_text('[training]\nepochs = 5\n\n[settings."*"]\nmargin = 0.4\n')
    config, plain = load(file), built_in().for_dataset("scenes")
    spec = spec_of("scan_t2i", settings=settings_for(cards["scan_t2i"], plain), training=plain.training)
    (board,) = boards_of([run_of(result_of(spec))], cards, current(config, discover(config)))
    (row,) = [row for section in SECTIONS for row in getattr(board, section)]
    words = shlex.split(row.command)
    again = load(file, [value for flag, value in pairwise(words) if flag == "-s"])
    assert again.for_dataset("scenes").training == spec.training
    assert settings_for(cards["scan_t2i"], again.for_dataset("scenes")) == spec.settings
    assert words.count("-s") == 2


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(st.lists(texts, min_size=1, max_size=4))
def test_no_text_can_break_a_table(found: list[str]) -> None:
    header = "| " + " | ".join("x" for _ in found) + " |\n|" + "---|" * len(found)
    page = f"{header}\n| " + " | ".join(escaped(text) for text in found) + " |\n"
    (table,) = html_tables(page)
    assert table[1] == [" ".join(html.unescape(escaped(text)).split()) for text in found]
    assert [len(cells) for cells in table] == [len(found)] * 2


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_escaped_text_is_shown_as_it_was(text: str) -> None:
    assert html.unescape(escaped(text)) == " ".join(text.split())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["<script>|", "`a` *b* _c_ [d](e)", "a\nb | c", "<!-- ", "&lt;", "**"])
def test_a_method_of_any_name_is_one_cell(name: str) -> None:
    page = only_page([run_of(result_of(spec_of(name)))])
    table, _costs, _more = html_tables(page)
    assert [len(cells) for cells in table] == [len(HEADER)] * 2
    assert table[1][1] == " ".join(name.split())


def test_the_terminal_shows_the_same_ranks_in_80_columns() -> None:
    lost = failed(spec_of("vsepp"), Failure.OOM, "no [bold]memory[/bold]")
    rows = [*three_seeds("bssan", 270.0), *three_seeds("scan_t2i", 260.0), lost]
    console = Console(width=80, file=StringIO())
    for table in tables(assessed(rows, {}, lambda _run, _name: None)):
        console.print(table)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[:6] for line in lines if "±" in line] == [
        ["1", "bssan", "3", "271.0", "±", "1.0"],
        ["2", "scan_t2i", "3", "261.0", "±", "1.0"],
    ]
    assert any(line.startswith("incomplete: vsepp  seed 0: failed (oom): no [bold]memory[/bold]") for line in lines)


def test_two_reports_from_one_store_are_byte_identical(store: str, tmp_path: Path) -> None:
    tracker = Tracker(store)
    results = [result_of(spec_of(method, seed), 250 + seed) for seed in (2, 0, 1) for method in ("vsepp", "caan")]
    tracker.open_campaign("main", [*(result.spec for result in results), spec_of("bssan")])
    tracker.begin(spec_of("bssan"))
    tracker.epoch(reports_of(spec_of("bssan"))[0])
    for result in results:
        tracker.result(result, folder_of(tmp_path, result))
    tracker.close_campaign(State.INTERRUPTED)
    first = write(pages_of(ResultStore(tracker.uri).runs()), tmp_path / "reports")[0].read_bytes()
    again = write(pages_of(ResultStore(store).runs()), tmp_path / "reports")[0].read_bytes()
    assert first == again
    assert b"| bssan | 0 | seed 0: interrupted after epoch 1 |" in first
    assert str(tmp_path).encode() not in first


def test_a_run_of_the_store_is_the_run_that_these_tests_use(store: str, tmp_path: Path) -> None:
    result = result_of(spec_of())
    tracker = Tracker(store)
    tracker.result(result, folder_of(tmp_path, result))
    (logged,) = ResultStore(tracker.uri).runs()
    own = {"run_id": logged.run_id, "started": logged.started, "ended": logged.ended}
    last = epoch_metrics(reports_of(result.spec)[-1])
    written = run_of(result)
    assert replace(written, **own, metrics={**written.metrics, **last}) == logged
