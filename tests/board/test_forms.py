"""The forms of a board besides markdown, and `harness report --check`."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from boards import failed, four, one_of, run_of, three_seeds, unfinished
from sample_results import log_ranked, result_of, spec_of, two_methods
from tiny_project import Call

import methods
from harness.board.drawing import canvas
from harness.board.forms import FORMS, as_json, as_latex, files, flat
from harness.board.markup import tex
from harness.config.cards import MethodCard, read_card
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run
from harness.tracking.tracker import Tracker
from harness.trial.results import Budget, State

Captured = pytest.CaptureFixture[str]
EVERY = ("report", "--format", ",".join(FORMS))


@pytest.fixture
def tracker(project: Path) -> Tracker:
    """Two methods of three seeds, and one with a name that means something in every form."""
    tracker = two_methods(project)
    log_ranked(tracker, project, '50 % of "a_b", {c} & \\d~', 0, worst=30)
    return tracker


@pytest.mark.slow
def test_another_place_time_zone_and_locale_give_the_same_bytes(
    tracker: Tracker, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = [sys.executable, "-c", "from harness.cli.main import main; main()", "report", "--format", ",".join(FORMS)]
    found = []
    for zone, locale, seed in (("UTC", "C.UTF-8", "0"), ("Pacific/Kiritimati", "C", "77")):
        away = tmp_path_factory.mktemp("away")
        elsewhere = [f"paths.reports={away / 'reports'}", f"tracking.uri={tracker.uri}"]
        environment = {**os.environ, "TZ": zone, "LC_ALL": locale, "PYTHONHASHSEED": seed}
        overrides = [word for value in elsewhere for word in ("-s", value)]
        subprocess.run([*words, *overrides], cwd=away, env=environment, check=True, stdout=subprocess.DEVNULL)
        made = [file for file in sorted((away / "reports").rglob("[!.]*")) if file.is_file()]
        found.append({str(file.relative_to(away)): file.read_bytes() for file in made})
    assert found[0] == found[1]
    kinds = Counter(Path(name).suffix for name in found[0])
    assert kinds == {".md": 1 + 3, ".svg": 4 + 3, ".html": 2, ".csv": 1, ".json": 1, ".tex": 1}
    assert not any(str(project).encode() in page for page in found[0].values())


def test_every_picture_is_drawn_once_however_many_forms_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[object] = []
    monkeypatch.setattr("harness.board.plots.canvas", lambda *size: begun.append(size) or canvas(*size))
    made = files([one_of(four())], {}, ("md", "html"))
    pictures = {name for name in made if name.endswith(".svg")}
    assert len(begun) == len(pictures) == 4 + 4
    assert made["scenes-full.html"].count(b"data:image/svg+xml;base64,") == len(pictures)


def test_csv_has_a_line_a_trial_with_its_run_and_all_its_numbers(tracker: Tracker, call: Call) -> None:
    assert call(*EVERY) == 0
    lines = list(csv.DictReader(io.StringIO(Path("reports/scenes-full.csv").read_text())))
    runs = {run.run_id: run for run in ResultStore(tracker.uri).runs()}
    assert {line["run_id"] for line in lines} == {*runs} and len(lines) == 7
    assert next(iter(lines[0])) == "section", "a line begins with a word of ours"
    for line in lines:
        assert float(line["rsum"]) == runs[line["run_id"]].numbers["rsum"]
        assert float(line["low"]) < float(line["high"]) and line["settings.dim"] == "256"
    assert {line["group"] for line in lines if line["method"] == "worse"} == {"3"}


@pytest.mark.slow
def test_json_has_rows_with_statistics_and_trials_and_the_differences(tracker: Tracker, call: Call) -> None:
    assert call(*EVERY) == 0
    board = json.loads(Path("reports/scenes-full.json").read_text())
    first = board["rows"][0]
    assert (first["row"], first["place"], len(first["trials"])) == ("good", 1, 3)
    assert first["low"] < first["means"]["rsum"] < first["high"]
    assert [trial["run_id"] for trial in first["trials"]] == first["runs"]
    assert {(pair["first"], pair["second"]) for pair in board["differences"]} >= {("good", "worse")}
    assert board["rows"][1]["sd"] is None, "what is not known of a single seed is null"


@pytest.mark.slow
def test_latex_is_a_booktabs_table_whose_text_is_escaped(tracker: Tracker, call: Call) -> None:
    assert call(*EVERY) == 0
    table = Path("reports/scenes-full.tex").read_text()
    assert r"\toprule" in table and r"\bottomrule" in table
    assert r"50 \% of " in table and r"\{c\} \& \textbackslash{}d" in table
    body = table[table.index(r"\midrule") : table.index(r"\bottomrule")].splitlines()[1:]
    columns = table[table.index(r"\begin{tabular}{") :].splitlines()[0].removeprefix(r"\begin{tabular}{").rstrip("}")
    assert len(body) == 3
    groups, rules, heads = table[table.index(r"\toprule") : table.index(r"\midrule")].splitlines()[1:]
    places = [place for place, name in enumerate(heads.removesuffix(r" \\").split(" & "), start=1) if "R@" in name]
    first, last = places[0], places[-1]
    assert groups.count("&") == len(columns) - 1 - 4, "two heads of three columns each"
    assert "\\&" not in groups, "they separate columns"
    assert groups.index("image to text") < groups.index("text to image")
    assert rules == rf"\cmidrule(lr){{{first}-{first + 2}}} \cmidrule(lr){{{first + 3}-{last}}}"
    assert heads.count("R@10") == 2 and "i2t" not in heads
    assert all(line.replace(r"\&", "").count("&") == len(columns) - 1 and line.endswith(r"\\") for line in body)


def test_latex_names_methods_by_their_titles_and_parts_sentences_with_blanks() -> None:
    card = read_card(MethodCard, Path(methods.__path__[0]) / "scan_t2i.toml")
    text = as_latex(one_of([*three_seeds("scan_t2i", 250), *three_seeds("unknown_one", 200)]), {"scan_t2i": card})
    assert "& SCAN (text to image) &" in text and r"& unknown\_one &" in text
    caption = text[text.index(r"\caption") : text.index(r"\label")]
    assert not re.search(r"[a-z]\.[A-Z$]", caption), caption


def test_a_latex_table_has_a_label_that_can_be_referred_to() -> None:
    one = one_of(three_seeds("caan", 250, dataset="my_photos--ü", protocol="1k_a"))
    (label,) = re.findall(r"\\label\{(.*)\}", as_latex(one, {}))
    assert label == "tab:my-photos-1k-a"


def test_tex_escapes_every_mark() -> None:
    assert tex("a&b%c$d#e_f{g}h~i^j\\k\n l") == (
        r"a\&b\%c\$d\#e\_f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k l"
    )
    assert tex(3) == 3


def test_an_unknown_form_is_refused(tracker: Tracker, call: Call, capsys: Captured) -> None:
    assert call("report", "--format", "md,cvs") == 2
    assert "unknown format 'cvs'; did you mean csv" in capsys.readouterr().err


@pytest.mark.slow
def test_check_answers_5_with_the_difference_and_writes_nothing(tracker: Tracker, call: Call, capsys: Captured) -> None:
    assert call("report", "--check") == 5
    assert "scenes-full.md is missing" in capsys.readouterr().out
    assert call("report") == 0
    file = Path("reports/scenes-full.md")
    capsys.readouterr()
    assert call("report", "--check") == 0
    assert "nothing to write: 13 files" in capsys.readouterr().out
    file.write_text(file.read_text().replace("| good |", "| best |", 1))
    before = file.read_bytes()
    assert call("report", "--check") == 5
    out = capsys.readouterr().out
    assert "-| 1 | best |" in out and "+| 1 | good |" in out
    assert file.read_bytes() == before
    assert call("report", "--check", "--json") == 5
    assert json.loads(capsys.readouterr().out)["difference"]


def test_a_run_is_one_line_with_all_that_people_look_for() -> None:
    search = Budget(campaign="wide", trials=4, epochs=9, seconds=2.5, device_seconds=5.0)
    done = flat(run_of(result_of(spec_of(limit=20), search=search), run_id="a", campaign="main"))
    assert (done["method"], done["seed"], done["limit"], done["state"], done["kind"]) == (
        "caan",
        0,
        20,
        "done",
        "trial",
    )
    assert (done["key"], done["recipe"]) == (spec_of(limit=20).key, spec_of(limit=20).recipe)
    assert (done["rsum"], done["best_val_rsum"], done["epochs"], done["parameters"]) == (270.0, 103.0, 3.0, 1.2e6)
    assert (done["settings.unit"], done["training.drop_after"], done["env.cpu"]) == ("true", "[7]", "A CPU")
    assert (done["gallery.images"], done["search.campaign"], done["search.seconds"]) == (500, "wide", "2.5")
    assert (done["campaign"], done["run_id"], done["started"], done["ended"]) == ("main", "a", 1000, 2000)
    assert not {"settings", "training", "spec", "record", "mlflow.source.git.commit"} & done.keys()


def test_a_run_without_a_result_is_a_line_with_empty_cells() -> None:
    waiting = flat(Run(spec_of(), State.WAITING))
    assert {waiting[name] for name in ("rsum", "i2t_r1", "gallery.images", "epoch", "started", "kind", "limit")} == {
        None
    }
    assert (waiting["state"], waiting["failure"], waiting["run_id"], waiting["seed"]) == ("waiting", "", "", 0)
    running = flat(unfinished(spec_of(), State.RUNNING, epoch=2))
    assert (running["state"], running["epoch"], running["kind"]) == ("running", 2.0, "trial")
    lost = flat(failed(spec_of(), message="no\nmemory"))
    assert (lost["state"], lost["failure"], lost["message"], lost["rsum"]) == ("failed", "oom", "no memory", None)


def test_names_of_settings_are_no_formulas_in_the_head_of_a_csv_file() -> None:
    text = FORMS["csv"](one_of(three_seeds("caan", 260.0, settings={"a;=1": "=1"})), {})
    head, first = list(csv.reader(io.StringIO(text)))[:2]
    assert dict(zip(head, first, strict=True))["settings.a;'=1"] == "'=1"


def test_every_line_of_json_has_the_columns_of_the_whole_board() -> None:
    one = one_of([*three_seeds("caan", 260.0), *three_seeds("vsepp", 250.0, settings={"other": 1})])
    trials = [trial for row in json.loads(as_json(one, {}))["rows"] for trial in row["trials"]]
    assert len({frozenset(trial) for trial in trials}) == 1
    assert {trial["settings.other"] for trial in trials} == {None, "1"}
