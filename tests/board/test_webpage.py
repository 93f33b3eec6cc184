"""The page of a board: what it says, that it asks for nothing and is broken by no name, what it draws, what it does."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from boards import HOSTILE, SPEEDS, Page, Rows, four, one_of, only_board, row, three_seeds, with_speed
from hypothesis import given
from hypothesis import strategies as st
from sample_results import log_ranked, result_of, spec_of
from tiny_project import Call

from harness.board.axes import TALL, WIDTH, Axis, box, linear, logarithmic, named
from harness.board.cells import header, published, rows
from harness.board.cells import pairs as differences
from harness.board.evidence import Assessed, Evidence
from harness.board.forms import files, sortable, webpage
from harness.board.intervals import front, intervals, steps, tradeoff
from harness.board.markup import readable
from harness.config.cards import Reported
from harness.config.project import Config
from harness.config.registry import discover
from harness.tracking.tracker import Tracker
from harness.trial.results import Failure, State


def failed(method: str, seed: int, message: str, **changes: Any) -> dict[str, Any]:
    spec = spec_of(method, seed, **changes)
    return row(result_of(spec, state=State.FAILED, failure=Failure.OOM, message=message, measures={}, val={}))


def test_the_page_says_all_that_the_tables_of_the_markdown_say() -> None:
    known = discover(Config(root=Path(__file__).parents[2])).methods
    number = {"dataset": "scenes", "protocol": "full", "i2t": (1, 2, 3), "t2i": (4, 5, 6), "rsum": 280.0}
    reported = Reported.model_validate({**number, "source": "table 1", "note": "quoted"})
    methods = {**known, "caan": known["caan"].model_copy(update={"reported": (reported,)})}
    old = [row(result_of(spec_of("chance", 0, protocol_version=0), 3.0), ended=1000)]
    limited = [row(result_of(spec_of("vsepp", 0, limit=100), 88.8))]
    one = one_of([*four(), failed("scan_i2t", 0, "no memory\nleft"), *old, *limited], methods)
    page = Page(webpage(one, methods))
    lines = page.lines()
    for cells in (*rows(*one, methods), *differences(*one), *published(one.board, methods)):
        assert cells in lines
    assert list(header(one.board, methods)) in lines
    assert ["scan_i2t", "0", "seed 0: failed (oom): no memory\nleft"] in lines
    assert ["chance", "1", "3.0", one.board.stale[0].reason] in lines and ["vsepp", "1", "88.8", ""] in lines
    sections = ["Differences", "Published", "Incomplete", "Stale", "Limited", "Rows in full, and how to reproduce them"]
    assert [text for text in page.texts("h2") if text in sections] == sections
    assert page.texts("pre") == [ranked.command for ranked in one.board.ranked]
    told = dict(zip(page.texts("dt"), page.texts("dd"), strict=True))
    assert told["Gallery"] == "500 images and 2,000 captions" and told["Machine"] == one.board.machines[0]
    assert f"No difference of rsum below {one.evidence.least:.1f} could" in told["Group"]
    assert {"R@K", "rsum", "95 %"} <= told.keys()
    assert any("“Context-Aware Attention Network" in text for text in page.texts("p"))


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


def test_the_page_asks_no_one_for_anything() -> None:
    text = webpage(one_of(four()), discover(Config(root=Path(__file__).parents[2])).methods)
    page = Page(text)
    links = [value for _, found, _ in page.elements for name, value in found.items() if name in ("href", "src")]
    assert links and all(value and value.startswith("#row-") for value in links)
    assert not re.search(r"url\(|@import|https?:|//[a-z]", text, re.IGNORECASE)
    assert not {"link", "img", "iframe", "object", "use", "image", "base"} & {tag for tag, _, _ in page.elements}
    (policy,) = [
        found["content"] for _, found, _ in page.elements if found.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_breaks_nothing(name: str) -> None:
    marked = [*three_seeds("caan", 260.0), *[{**line, "method": name} for line in four()[:3]]]
    found = [*marked, failed("vsepp", 0, name), {**failed("vsepp", 1, ""), "method": name + "2"}]
    one, plain = one_of(found), one_of([{**line, "method": line["method"].replace(name, "bssan")} for line in found])
    page, other = Page(webpage(one, {})), Page(webpage(plain, {}))
    assert [tag for tag, _, _ in page.elements] == [tag for tag, _, _ in other.elements]
    assert [{*found} for _, found, _ in page.elements] == [{*found} for _, found, _ in other.elements]
    assert [cells[1] for cells in page.lines()[1:3]] == [name, "caan"]
    assert one.board.ranked[0].command in ["".join(texts) for tag, _, texts in page.elements if tag == "code"]
    assert ["vsepp", "0", f"seed 0: failed (oom): {name}"] in page.lines()


def test_what_html_has_no_character_for_is_marked() -> None:
    assert readable("a\x00b\x1b[31m\tc\nd") == "a\ufffdb\ufffd[31m\tc\nd"
    assert readable(3) == 3


def test_the_page_is_the_same_bytes_from_the_same_rows_in_any_order() -> None:
    found = four()
    made = files([one_of(found)], {}, ["html"])
    assert [*made] == ["scenes-full.html"] and made == files([one_of(found)], {}, ["html"])
    without = [Assessed(only_board(part), Evidence()) for part in (found, found[::-1])]
    assert webpage(without[0], {}) == webpage(without[1], {})


def test_the_command_writes_the_page_and_check_finds_it_unchanged(project: Path, call: Call) -> None:
    tracker = Tracker(f"sqlite:///{project / 'runs' / 'mlflow.db'}")
    for seed in range(2):
        log_ranked(tracker, project, "good", seed, worst=4)
    assert call("report", "--format", "html") == 0
    page = Page(Path("reports/scenes-full.html").read_text(encoding="utf-8"))
    assert page.lines()[1][1] == "good" and str(project) not in "".join(page.texts("html"))
    assert call("report", "--format", "html", "--check") == 0


@pytest.mark.parametrize(
    "found", [[failed("caan", 0, "")], [row(result_of(spec_of("caan", limit=5)))]], ids=["failed", "limited"]
)
def test_a_board_without_ranked_rows_says_so(found: Rows) -> None:
    page = Page(webpage(one_of(found), {}))
    assert "No method is complete yet." in page.texts("p") and "svg" not in {tag for tag, _, _ in page.elements}


def test_a_row_whose_ranks_are_gone_is_drawn_without_an_interval() -> None:
    board = only_board(four())
    drawn = intervals(board, Evidence(lost=frozenset(range(4))))
    assert [bar.ends for bar in drawn.bars] == [None] * 4 and all(0 < bar.mean < WIDTH for bar in drawn.bars)
    Page(webpage(Assessed(board, Evidence(lost=frozenset(range(4)))), {}))


def test_a_larger_rsum_lies_further_right_and_each_row_further_down() -> None:
    board, evidence = one_of(four())
    drawn = intervals(board, evidence)
    assert [bar.name for bar in drawn.bars] == ["bssan", "caan", "scan_t2i", "vsepp"]
    assert all(one.mean > other.mean and one.y < other.y for one, other in pairwise(drawn.bars))
    assert all(len(bar.seeds) == 3 and min(bar.seeds) < bar.mean < max(bar.seeds) for bar in drawn.bars)
    for place, bar in enumerate(drawn.bars):
        low, high = bar.ends or (0, 0)
        assert (low, high) == tuple(map(drawn.axis.at, evidence.intervals[place])) and low <= high
    assert "95 % " in drawn.bars[0].detail and drawn.bars[0].seen == "291.0 ± 1.0"


def test_a_larger_rsum_lies_higher_and_a_larger_throughput_further_right() -> None:
    drawn = tradeoff(only_board(four()))
    assert drawn
    (only,) = drawn.series
    places = {mark.name.text: (mark.x, mark.y) for mark in only.marks}
    assert sorted(places, key=lambda name: places[name][0]) == sorted(SPEEDS, key=SPEEDS.__getitem__)
    assert sorted(places, key=lambda name: places[name][1]) == ["bssan", "caan", "scan_t2i", "vsepp"]
    assert [mark.name.text for mark in only.marks if mark.is_front] == ["bssan", "scan_t2i", "vsepp"]


def test_rows_of_each_machine_are_compared_with_each_other_alone() -> None:
    fast = {"env.device": "cuda", "env.cpu": "Another"}
    found = [
        *with_speed("bssan", 290.0, 9e6, **fast),
        *with_speed("caan", 260.0, 1e5),
        *with_speed("vsepp", 250.0, 5e4),
    ]
    both = with_speed("chance", 3.0, 1e6)
    board = only_board([*found, *both[:2], {**both[2], **fast}])
    drawn = tradeoff(board)
    assert drawn
    fronts = [[mark.name.text for mark in one.marks if mark.is_front] for one in drawn.series]
    assert sorted(fronts) == [["bssan"], ["caan"]]
    text = " ".join(Page(webpage(Assessed(board, Evidence()), {})).texts("p", "li"))
    assert "Left out: chance (its seeds ran on several machines)." in text
    assert "machine 1" in text and "machine 2" in text


@pytest.mark.parametrize("speed", [0.0, None])
def test_rows_without_throughput_are_named_below_the_plot(speed: float | None) -> None:
    found = [*with_speed("caan", 260.0, 1e5), *with_speed("chance", 3.0, speed), *with_speed("vsepp", 2.0, speed)]
    told = Page(webpage(one_of(found), {})).texts("p")
    why = "no throughput in the store"
    assert f"Left out: chance ({why}); vsepp ({why})." in told
    assert tradeoff(only_board(found[3:])) is None
    assert "No row has the throughput of one machine." in Page(webpage(one_of(found[3:]), {})).texts("p")


numbers = st.floats(0.1, 1e9)
points = st.lists(st.tuples(numbers, st.floats(0, 600)), min_size=1, max_size=12)


@given(points | st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=12))
def test_the_front_is_the_rows_that_no_other_beats_in_both(found: Sequence[tuple[float, float]]) -> None:
    best = front(found)
    for place, (speed, rsum) in enumerate(found):
        beaten = any(a >= speed and b >= rsum and (a > speed or b > rsum) for a, b in found)
        assert (place in best) is not beaten
    assert best, "the best of all is beaten by none"


@given(points)
def test_the_line_passes_through_the_front_and_only_falls(found: list[tuple[float, float]]) -> None:
    best = [found[place] for place in front(found)]
    at = [(10 * speed, -rsum) for speed, rsum in best]  # down is positive, as on a screen
    line = steps(at)
    ways = [float(number) for number in re.findall(r"(?<=V)[^HV]+", line)]
    across = [float(number) for number in re.findall(r"(?<=H)[^HV]+", line)]
    assert ways == sorted(ways) and across == sorted(across) and len(ways) == len(best) - 1


@given(st.lists(st.floats(0, 600), min_size=1, max_size=20))
def test_a_linear_axis_holds_its_numbers_in_order_between_few_ticks(found: list[float]) -> None:
    assert_in_order(linear(found, 100, 500), found)
    assert len(linear(found, 100, 500).ticks) <= 8


@given(st.lists(numbers, min_size=1, max_size=20))
def test_a_logarithmic_axis_does_so_by_ratios(found: list[float]) -> None:
    axis = logarithmic(found, 100, 500)
    assert_in_order(axis, found)
    assert 2 <= len(axis.numbered) <= 12
    assert logarithmic([1e4, 1e6], 0, 2).at(1e5) == pytest.approx(1)


def assert_in_order(axis: Axis, found: list[float]) -> None:
    places = [axis.at(number) for number in sorted(found)]
    assert places == pytest.approx(sorted(places)) and all(99.999 <= place <= 500.001 for place in places)
    assert list(axis.ticks) == sorted(set(axis.ticks)) and len(axis.ticks) >= 2
    assert axis.ticks[0] <= min(found) and max(found) <= axis.ticks[-1]


def test_names_beside_marks_cover_no_other_and_in_a_crowd_become_numbers() -> None:
    spread = [(100.0, 100.0), (110.0, 104.0), (WIDTH - 20, 100.0), (300.0, TALL - 30)]
    names = list(named(spread, [(f"a method {place}", str(place)) for place in range(4)]))
    boxes = [box(name) for name in names]
    for place, (left, top, right, bottom) in enumerate(boxes):
        assert right <= WIDTH and bottom <= TALL
        for other in boxes[:place]:
            assert left >= other[2] or right <= other[0] or top >= other[3] or bottom <= other[1]
    assert names[2].anchor == "end"
    crowd = [(300.0 + place, 150.0) for place in range(9)]
    assert {"8"} <= {name.text for name in named(crowd, [("a rather long name", str(place)) for place in range(9)])}


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
seen.push(String([...document.querySelectorAll("button.copy")].every((one) => !one.hidden)));
document.getElementById("seen").textContent = seen.join("; ");
</script>
"""


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
        "true",
    ]
