"""The page of a search and its figures: what they tell, from a real search and from trials that are made up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from boards import html_tables
from markdown_it import MarkdownIt
from tiny_project import Call, in_a_new_process

from harness.board import drawing
from harness.board.drawing import canvas
from harness.config.sections import Scalar, Search, Tunable
from harness.files import safe_name as safe
from harness.search import plots
from harness.search.figures import comparison, figure, label, place, steps, ticks
from harness.search.optuna_study import Study, open_storage, read_studies
from harness.search.page import search_page
from harness.search.studies import Ended, Outcome, StudyDesign
from harness.search.study_records import ENOUGH, StudyRecord
from harness.trial.results import EpochReport

Captured = pytest.CaptureFixture[str]
MARGIN = Tunable(type="float", low=0.0, high=0.5)
RATE = Tunable(type="float", low=1e-5, high=1e-1, log=True)
POOLING = Tunable(type="categorical", choices=("avg", "lse"))
LAYERS = Tunable(type="int", low=1, high=4)
TEMPERATURE = Tunable(type="float", low=3.0, high=30.0, log=True, when={"pooling": "lse"})
SPACE = {"margin": MARGIN, "pooling": POOLING, "temperature": TEMPERATURE, "training.lr": RATE}
IDENTITY = {
    **{"space of margin": "float 0.0 to 0.5", "objective": "rsum", "sampler": "tpe, seed = 100", "pruner": "none"},
    **{"epochs of a trial": "3", "points": "none"},
}


def ended(number: int, value: float | None = None, state: Outcome = "complete", **notes: Any) -> Ended:
    facts = {"key": f"{number:016x}", "epochs": 3, "seconds": 10.0, "device_seconds": 20.0, **notes}
    return Ended(number, state, {"margin": number % 5 / 10}, () if value is None else (value,), facts)


def record(*trials: Ended, name: str = "main/scenes/vsepp", **identity: str) -> StudyRecord:
    return StudyRecord(name, {**IDENTITY, **identity}, trials, {"margin": MARGIN})


def epochs_of(trials: Sequence[Ended], top: float = 100.0) -> dict[str, list[EpochReport]]:
    return {
        trial.notes["key"]: [
            EpochReport(key=trial.notes["key"], epoch=epoch, epochs=3, val={"rsum": top * epoch / 3})
            for epoch in range(1, trial.notes["epochs"] + 1)
        ]
        for trial in trials
    }


def texts(svg: bytes) -> list[str]:
    """What a figure says, word for word."""
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def table(text: str, head: str) -> list[list[str]]:
    """The rows below a header that begins so."""
    return next(rows[1:] for rows in html_tables(text) if rows[0][0] == head)


# --- a real search


def search(call: Call, *words: str) -> int:
    return call("search", "--methods", "vsepp,caan", "--trials", "1", "--here", *words)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("[!.]*") if file.is_file()}


@pytest.mark.slow
def test_a_search_writes_its_page_and_figures_and_a_report_finds_them_as_they_are(
    project: Path, call: Call, capsys: Captured
) -> None:
    assert search(call, "--campaign", "spring", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    reports = project / "reports"
    names = [
        "search-spring.md",
        "search-spring/tiny.svg",
        "search-spring/tiny/caan.svg",
        "search-spring/tiny/vsepp.svg",
    ]
    assert answer["reports"] == [str(reports / name) for name in names]
    first = contents(reports)
    assert sorted(first) == sorted(names)
    assert not any(str(project).encode() in data for data in first.values())
    text = first["search-spring.md"].decode()
    assert [row[:2] for row in table(text, "dataset")] == [["tiny", "caan"], ["tiny", "vsepp"]]
    assert "\nharness confirm spring\n" in text
    for one in answer["searches"]:
        (best,) = one["best"]
        assert f"{best['objective'][0]:.1f} (#{best['trial']})" in text

    (reports / names[1]).write_bytes(first[names[1]].replace(b"trials", b"tryals"))
    shutil.rmtree(reports / "search-spring" / "tiny")
    assert call("report", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again == {
        "written": [str(reports / n) for n in names[1:]],
        "unchanged": [str(reports / names[0])],
        "removed": [],
    }
    assert contents(reports) == first


@pytest.mark.slow
def test_a_report_without_searches_imports_neither_optuna_nor_matplotlib(project: Path) -> None:
    out, imported = in_a_new_process("report")
    assert "search" not in out
    assert not imported & {"optuna", "matplotlib"}


# --- studies as their file has them


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real file with a study of many trials, one of a few, one without any, and one that no search made."""
    import optuna

    file = tmp_path_factory.mktemp("studies") / "studies.journal"
    storage, search = open_storage(file), Search(sampler="random", pruner="none", seed=1)
    frozen = {"method": "many", "limit": "64"}
    many = Study(storage, "main/scenes/many", StudyDesign(search, SPACE, 3, frozen=frozen))
    for _ in range(ENOUGH + 1):
        proposal = many.ask()
        assert proposal
        many.note(proposal.number, key=f"{proposal.number:016x}", epochs=3, seconds=1.0, device_seconds=1.0)
        many.tell(proposal.number, "complete", [100.0 * float(proposal.values["margin"])])
    few = Study(storage, "main/scenes/few", StudyDesign(search, {"margin": MARGIN}, 3))
    few.ask()
    optuna.create_study(storage=storage.journal, study_name="notes")
    optuna.create_study(storage=storage.journal, study_name="main/scenes/begun")
    Study(storage, "other/scenes/many", StudyDesign(search, {}, 3))
    return file


