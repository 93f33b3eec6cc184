"""Plots of a board as SVG files: that they show what the board says, stand alone, and are broken by no name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest
from boards import HOSTILE, SPEEDS, Page, changed, four, of_method, one_of, only_board, run_of, with_speed
from hypothesis import given
from hypothesis import strategies as st
from sample_results import log_ranked, result_of, spec_of

from harness.board import charts
from harness.board.charts import MARKED, MOST, THROUGHPUT, front, mean_curve, steps
from harness.board.drawing import SIZE, canvas, cover, is_within, look, measured, plain
from harness.board.evidence import Assessed, Evidence, LearningCurve, assessed
from harness.board.forms import webpage
from harness.board.plots import TALL, Pictures, Plot, expense_plot, learning_plot, plots, recall_plot, row_curve
from harness.config.sections import Training
from harness.foreign_text import visible
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run
from harness.tracking.tracker import Tracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

SVG = "{http://www.w3.org/2000/svg}"
EVERY = ["rsum.svg", "tradeoff.svg", "recall.svg", "curves.svg"]


@contextmanager
def painted(paint: Callable[..., None] | None, *more: object) -> Iterator[Figure]:
    """A figure with what a function draws on it."""
    assert paint is not None
    with canvas(7, 3) as figure:
        paint(figure, *more)
        yield figure


def texts(data: bytes) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(data).iter(f"{SVG}text")]


def plot_of(one: Assessed, file: str) -> Plot:
    return next(plot for plot in plots(one) if plot.file == file)


def test_a_board_has_four_plots_each_well_formed_with_a_title_and_text_that_is_text() -> None:
    made = Pictures(one_of(four())).files
    assert [*made] == EVERY
    for name, data in made.items():
        tree = ElementTree.fromstring(data)
        assert tree.tag == f"{SVG}svg" and "scenes, protocol full" in (tree.findtext(f"{SVG}title") or "")
        assert set(SPEEDS) <= set(texts(data)), name
        assert "bssan: " in data.decode() or "bssan, i2t: " in data.decode(), "the numbers in words"


def test_a_plot_asks_for_nothing_and_has_a_transparent_ground() -> None:
    for data in Pictures(one_of(four())).files.values():
        tree = ElementTree.fromstring(data)
        links = [value for node in tree.iter() for name, value in node.attrib.items() if name.endswith("href")]
        assert all(link.startswith("#") for link in links)
        assert not re.search(r"url\((?!#)|@import|<script|<image", data.decode(), re.IGNORECASE)
        (ground,) = [node for node in tree.iter(f"{SVG}g") if node.get("id") == "patch_1"]
        assert "fill: none" in (ground[0].get("style") or "")
        assert b"<dc:date>" not in data and b"Matplotlib" not in data


@pytest.fixture(scope="module")
def plain_files() -> dict[str, bytes]:
    return Pictures(one_of(four())).files


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HOSTILE, "a\x00b\ufffe", "]]>", "$x^2$", r"\frac", "_hidden"])
def test_a_name_breaks_no_plot(plain_files: dict[str, bytes], name: str) -> None:
    rows = [of_method(run, name) if run.spec.method == "caan" else run for run in four()]
    for file, data in Pictures(one_of(rows)).files.items():
        tree, other = (ElementTree.fromstring(each) for each in (data, plain_files[file]))
        assert {node.tag for node in tree.iter()} == {node.tag for node in other.iter()}
        shown = visible(name)
        begins = [text for text in texts(data) if text == shown or (text[-1:] == "…" and shown.startswith(text[:-1]))]
        assert begins or (file == "tradeoff.svg" and "2" in texts(data)), "its place where there is no room for it"


def test_ranked_rows_stand_from_the_best_down_with_interval_mean_and_seeds() -> None:
    one = one_of(four())
    with painted(charts.intervals, one) as figure:
        (axes,) = figure.axes
        assert [label.get_text() for label in axes.get_yticklabels()] == ["bssan", "caan", "scan_t2i", "vsepp"]
        assert axes.yaxis_inverted(), "the first place on top"
        (bars,) = axes.collections
        for place, ((low, y), (high, _)) in enumerate(bars.get_segments()):  # type: ignore[attr-defined]
            assert (low, high) == one.evidence.intervals[place] and y == place
        means, seeds = axes.get_lines()
        assert list(means.get_xdata()) == [row.means["rsum"] for row in one.board.ranked]
        assert len(seeds.get_xdata()) == 12 and min(seeds.get_xdata()) < means.get_xdata()[-1]  # type: ignore[index]
        beside = [text.get_text() for text in axes.texts]
        assert beside == [f"{rsum:.1f} ± 1.0" for rsum in (291, 261, 251, 201)] + [*one.evidence.groups.values()]


def test_an_untrained_row_far_below_is_a_triangle_at_the_edge_and_presses_no_other_row_together() -> None:
    untrained = run_of(result_of(spec_of("chance"), epochs=0, measures={"rsum": 3.2}))
    board = only_board([changed(untrained, cost={"score_pairs_per_second": 1e7}), *four()])
    means = [row.means["rsum"] for row in board.ranked]
    one = Assessed(board, Evidence(intervals={place: (mean - 9, mean + 9) for place, mean in enumerate(means)}))
    with painted(charts.intervals, one) as figure:
        (axes,) = figure.axes
        assert 150 < axes.get_xlim()[0] < 201 - 9
        assert [line.get_ydata() for line in axes.get_lines() if line.get_marker() == "<"] == [[4]]
        assert "3.2" in [text.get_text() for text in axes.texts]
    with painted(charts.tradeoff, one.board) as figure:
        (axes,) = figure.axes
        assert 150 < axes.get_ylim()[0] < 201
        assert [line.get_xdata() for line in axes.get_lines() if line.get_marker() == "v"] == [[1e7]]
        assert "chance" in [text.get_text() for text in axes.texts]
    assert "triangle" in plot_of(one, "rsum.svg").note and "triangle" in plot_of(one, "tradeoff.svg").note
    assert "triangle" not in plot_of(one_of(four()), "rsum.svg").note


@pytest.mark.parametrize(
    ("trained", "untrained", "start"),
    [
        ([(200.0, 300.0)], [(3.0, 4.0)], None),  # nothing is pressed together
        ([(200.0, 300.0), (250.0, 290.0)], [(90.0, 101.0)], 190.0),
        ([(200.0, 300.0), (250.0, 290.0)], [(101.0, 110.0)], None),
        ([(299.0, 300.0), (299.5, 300.0)], [(3.0, 4.0)], 296.0),  # no small difference looks large
        ([(200.0, 300.0), (3.0, 300.0)], [], None),
    ],
)
def test_a_scale_begins_below_the_trained_rows_only_where_others_are_far_off(
    trained: list[tuple[float, float]], untrained: list[tuple[float, float]], start: float | None
) -> None:
    rows = [only_board([run_of(result_of(spec_of(), epochs=3))]).ranked[0] for _ in trained]
    rows += [only_board([run_of(result_of(spec_of(), epochs=0))]).ranked[0] for _ in untrained]
    assert charts.start_of_scale(rows, [*trained, *untrained]) == (start and pytest.approx(start))


def test_a_row_whose_ranks_are_gone_is_drawn_without_an_interval() -> None:
    bare = Assessed(only_board(four()), Evidence(lost=frozenset(range(4))))
    with painted(charts.intervals, bare) as figure:
        assert not figure.axes[0].collections and len(figure.axes[0].get_lines()[0].get_xdata()) == 4  # type: ignore[arg-type]
    assert "95 %" not in plot_of(bare, "rsum.svg").numbers[0]
    assert "95 % " in plot_of(one_of(four()), "rsum.svg").numbers[0]


def test_rows_no_other_beats_are_filled_and_joined_and_lie_by_throughput_and_rsum() -> None:
    with painted(charts.tradeoff, only_board(four())) as figure:
        (axes,) = figure.axes
        path, best, others = axes.get_lines()
        assert best.get_markerfacecolor() != "none" and others.get_markerfacecolor() == "none"
        assert list(zip(*best.get_data(), strict=True)) == [(2e5, 291.0), (4e5, 251.0), (5e7, 201.0)]
        assert list(zip(*others.get_data(), strict=True)) == [(1e5, 261.0)]
        assert len(path.get_xdata()) == 5  # type: ignore[arg-type]
        assert axes.get_xscale() == "log" and not axes.yaxis_inverted()


def test_rows_of_each_machine_are_compared_with_each_other_alone() -> None:
    fast = {"device": "cuda", "cpu": "Another"}
    one, two = with_speed("bssan", 290.0, 9e6, **fast), with_speed("caan", 260.0, 1e5)
    both = [*with_speed("chance", 3.0, 1e6)[:2], with_speed("chance", 3.0, 1e6, **fast)[2]]
    board = only_board([*one, *two, *with_speed("vsepp", 250.0, 5e4), *both])
    with painted(charts.tradeoff, board) as figure:
        joined = {line.get_label(): line.get_xdata() for line in figure.axes[0].get_lines()}
        assert sorted(tuple(joined[f"machine {n}"]) for n in (1, 2)) == [(1e5,), (9e6,)]
    plot = expense_plot(board, THROUGHPUT)
    assert plot.note.endswith("Left out: chance (its seeds ran on several machines).")
    assert {"machine 1", "machine 2"} <= set(texts(plot.svg))
    assert plot.note in Page(webpage(Assessed(board, Evidence()), {})).texts("p")


@pytest.mark.slow
@pytest.mark.parametrize("speed", [0.0, None])
def test_rows_without_throughput_are_named_below_the_plot(speed: float | None) -> None:
    rows = [*with_speed("caan", 260.0, 1e5), *with_speed("chance", 3.0, speed), *with_speed("vsepp", 2.0, speed)]
    why = "no throughput in the store"
    assert expense_plot(only_board(rows), THROUGHPUT).note.endswith(f"Left out: chance ({why}); vsepp ({why}).")
    none = expense_plot(only_board(rows[3:]), THROUGHPUT)
    assert none.paint is None
    shown = Page(webpage(one_of(rows[3:]), {})).texts("p")
    assert any(text.startswith("No row has the throughput of one machine.") for text in shown)
    assert "tradeoff.svg" not in Pictures(one_of(rows[3:])).files


def test_r_at_k_never_falls_and_passes_through_the_measures_of_the_row() -> None:
    one = one_of(four())
    with painted(charts.recall, one) as figure:
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["i2t", "t2i"]
        for way, axes in enumerate(figure.axes):
            assert [label.get_text() for label in axes.get_xticklabels()] == [str(k) for k in MARKED]
            for place, line in enumerate(axes.get_lines()):
                values = np.asarray(line.get_ydata())
                assert len(values) == 100 and np.all(np.diff(values) >= 0)
                assert np.array_equal(values, one.evidence.profiles[place][way])
    value = one.evidence.profiles[0][1][9]
    assert f"R@10 {value:.1f}" in next(text for text in recall_plot(one).numbers if text.startswith("bssan, t2i"))


@pytest.mark.parametrize("many", [4, MOST])
def test_names_stand_beside_the_ends_of_lines_in_their_order_and_cover_no_other(many: int) -> None:
    one = one_of([line for place in range(many) for line in with_speed(f"method {place}", 290.0 - 9 * place, 1e5)])
    for paint in (charts.recall, lambda figure, one: charts.learning(figure, one, range(many))):
        with painted(paint, one) as figure:
            figure.draw_without_rendering()
            axes = figure.axes[-1]
            names = [text for text in axes.texts if text.get_text()]
            assert [text.get_text() for text in names] == [f"method {place}" for place in range(many)]
            assert_apart(names, figure)
            assert all(text.get_window_extent().x0 > axes.bbox.x1 for text in names)


def assert_apart(names: list[Text], figure: Figure) -> None:
    extents = [text.get_window_extent().extents for text in names]
    for place, extent in enumerate(extents):
        assert is_within(extent, figure.bbox.extents)
        assert not any(cover(extent, other) for other in extents[:place])


def test_names_beside_marks_cover_neither_marks_nor_lines_nor_each_other() -> None:
    speeds = [1e5, 1.1e5, 1.2e5, 4e5, 5e7, 2e7]
    rows = [line for n, speed in enumerate(speeds) for line in with_speed(f"method {n}", 290.0 - 15 * n, speed)]
    with painted(charts.tradeoff, only_board(rows)) as figure:
        figure.draw_without_rendering()
        (axes,) = figure.axes
        assert_apart([*axes.texts], figure)
        path = axes.transData.transform(np.column_stack(axes.get_lines()[0].get_data()))
        for text in axes.texts:
            extent = text.get_window_extent().extents
            assert is_within(extent, axes.bbox.extents)
            for (a, b), (c, d) in pairwise(path):
                assert not cover(extent, (min(a, c), min(b, d), max(a, c), max(b, d)))


def crowd(number: int) -> list[Run]:
    """Rows of which many have nearly the same throughput, as embedding methods have."""
    rng = np.random.default_rng(number)
    speeds = 10 ** np.concatenate([rng.uniform(5, 6.2, 12), rng.uniform(7.7, 8.1, 14)])
    rsums = np.concatenate([rng.uniform(110, 270, 12), rng.uniform(120, 170, 14)])
    return [
        line
        for n, (speed, rsum) in enumerate(zip(speeds, rsums, strict=True))
        for line in with_speed(f"method_{n}", rsum, speed)
    ]


@pytest.mark.parametrize("number", range(4))
def test_no_name_or_number_of_many_rows_covers_another_a_mark_or_a_line(number: int) -> None:
    board = only_board(crowd(number))
    plot = expense_plot(board, THROUGHPUT)
    assert plot.paint is not None and plot.height > TALL
    with canvas(7.2, plot.height) as figure:
        plot.paint(figure)
        figure.draw_without_rendering()
        (axes,) = figure.axes
        assert len(axes.texts) == 26
        assert_apart([*axes.texts], figure)
        extents = [text.get_window_extent().extents for text in axes.texts]
        marks = axes.transData.transform([charts.point_of(row) for row in board.ranked])
        assert not any(cover(extent, (x - 4, y - 4, x + 4, y + 4)) for extent in extents for x, y in marks)
        path = axes.transData.transform(np.column_stack(axes.get_lines()[0].get_data()))
        leaders = [axes.transData.transform(line) for line in axes.collections[-1].get_segments()]  # type: ignore[attr-defined]
        for a, b in [*pairwise(path), *((one[0], one[0] + 0.97 * (one[1] - one[0])) for one in leaders)]:
            spots = a + np.linspace(0, 1, 200)[:, None] * (b - a)
            for x0, y0, x1, y1 in extents:
                assert not ((spots > (x0 + 1, y0 + 1)) & (spots < (x1 - 1, y1 - 1))).all(axis=1).any()


def test_names_are_cut_where_rows_are_alike_and_no_two_to_one_text() -> None:
    short, long = Training(epochs=4, precision="bf16"), Training(epochs=12, precision="bf16")
    trainings = {"bssan": [short, long], "a_method_of_a_rather_long_name": [short, long, Training(epochs=3)]}
    rows = [
        run_of(result_of(spec_of(method, training=training), 200.0 + place))
        for method, own in trainings.items()
        for place, training in enumerate(own)
    ]
    names = charts.names_of(only_board(rows))
    assert len({*names}) == 5 and all(measured(name, SIZE) <= charts.NAME for name in names)
    assert [name for name in names if name.startswith("a_m") and "…epochs 12" in name], names
    assert "bssan (epochs 12)" in names and not any("training." in name for name in names)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("vsepp (all_negatives_epochs {})", ("1", "3")),
        ("bssan (text.encoder_learning_rate {})", ("0.1", "0.01")),
        ("caan (width 32, an_encoder.of_captions {})", ("gru", "bigru")),
        ("bssan (a_setting.of_a_rather_long_name {}, margin 0.2)", ("4", "12")),
    ],
)
def test_of_long_names_that_are_cut_what_differs_is_left_with_the_word_before_it(
    name: str, values: tuple[str, ...]
) -> None:
    names = charts.distinct([name.format(value) for value in values])
    word = re.search(r"[a-z]+ {}.", name)
    assert word is not None and [short[:3] for short in names] == [name[:3]] * 2
    for short, value in zip(names, values, strict=True):
        assert word[0].format(value) in short and "…" in short, names


@pytest.mark.slow
@given(st.lists(st.text(max_size=60), min_size=1, max_size=6, unique=True))
def test_names_fit_and_stay_different(names: list[str]) -> None:
    short = charts.distinct(names)
    assert all(measured(name, SIZE) <= charts.NAME for name in short)
    if len({plain(name) for name in names}) == len(names):
        assert len({*short}) == len(names)


@pytest.mark.slow
def test_a_crowd_is_named_as_far_as_there_is_room_and_then_by_numbers() -> None:
    rows = [line for n in range(50) for line in with_speed(f"a rather long name {n:02}", 200 + n / 50, 1e5 + n)]
    plot = expense_plot(only_board(rows), THROUGHPUT)
    with canvas(7.2, plot.height) as figure:
        charts.tradeoff(figure, only_board(rows))
        assert {text.get_text() for text in figure.axes[0].texts} == {f"a rather long name {n:02}" for n in range(50)}
    with painted(charts.tradeoff, only_board(rows)) as figure:
        names = [text.get_text() for text in figure.axes[0].texts]
        assert 45 <= len({*names}) == len(names) and "a rather long name 49" in names
        assert any(name.isdigit() for name in names)


def test_colour_and_shape_or_dashes_tell_every_line_from_the_others() -> None:
    looks = [look(place) for place in range(16)]
    assert len({(str(one["color"]), one["marker"], str(one["ls"])) for one in looks}) == 16
    assert len({(one["color"], one["marker"]) for one in looks[:MOST]}) == MOST
    for one in looks:
        for other in looks:
            same = one["marker"] == other["marker"] and one["ls"] == other["ls"]
            assert one is other or not same, "never by colour alone"


def test_a_mean_curve_goes_as_far_as_every_seed() -> None:
    seeds = [LearningCurve(0, ((1, 10.0), (2, 20.0), (3, 90.0))), LearningCurve(1, ((1, 20.0), (2, 40.0)))]
    assert mean_curve(seeds) == [(1.0, 15.0), (2.0, 30.0)]
    one = Assessed(only_board(four()), Evidence(curves={1: tuple(seeds)}))
    with painted(learning_plot(one).paint) as figure:
        assert [len(line.get_xdata()) for line in figure.axes[0].get_lines()] == [3, 2, 2]  # type: ignore[arg-type]
    assert learning_plot(one).numbers == ("caan: val rsum 30.0 after epoch 2, its best, mean of 2 seeds",)
    with painted(row_curve(one, 1).paint) as figure:
        assert not figure.axes[0].texts, "the page says whose it is"


@pytest.mark.parametrize("last", [1, 2, 3, 11, 47, 200])
def test_epochs_are_counted_in_whole_numbers_with_few_ticks(last: int) -> None:
    curve = LearningCurve(0, tuple((epoch, float(epoch)) for epoch in range(1, last + 1)))
    with painted(learning_plot(Assessed(only_board(four()), Evidence(curves={0: (curve,)}))).paint) as figure:
        ticks = figure.axes[0].get_xticks()
        assert all(float(tick).is_integer() for tick in ticks) and len(ticks) <= 14


@pytest.mark.slow
def test_a_row_without_epochs_is_named_below_and_the_others_are_drawn(store: str, tmp_path: Path) -> None:
    tracker = Tracker(store, tmp_path / "artifacts")
    for method in ("kept", "gone"):
        log_ranked(tracker, tmp_path, method, 0, worst=4)
    (run,) = [run.run_id for run in ResultStore(tracker.uri).runs() if run.spec.method == "gone"]
    for file in (tmp_path / "artifacts").rglob(f"{run}/**/epochs.jsonl"):
        file.unlink()
    (one,) = assessed(ResultStore(tracker.uri).runs(), {}, ResultStore(tracker.uri).artifact)
    plot = learning_plot(one)
    assert [text.split(":")[0] for text in plot.numbers] == ["kept"]
    assert plot.note.endswith("Left out: gone (no epochs in the store).")
    assert "gone" not in texts(plot.svg) and "gone (no epochs in the store)" in webpage(one, {})


def test_a_row_that_needs_no_training_is_not_said_to_be_lost() -> None:
    one = one_of([run_of(result_of(spec_of("chance"), epochs=0)), *four()])
    places = {place for place, ranked in enumerate(one.board.ranked) if ranked.method != "chance"}
    evidence = Evidence(curves={place: one.evidence.curves[place] for place in places})
    assert learning_plot(Assessed(one.board, evidence)).note.endswith("Left out: chance (not trained).")


def test_a_board_without_ranks_or_epochs_has_the_two_plots_that_need_neither() -> None:
    bare = Assessed(one_of(four()).board, Evidence(lost=frozenset(range(4))))
    assert [*Pictures(bare).files] == EVERY[:2]
    shown = Page(webpage(bare, {})).texts("p")
    assert "The store has no usable ranks of the first rows." in shown
    assert "The store has no epochs of the first rows." in shown


@pytest.mark.slow
def test_only_the_first_rows_are_drawn_as_lines_and_the_others_are_named() -> None:
    rows = [line for place in range(MOST + 2) for line in with_speed(f"m{place}", 290.0 - 9 * place, 1e5)]
    plot = recall_plot(one_of(rows))
    with painted(plot.paint) as figure:
        assert len(figure.axes[0].get_lines()) == MOST
    assert f"m{MOST - 1}" in texts(plot.svg) and f"m{MOST}" not in texts(plot.svg)
    assert plot.note.endswith(f"Left out: rows after the first {MOST}.")


@pytest.mark.slow
def test_the_page_has_the_pictures_of_the_markdown_and_their_numbers_in_words() -> None:
    one = one_of(four())
    page = Page(webpage(one, {}))
    sources = [about["src"] for tag, about, _ in page.elements if tag == "img"]
    assert sources[:4] == [plot.uri for plot in plots(one)]
    assert sources[4:] == [row_curve(one, place).uri for place in range(4)]
    assert {text for plot in plots(one) for text in plot.numbers} <= set(page.texts("li"))


@pytest.mark.slow
def test_pictures_are_the_same_bytes_again() -> None:
    assert Pictures(one_of(four())).files == Pictures(one_of(four())).files


points = st.lists(st.tuples(st.floats(0.1, 1e9), st.floats(0, 600)), min_size=1, max_size=12)
crowded = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=12)


@given(points | crowded)
def test_the_front_is_the_rows_that_no_other_beats_in_both(rows: list[tuple[float, float]]) -> None:
    best = front(rows)
    for place, (speed, rsum) in enumerate(rows):
        beaten = any(a >= speed and b >= rsum and (a > speed or b > rsum) for a, b in rows)
        assert (place in best) is not beaten
    assert best, "the best of all is beaten by none"


@given(points)
def test_the_line_passes_through_the_front_and_only_falls(rows: list[tuple[float, float]]) -> None:
    best = [rows[place] for place in front(rows)]
    path = steps(best)
    across, heights = zip(*path, strict=True)
    assert list(across) == sorted(across) and list(heights) == sorted(heights, reverse=True)
    assert set(best) <= set(path) and len(path) == 2 * len(best) - 1
    assert all(a == c or b == d for (a, b), (c, d) in pairwise(path)), "it runs along the axes"
