"""The page of several methods: what it shows is what each attends to; nothing in it is asked of a host or unescaped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from boards import HOSTILE, Page
from explained import Spec, Trial, explained, grid
from PIL import Image
from tiny_project import Call

from harness.data.content import Preview
from harness.explain.attention_page import webpage
from harness.explain.explanation import Explanation, Explanations, Rank
from harness.explain.panels import note, panels, tags
from harness.explain.picture import HEAT

BOXES = [(0, 0, 100, 80), (10, 10, 40, 40), (60, 30, 30, 40)]
WEIGHTS = [(0.2, 0.5, 0.3), (0.1, 0.0, 0.9)]


def by(one: Explanation, method: str) -> Explanation:
    return replace(one, trial=cast(Any, Trial(Spec(method))))


@pytest.fixture
def several() -> Explanations:
    one = replace(explained(BOXES, WEIGHTS), rank=Rank(3, 12, 1500, 300))
    other = explained(BOXES, [(0.0, 0.4, 0.8), (0.3, 0.4, 0.3)])
    return Explanations((by(one, "scan"), by(other, "caan")), {"it compares two vectors": ["vsepp", "chance"]})


def shares(page: Page) -> list[float]:
    """How strongly every region is lit, panel by panel, the weakest of each first."""
    return [float(a["fill-opacity"] or 0) for tag, a, _ in page.elements if tag == "rect" and a.get("fill") == "#000"]


def test_a_row_is_a_method_and_a_column_a_word_lit_as_each_attends(several: Explanations) -> None:
    page = Page(webpage(several))
    heads = page.texts("th")
    assert heads[:3] == ["method", "word0", "word1"]
    assert heads[3] == "scan seed 0 score 0.500 caption 3 of 1,500 image 12 of 300 strongest 0.90"
    assert heads[4] == "caan seed 0 score 0.500 strongest 0.80"
    expected = [0.3 / 0.9, 0.5 / 0.9, 0, 1, 0.5, 1, 0.375, 0.5]
    assert shares(page) == pytest.approx(expected, abs=1e-3), "the whole picture lights nothing"
    digits = page.texts("text")
    texts = [[tag.text for tag in tags(one, word, panels(one))] for one in several.ones for word in one.words]
    assert digits == [text for panel in texts for text in panel] and "0.90" in digits
    assert [text for text in page.texts("span") if "whole" in text] == [
        note(word, panels(one)) for one in several.ones for word in one.words
    ]
    notes = page.texts("p", "li")
    assert "Left out: vsepp, chance: it compares two vectors" in notes
    assert "caan: the weights of a word do not add up to one: compare them within the word alone." in notes


def test_the_page_asks_for_nothing_and_holds_the_picture_once(several: Explanations) -> None:
    text = webpage(several)
    assert text == webpage(several) and text.count("data:image/webp;base64,") == 1
    page = Page(text)
    assert not any("script" in tag or tag in ("link", "img") for tag, *_ in page.elements)
    ids = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    inside = {a["href"] for _, a, _ in page.elements if "href" in a and not str(a["href"]).startswith("data:")}
    inside |= {f"#{name}" for name in re.findall(r"url\(#([\w-]+)\)", text)}
    assert inside <= {f"#{name}" for name in ids} and text.count("url(") == text.count("url(#")
    assert "@import" not in text and "http" not in text.replace("http-equiv", "")


def test_cells_of_a_grid_are_filled_by_weight_without_outlines(several: Explanations) -> None:
    one = explained(grid(2, 2), [(0.1, 0.2, 0.3, 0.4)])
    page = Page(webpage(Explanations((one,), {})))
    heats = [a for tag, a, _ in page.elements if a.get("class") == "heat"]
    assert [float(a["fill-opacity"] or 0) for a in heats] == pytest.approx(
        [0.25 * HEAT, 0.5 * HEAT, 0.75 * HEAT, HEAT], abs=1e-3
    )
    assert "cells up to 0.40" in page.texts("span") and not page.texts("text")
    classes = [a.get("class") for _, a, _ in page.elements]
    assert "outline" not in classes and classes.count("line") == 4, "lines between cells in the picture above alone"


def test_an_image_without_a_picture_or_without_boxes_is_regions_on_a_sheet() -> None:
    for boxes, look in ((BOXES, Preview((100, 80))), ([], Preview((9, 9), Image.new("RGB", (9, 9)))), ([], Preview())):
        page = Page(webpage(Explanations((explained(boxes, WEIGHTS, look),), {})))
        tints = [a for _, a, _ in page.elements if a.get("class") == "tint"]
        assert len(tints) == 2 * (len(boxes) - 1 if boxes else 3) and not shares(page)


@pytest.mark.parametrize("hostile", [*HOSTILE, "\x00\x1b[31m", "mañana 中文 " * 40, "w" * 3000])
def test_nothing_that_others_wrote_breaks_the_page(several: Explanations, hostile: str) -> None:
    def changed(one: Explanation) -> Explanation:
        words = tuple(word._replace(text=hostile, is_known=False) for word in one.words)
        look = one.look._replace(labels=(hostile,) * one.regions)
        card = one.card.model_copy(update={"title": hostile, "licence": hostile, "origin": hostile, "folder": "x"})
        return replace(one, image=hostile, caption=hostile, words=words, look=look, card=card)

    page = Page(webpage(Explanations(tuple(map(changed, several.ones)), {hostile: [hostile]})))
    plain = Page(webpage(several))
    assert {tag for tag, *_ in page.elements} <= {tag for tag, *_ in plain.elements}
    assert not any(name.startswith("on") for _, a, _ in page.elements for name in a)
    if hostile.isprintable():
        (said,) = page.texts("blockquote")
        assert said == " ".join(hostile.split()), "in full"


@pytest.mark.slow
def test_the_command_leaves_out_methods_without_attention_or_trial(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "--here", "-q", "--methods", "scan_t2i,caan", "-s", "training.epochs=1") == 0
    ask = ("explain", "--methods", "scan_t2i,caan,vsepp,bssan", "--image", "test-0001b")
    capsys.readouterr()
    assert call(*ask) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "explain-test-0001b.html written: scan_t2i/tiny/s0" in said and "; caan/tiny/s0" in said
    assert "left out: vsepp: no attention to show" in said
    assert "left out: bssan: no trained trial that can be used" in said
    page = Page((project / "explain-test-0001b.html").read_text())
    assert [head.split()[0] for head in page.texts("th") if "score" in head] == ["scan_t2i", "caan"]
    word = page.texts("th")[1]
    assert call(*ask, "--words", word, "--json", "-o", "b.html") == 0
    data = json.loads(capsys.readouterr().out)
    assert [one["method"] for one in data["methods"]] == ["scan_t2i", "caan"]
    assert sorted(name for names in data["left_out"].values() for name in names) == ["bssan", "vsepp"]
    assert {given["word"] for one in data["methods"] for given in one["words"]} == {word}
    assert page.texts("th")[1] in Page(Path("b.html").read_text()).texts("th")
    assert call("explain", "--method", "caan", "--image", "test-0001b", "-o", "one.html") == 0
    rows = [head for head in Page(Path("one.html").read_text()).texts("th") if "score" in head]
    assert len(rows) == 1 and rows[0].startswith("caan")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_lights_what_a_word_attends_to(tmp_path: Path) -> None:
    look = Preview((100, 80), Image.new("RGB", (100, 80), "black"))
    one = explained([(0, 0, 50, 80), (60, 20, 40, 40)], [(0.0, 1.0)], look)
    file, shot = tmp_path / "page.html", tmp_path / "page.png"
    file.write_text(webpage(Explanations((one,), {})), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--window-size=1000,900", f"--screenshot={shot}"]
    subprocess.run(["chromium", *flags, file.as_uri()], check=True, capture_output=True)
    shown = Image.open(shot).convert("L").crop((100, 450, 1000, 800))  # below the picture itself
    dark = [shown.getpixel((x, y)) for x in range(shown.width) for y in range(shown.height)].count(0)
    assert dark > 1000, "the region of the word shows the picture"
