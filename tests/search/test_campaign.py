"""A search campaign from the command line: budgets, resumption, confirmation, and what is refused."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_project import CARD, Call

from harness.campaign import inputs as campaign_inputs
from harness.layouts.opening import open_dataset
from harness.search.optuna_study import read_studies, study_names
from harness.tracking.result_store import ResultStore

Captured = pytest.CaptureFixture[str]
SPACE = """
[search]
trials = 6
startup = 2
sampler = "{sampler}"
pruner = "{pruner}"

[search.space.vsepp]
dim = {{ type = "int", low = 4, high = 12 }}
"training.lr" = {{ type = "float", low = 1e-4, high = 1e-1, log = true }}

[search.space.mean]
dim = {{ type = "categorical", choices = [4, 8] }}
"""


def prepare(project: Path, sampler: str = "tpe", pruner: str = "median", **changes: str) -> Path:
    """The project with a search of VSE++ and of a method that has but two settings."""
    text = (project / "harness.toml").read_text() + SPACE.format(sampler=sampler, pruner=pruner)
    for old, new in changes.items():
        text = text.replace(f"{old} =", f"{old} = {new} #")
    (project / "harness.toml").write_text(text)
    (project / "cards" / "mean.toml").write_text(CARD.format(name="mean", fault="", after=0))
    return project


def search_also(project: Path, method: str, high: int = 9) -> None:
    """A further method of the project becomes searchable."""
    with (project / "harness.toml").open("a") as file:
        file.write(f'\n[search.space.{method}]\ndim = {{ type = "int", low = 2, high = {high} }}\n')


@pytest.fixture
def searchable(project: Path) -> Path:
    return prepare(project)


def answer(call: Call, capsys: Captured, *words: str, code: int = 0) -> Any:
    """What a command says with --json."""
    assert call(*words, "--json") == code, capsys.readouterr()
    return json.loads(capsys.readouterr().out)


def results(project: Path) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """How every trial folder ended, by what decides it: exactly what two searches must share to be equal."""
    endings = {}
    for folder in (project / "runs" / "trials").iterdir():
        result = json.loads((folder / "result.json").read_text())
        spec = result["spec"]
        decided = (spec["method"], spec["seed"], str(spec["settings"]), spec["training"]["lr"])
        endings[decided] = (result["state"], result["epochs"], result["measures"].get("rsum"))
    return endings


def test_every_method_gets_its_trials_and_a_second_search_does_nothing(
    searchable: Path, call: Call, capsys: Captured
) -> None:
    words = ("search", "--methods", "vsepp,mean", "--here")
    report = answer(call, capsys, *words)
    assert [search["trials"] for search in report["searches"]] == [6, 6]
    assert all(len(search["best"]) == 1 for search in report["searches"])
    vsepp, mean = report["searches"]
    assert vsepp["epochs"] <= 12 and 4 <= vsepp["best"][0]["settings"]["dim"] <= 12
    assert len(of_method(searchable, "mean")) == 2, "the other four trials are the same again and reuse their values"
    assert mean["epochs"] <= 4
    before = results(searchable)
    assert answer(call, capsys, *words) == report
    assert results(searchable) == before
    runs = ResultStore(f"sqlite:///{searchable / 'runs' / 'mlflow.db'}").runs()
    assert sorted(run.key for run in runs) == sorted(
        folder.name for folder in (searchable / "runs" / "trials").iterdir()
    )
    assert {run.state for run in runs} <= {"done", "pruned"} and {run.spec.protocol for run in runs} == {"val"}


@pytest.mark.slow
def test_a_search_shows_what_each_trial_tries_and_the_best_so_far(
    searchable: Path, call: Call, capsys: Captured
) -> None:
    words = ("search", "--methods", "vsepp", "--here", "-s", "search.trials=2")
    assert call(*words) == 0
    said = capsys.readouterr().out.splitlines()
    first = next(line for line in said if line.startswith("vsepp/tiny #0 (dim = "))
    (done,) = [line for line in said if line.startswith("✓ vsepp/tiny #0 (dim = ")]
    best = said[said.index(done) + 1]
    assert best.startswith("best val rsum so far: vsepp/tiny ") and best.endswith(" (#0)")
    assert first.split("  ")[0] == done.removeprefix("✓ ").split("  ")[0], "a setting stands behind the trial's name"


@pytest.mark.slow
def test_a_larger_total_adds_the_difference(searchable: Path, call: Call, capsys: Captured) -> None:
    answer(call, capsys, "search", "--methods", "vsepp", "--here", "--trials", "2")
    (more,) = answer(call, capsys, "search", "--methods", "vsepp", "--here", "--trials", "3")["searches"]
    assert more["trials"] == 3


@pytest.mark.slow
def test_test_is_never_opened(searchable: Path, call: Call, capsys: Captured, monkeypatch) -> None:
    from harness.data.dataset import Dataset

    opened = []
    split = Dataset.split
    monkeypatch.setattr(Dataset, "split", lambda self, name: opened.append(name) or split(self, name))
    answer(call, capsys, "search", "--methods", "vsepp", "--here", "--trials", "2")
    assert set(opened) == {"train", "val"}


@pytest.mark.slow
def test_a_search_is_planned_and_checked_with_one_opening_of_its_dataset(
    searchable: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        campaign_inputs, "open_dataset", lambda card, *places: opened.append(card.name) or open_dataset(card, *places)
    )
    assert call("search", "--methods", "vsepp,mean", "--here", "--trials", "1") == 0
    assert opened == ["tiny"]


@pytest.mark.slow
def test_the_winners_are_confirmed_on_test_with_other_seeds_and_the_board_says_so(
    searchable: Path, call: Call, capsys: Captured
) -> None:
    assert call("run", "--methods", "vsepp", "--here", "-s", "settings.vsepp.dim=3") == 0
    capsys.readouterr()
    best = {}
    for method, trials in (("vsepp", "6"), ("mean", "2")):
        words = ("search", "--methods", method, "--trials", trials, "--here", "--campaign", "night")
        (search,) = answer(call, capsys, *words)["searches"]
        best[method] = search["best"][0]["settings"]
    report = answer(call, capsys, "confirm", "night", "--seeds", "1,2", "--here")
    assert {(t["method"], t["seed"], t["protocol"]) for t in report["trials"]} == {
        (method, seed, "all") for method in ("vsepp", "mean") for seed in (1, 2)
    }
    for trial in report["trials"]:
        spec = json.loads((Path(trial["folder"]) / "spec.json").read_text())
        assert spec["settings"]["dim"] == best[trial["method"]]["dim"]
        assert trial["search"]["campaign"] == "night"
        assert trial["search"]["trials"] == {"vsepp": 6, "mean": 2}[trial["method"]]
        assert "measures" in trial and trial["state"] == "done"
    board = (searchable / "reports" / "tiny-all.md").read_text()
    assert "| settings from |" in board and "search night: 6 trials" in board
    assert "s: dim 3 (1024), " in board, "what is not the paper's is named"
    assert "smaller search budget than others" in board
    assert call("confirm", "night", "--seeds", "1,2", "--here") == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_a_search_that_fails_goes_on_answers_4_and_retries_when_asked(
    searchable: Path, call: Call, capsys: Captured
) -> None:
    search_also(searchable, "nan")
    words = ("search", "--methods", "nan,vsepp", "--here", "--trials", "2")
    report = answer(call, capsys, *words, code=4)
    nan, vsepp = report["searches"]
    assert (nan["trials"], nan["failed"], nan["best"], vsepp["failed"]) == (2, 2, [], 0)
    assert answer(call, capsys, *words, code=4) == report, "failed trials are not run again by themselves"
    assert answer(call, capsys, *words, "--retry", "oom", code=4) == report
    assert call(*words) == 4
    assert "main: 2 failed before, nothing else to do" in capsys.readouterr().out
    again = answer(call, capsys, *words, "--retry", "nonfinite", code=4)
    assert (again["searches"][0]["trials"], again["searches"][0]["failed"]) == (2, 2)
    assert {result["attempts"] for result in of_method(searchable, "nan")} == {2}
    elsewhere = answer(call, capsys, *words, "--campaign", "other", code=4)
    assert elsewhere["searches"] == [{**nan, "epochs": 0}, {**vsepp, "epochs": 0, "seconds": 0, "device_seconds": 0}]
    assert {result["attempts"] for result in of_method(searchable, "nan")} == {2}, "a failure is taken over"


def of_method(project: Path, method: str) -> list[dict[str, Any]]:
    records = [json.loads(file.read_text()) for file in (project / "runs" / "trials").glob("*/result.json")]
    return [result for result in records if result["spec"]["method"] == method]


def test_a_search_stops_after_so_many_failures(searchable: Path, call: Call, capsys: Captured) -> None:
    search_also(searchable, "nan", high=99)
    report = answer(call, capsys, "search", "--methods", "nan", "--here", "--fail-fast", code=4)
    assert report["searches"][0]["trials"] == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": '["rsom"]'}, "unknown measure 'rsom'; did you mean rsum"),
        ({"objective": '["seconds"]'}, "seconds is maximised, so that the worst trial would win; write -seconds"),
        ({"objective": '["rsum", "i2t_mean_rank"]'}, "write -i2t_mean_rank"),
        ({"objective": '["-rsum"]'}, "-rsum is minimised, so that the worst trial would win; write rsum"),
        ({"trials": "0"}, "search.trials"),
        ({"sampler": '"tpee"'}, "search.sampler"),
    ],
)
def test_what_cannot_be_searched_is_refused_and_nothing_is_lost(
    project: Path, call: Call, capsys: Captured, change: dict[str, str], words: str
) -> None:
    prepare(project)
    text = (project / "harness.toml").read_text()
    ((key, value),) = change.items()
    lines = [line for line in text.splitlines() if not line.startswith(f"{key} =")]
    place = lines.index("[search]") + 1
    (project / "harness.toml").write_text("\n".join([*lines[:place], f"{key} = {value}", *lines[place:]]))
    assert call("search", "--methods", "vsepp", "--here") == 2
    assert words in capsys.readouterr().err
    assert not (project / "runs" / "studies.journal").exists()


@pytest.mark.slow
def test_a_campaign_of_another_space_is_refused_with_the_difference(
    searchable: Path, call: Call, capsys: Captured
) -> None:
    words = ("search", "--methods", "vsepp", "--here", "--trials", "2")
    assert call(*words) == 0
    before = results(searchable)
    assert call(*words, "-s", "training.batch_size=4") == 2
    error = capsys.readouterr().err
    assert "training.batch_size" in error and "8" in error and "4" in error and "--campaign" in error
    assert call("confirm", "main", "-s", "training.batch_size=4", "--here") == 2
    assert "training.batch_size: 8 -> 4" in capsys.readouterr().err
    assert results(searchable) == before
    assert call(*words, "-s", "training.batch_size=4", "--campaign", "other") == 0
    assert study_names(searchable / "runs" / "studies.journal") == ["main/tiny/vsepp", "other/tiny/vsepp"]


def test_studies_of_an_earlier_harness_are_refused_by_every_command_that_would_read_them(
    searchable: Path, call: Call, capsys: Captured
) -> None:
    (searchable / "runs").mkdir(exist_ok=True)
    (searchable / "runs" / "studies.db").write_bytes(b"SQLite format 3")
    search = ("search", "--methods", "vsepp", "--here", "--trials", "1")
    for words in (search, ("status", "main"), ("confirm", "main"), ("report",)):
        assert call(*words) == 6
        assert "studies.db" in (error := capsys.readouterr().err) and "move it away" in error


@pytest.mark.slow
def test_an_unknown_campaign_or_the_searchs_own_seed_cannot_be_confirmed(
    searchable: Path, call: Call, capsys: Captured
) -> None:
    assert call("confirm", "night") == 2
    assert "unknown search campaign 'night'" in capsys.readouterr().err
    assert call("search", "--methods", "vsepp", "--here", "--trials", "1", "--campaign", "night") == 0
    assert call("confirm", "nigth") == 2
    assert "did you mean night" in capsys.readouterr().err
    assert call("confirm", "night", "--seeds", "0,100") == 2
    assert "search.seed" in capsys.readouterr().err


def test_two_searches_at_once_the_second_is_refused(searchable: Path, call: Call, capsys: Captured) -> None:
    from filelock import FileLock

    with FileLock(searchable / "runs" / ".lock"):
        assert call("search", "--methods", "vsepp", "--here") == 2
    assert "another harness is running" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_is_confirmed_with_the_values_that_it_was_given_by_the_very_command_that_it_names(
    searchable: Path, call: Call, capsys: Captured
) -> None:
    given = ("training.epochs=1", "settings.vsepp.word_dim=6", "search.seed=0", "paths.reports=other reports")
    words = [word for value in given for word in ("-s", value)]
    assert call("search", "--methods", "vsepp", "--here", "--trials", "2", "--campaign", "a b's", *words) == 0
    (following,) = re.findall(r"^next: harness (.*)$", capsys.readouterr().out, re.MULTILINE)
    confirmed = answer(call, capsys, *shlex.split(following), "--here")
    (page,) = (searchable / "other reports").glob("search-*.md")
    (again,) = re.findall(r"^harness (confirm .*)$", page.read_text(), re.MULTILINE)
    for words in (again, 'confirm "a b\'s" --seeds 1'):
        trials = answer(call, capsys, *shlex.split(words), "--here")["trials"]
        assert [trial["key"] for trial in trials] == [trial["key"] for trial in confirmed["trials"]]
    (trial,) = confirmed["trials"]
    spec = json.loads((Path(trial["folder"]) / "spec.json").read_text())
    assert (spec["training"]["epochs"], spec["settings"]["word_dim"], spec["seed"]) == (1, 6, 1)
    for other, said in (("training.epochs=3", "epochs: 1 -> 3"), ("settings.*.word_dim=7", "word_dim: 6 -> 7")):
        assert call("confirm", "a b's", "-s", other, "--here") == 2
        assert said in capsys.readouterr().err
    assert call("confirm", "a b's", "--seeds", "0") == 2
    assert call("status", "a b's") == 0
    assert """`harness confirm 'a b'"'"'s'`""" in capsys.readouterr().out


@pytest.mark.slow
def test_a_limited_search_is_confirmed_with_its_limit_and_other_data_or_code_are_refused(
    searchable: Path, call: Call, capsys: Captured
) -> None:
    assert call("search", "--methods", "mean", "--here", "--trials", "1", "--limit", "8") == 0
    capsys.readouterr()
    (trial,) = answer(call, capsys, "confirm", "main", "--here", "--seeds", "1")["trials"]
    assert trial["limit"] == 8
    assert call("confirm", "main", "--here", "--seeds", "1", "--limit", "4") == 2
    assert "limit: 8 -> 4" in capsys.readouterr().err
    with (searchable / "cards" / "faulty.py").open("a") as file:
        file.write("# another version\n")
    assert call("confirm", "main", "--here", "--seeds", "1") == 2
    assert "source: " in capsys.readouterr().err


# --- seeing it


@pytest.mark.slow
def test_status_tells_a_searchs_trials_by_state_its_best_and_what_failed(
    searchable: Path, call: Call, capsys: Captured
) -> None:
    search_also(searchable, "nan")
    report = answer(call, capsys, "search", "--methods", "nan,vsepp", "--here", "--trials", "3", code=4)
    status = answer(call, capsys, "status", "main")
    nan, vsepp = status["searches"]
    assert nan["counts"] == {"done": 0, "running": 0, "waiting": 0, "pruned": 0, "failed": 3}
    assert vsepp["counts"]["done"] + vsepp["counts"]["pruned"] == 3
    assert vsepp["best"] == report["searches"][1]["best"] and not status["busy"]
    assert call("status", "main") == 0
    page = capsys.readouterr().out
    assert "nan/tiny: failed: 3 nonfinite" in page and "its trials have ended" in page
    assert call("status", "mian") == 2
    assert "did you mean main" in capsys.readouterr().err


@pytest.mark.slow
def test_status_of_a_search_that_runs_shows_its_trials_and_watching_ends_with_it(
    searchable: Path, call: Call, capsys: Captured
) -> None:
    search_also(searchable, "slow")
    command = [
        sys.executable,
        "-c",
        "from harness.cli.main import main; main()",
        "search",
        "--methods",
        "slow",
        "--here",
    ]
    process = subprocess.Popen([*command, "-s", "training.epochs=9"], cwd=searchable, stdout=subprocess.DEVNULL)
    try:
        while not any((searchable / "runs").glob("trials/*/epochs.jsonl")) and process.poll() is None:
            time.sleep(0.05)
        status = answer(call, capsys, "status", "main")
        (slow,) = status["searches"]
        assert status["busy"] and slow["counts"]["running"] == 1 and slow["counts"]["waiting"] == 5
        (going,) = slow["running"]
        assert going["label"] == "slow/tiny #0" and going["epoch"] >= 1 and going["epochs"] == 9
    finally:
        process.kill()
        process.wait()
    assert call("status", "main", "--watch") == 0, "nobody is at work, so there is nothing to wait for"
    page = capsys.readouterr().out
    assert "slow/tiny #0  interrupted after epoch" in page and "`harness resume main` goes on" in page


# --- going on with the last command


@pytest.mark.slow
def test_resume_gives_the_last_command_of_a_campaign_again(searchable: Path, call: Call, capsys: Captured) -> None:
    assert call("resume") == 2
    assert "no campaign was begun" in capsys.readouterr().err
    assert call("run", "--methods", "chance,nan", "--here") == 4
    capsys.readouterr()
    answer(call, capsys, "search", "--methods", "vsepp", "--here", "--trials", "2", "--campaign", "night")
    report = answer(call, capsys, "resume")
    assert (report["campaign"], report["searches"][0]["trials"]) == ("night", 2)
    assert call("resume", "main") == 4
    assert "main: 1 trial done, 1 failed, nothing else to do" in capsys.readouterr().out
    again = answer(call, capsys, "resume", "main", "--retry", "failed", code=4)
    assert {trial["method"]: trial["attempts"] for trial in again["trials"]} == {"chance": 1, "nan": 2}
    assert call("resume", "nigth") == 2
    assert "did you mean night" in capsys.readouterr().err


@pytest.mark.slow
def test_resume_is_refused_where_the_words_would_mean_something_else(
    searchable: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("run", "--methods", "chance", "--here") == 0
    (searchable / "inner").mkdir()
    monkeypatch.chdir(searchable / "inner")
    assert call("resume") == 2
    assert f"was begun in {searchable}" in capsys.readouterr().err


# --- killed drivers


def killed_search(project: Path, moments: random.Random, kills: int, *words: str) -> None:
    """Run a search again and again until it ends by itself; the first so many drivers are killed at random moments."""
    command = [sys.executable, "-c", "from harness.cli.main import main; main()", "search", *words]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    for _ in range(kills):
        before = progress(project)
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL)
        if moments.random() < 0.3:  # while it starts, or soon after
            time.sleep(moments.uniform(0, 10))
        else:
            while progress(project) == before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 1.5))
        assert process.poll() is None, "it had ended before it was killed"
        process.kill()
        process.wait()
    subprocess.run(command, cwd=project, env=environment, check=True, stdout=subprocess.DEVNULL)


def progress(project: Path) -> set[tuple[str, int]]:
    """The epochs that the trials have finished, as sizes of files."""
    return {(str(file), file.stat().st_size) for file in (project / "runs" / "trials").glob("*/epochs.jsonl")}


def check_killed(project: Path, whole: Path, kills: int, *words: str) -> None:
    """A killed search ends as the one that was let alone, each trial once in the store and in its study."""
    killed_search(whole, random.Random(0), 0, *words)
    killed_search(project, random.Random(1), kills, *words)
    assert results(project) == results(whole)
    assert asked_and_told(project) == asked_and_told(whole)
    runs = ResultStore(f"sqlite:///{project / 'runs' / 'mlflow.db'}").runs()
    assert len(runs) == len(results(project)) == len({run.key for run in runs})
    assert {run.state for run in runs} <= {"done", "pruned"}


def asked_and_told(project: Path) -> list[tuple[Any, ...]]:
    """What the study asked for and how each trial of it ended, whatever came first."""
    (study,) = read_studies(project / "runs" / "studies.journal")
    return sorted((str(trial.values), trial.state, trial.objective) for trial in study.trials)


def copy_of(project: Path, folder: Path) -> Path:
    shutil.copytree(project, folder)
    return folder


@pytest.mark.soak
def test_a_driver_that_is_killed_ends_as_if_nothing_had_been(searchable: Path, tmp_path_factory) -> None:
    whole = copy_of(searchable, tmp_path_factory.mktemp("whole") / "project")
    check_killed(searchable, whole, 1, "--methods", "vsepp", "--here", "-q")


@pytest.mark.soak
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("sampler", "pruner", "places"), [("tpe", "median", "1"), ("random", "none", "2")])
def test_twenty_killed_drivers_end_as_if_nothing_had_been(
    project: Path, tmp_path_factory, sampler: str, pruner: str, places: str
) -> None:
    """With one place whatever the sampler and the pruner; side by side, where neither looks at what ended first."""
    prepare(project, sampler, pruner, trials="60", epochs="8")
    whole = copy_of(project, tmp_path_factory.mktemp("whole") / "project")
    check_killed(project, whole, 20, "--methods", "vsepp", "--max-concurrent", places, "-q")


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def garbage(file: Path) -> None:
    file.write_bytes(b"\xa5\x00{" * 999)


def hole(file: Path) -> None:
    """Overwrite the middle of a file, so that it still begins and ends as one of studies."""
    content = file.read_bytes()
    third = len(content) // 3
    file.write_bytes(content[:third] + b"\xa5" * third + content[2 * third :])


def studies_of_before(file: Path) -> None:
    file.with_name("studies.db").write_bytes(b"\xa5" * 999)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [zeroed, garbage, hole, studies_of_before], ids=lambda damage: damage.__name__)
def test_damaged_studies_are_moved_away_as_the_error_says_and_no_finished_trial_is_run_again(
    searchable: Path, call: Call, capsys: Captured, damage: Any
) -> None:
    words = ("search", "--here", "--methods", "vsepp", "--trials", "2", "-q")
    assert call(*words) == 0
    before, file = results(searchable), searchable / "runs" / "studies.journal"
    times = {one: one.stat().st_mtime_ns for one in (searchable / "runs" / "trials").glob("*/result.json")}
    damage(file)
    damaged = file.with_name("studies.db") if damage is studies_of_before else file
    content = damaged.read_bytes()
    for command in (words, ("report",), ("status", "main"), ("confirm", "main", "--here")):
        capsys.readouterr()
        assert call(*command) == 6
        err = capsys.readouterr().err
        assert str(damaged) in err and "move it away, and its searches begin afresh" in err
    assert damaged.read_bytes() == content
    damaged.rename(searchable / "damaged")
    assert call(*words) == 0
    assert call("report") == 0
    assert results(searchable) == before
    assert {one: one.stat().st_mtime_ns for one in (searchable / "runs" / "trials").glob("*/result.json")} == times