def test_studies_are_read_and_nothing_of_them_is_made_or_changed(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    everything = read_studies(file)
    assert [study.campaign for study in everything] == ["main", "main", "other"]
    many, few, _ = everything
    assert (many.campaign, many.dataset, many.method) == ("main", "scenes", "many")
    assert len(many.trials) == ENOUGH + 1 and many.trials[0].notes["epochs"] == 3
    assert {key: tunable.model_copy(update={"when": {}}) for key, tunable in SPACE.items()} == many.ranges
    assert many.space["temperature"] == 'float 3.0 to 30.0 log when pooling = "lse"'
    assert (len(few.trials), len(few.under_way)) == (0, 1)
    assert read_studies(file, "mian") == []
    assert read_studies(tmp_path / "none.journal") == [] and not (tmp_path / "none.journal").exists()
    assert file.read_bytes() == before


def test_the_importance_of_settings_adds_up_and_finds_what_decides(file: Path) -> None:
    many, few = read_studies(file, "main")
    assert sum(many.importances.values()) == pytest.approx(1)
    assert max(many.importances, key=lambda key: many.importances[key]) == "margin"
    assert set(many.importances) == set(SPACE)
    assert not few.importances


def test_a_page_from_a_file_tells_what_is_under_way_what_was_limited_and_draws_conditions(file: Path) -> None:
    page = search_page(read_studies(file, "main"), {})
    assert "- not over yet: 1 of its trials" in page.text
    assert "- limit: the first 64 images of each split, never ranked" in page.text
    assert "No trial has ended yet." in page.text
    assert "No learning curves" in page.text and "PED-ANOVA" in page.text
    (name,) = page.studies
    assert name == "search-main/scenes/many.svg"
    assert {"Importance of settings", "temperature", "not used", "lse"} <= set(
        texts(plots.study_svg(page.studies[name]))
    )


# --- the page


def test_the_best_trials_stand_in_order_and_settings_that_came_up_again_once() -> None:
    trials = [ended(0, 10.0), ended(1, 30.0), ended(2, 20.0), ended(3, 30.0, same_as=1), ended(4, 5.0, "pruned")]
    text = search_page([record(*trials)], {}).text
    assert table(text, "#") == [["1", "30.0", "3", "0.1"], ["2", "20.0", "3", "0.2"], ["0", "10.0", "3", "0"]]
    assert table(text, "dataset")[0][2] == "30.0 (#1)"
    text = search_page([record(*trials, objective="-i2t_median_rank")], {}).text
    assert [row[0] for row in table(text, "#")] == ["0", "2", "1"]


def test_ten_trials_are_shown_of_more() -> None:
    assert len(table(search_page([record(*(ended(n, float(n)) for n in range(30)))], {}).text, "#")) == 10


def test_a_budget_counts_all_that_was_trained_and_a_smaller_one_is_marked() -> None:
    small = record(*(ended(n, 1.0) for n in range(8)), ended(8, None, "failed", failure="oom"))
    large = record(*(ended(n, 1.0, "pruned", epochs=2) for n in range(18)), name="main/scenes/caan")
    far = record(ended(0, 1.0), name="main/f30k/caan")
    rows, smaller = table(search_page([small, large, far], {}).text, "dataset"), "smaller budget: "
    assert [row[:2] + row[3:] for row in rows] == [
        ["f30k", "caan", "1", "0", "0", "3", "0.00", "0.01", ""],
        ["scenes", "caan", "18", "18", "0", "36", "0.05", "0.10", ""],
        [
            "scenes",
            "vsepp",
            "9",
            "0",
            "1",
            "27",
            "0.03",
            "0.05",
            f"{smaller}9 trials against 18; {smaller}27 epochs against 36",
        ],
    ]


def test_failed_trials_are_told_by_class_without_those_that_were_run_again() -> None:
    failures = ["oom", "nonfinite", "oom", "", "oom"]
    failed = [ended(n, None, "failed", failure=failure) for n, failure in enumerate(failures)]
    again = ended(5, 3.0, key=failed[4].notes["key"])
    rows = table(search_page([record(*failed, again)], {}).text, "failed")
    assert rows == [["oom", "2", "#0, #2"], ["no finite objective", "1", "#3"], ["nonfinite", "1", "#1"]]


def test_where_nothing_ended_well_nothing_is_to_be_confirmed() -> None:
    page = search_page([record(ended(0, None, "failed", failure="oom"))], {})
    assert "harness confirm" not in page.text and not page.studies


def test_the_command_confirms_a_name_as_a_shell_takes_it_and_the_limit_is_that_of_the_study() -> None:
    assert "\nharness confirm main\n" in search_page([record(ended(0, 1.0), limit="64")], {}).text
    named = record(ended(0, 1.0), name="a night's\n```\n# search/scenes/vsepp")
    assert "\n````\nharness confirm 'a night'\"'\"'s\n```\n# search'\n````\n" in search_page([named], {}).text


ODD = ["a|b", "<script>x|", "`a` *b* [c](d)", "a\nb # ", "$x$ \\ & é", "..", "_x_"]


@pytest.mark.parametrize("odd", ODD)
def test_no_name_breaks_the_page_or_leads_out_of_the_folder(odd: str) -> None:
    trials = [Ended(n, "complete", {odd: odd}, (float(n),), ended(n).notes) for n in range(3)]
    ranges = {odd: Tunable(type="categorical", choices=(odd, "other"))}
    identity = {"objective": "rsum", f"space of {odd}": f"one of other, {odd}"}
    studies = [StudyRecord(f"{odd}/{odd}/{method}", identity, tuple(trials), ranges) for method in (odd, "plain")]
    page = search_page(studies, epochs_of(trials))
    plain = " ".join(odd.split())
    assert [row[:2] for row in table(page.text, "dataset")] == [[plain, plain], [plain, "plain"]]
    assert table(page.text, "#")[0][-1] == plain and table(page.text, "searched") == [[plain, f"one of other, {plain}"]]
    links = [
        unquote(child.attrs["src"])
        for token in MarkdownIt("commonmark").enable("table").parse(page.text)
        for child in token.children or ()
        if child.type == "image"
    ]
    assert sorted(links) == sorted(page.files[1:]) and len(links) == 3
    assert all(".." not in Path(name).parts for name in page.files)
    headings = [token for token in MarkdownIt().parse(page.text) if token.type == "heading_open"]
    assert len(headings) == 5


def test_no_name_breaks_a_figure() -> None:
    ranges = dict.fromkeys(ODD, Tunable(type="categorical", choices=tuple(ODD)))
    trials = [Ended(n, "complete", dict(zip(ODD, ODD, strict=True)), (float(n),), ended(n).notes) for n in range(2)]
    study = StudyRecord(
        "main/scenes/vsepp", IDENTITY, tuple(trials), ranges, importances=dict.fromkeys(ODD, 1 / len(ODD))
    )
    drawn = texts(plots.study_svg(figure(study, {})))
    assert {" ".join(odd.split()) for odd in ODD} <= {" ".join(line.split()) for line in drawn}


def test_names_of_files_that_differ_stay_different() -> None:
    names = [*ODD, "a_b", "a/b", "a b", "plain", ""]
    assert len({safe(name) for name in names}) == len(names)
    assert safe("coco-objects.v2") == "coco-objects.v2"


# --- what is drawn


def test_the_best_so_far_counts_every_trial_and_every_second_but_complete_values_alone() -> None:
    trials = [ended(0, 9.0, "pruned"), ended(1, 5.0), ended(2, 3.0), ended(3, None, "failed"), ended(4, 8.0)]
    assert [(step.trials, step.seconds, step.best) for step in steps(record(*trials))] == [
        *((2, 20.0, 5.0), (3, 30.0, 5.0)),
        *((4, 40.0, 5.0), (5, 50.0, 8.0)),
    ]
    assert [step.best for step in steps(record(*trials, objective="-seconds"))] == [5.0, 3.0, 3.0, 3.0]


def test_methods_are_compared_where_there_are_two_with_one_objective() -> None:
    one, other = record(ended(0, 1.0)), record(ended(0, 2.0), name="main/scenes/caan")
    chart = comparison([one, other])
    assert chart and [name for name, _ in chart.lines] == ["vsepp", "caan"] and chart.objective == "rsum on val"
    assert comparison([one]) is None
    assert comparison([one, replace(other, trials=())]) is None
    assert comparison([one, replace(other, identity={**IDENTITY, "objective": "i2t_r1"})]) is None


@pytest.mark.parametrize(
    ("range_", "value", "at"),
    [(MARGIN, 0.25, 0.5), (RATE, 1e-3, 0.5), (POOLING, "lse", 1.0), (LAYERS, 4, 1.0), (MARGIN, 0.0, 0.0)],
)
def test_a_value_lies_where_its_range_has_it(range_: Tunable, value: Scalar, at: float) -> None:
    assert place(range_, value) == pytest.approx(at)


def test_axes_have_ticks_at_choices_at_few_whole_numbers_at_ends_and_in_the_middle() -> None:
    assert [text for _, text in ticks(LAYERS)] == ["1", "2", "3", "4"]
    assert [text for _, text in ticks(POOLING)] == ["avg", "lse"]
    assert [text for _, text in ticks(RATE)] == ["1e-05", "0.001", "0.1"]
    assert [text for _, text in ticks(Tunable(type="int", low=16, high=1024))] == ["16", "520", "1024"]


def test_a_line_leaves_out_what_its_trial_did_not_use_and_the_best_is_drawn_last() -> None:
    values: list[Mapping[str, Scalar]] = [{"pooling": "lse", "temperature": 30.0}, {"pooling": "avg"}]
    trials = [Ended(n, "complete", dict(own), (float(n),), ended(n).notes) for n, own in enumerate(values)]
    study = StudyRecord("main/scenes/vsepp", IDENTITY, tuple(trials), {"pooling": POOLING, "temperature": TEMPERATURE})
    drawn = figure(study, {})
    assert [(axis.name, axis.places) for axis in drawn.coordinates] == [
        ("pooling", (1.0, 0.0)),
        ("temperature", (1.0, None)),
        ("rsum on val", (0.0, 1.0)),
    ]
    assert drawn.shades == (0.0, 1.0)


def test_curves_are_of_the_objective_and_of_each_setting_once() -> None:
    trials = [ended(0, 50.0), ended(1, 20.0, "pruned", epochs=1), ended(2, 50.0, key=ended(0).notes["key"])]
    drawn = figure(record(*trials), epochs_of(trials))
    assert [(curve.number, curve.state, len(curve.points)) for curve in drawn.curves] == [
        (0, "complete", 3),
        (1, "pruned", 1),
    ]
    assert figure(record(*trials, objective="-seconds"), epochs_of(trials)).measure == label("rsum")


def test_with_several_objectives_there_is_a_front_and_no_best_so_far() -> None:
    values = [(10.0, 5.0), (20.0, 9.0), (15.0, 9.0), (20.0, 8.0)]
    trials = [Ended(n, "complete", {"margin": 0.1 * n}, pair, ended(n).notes) for n, pair in enumerate(values)]
    study = record(*trials, objective="rsum, -seconds")
    page = search_page([study, replace(study, name="main/scenes/caan")], epochs_of(trials))
    assert [row[0] for row in table(page.text, "#")] == ["3", "0"]
    assert "a front of 2" in page.text and "No best so far" in page.text and not page.comparisons
    drawn = texts(plots.study_svg(page.studies["search-main/scenes/vsepp.svg"]))
    assert "Objectives" in drawn and "Learning curves" in drawn and "Best so far over trials" not in drawn


# --- figures as files


def of_many(number: int) -> Iterator[Ended]:
    for n in range(number):
        state: Outcome = "failed" if n % 9 == 8 else "pruned" if n % 3 == 2 else "complete"
        yield ended(n, None if state == "failed" else 100.0 + n % 7, state, epochs=3 if state == "complete" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 100])
