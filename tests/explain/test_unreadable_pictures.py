"""One broken photo takes no page away: its id stands in its place, and a note names it and says why."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from boards import Page
from PIL import Image
from tiny_project import Call

import harness

pytestmark = pytest.mark.slow

RUN = ("run", "--here", "-q", "--methods", "vsepp", "-s", "training.epochs=1")
Captured = pytest.CaptureFixture[str]


def said(capsys: Captured) -> str:
    return " ".join(capsys.readouterr().out.split())


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def test_a_page_of_examples_shows_a_broken_photo_by_its_id(
    project: Path, photos: Path, call: Call, capsys: Captured
) -> None:
    assert call(*RUN) == 0 and call("report", "--format", "examples") == 0
    file = project / "reports" / "private" / "photos-all-examples.html"
    whole = file.read_text()
    cut(photos / "images" / "test3.png")
    capsys.readouterr()
    assert call("report", "--format", "examples") == 0
    out = said(capsys)
    assert "photos, protocol all: test3 is shown by its id alone: " in out and "test3.png: no readable picture" in out
    page = file.read_text()
    assert page != whole and "test3" in Page(page).texts("span") and "test3" not in Page(whole).texts("span")
    assert str(project) not in page and page.count("data:image") == whole.count("data:image") - 1
    assert call("report", "--format", "examples", "--check") == 0


def test_a_page_of_retrieved_images_shows_a_broken_photo_by_its_id(
    project: Path, photos: Path, call: Call, capsys: Captured
) -> None:
    assert call(*RUN) == 0
    cut(photos / "images" / "test3.png")
    capsys.readouterr()
    query = ("retrieve", "--trial", "vsepp/photos/s0", "--text", "a dog", "--image", "test3", "-o", "page.html")
    assert call(*query) == 0
    assert "test3 is shown by its id alone: " in said(capsys)
    page = (project / "page.html").read_text()
    assert "test3" in Page(page).texts("span") and page.count("data:image") == 7


def test_a_sheet_shows_a_broken_photo_by_its_id_with_a_warning(project: Path, photos: Path) -> None:
    cut(photos / "images" / "test3.png")
    with pytest.warns(UserWarning, match=r"test3 is shown by its id alone: .*test3\.png: no readable") as caught:
        sheet = harness.open(project).pictures("photos", ["test2", "test3"])
    assert caught[0].filename == __file__, "it points at the caller"
    assert Image.open(io.BytesIO(sheet.png())).size[0] > 200 and "test3" in sheet.description


def test_a_report_that_writes_no_file_does_not_say_that_there_are_no_trials(
    project: Path, photos: Path, call: Call, capsys: Captured
) -> None:
    assert call("report", "--format", "examples") == 0
    assert "no trials in the tracking store yet" in said(capsys)
    assert call(*RUN) == 0
    (photos / "captions.jsonl").unlink()
    capsys.readouterr()
    assert call("report", "--format", "examples") == 0
    out = said(capsys)
    assert "no examples: " in out and "no file was written" in out and "no trials" not in out
