"""Ensembles on a board: a section of their own in every form, and no place or group among single models."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from boards import Page, failed, html_tables, one_of, only_board, run_of, three_seeds, with_speed
from rich.console import Console
from sample_results import result_of, spec_of

from harness.board.cells import ensemble_header, ensemble_rows, published
from harness.board.forms import as_csv, as_json, as_latex, attachments, board_page, webpage
from harness.board.standings import boards_of
from harness.campaign.current import current
from harness.config.cards import MethodCard
from harness.config.papers import Reported
from harness.config.project import Config
from harness.config.registry import discover
from harness.terminal.board_page import tables
from harness.tracking.runs import Run
from harness.trial.ensembles import MEMBER, ensemble_spec, joint_source
from harness.trial.results import Current, Failure, TrialSpec

BOTH = "caan+vsepp"
METHODS = discover(Config(root=Path(__file__).parents[2])).methods


def ensemble(seed: int = 0, **changes: object) -> TrialSpec:
    return ensemble_spec([spec_of("caan", seed, **changes), spec_of("vsepp", seed, **changes)])


def made(rsum: float = 300.0, **changes: object) -> list[Run]:
    """Three seeds of an ensemble."""
    return [run_of(result_of(ensemble(seed, **changes), rsum + seed)) for seed in range(3)]


def singles() -> list[Run]:
    return [*with_speed("caan", 260.0, 1e5), *three_seeds("vsepp", 250.0)]


def test_an_ensemble_is_not_ranked_and_is_in_no_group_though_it_is_best() -> None:
    one = one_of([*singles(), *made()])
    assert [row.method for row in one.board.ranked] == ["caan", "vsepp"]
    assert [(row.method, row.n) for row in one.board.ensembles] == [(BOTH, 3)]
    assert one.evidence.groups == one_of(singles()).evidence.groups
    assert one.evidence.differences == one_of(singles()).evidence.differences
    apart = one.evidence.of_ensembles
    assert apart.intervals[0] and not apart.groups and not apart.differences


def test_machines_have_one_number_on_the_whole_board() -> None:
    """An ensemble scored on the second of two machines: in the table as on the row's own page."""
    cpus = [{"device": "cpu", "cpu": cpu} for cpu in ("A CPU", "B CPU")]
    rows = [run_of(result_of(spec_of(seed=seed), environment=cpus[0])) for seed in range(2)]
    one = one_of([*rows, run_of(result_of(ensemble(), 300.0, environment=cpus[1]))])
    ((*cells,),) = ensemble_rows(*one)
    (page,) = [text.decode() for name, text in attachments(one, METHODS) if "/caan_vsepp-" in name and ".md" in name]
    assert "machine 2" in cells[-1] and "machine 2" in page and "machine 1" not in page


def test_ensembles_are_ordered_by_their_mean() -> None:
    third = [run_of(result_of(ensemble_spec([spec_of("caan"), spec_of("bssan")]), 310.0))]
    assert [row.method for row in only_board([*made(), *third]).ensembles] == ["bssan+caan", BOTH]


@pytest.mark.slow
def test_markdown_html_and_the_terminal_have_a_table_of_ensembles() -> None:
    one = one_of([*singles(), *made()])
    ((*cells,),) = ensemble_rows(*one)
    assert cells[:3] == [BOTH, "3", "301.0 ± 1.0"] and cells[-1] == "ensemble: mean of the scores of 2 methods"
    page = board_page(one, {})
    ranked, *others = html_tables(page)
    assert BOTH not in [line[1] for line in ranked]
    assert [ensemble_header(one.board), cells] in others and "## Ensembles" in page
    html = Page(webpage(one, {}))
    assert "Ensembles" in html.texts("h2") and cells in html.lines()
    ids = [attributes["id"] for _, attributes, _ in html.elements if "id" in attributes]
    assert "ensemble-1" in ids and len(ids) == len(set(ids))
    console = Console(file=io.StringIO(), width=200)
    console.print(*tables([one]))
    assert "ensembles, never ranked" in console.file.getvalue()  # type: ignore[attr-defined]


def test_csv_json_and_latex_name_the_section() -> None:
    one = one_of([*singles(), *made()])
    lines = [line for line in csv.DictReader(io.StringIO(as_csv(one, {}))) if line["method"] == BOTH]
    assert {(line["section"], line["group"]) for line in lines} == {("ensembles", "")} and float(lines[0]["low"])
    (row,) = (row for row in json.loads(as_json(one, {}))["rows"] if row["method"] == BOTH)
    assert row["section"] == "ensembles" and len(row["trials"]) == 3 and row["intervals"]
    above, below = as_latex(one, {}).rsplit(r"\multicolumn", 1)
    assert BOTH not in above and BOTH in below


@pytest.mark.slow
def test_an_ensemble_has_a_page_with_the_trials_that_were_averaged() -> None:
    spec = ensemble()
    environment = {f"{MEMBER}caan": "a" * 16, f"{MEMBER}vsepp": "b" * 16}
    one = one_of([*singles(), run_of(result_of(spec, 300.0, environment=environment))])
    files = {name: text.decode() for name, text in attachments(one, METHODS) if name.endswith(".md")}
    (page,) = (text for name, text in files.items() if "/caan_vsepp-" in name)
    assert "Place 1 of 1 among the ensembles" in page
    assert [["seed", "member", "trial"], ["0", "caan", "a" * 16], ["0", "vsepp", "b" * 16]] in html_tables(page)