def test_a_figure_is_the_same_bytes_again_and_its_text_is_text(number: int) -> None:
    trials = list(of_many(number))
    study = replace(record(*trials), importances={"margin": 0.7, "pooling": 0.3} if number > ENOUGH else {})
    page = search_page([study], epochs_of(trials))
    (data,) = page.studies.values()
    svg = plots.study_svg(data)
    assert svg == plots.study_svg(data)
    titles = {"Best so far over trials", "Best so far over training time", "Learning curves", "rsum on val"}
    assert titles <= set(texts(svg))
    assert ("Importance of settings" in texts(svg)) == (number > ENOUGH)
    assert ("No parallel coordinates" in page.text) == (number == 1)
    assert b"<dc:date>" not in svg and len(svg) < 300_000


def test_the_lines_of_methods_differ_and_their_names_are_as_they_are() -> None:
    names = ("_x_", "$y$", "<z>")
    studies = [record(ended(0, 1.0), ended(1, 2.0), name=f"main/scenes/{name}") for name in names]
    numbers = comparison(studies)
    assert numbers
    svg = plots.comparison_svg(numbers)
    assert {*names, "rsum on val"} <= set(texts(svg)) and svg == plots.comparison_svg(numbers)


def test_no_line_covers_the_labels_of_a_coordinate() -> None:
    values: list[dict[str, Scalar]] = [{"pooling": "lse", "temperature": 30.0}, {"pooling": "avg"}]
    trials = [Ended(n, "complete", own, (float(n),), ended(n).notes) for n, own in enumerate(values)]
    study = StudyRecord("main/scenes/vsepp", IDENTITY, tuple(trials), {"pooling": POOLING, "temperature": TEMPERATURE})
    with canvas(8.6, 3) as drawing:
        axes = drawing.subplots()
        plots.coordinates(axes, figure(study, {}))
        drawing.draw_without_rendering()
        labels = [text.get_window_extent().extents for text in axes.texts]
        lines = [line for each in axes.collections for line in getattr(each, "get_segments", list)()]
        assert len(labels) == 2 + 4 + 3 and len(lines) == 2 * 2
        for (start, _), (end, _) in map(axes.transData.transform, lines):
            assert all(end <= left or right <= start for left, _, right, _ in labels)


