"""Panels of an explanation: digits overlap nowhere and leave no panel, grids are known as such."""

from __future__ import annotations

import io
from typing import Any, cast

import numpy as np
import pytest
from explained import explained, grid
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.board.drawing import cover, is_within
from harness.data.content import Preview
from harness.explain.explanation import Explanation
from harness.explain.panels import PANEL, TALLEST, heading, is_tiling, note, panels, strengths, strongest, tags
from harness.explain.picture import PIXELS, painted, png


@st.composite
def crowded(draw: st.DrawFn) -> Explanation:
    """Boxes of which many share a corner, an edge, or all of the picture, with weights that may be equal."""
    width, height = draw(st.tuples(st.integers(1, 600), st.integers(1, 600)))
    shares = st.sampled_from((0.0, 0.1, 0.5, 0.9, 1.0)) | st.floats(0, 1)
    boxes = []
    for _ in range(draw(st.integers(1, 9))):
        (x0, x1), (y0, y1) = (sorted(draw(st.tuples(shares, shares))) for _ in "xy")
        boxes.append((x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height))
    labels = draw(st.just(()) | st.just(tuple(f"a thing of number {n}" for n in range(len(boxes)))))
    weight = st.sampled_from((0.0, 0.25, 1.0)) | st.floats(0, 1)
    weights = [[draw(weight) for _ in boxes] for _ in range(2)]
    original = draw(st.none() | st.tuples(st.integers(1, 600), st.integers(1, 600)))
    return explained(boxes, weights, Preview((width, height), None, (), labels, original))


@given(crowded())
def test_digits_never_overlap_and_never_leave_their_panel(one: Explanation) -> None:
    layout = panels(one)
    assert layout.size[0] <= PANEL + 1e-6 and layout.size[1] <= TALLEST * PANEL + 1e-6
    assert all(is_within(box, (-1e-6, -1e-6, layout.size[0] + 1e-6, layout.size[1] + 1e-6)) for box in layout.boxes)
    for word in one.words:
        extents = [tag.extent for tag in tags(one, word, layout)]
        assert all(is_within(extent, (0, 0, *layout.size)) for extent in extents)
        assert not any(cover(extent, other) for place, extent in enumerate(extents) for other in extents[:place])
        room = min(layout.size) > 60 and bool(layout.placed) and not layout.is_grid
        assert bool(extents) or not room or not any(word.weights[region] for region in layout.placed)


def test_boxes_that_share_a_corner_have_all_their_digits_each_in_a_corner_of_its_own() -> None:
    boxes = [(0, 0, 100, 80), (0, 0, 96, 78), (0, 0, 90, 74), (0, 0, 95, 60)]
    one = explained(boxes, [(0.22, 0.21, 0.2, 0.19)])
    layout = panels(one)
    found = list(tags(one, one.words[0], layout))
    assert [tag.text for tag in found] == ["0.21", "0.20", "0.19"] and note(
        one.words[0], layout
    ) == "whole picture 0.22"
    for tag, box in zip(found, layout.boxes[1:], strict=True):
        assert is_within(tag.extent, box)


def test_digits_stand_beside_a_small_region_and_on_no_other_that_has_some() -> None:
    small, things = (30, 40, 6, 6), [(36, 40, 40, 30), (60, 0, 40, 20)]
    one = explained([small, *things], [(0.4, 0.35, 0.25)])
    layout = panels(one)
    found = list(tags(one, one.words[0], layout))
    assert [tag.text for tag in found] == ["0.40", "0.35", "0.25"]
    for place, tag in enumerate(found):
        assert not any(cover(tag.extent, box) for other, box in enumerate(layout.boxes) if other != place)
    assert not cover(found[0].extent, layout.boxes[0]) and is_within(found[1].extent, layout.boxes[1])


def test_digits_of_a_drawn_panel_lie_on_their_ground_within_it() -> None:
    boxes = [(0, 0, 100, 80), (0, 0, 96, 20), (3, 0, 90, 9), (60, 0, 40, 12)]
    one = explained(boxes, [(0.1, 0.5, 0.45, 0.4), (0.7, 0.1, 0.1, 0.1)])
    with painted(one, PIXELS) as figure:
        figure.draw_without_rendering()
        for axes in figure.axes[1:]:
            digits = [text for text in axes.texts if text.get_size() == 8]
            extents = [text.get_window_extent().extents for text in digits]
            assert len(digits) == 3 and all(is_within(extent, axes.bbox.extents) for extent in extents)
            assert not any(cover(extent, other) for n, extent in enumerate(extents) for other in extents[:n])


