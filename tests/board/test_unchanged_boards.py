"""`harness report` makes every board of which anything has changed, and no other one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_files import write_files, write_precomp
from sample_results import folder_of, log_ranked, result_of, spec_of
from tiny_project import Call

from harness.board import publishing
from harness.board.evidence import ARTIFACTS
from harness.board.forms import INDEX
from harness.board.plots import Plot
from harness.board.publishing import LIST, RECORD, digest_of
from harness.config.cards import DatasetCard, read_card
from harness.config.sources import PACKAGE
from harness.layouts.opening import fingerprint
from harness.tracking import result_store, snapshot
from harness.tracking.result_store import ResultStore
from harness.tracking.tracker import Tracker
from harness.trial.results import Failure, State

Report = Callable[..., set[str]]
Captured = pytest.CaptureFixture[str]
REPORTS, CACHE = Path("reports"), Path("runs", "cache")
BOTH = {"scenes", "photos"}
CARD = """
name = "photos"
title = "Photos"
summary = "For tests."
layout = "precomp"
folder = "photos"
licence = "ours"
origin = "a test"
feature_width = 2
max_regions = 3
[splits]
val = { images = 2, captions = 2 }
test = { images = 2, captions = 2 }
[text]
min_count = 1
[[protocols]]
name = "full"
images = 2
captions = 2
"""
REPORTED = """
[[reported]]
dataset = "scenes"
protocol = "full"
i2t = [10.0, 20.0, 30.0]
t2i = [10.0, 20.0, 30.0]
rsum = 120.0
source = "a table"
"""


def write_photos(project: Path) -> str:
    """A dataset that lies in files; its fingerprint."""
    card, folder = project / "cards" / "photos" / "card.toml", project / "data" / "photos"
    write_files(card.parent, {card.name: CARD})
    folder.mkdir(parents=True)
    for split in ("val", "test"):
        write_precomp(folder, split, np.ones((2, 3, 2), dtype=np.float32), "a dog\na cat\n")
    return fingerprint(read_card(DatasetCard, card), project / "data", project / CACHE)


@pytest.fixture
def tracker(project: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    """A store of two boards, written long ago; on one of them an earlier method was run on other photos."""
    for name in ("STEADY_SECONDS", "FINE_SECONDS"):
        monkeypatch.setattr(snapshot, name, 0)
    tracker = Tracker(f"sqlite:///{project / 'runs' / 'mlflow.db'}")
    log_ranked(tracker, project, "slow", 0, 4)
    log_ranked(tracker, project, "slow", 1, 4)
    log_ranked(tracker, project, "good", 0, 4, dataset="photos", data_fingerprint=write_photos(project))
    log_ranked(tracker, project, "old", 0, 4, dataset="photos")
    return tracker


@pytest.fixture
def report(tracker: Tracker, call: Call, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Writes reports, which are as they must be afterwards; the datasets of the runs whose artifacts it has read."""
    reads: list[tuple[str, str]] = []
    artifact = ResultStore.artifact

    def recorded(store: ResultStore, run_id: str, name: str) -> bytes | None:
        reads.append((run_id, name))
        return artifact(store, run_id, name)

    monkeypatch.setattr(ResultStore, "artifact", recorded)

    def report(*words: str) -> set[str]:
        reads.clear()
        assert call("report", *words) == 0
        datasets = {run.run_id: run.spec.dataset for run in ResultStore(tracker.uri).runs()}
        made = {datasets[run_id] for run_id, _ in reads}
        assert {name for _, name in reads} <= {*ARTIFACTS}, "all that boards are from is marked"
        if made != BOTH:
            reads.clear()
            assert call("report", "--check", *words) == 0
            assert {datasets[run_id] for run_id, _ in reads} == BOTH, "--check makes every board"
        return made

    return report


@pytest.fixture
def sketches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are written as the words for what they show: which boards are made is asked, not how they look."""

    def words(plot: Plot) -> bytes:
        return "\n".join([plot.file, plot.heading, plot.title, plot.note, *plot.numbers]).encode()

    monkeypatch.setattr(Plot, "svg", property(words))


def artifacts(dataset: str, tracker: Tracker) -> list[Path]:
    """The folders with the artifacts of a dataset's runs."""
    ids = [run.run_id for run in ResultStore(tracker.uri).runs() if run.spec.dataset == dataset]
    return [folder / "artifacts" for run_id in ids for folder in Path("runs").rglob(run_id)]