def test_the_command_of_an_ensemble_has_the_settings_of_its_members() -> None:
    members = [spec_of("caan", settings={"dim": 7}), spec_of("vsepp", settings={"dim": 5})]
    environment = {f"{MEMBER}{spec.method}": spec.key for spec in members}
    whole = run_of(result_of(ensemble_spec(members), environment=environment))
    (row,) = only_board([*(run_of(result_of(spec)) for spec in members), whole]).ensembles
    assert f"--methods {BOTH} " in row.command and "  #" not in row.command
    assert row.command.count("settings.caan.dim=7") == row.command.count("settings.vsepp.dim=5") == 1
    assert row.command.count("training.drop_words=0.1") == 1
    assert only_board([whole]).ensembles[0].command.endswith("# with the settings of its members")


def test_an_ensemble_says_what_of_its_members_is_not_their_papers() -> None:
    members = [spec_of("bssan", settings={"dim": 7}), spec_of("vsepp", settings={"dim": 5})]
    environment = {f"{MEMBER}{spec.method}": spec.key for spec in members}
    runs = [run_of(result_of(spec)) for spec in members]
    one = one_of([*runs, run_of(result_of(ensemble_spec(members), environment=environment))], METHODS)
    unlike = ("bssan dim 7 (1024)", "vsepp dim 5 (1024)")
    assert [row.unlike_paper for row in one.board.ensembles] == [unlike]
    ((name, *_, last),) = ensemble_rows(*one)
    assert name == "bssan+vsepp, reconstruction" and f"not the paper's: {', '.join(unlike)}" in last


def test_one_without_a_member_or_of_few_images_is_marked_among_the_others() -> None:
    lacking = failed(ensemble(3), Failure.MEMBER, "not made, as its member caan/scenes/s3 has failed")
    limited = run_of(result_of(ensemble(0, limit=20)))
    page = board_page(one_of([*singles(), *made(), lacking, limited]), {})
    assert [f"{BOTH}, ensemble", "3", f"seed 3: failed (member): {lacking.message}"] in [
        line for table in html_tables(page) for line in table
    ]
    assert f"| {BOTH} (limit 20), ensemble |" in page or f"| {BOTH}, ensemble | 1 |" in page


@pytest.mark.slow
def test_a_foreign_name_with_a_plus_breaks_no_form() -> None:
    strange = spec_of("a++<b>|{{ c }}+", settings={})
    one = one_of([*singles(), run_of(result_of(strange, 300.0))], METHODS)
    assert [row.method for row in one.board.ensembles] == [strange.method]
    assert "<b>" not in webpage(one, METHODS)
    assert "<b>" not in board_page(one, METHODS).partition("## Reproduce")[0]
    assert current(Config(), discover(Config())).source(strange.method) == ""
    assert strange.method in as_csv(one, METHODS)
    assert all(name.isascii() and "<" not in name for name, _ in attachments(one, METHODS))


def test_an_ensemble_of_an_earlier_source_is_stale() -> None:
    sources = {"caan": "cd" * 32, "vsepp": "ef" * 32}
    current = Current(source=lambda method: joint_source(sources[name] for name in method.split("+")))
    now = [spec_of("caan"), spec_of("vsepp", source=sources["vsepp"])]
    (board,) = boards_of([*made(), run_of(result_of(ensemble_spec(now)), ended=9000)], {}, current)
    assert [row.n for row in board.ensembles] == [1]
    assert [row.n for row in board.stale] == [3] and "earlier source" in board.stale[0].reason


@pytest.mark.parametrize("cards", [("caan", "vsepp"), ("caan",)])
def test_a_number_that_all_members_report_as_an_ensembles_stands_beside_it(cards: tuple[str, ...]) -> None:
    number = {"dataset": "scenes", "protocol": "full", "i2t": (1, 2, 3), "t2i": (4, 5, 6), "rsum": 299.0}
    reported = (Reported.model_validate({**number, "ensemble": True, "source": "table 1"}),)
    methods: dict[str, MethodCard] = {
        name: card.model_copy(update={"reported": reported if name in cards else ()}) for name, card in METHODS.items()
    }
    papers = made(trained_as="paper")
    one = one_of([*singles(), *papers], methods)
    lines = [line for line in published(one.board, methods) if line[0].startswith(BOTH)]
    if len(cards) == 2:
        ((_, ours, theirs, difference, verdict, *_),) = lines
        assert (ours, theirs, difference) == ("301.0", "299.0", "+2.0")
        assert verdict.startswith("reproduced within noise")
        assert [entry["row"] for entry in json.loads(as_json(one, methods))["published"]].count(lines[0][0]) == 1
    else:
        assert not lines
    assert [line[4] for line in published(one.board, methods) if line[0] == "caan"] == [
        "not comparable: an ensemble of models"
    ]
