"""Plots as SVG files: that they say what the board says, stand alone, and are broken by no name."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from boards import HOSTILE, Page, four, one_of, row, with_speed
from hypothesis import given
from hypothesis import strategies as st
from sample_results import log_ranked, result_of, spec_of

from harness.board.axes import LEADING, counting, spread
from harness.board.evidence import Assessed, Evidence, LearningCurve, assessed
from harness.board.forms import webpage
from harness.board.lines import MOST, Lines, learning, means, recall
from harness.board.plots import drawn, plots
from harness.tracking.result_store import ResultStore
from harness.tracking.tracker import Tracker

SVG = "{http://www.w3.org/2000/svg}"
EVERY = ["rsum.svg", "tradeoff.svg", "recall.svg", "curves.svg"]


def lines_of(lines: Lines | None) -> Lines:
    assert lines
    return lines


def test_a_board_has_four_plots_each_well_formed_with_a_title_and_a_description() -> None:
    made = drawn(one_of(four()))
    assert [*made] == EVERY
    for text in made.values():
        tree = ElementTree.fromstring(text)
        assert tree.tag == f"{SVG}svg" and [part.tag for part in tree[:2]] == [f"{SVG}title", f"{SVG}desc"]
        assert "scenes, protocol full" in (tree[0].text or "") and "bssan" in (tree[1].text or "")


def test_a_plot_asks_for_nothing_and_has_colours_for_light_and_dark() -> None:
    for text in (data.decode() for data in drawn(one_of(four())).values()):
        without = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"url\(|@import|https?:|href|<script|<image|var\(", without, re.IGNORECASE)
        light, dark = text.split("@media (prefers-color-scheme: dark)")
        assert ".back { fill: #ffffff; }" in light and ".back { fill: #14171a; }" in dark
        assert "tabindex" not in text and 'class="hit"' not in text


@pytest.mark.parametrize("name", [*HOSTILE, "a\x00b\ufffe", "]]>"])
def test_a_name_breaks_no_plot(name: str) -> None:
    found = [{**line, "method": name} if line["method"] == "caan" else line for line in four()]
    plain = drawn(one_of(four()))
    for file, data in drawn(one_of(found)).items():
        tags, others = ([part.tag for part in ElementTree.fromstring(text).iter()] for text in (data, plain[file]))
        assert tags == others
        assert re.sub(r"[^ -~]", "\ufffd", name) in " ".join(ElementTree.fromstring(data).itertext())


def test_r_at_k_never_falls_and_passes_through_the_measures_of_the_row() -> None:
    one = one_of(four())
    chart = lines_of(recall(one))
    assert [panel.title for panel in chart.panels] == ["i2t", "t2i"]
    for way, panel in enumerate(chart.panels):
        for line in panel.lines:
            heights = [float(pixel) for pixel in re.findall(r"(?<=,)[\d.]+", line.path)]
            assert len(heights) == 100 and all(above >= below for above, below in pairwise(heights))
            value = one.evidence.profiles[line.place][way][9]
            (dot,) = [dot for dot in line.dots if "R@10 " in dot.detail]
            assert dot.y == panel.y.at(value) and dot.detail.endswith(f"{panel.title}: R@10 {value:.1f}")
            assert dot.x == panel.x.at(10)


def test_names_stand_at_the_ends_of_lines_in_their_order_and_cover_no_other() -> None:
    (panel,) = lines_of(learning(one_of(four()))).panels
    names = [line.name for line in panel.lines if line.name]
    assert [name.text for name in names] == ["bssan", "caan", "scan_t2i", "vsepp"]
    heights = sorted(name.y for name in names)
    assert all(below - above >= LEADING - 1e-9 for above, below in pairwise(heights))
    assert len({name.x for name in names}) == 1 and names[0].x > panel.x.end


@given(st.lists(st.floats(0, 400), min_size=1, max_size=8))
def test_heights_are_moved_apart_within_the_frame_in_their_order(found: list[float]) -> None:
    moved = spread(found, 10, 300)
    ordered = [moved[place] for place in sorted(range(len(found)), key=lambda place: (found[place], place))]
    assert all(below - above >= LEADING - 1e-6 for above, below in pairwise(ordered))
    assert ordered[0] >= 10 - 1e-6 and ordered[-1] <= 300 + 1e-6
    assert spread([50.0, 100.0], 10, 300) == [50.0, 100.0], "what has room stays"


@pytest.mark.parametrize("last", [1, 2, 3, 10, 11, 30, 47, 200])
def test_epochs_are_counted_in_whole_numbers_with_few_ticks(last: int) -> None:
    axis = counting(last, 0, 100)
    assert all(tick.is_integer() for tick in axis.ticks) and 2 <= len(axis.ticks) <= 12
    assert axis.ticks[0] <= 1 and axis.ticks[-1] >= last


def test_a_mean_curve_goes_as_far_as_every_seed() -> None:
    seeds = [LearningCurve(0, ((1, 10.0), (2, 20.0), (3, 90.0))), LearningCurve(1, ((1, 20.0), (2, 40.0)))]
    assert means(seeds) == [(1.0, 15.0), (2.0, 30.0)]


def test_a_row_without_epochs_is_named_below_and_the_others_are_drawn(store: str, tmp_path: Path) -> None:
    tracker = Tracker(store, tmp_path / "artifacts")
    for method in ("kept", "gone"):
        log_ranked(tracker, tmp_path, method, 0, worst=4)
    (run,) = ResultStore(tracker.uri).frame().query("method == 'gone'")["run_id"]
    for file in (tmp_path / "artifacts").rglob(f"{run}/**/epochs.jsonl"):
        file.unlink()
    (one,) = assessed(ResultStore(tracker.uri).frame(), {}, ResultStore(tracker.uri).artifact)
    chart = lines_of(learning(one))
    assert [line.detail.split(":")[0] for line in chart.panels[0].lines] == ["kept"]
    assert chart.left_out == "gone (no epochs in the store)"
    assert "Left out: gone (no epochs in the store)." in plots(one)["curves.svg"].note
    assert "gone (no epochs in the store)" in webpage(one, {})


def test_a_row_that_needs_no_training_is_not_said_to_be_lost() -> None:
    found = [row(result_of(spec_of("chance"), epochs=0)), *four()]
    one = one_of(found)
    places = {place for place, ranked in enumerate(one.board.ranked) if ranked.method != "chance"}
    evidence = Evidence(curves={place: one.evidence.curves[place] for place in places})
    assert lines_of(learning(Assessed(one.board, evidence))).left_out == "chance (not trained)"


def test_a_board_without_ranks_or_epochs_has_the_two_plots_that_need_neither() -> None:
    bare = Assessed(one_of(four()).board, Evidence(lost=frozenset(range(4))))
    assert [*drawn(bare)] == EVERY[:2]
    told = Page(webpage(bare, {})).texts("p")
    assert "The store has no usable ranks of the first rows." in told
    assert "The store has no epochs of the first rows." in told


def test_only_the_first_rows_are_drawn_as_lines_and_the_others_are_named() -> None:
    found = [line for place in range(MOST + 2) for line in with_speed(f"m{place}", 290.0 - 9 * place, 1e5)]
    chart = lines_of(recall(one_of(found)))
    assert [line.place for line in chart.panels[0].lines] == [*range(MOST)]
    assert chart.left_out == f"rows after the first {MOST}"


def test_colour_shape_and_dash_tell_every_line_from_the_others() -> None:
    found = [line for place in range(MOST) for line in with_speed(f"m{place}", 290.0 - 9 * place, 1e5)]
    tree = ElementTree.fromstring(drawn(one_of(found))["curves.svg"])
    looks = set()
    for group in tree.iter(f"{SVG}g"):
        if (colour := group.get("class", "")).startswith("mark"):
            paths = [(path.get("class", ""), path.get("d")) for path in group.iter(f"{SVG}path")]
            run = next(name for name, _ in paths if "run" in name)
            looks.add((colour, run, next(shape for shape in paths if "glyph" in shape[0])))
    assert len(looks) == MOST


def test_the_page_draws_the_same_plots_and_they_answer_to_the_pointer_and_the_keyboard() -> None:
    one = one_of(four())
    page = webpage(one, {})
    for chart in (lines_of(recall(one)), lines_of(learning(one))):
        for panel in chart.panels:
            for line in panel.lines:
                assert page.count(f'd="{line.path}"') >= 2, "the line, and what the pointer meets"
                assert line.detail in Page(page).texts("text")


def test_pictures_are_the_same_bytes_again() -> None:
    one = one_of(four())
    assert drawn(one) == drawn(one_of(four()))
