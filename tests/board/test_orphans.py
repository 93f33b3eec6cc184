"""Reports that no board has any more are removed, and nothing that somebody else has written."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from sample_results import log_ranked, two_methods
from tiny_project import Call

from harness.board.forms import FORMS
from harness.board.publishing import LIST, digest_of, orphans, page_of, remember_written
from harness.tracking.result_store import ResultStore
from harness.tracking.tracker import Tracker

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
REPORTS = Path("reports")


@pytest.fixture
def tracker(project: Path) -> Tracker:
    return two_methods(project)


def forget(tracker: Tracker, method: str) -> None:
    tracker.forget([run.key for run in ResultStore(tracker.uri).runs() if run.spec.method == method])


def pages(pattern: str) -> list[str]:
    return sorted(file.name for file in (REPORTS / "scenes-full").glob(pattern))


@pytest.mark.slow
def test_the_pages_of_a_row_that_was_deleted_go_and_what_a_user_wrote_stays(
    tracker: Tracker, call: Call, capsys: Captured
) -> None:
    assert call("report") == 0
    (stale,) = pages("worse*.md")
    notes, copy = REPORTS / "scenes-full" / "notes.md", REPORTS / "scenes-full" / "my-worse.md"
    notes.write_text("mine")
    copy.write_bytes((REPORTS / "scenes-full" / stale).read_bytes())
    forget(tracker, "worse")
    capsys.readouterr()
    assert call("report", "--check") == 5
    out = capsys.readouterr().out
    assert f"reports/scenes-full/{stale} is an orphan" in out and "notes.md" not in out and "my-worse" not in out
    assert call("report") == 0
    assert f"reports/scenes-full/{stale} removed" in capsys.readouterr().out
    assert not pages("worse*") and notes.read_text() == "mine" and copy.is_file()
    assert call("report", "--check") == 0


@pytest.mark.slow
def test_a_page_that_somebody_changed_stays(tracker: Tracker, call: Call) -> None:
    assert call("report") == 0
    (stale,) = pages("worse*.md")
    (REPORTS / "scenes-full" / stale).write_text("corrected by hand")
    forget(tracker, "worse")
    assert call("report") == 0
    assert pages("worse*") == [stale]


@pytest.mark.slow
def test_a_second_recipe_changes_no_name_and_its_page_goes_with_it(tracker: Tracker, project: Path, call: Call) -> None:
    assert call("report") == 0
    before = pages("*.md")
    log_ranked(tracker, project, "good", 0, worst=9, settings={"dim": 512})
    assert call("report") == 0
    assert len(pages("*.md")) == 3 and {*before} < {*pages("*.md")}
    keys = [run.key for run in ResultStore(tracker.uri).runs() if run.spec.settings.get("dim") == 512]
    tracker.forget(keys)
    assert call("report") == 0
    assert pages("*.md") == before


@pytest.mark.slow
def test_a_board_without_runs_goes_in_every_form_with_its_folder(
    tracker: Tracker, project: Path, call: Call, capsys: Captured
) -> None:
    log_ranked(tracker, project, "good", 0, worst=9, dataset="other")
    assert call("report", "--format", ",".join(FORMS)) == 0
    assert len([*REPORTS.glob("other-full*")]) == len(FORMS) + 1
    keys = [run.key for run in ResultStore(tracker.uri).runs() if run.spec.dataset == "other"]
    tracker.forget(keys)
    capsys.readouterr()
    assert call("report", "--json") == 0
    removed = json.loads(capsys.readouterr().out)["removed"]
    assert not [*REPORTS.glob("other-full*")] and len(removed) > len(FORMS)
    assert len([*REPORTS.glob("scenes-full*")]) == len(FORMS) + 1, "other forms of a board that is there stay"


@pytest.mark.slow
def test_rows_pages_of_an_older_version_go_when_the_board_is_written(tracker: Tracker, call: Call) -> None:
    assert call("report") == 0
    (page,), folder = pages("worse*.md"), REPORTS / "scenes-full"
    (REPORTS / LIST).unlink()
    (folder / page).rename(folder / "worse.md")
    (folder / "worse-curve.svg").write_text("<svg/>")
    (folder / "notes.md").write_text("mine")
    (folder / "notes-curve.svg").write_text("<svg/>")
    assert call("report") == 0
    assert pages("worse*.md") == [page] and not (folder / "worse-curve.svg").exists()
    assert pages("notes*") == ["notes-curve.svg", "notes.md"]


@pytest.mark.parametrize("name", ["../outside.md", "/tmp/outside.md", "a/../../outside.md"])
def test_a_list_that_was_tampered_with_removes_nothing_outside(tmp_path: Path, name: str) -> None:
    outside, folder = tmp_path / "outside.md", tmp_path / "reports"
    outside.write_text("x")
    folder.mkdir()
    (folder / LIST).write_text(json.dumps({name: "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}))
    assert orphans({}, folder, []) == [] == remember_written({}, folder, [])
    assert outside.is_file()


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a.md": 3}', "\0"])
def test_a_damaged_list_is_made_again(tmp_path: Path, content: str) -> None:
    (tmp_path / LIST).write_text(content)
    (tmp_path / "a.md").write_bytes(b"a")
    assert remember_written({"a.md": digest_of(tmp_path / "a.md")}, tmp_path) == []
    assert [*json.loads((tmp_path / LIST).read_text())] == ["a.md"]


def test_what_lies_in_a_folder_belongs_to_the_page_beside_it() -> None:
    names = ("a.md", "a/b.md", "search-x/data/caan.svg", "a.html")
    assert [*map(page_of, names)] == ["a.md", "a.md", "search-x.md", "a.html"]


def test_git_ignores_reports_but_the_reference_and_the_measurements() -> None:
    def ignored(name: str) -> bool:
        return subprocess.run(["git", "check-ignore", "-q", "--no-index", name], cwd=ROOT).returncode == 0

    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    assert all(map(ignored, ("reports/scenes-full.md", "reports/scenes-full/caan.md", f"reports/{LIST}")))
    assert not any(map(ignored, ("reports/reference/scenes-full.md", "reports/measurements/speed.md")))
    tracked = subprocess.run(["git", "ls-files", "reports"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name.split("/")[1] for name in tracked.stdout.splitlines()} == {"reference", "measurements"}
