"""The page of a board: what it says, that it asks for nothing and is broken by no name, what it draws, what it does."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import accumulate
from pathlib import Path

import pytest
from boards import HOSTILE, Page, Rows, failed, four, of_method, one_of, only_board, run_of, three_seeds, with_speed
from sample_results import log_ranked, result_of, spec_of
from tiny_project import Call

from harness.board.cells import header, published, rows
from harness.board.cells import pairs as differences
from harness.board.evidence import Assessed, Evidence
from harness.board.forms import INDEX, files, sortable, webpage
from harness.board.markup import readable
from harness.config.papers import Reported
from harness.config.project import Config
from harness.config.registry import discover
from harness.tracking.tracker import Tracker

TEMPLATES = Path(__file__).parents[2] / "harness" / "templates"


@pytest.mark.slow
def test_the_page_says_all_that_the_tables_of_the_markdown_say() -> None:
    known = discover(Config(root=Path(__file__).parents[2])).methods
    number = {"dataset": "scenes", "protocol": "full", "i2t": (1, 2, 3), "t2i": (4, 5, 6), "rsum": 280.0}
    reported = Reported.model_validate({**number, "source": "table 1", "note": "quoted"})
    methods = {**known, "caan": known["caan"].model_copy(update={"reported": (reported,)})}
    old = [run_of(result_of(spec_of("chance", 0, protocol_version=0), 3.0), ended=1000)]
    limited = [run_of(result_of(spec_of("vsepp", 0, limit=100), 88.8))]
    one = one_of([*four(), failed(spec_of("scan_i2t"), message="no memory\nleft"), *old, *limited], methods)
    page = Page(webpage(one, methods))
    lines = page.lines()
    for cells in (*rows(*one, methods), *differences(*one), *published(one.board, methods)):
        assert cells in lines
    assert list(header(one.board, methods)) in lines
    assert ["scan_i2t", "0", "seed 0: failed (oom): no memory left"] in lines
    assert ["chance", "1", "3.0", one.board.stale[0].reason] in lines and ["vsepp", "1", "88.8", ""] in lines
    sections = ["Differences", "Published", "Incomplete", "Stale", "Limited", "Rows in full, and how to reproduce them"]
    assert [text for text in page.texts("h2") if text in sections] == sections
    assert page.texts("pre") == [ranked.command for ranked in one.board.ranked]
    told = dict(zip(page.texts("dt"), page.texts("dd"), strict=True))
    assert told["Gallery"] == "500 images and 2,000 captions" and told["Machine"] == one.board.machines[0]
    assert f"no difference of rsum below {one.evidence.least:.1f} would have been significant" in told["Group"]
    assert {"R@K", "rsum", "95 %"} <= told.keys()
    assert any("“Context-Aware Attention Network" in text for text in page.texts("p"))


def test_every_style_sheet_closes_what_it_opens_and_no_more() -> None:
    sheets = [file.read_text(encoding="utf-8") for file in TEMPLATES.glob("*.css.j2")]
    assert len(sheets) > 3
    for sheet in sheets:
        rules = re.sub(r"\{[{%].*?[%}]\}|/\*.*?\*/", "", sheet, flags=re.DOTALL)
        depth = list(accumulate((brace == "{") - (brace == "}") for brace in rules if brace in "{}"))
        assert min(depth) == 0 == depth[-1], "a browser drops the rule after a brace too many"


@pytest.mark.slow
def test_names_stay_where_the_columns_of_the_board_scroll_on_a_screen_of_any_width() -> None:
    page = webpage(one_of(four()), {})
    everywhere = page.partition("@media (max-width")[0]
    assert re.search(r"#board th\.name \{[^}]*position: sticky; left: 0; background:", everywhere)
    assert page.count('class="text name"') == 1 + len(four()) // len({run.spec.seed for run in four()})


@pytest.mark.slow
def test_heads_say_what_they_mean_where_one_points_at_them() -> None:
    page = Page(webpage(one_of(four()), {}))
    heads = [found.get("title") for tag, found, _ in page.elements if tag == "button" and "disabled" in found]
    assert len(heads) > 14 and heads.count(None) == 2  # method and notes speak for themselves


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "is_link"), [("https://arxiv.org/abs/1803.08024", True), ("javascript:alert(1)", False), ("x", False)]
)
def test_a_paper_is_a_link_where_its_address_is_one(address: str, is_link: bool) -> None:
    methods = dict(discover(Config(root=Path(__file__).parents[2])).methods)
    card = methods["caan"]
    paper = card.paper.model_copy(update={"url": address, "doi": None})
    page = Page(webpage(one_of(four()), methods | {"caan": card.model_copy(update={"paper": paper})}))
    assert (address in [found.get("href") for _, found, _ in page.elements]) == is_link


@pytest.mark.slow
def test_cells_carry_the_numbers_that_they_round() -> None:
    one = one_of(four())
    (first, *_) = sortable(one, {})
    values = dict(zip(header(one.board, {}), first, strict=True))
    assert values["rsum"] == ("291.0 ± 1.0", 291.0) and values["method"] == ("bssan", None)
    assert values["i2t R@1"] == ("48.5", one.board.ranked[0].means["i2t_r1"]) and values["score pairs/s"][1] == 2e5
    assert values["95 %"][1] == one.evidence.intervals[0][0]
    cells = [attributes for tag, attributes, _ in Page(webpage(one, {})).elements if tag == "td"]
    assert str(one.board.ranked[0].means["i2t_r1"]) in [cell.get("data-value") for cell in cells]


def test_a_number_that_is_missing_is_no_value_to_sort_by() -> None:
    (first, *_) = sortable(one_of(with_speed("caan", 260.0, None)), {})
    assert ("–", None) in first and "nan" not in [str(value) for _, value in first]


@pytest.mark.slow
def test_the_page_asks_no_one_for_anything() -> None:
    text = webpage(one_of(four()), discover(Config(root=Path(__file__).parents[2])).methods)
    page = Page(text)
    links = [(tag, value or "") for tag, found, _ in page.elements for name, value in found.items() if name == "href"]
    web = {value for _, value in links if re.match("https?://", value)}
    assert {tag for tag, _ in links} == {"a"}
    assert {"https://doi.org/10.1109/TIP.2018.2882225", "https://arxiv.org/abs/1803.08024"} & web
    assert {value.rstrip("0123456789") for _, value in links if value not in web} == {"#row-", INDEX}
    pictures = [value or "" for _, found, _ in page.elements for name, value in found.items() if name == "src"]
    assert pictures and all(value.startswith("data:image/svg+xml;base64,") for value in pictures)
    rest = re.sub(r'<a href="[^"]*" rel="noreferrer">[^<]*</a>|src="data:[^"]*"', "", text)
    assert not re.search(r"url\(|@import|https?:|//[a-z]", rest, re.IGNORECASE)
    assert not {"link", "iframe", "object", "use", "image", "base"} & {tag for tag, _, _ in page.elements}
    (policy,) = [
        found["content"] for _, found, _ in page.elements if found.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_breaks_nothing(name: str) -> None:
    marked = [*three_seeds("caan", 260.0), *[of_method(run, name) for run in four()[:3]]]
    found = [*marked, failed(spec_of("vsepp"), message=name), failed(spec_of(name + "2", 1))]
    one = one_of(found)
    plain = one_of([of_method(run, run.spec.method.replace(name, "bssan")) for run in found])
    page, other = Page(webpage(one, {})), Page(webpage(plain, {}))
    assert [tag for tag, _, _ in page.elements] == [tag for tag, _, _ in other.elements]
    assert [{*found} for _, found, _ in page.elements] == [{*found} for _, found, _ in other.elements]
    assert [cells[1] for cells in page.lines()[1:3]] == [name, "caan"]
    assert one.board.ranked[0].command in ["".join(texts) for tag, _, texts in page.elements if tag == "code"]
    assert ["vsepp", "0", f"seed 0: failed (oom): {name}"] in page.lines()


def test_what_html_has_no_character_for_is_marked() -> None:
    assert readable("a\x00b\x1b[31m\tc\nd") == r"a\x00b\x1b[31m" + "\tc\nd"
    assert readable(3) == 3


@pytest.mark.slow
def test_the_page_is_the_same_bytes_from_the_same_rows_in_any_order() -> None:
    found = four()
    made = files([one_of(found)], {}, ["html"])
    assert [*made] == ["scenes-full.html"] and made == files([one_of(found)], {}, ["html"])
    without = [Assessed(only_board(part), Evidence()) for part in (found, found[::-1])]
    assert webpage(without[0], {}) == webpage(without[1], {})


@pytest.mark.slow
def test_the_command_writes_the_page_and_check_finds_it_unchanged(project: Path, call: Call) -> None:
    tracker = Tracker(f"sqlite:///{project / 'runs' / 'mlflow.db'}")
    for seed in range(2):
        log_ranked(tracker, project, "good", seed, worst=4)
    assert call("report", "--format", "html") == 0
    page = Page(Path("reports/scenes-full.html").read_text(encoding="utf-8"))
    assert page.lines()[1][1] == "good" and str(project) not in "".join(page.texts("html"))
    assert call("report", "--format", "html", "--check") == 0


@pytest.mark.parametrize(
    "found", [[failed(spec_of("caan"))], [run_of(result_of(spec_of("caan", limit=5)))]], ids=["failed", "limited"]
)
def test_a_board_without_ranked_rows_says_so(found: Rows) -> None:
    page = Page(webpage(one_of(found), {}))
    assert "No method is complete yet." in page.texts("p") and "img" not in {tag for tag, _, _ in page.elements}


PROBE = """
<p id="seen"></p>
<script>
const heads = [...document.querySelectorAll("#board thead th")];
const head = (name) => heads.find((one) => one.textContent === name);
const names = () => [...document.querySelectorAll("#board tbody tr")].filter((row) => !row.hidden)
  .map((row) => row.cells[1].textContent).join(",");