def test_a_figure_numbers_trials_as_the_table_does_and_its_axes_fit_what_is_drawn() -> None:
    trials = [ended(number, float(number)) for number in (3, 4, 7)]
    trials.append(ended(9, state="failed", key=""))
    study = figure(record(*trials), epochs_of(trials[:3]))
    assert [step.number for step in study.steps] == [3, 4, 7, 9]
    with drawing.canvas(8, 3) as canvas:
        left, right = canvas.subplots(1, 2)
        plots.over_trials(left, study)
        plots.curves(right, study)
        points, crosses = ([float(x) for x, _ in part.get_offsets()] for part in left.collections)
        assert (points, crosses) == ([3, 4, 7], [9])
        assert list(left.lines[0].get_xdata()) == [3, 4, 7, 9] and left.get_xlabel() == "trial #"
        for axes, low, high in ((left, 3, 9), (right, 1, 3)):
            start, end = axes.get_xlim()
            assert low - 0.05 * (high - low) < start < low and high < end < high + 0.05 * (high - low)


def test_one_trial_or_one_epoch_is_in_the_middle_of_its_axis() -> None:
    with drawing.canvas(8, 3) as canvas:
        axes = canvas.subplots()
        plots.fit_whole(axes, [4])
        assert axes.get_xlim() == (3.5, 4.5)