@pytest.mark.slow
def test_nothing_is_made_where_nothing_has_changed_and_every_board_is_named(
    report: Report, call: Call, capsys: Captured
) -> None:
    assert report() == BOTH
    before = {file: file.stat() for file in REPORTS.rglob("*")}
    assert report() == set()
    assert {file: file.stat().st_mtime_ns for file in before} == {f: one.st_mtime_ns for f, one in before.items()}
    capsys.readouterr()
    assert call("report", "--json") == 0
    pages = [f"{name}-full.{form}" for name in ("photos", "scenes") for form in ("md", "html")]
    names = [str(Path.cwd() / REPORTS / name) for name in (*pages, INDEX)]
    assert json.loads(capsys.readouterr().out) == {"written": [], "unchanged": names, "removed": []}


@pytest.mark.slow
@pytest.mark.usefixtures("sketches")
def test_a_run_more_or_less_makes_its_board(report: Report, tracker: Tracker, project: Path) -> None:
    report()
    log_ranked(tracker, project, "other", 0, 9)
    assert report() == {"scenes"} and report() == set()
    tracker.forget([run.key for run in ResultStore(tracker.uri).runs() if run.spec.method == "other"])
    assert report() == {"scenes"} and not [*REPORTS.rglob("other*")]


@pytest.mark.slow
@pytest.mark.usefixtures("sketches")
def test_a_failure_that_changes_no_ranked_row_makes_its_board(report: Report, tracker: Tracker, project: Path) -> None:
    report()
    spec = spec_of("slow", settings={"dim": 512})
    failed = result_of(spec, state=State.FAILED, failure=Failure.BUG, message="no luck", measures={})
    tracker.result(failed, folder_of(project, failed))
    assert report() == {"scenes"} and report() == set()
    assert "no luck" in (REPORTS / "scenes-full.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ARTIFACTS)
@pytest.mark.usefixtures("sketches")
def test_an_artifact_that_is_new_another_or_gone_makes_its_board(report: Report, tracker: Tracker, name: str) -> None:
    report()
    first, second = (folder / name for folder in artifacts("scenes", tracker))
    first.write_bytes(second.read_bytes() if second.exists() else b"damaged")
    assert report() == {"scenes"} and report() == set()
    first.unlink()
    assert report() == {"scenes"} and report() == set()


@pytest.mark.slow
@pytest.mark.usefixtures("sketches")
def test_a_number_on_a_methods_card_makes_its_board(report: Report, project: Path) -> None:
    report()
    with (project / "cards" / "slow.toml").open("a") as card:
        card.write(REPORTED)
    assert report() == {"scenes"} and report() == set()
    assert "120.0" in (REPORTS / "scenes-full.md").read_text()


@pytest.mark.usefixtures("sketches")
def test_other_forms_make_every_board(report: Report) -> None:
    report()
    assert report("--format", "md,csv") == BOTH and report("--format", "md,csv") == set()


@pytest.mark.slow
def test_a_file_of_a_report_that_was_edited_or_lost_makes_its_board(report: Report) -> None:
    report()
    (REPORTS / "scenes-full.md").write_text("edited")
    assert report() == {"scenes"}
    (REPORTS / "photos-full" / "rsum.svg").unlink()
    assert report() == {"photos"} and report() == set()


@pytest.mark.slow
@pytest.mark.usefixtures("sketches")
def test_the_index_leads_to_every_page_that_there_is(report: Report, call: Call) -> None:
    assert call("report", "--datasets", "scenes") == 0
    assert pages_of_index() == ["scenes-full.html"]
    report()
    assert pages_of_index() == ["photos-full.html", "scenes-full.html"]
    assert call("report", "--datasets", "scenes") == 0 and len(pages_of_index()) == 2
    (REPORTS / INDEX).write_text("edited")
    assert call("report", "--check") == 5
    report()
    assert len(pages_of_index()) == 2


def pages_of_index() -> list[str]:
    return re.findall(r'href="([^"]*)"', (REPORTS / INDEX).read_text())


@pytest.mark.usefixtures("sketches")
def test_data_that_change_make_the_board_of_what_is_current_now(report: Report, project: Path) -> None:
    report()
    page = REPORTS / "photos-full.md"
    assert [row.name[:4] for row in sorted(page.with_suffix("").glob("*.md"))] == ["good"]
    (project / "data" / "photos" / "test_caps.txt").write_text("two dogs\na cat\n")
    assert report() == {"photos"} and report() == set()
    assert [row.name[:4] for row in sorted(page.with_suffix("").glob("*.md"))] == ["old-"]


@pytest.mark.usefixtures("sketches")
def test_another_harness_makes_every_board(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    report()
    monkeypatch.setattr(publishing, "code", lambda: "another version")
    assert report() == BOTH and report() == set()


def test_the_code_has_every_file_of_the_package() -> None:
    files = {file for file in PACKAGE.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc", ".typed")}
    assert files == {file for pattern in publishing.DATA for file in PACKAGE.glob(pattern)}


@pytest.mark.slow
@pytest.mark.usefixtures("sketches")
def test_boards_of_runs_just_written_or_kept_elsewhere_are_always_made(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "STEADY_SECONDS", 3600)
        patch.setattr(snapshot, "is_fine", lambda _: False)
        assert report() == report() == BOTH
    monkeypatch.setattr(result_store, "local_folder", lambda _: None)
    assert report() == report() == BOTH


OTHERS = (pytest.param(content, marks=pytest.mark.soak) for content in ("", "[]", '{"a": {}}', "\0"))


@pytest.mark.parametrize("content", ["{", '{"a": 1}', *OTHERS])
@pytest.mark.usefixtures("sketches")
def test_a_damaged_record_is_made_again(report: Report, content: str) -> None:
    report()
    (CACHE / RECORD).write_text(content)
    assert report() == BOTH and report() == set()


@pytest.mark.usefixtures("sketches")
def test_a_record_of_files_outside_of_the_reports_is_made_again(report: Report, project: Path) -> None:
    report()
    record, outside = CACHE / RECORD, project / "outside.md"
    outside.write_text("x")
    names = {"../outside.md": digest_of(outside), str(outside): digest_of(outside)}
    record.write_text(json.dumps(dict.fromkeys(json.loads(record.read_text()), names)))
    assert report() == BOTH and report() == set()


@pytest.mark.usefixtures("sketches")
def test_check_does_not_believe_the_record(report: Report, call: Call, capsys: Captured) -> None:
    report()
    page, record = REPORTS / "scenes-full.md", CACHE / RECORD
    before = digest_of(page)
    page.write_text("edited")
    record.write_text(record.read_text().replace(before, digest_of(page)))
    assert call("report", "--check") == 5
    assert "scenes-full.md, from the store" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("sketches")
def test_what_harness_wrote_is_listed_and_what_is_gone_removed_where_nothing_is_made(report: Report) -> None:
    report()
    listed = (REPORTS / LIST).read_text()
    (REPORTS / LIST).unlink()
    assert report() == set() and (REPORTS / LIST).read_text() == listed
    stale = REPORTS / "scenes-full" / "stale.md"
    stale.write_text("x")
    names = json.loads(listed) | {"scenes-full/stale.md": digest_of(stale)}
    (REPORTS / LIST).write_text(json.dumps(names))
    assert report() == set() and not stale.exists()


@pytest.mark.slow
def test_the_boards_of_some_datasets_are_written_and_all_else_stays(
    report: Report, project: Path, call: Call, capsys: Captured
) -> None:
    report()
    photos, scenes = (project / REPORTS / f"{name}-full.md" for name in ("photos", "scenes"))
    photos.write_text("changed")
    capsys.readouterr()
    assert call("report", "--datasets", "ph*", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["written"] == [str(photos)] and not answer["removed"]
    assert [Path(name).name for name in answer["unchanged"]] == ["photos-full.html", INDEX]
    assert report() == set(), "what is known of the other board is kept"
    scenes.write_text("changed")
    assert call("report", "--datasets", "photos") == 0
    assert scenes.read_text() == "changed" and (project / REPORTS / "scenes-full" / "rsum.svg").is_file()
    assert call("report", "--datasets", "photos", "--check") == 0
    assert call("report", "--check") == 5
    capsys.readouterr()
    assert call("report", "--datasets", "scene") == 2
    assert "unknown dataset with results 'scene'; did you mean scenes?" in capsys.readouterr().err