const seen = [names()];
const click = (name) => {
  head(name).querySelector("button").click();
  seen.push(names() + " " + heads.map((one) => one.getAttribute("aria-sort") ?? "").join(""));
};
["score pairs/s", "score pairs/s", "method", "method", "rsum"].forEach(click);
const filter = document.getElementById("filter");
filter.value = " SCAN ";
filter.dispatchEvent(new Event("input"));
seen.push(names(), document.querySelector("output").textContent);
filter.value = "nothing of the kind";
filter.dispatchEvent(new Event("input"));
seen.push(document.querySelector("output").textContent);
seen.push(String([...document.querySelectorAll("button.copy")].every((one) => !one.hidden)));
document.getElementById("seen").textContent = seen.join("; ");
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_sorts_by_numbers_and_filters_by_name(tmp_path: Path) -> None:
    page = webpage(one_of([*four(), *with_speed("Scan_zero", 3.0, 0.0)]), {})
    file = tmp_path / "board.html"
    file.write_text(page.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = ["chromium", *flags, "--virtual-time-budget=2000", "--dump-dom", file.as_uri()]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (seen,) = ["".join(texts) for tag, found, texts in Page(shown).elements if found.get("id") == "seen"]
    assert seen.split("; ") == [
        "bssan,caan,scan_t2i,vsepp,Scan_zero",
        "vsepp,scan_t2i,bssan,caan,Scan_zero descending",
        "caan,bssan,scan_t2i,vsepp,Scan_zero ascending",
        "bssan,caan,scan_t2i,Scan_zero,vsepp ascending",
        "vsepp,Scan_zero,scan_t2i,caan,bssan descending",
        "bssan,caan,scan_t2i,vsepp,Scan_zero descending",
        "scan_t2i,Scan_zero",
        "2 of 5",
        "no method matches",
        "true",
    ]