def test_regions_that_tile_the_picture_are_a_grid_and_others_are_not() -> None:
    for across, down in ((7, 7), (2, 2), (16, 16), (3, 5)):
        layout = panels(explained(grid(across, down), [[1 / (across * down)] * (across * down)]))
        assert layout.is_grid and heading(layout) == f"{across * down} cells" and not layout.whole
    cells = grid(7, 7)
    with_whole = panels(explained([(0, 0, 100, 80), *cells], [[0.02] * 50]))
    assert with_whole.is_grid and with_whole.whole == {0} and heading(with_whole) == "49 cells, whole picture"
    for others in (cells[1:], cells[:-1] + cells[:1], [*cells, (10, 10, 30, 30)], grid(1, 3), [(0, 0, 100, 80)]):
        assert not panels(explained(others, [[0.1] * len(others)])).is_grid
    left = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 0.4], [0.5, 0.4, 1, 0.7], [0.5, 0.7, 1, 1]])
    assert is_tiling(left) and not is_tiling(left * 0.9)


def test_a_grid_is_coloured_by_weight_without_digits_and_says_its_largest_weight() -> None:
    weights = np.full(4, 0.1)
    weights[3] = 0.7
    one = explained(grid(2, 2), [weights])
    layout = panels(one)
    assert not list(tags(one, one.words[0], layout)) and note(one.words[0], layout) == "cells up to 0.70"
    assert strengths(one, one.words[0], layout) == pytest.approx([1 / 7, 1 / 7, 1 / 7, 1])
    drawn = Image.open(io.BytesIO(png(one))).convert("RGB")
    with painted(one, PIXELS) as figure:
        wide, tall = figure.get_size_inches() * 72 * PIXELS
        place = figure.axes[1].get_position()
        assert not figure.axes[1].patches, "no outlines"

    def colour(right: float, down: float) -> Any:
        x, y = place.x0 + right * place.width, 1 - place.y1 + down * place.height
        return cast(Any, drawn.getpixel((int(wide * x), int(tall * y))))

    strong, weak = colour(0.75, 0.75), colour(0.25, 0.25)
    assert strong[0] - strong[2] > 2 * (weak[0] - weak[2]) > 0


def test_the_whole_picture_is_a_frame_that_lights_nothing_and_its_weight_stands_below() -> None:
    one = explained([(0, 0, 100, 80), (50, 40, 40, 30)], [(0.9, 0.1), (0.2, 0.3)])
    layout = panels(one)
    assert layout.whole == {0} and layout.placed == [1] and strongest(one, layout) == 0.3
    assert strengths(one, one.words[0], layout)[0] == 1.0, "a frame is not stronger than strong"
    assert [note(word, layout) for word in one.words] == ["whole picture 0.90", "whole picture 0.20"]
    assert [[tag.text for tag in tags(one, word, layout)] for word in one.words] == [["0.10"], ["0.30"]]
    drawn = Image.open(io.BytesIO(png(one))).convert("L")
    with painted(one, PIXELS) as figure:
        wide, tall = figure.get_size_inches() * 72 * PIXELS
        place = figure.axes[1].get_position()
    x, y = wide * (place.x0 + 0.2 * place.width), tall * (1 - place.y1 + 0.3 * place.height)
    assert cast(int, drawn.getpixel((int(x), int(y)))) > 150, "faded where the whole picture alone has weight"


def test_boxes_follow_the_original_proportion_of_a_squeezed_picture() -> None:
    picture = Image.new("RGB", (224, 224))
    one = explained([(112, 0, 112, 112)], [[1.0]], Preview((224, 224), picture, original=(500, 250)))
    layout = panels(one)
    assert layout.size == (PANEL, PANEL / 2) and layout.boxes[0] == pytest.approx((66, 0, 132, 33))


def test_regions_without_a_place_are_not_drawn_over_the_picture() -> None:
    one = explained([], [[0.5, 0.5, 0.0]], Preview((100, 80), Image.new("RGB", (100, 80), "black")))
    drawn = Image.open(io.BytesIO(png(one))).convert("L")
    with painted(one, PIXELS) as figure:
        wide, tall = figure.get_size_inches() * 72 * PIXELS
        places = [axes.get_position() for axes in figure.axes]
    middles = [(int(wide * (p.x0 + p.width / 2)), int(tall * (1 - p.y0 - p.height / 2))) for p in places]
    first, second = (cast(int, drawn.getpixel(middle)) for middle in middles)
    assert first < 60 < 100 < second, "the picture stands alone before the words"
