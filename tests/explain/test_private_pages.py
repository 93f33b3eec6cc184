"""Pages with pictures and captions of others: git ignores them, they say whose they are, and gone ones are removed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from boards import Page
from photo_project import LICENCE, ORIGIN
from tiny_project import Call

pytestmark = pytest.mark.slow

RUN = ("run", "--here", "-q", "-s", "training.epochs=1")
PAGE = "photos-all-examples.html"


def git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_ignores_every_page_with_pictures_of_others_and_keeps_the_boards(
    project: Path, photos: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert git(project, "init", "-q").returncode == 0
    assert call(*RUN, "--methods", "scan_t2i,vsepp") == 0
    assert call("report", "--format", "examples", "--check") == 5
    assert "reports/private is ignored" in " ".join(capsys.readouterr().out.split())
    assert not (project / "reports" / "private").exists(), "a check writes nothing"
    assert call("report", "--format", "md,examples") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "reports/private is ignored by git: pictures and captions may be licensed for research only" in said
    assert call("explain", "--method", "scan_t2i", "--image", "test3") == 0
    assert call("explain", "--methods", "scan_t2i,vsepp", "--image", "test3") == 0
    assert "reports/private is ignored by git" in " ".join(capsys.readouterr().out.split())
    private = project / "reports" / "private"
    pages = {PAGE, "explain-scan_t2i-test3.svg", "explain-test3.html"}
    assert {file.name for file in private.iterdir()} == {*pages, ".gitignore"}
    assert "licensed for research only" in (private / ".gitignore").read_text()
    assert not list(project.glob("*.svg")) and not list(project.glob("*.html"))
    for name in pages:
        assert git(project, "check-ignore", f"reports/private/{name}").returncode == 0
    assert git(project, "check-ignore", "reports/photos-all.md").returncode == 1
    assert git(project, "add", "-A").returncode == 0
    added = git(project, "ls-files", "reports").stdout.split()
    assert "reports/photos-all.md" in added and not [name for name in added if "private" in name]


def test_pages_say_whose_pictures_they_show_and_stand_alone(project: Path, photos: Path, call: Call) -> None:
    assert call(*RUN, "--methods", "scan_t2i") == 0 and call("report", "--format", "examples") == 0
    assert call("explain", "--methods", "scan_t2i", "--image", "test3") == 0
    for name in (PAGE, "explain-test3.html"):
        text = (project / "reports" / "private" / name).read_text()
        page = Page(text)
        told = page.texts("dd")
        assert "Photos & captions" in told and LICENCE in told and ORIGIN in told
        assert any(line.startswith("Git ignores this page: pictures and captions") for line in told)
        addresses = [a[key] or "" for _, a, _ in page.elements for key in ("src", "href") if key in a]
        assert all(one.startswith(("#", "data:image/webp;base64,")) for one in addresses)
        assert "http" not in text.replace("http-equiv", "")
        boxes = {a["viewbox"] for tag, a, _ in page.elements if tag == "svg" and "viewbox" in a}
        assert boxes == ({"0 0 120 80"} if name == PAGE else {"0 0 132.0 88.0"}), "in the original proportion"


def test_the_check_knows_the_place_and_gone_pages_are_removed(
    project: Path, photos: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*RUN, "--methods", "scan_t2i") == 0 and call("report", "--format", "md,examples") == 0
    file, picture = (project / "reports" / "private" / name for name in (PAGE, "explain-scan_t2i-test3.svg"))
    assert call("explain", "--method", "scan_t2i", "--image", "test3") == 0
    assert call("report", "--format", "examples", "--check") == 0
    assert call("report") == 0 and file.exists() and picture.exists(), "a page of another form stays"
    whole = file.read_bytes()
    file.write_bytes(whole + b"x")
    assert call("report", "--format", "examples", "--check") == 5
    file.write_bytes(whole)
    ignore = file.with_name(".gitignore")
    ignore.write_text("# mine\n*\n")
    assert call("report", "--format", "examples") == 0 and ignore.read_text() == "# mine\n*\n"
    capsys.readouterr()
    assert call("forget", "scan_t2i", "--yes") == 0 and call("report") == 0
    assert not file.exists() and picture.exists(), "what explain was asked for is its user's"


def test_a_page_of_examples_in_the_old_place_is_removed(project: Path, photos: Path, call: Call) -> None:
    from harness.board.publishing import written

    assert call(*RUN, "--methods", "scan_t2i") == 0 and call("report") == 0
    old, own = project / "reports" / PAGE, project / "reports" / "mine-examples.html"
    written({PAGE: b"a page with photos"}, project / "reports")
    own.write_text("mine")
    assert call("report", "--check") == 5 and old.exists()
    assert call("report", "--format", "md,examples") == 0
    assert not old.exists() and own.exists() and (project / "reports" / "private" / PAGE).exists()
    assert call("report", "--format", "md,examples", "--check") == 0


def test_pictures_of_generated_data_stay_where_they_were(project: Path, call: Call) -> None:
    assert call(*RUN, "--methods", "scan_t2i") == 0 and call("report", "--format", "examples") == 0
    assert call("explain", "--methods", "scan_t2i", "--image", "test-0001b") == 0
    assert (project / "reports" / "tiny-all-examples.html").exists() and (project / "explain-test-0001b.html").exists()
    assert not (project / "reports" / "private").exists()


def test_a_folder_that_cannot_be_written_is_named(
    project: Path, photos: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*RUN, "--methods", "scan_t2i") == 0
    (project / "reports").mkdir(exist_ok=True)
    (project / "reports" / "private").write_text("a file")
    capsys.readouterr()
    assert call("explain", "--method", "scan_t2i", "--image", "test3") == 6
    assert "private cannot be written" in " ".join(capsys.readouterr().err.split())


def test_sizes_that_are_wrong_are_named(
    project: Path, photos: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*RUN, "--methods", "scan_t2i") == 0
    (photos / "original_sizes.json").write_text('{"test3": [1]}')
    capsys.readouterr()
    assert call("explain", "--method", "scan_t2i", "--image", "test3") == 3
    assert "original_sizes.json, image 'test3': [1] is no [width, height] in pixels" in capsys.readouterr().err
    assert call("report", "--format", "examples") == 0
    assert "no examples" in capsys.readouterr().out
    assert call("validate", "--dataset", "photos") == 0
    assert "original-sizes" in capsys.readouterr().out


def test_a_page_whose_dataset_has_no_card_any_more_stays(project: Path, call: Call) -> None:
    assert call(*RUN, "--methods", "scan_t2i") == 0 and call("report", "--format", "examples") == 0
    (project / "cards" / "tiny").rename(project / "tiny")
    config = project / "harness.toml"
    config.write_text(config.read_text().replace('datasets = ["tiny"]', 'datasets = ["scenes"]'))
    assert call("report") == 0 and (project / "reports" / "tiny-all-examples.html").exists()
