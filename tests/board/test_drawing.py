"""What every picture shares: inks for light and dark pages, labels that cover nothing, the same bytes everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from boards import HOSTILE
from hypothesis import given
from hypothesis import strategies as st

from harness.board.drawing import (
    COLOURS,
    INK,
    LEADING,
    SIZE,
    canvas,
    cover,
    is_within,
    measured,
    plain,
    png,
    round_ratios,
    shortened,
    spread,
    svg,
    thousands,
    unoccupied,
    wrapped,
)

GROUNDS = ("#ffffff", "#0d1117")
lengths = st.floats(0, 100)
extents = st.tuples(lengths, lengths, lengths, lengths).map(
    lambda one: (min(one[0], one[2]), min(one[1], one[3]), max(one[0], one[2]), max(one[1], one[3]))
)


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", GROUNDS)
def test_text_and_marks_are_legible_on_a_light_and_on_a_dark_page(ground: str) -> None:
    assert contrast(INK, ground) >= 4.25, "no ink has more than 4.35 to both"
    assert all(contrast(colour, ground) >= 3.4 for colour in COLOURS)


def example() -> tuple[bytes, bytes]:
    """A small figure in both forms."""
    with canvas(4, 2) as figure:
        axes = figure.subplots()
        axes.plot([1, 1000.5], [0.1, 0.2], "o-", label="a, b")
        axes.set_xscale("log")
        axes.set_xlabel("$x^2$")
        axes.legend()
        return svg(figure, "A title", "What it shows"), png(figure, 2)


@pytest.mark.slow
def test_a_figure_is_the_same_bytes_whatever_clock_locale_zone_and_settings_the_machine_has() -> None:
    import matplotlib

    script = "import test_drawing, sys; sys.stdout.buffer.write(b''.join(test_drawing.example()))"
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])  # noqa: PTH120
    odd = {"TZ": "Asia/Kathmandu", "LC_ALL": "de_DE.UTF-8", "SOURCE_DATE_EPOCH": "1", "MPLBACKEND": "svg"}
    other = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, env={**os.environ, "PYTHONPATH": path, **odd}
    ).stdout
    assert b"".join(example()) == other
    with matplotlib.rc_context({"font.size": 30, "text.parse_math": True, "svg.fonttype": "path"}):
        changed = example()
        assert matplotlib.rcParams["font.size"] == 30
    assert changed == example()


@pytest.mark.slow
def test_drawing_leaves_pyplot_alone() -> None:
    script = "import sys, test_drawing; test_drawing.example(); assert 'matplotlib.pyplot' not in sys.modules"
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])  # noqa: PTH120
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": path})


@pytest.mark.parametrize("text", [*HOSTILE, "$x^2$", r"$\undefined{", "a\x00b\x1b[31m\ufffe\ud800", "_x_", "方法 é 🦉"])
def test_text_of_others_stays_text(text: str) -> None:
    with canvas(4, 2) as figure:
        figure.text(0.5, 0.5, plain(text))
        data = svg(figure, text, text)
        assert png(figure, 1).startswith(b"\x89PNG")
    tree = ElementTree.fromstring(data)
    (shown,) = tree.iter("{http://www.w3.org/2000/svg}text")
    assert shown.text == tree.findtext("{http://www.w3.org/2000/svg}title") == plain(text)
    assert "sans-serif" in (shown.get("style") or ""), "where the reader lacks the font"
    assert not {"script", "b"} & {node.tag.rpartition("}")[2] for node in tree.iter()}


def test_plain_text_is_one_line_without_what_no_page_can_show() -> None:
    assert plain(" a\nb\t c\x00\x1b\ufffe\ud800 é $") == r"a b c\x00\x1b\ufffe\ud800 é $"


@given(st.text(max_size=60), st.floats(20, 300))
def test_a_shortened_text_fits_and_one_that_fits_is_whole(text: str, width: float) -> None:
    short = shortened(text, width)
    assert measured(short, SIZE) <= width
    assert short == plain(text) if measured(plain(text), SIZE) <= width else short.endswith("…")


def test_text_is_wrapped_and_cut_to_fit() -> None:
    text = "one two three four five six seven eight nine ten"
    lines = wrapped(text, 100, 10)
    assert " ".join(lines) == text and all(measured(line, 10) <= 100 for line in lines) and len(lines) > 1
    assert wrapped("w" * 300, 100) == [shortened("w" * 300, 100)] and wrapped("", 100) == [""]
    assert wrapped("training.batch_size", 50, 8, parts=r"[^._ ]*[._ ]?") == ["training.", "batch_size"]
    assert measured("方法", 10) > measured("ab", 10), "letters of East Asia are wide"
    assert measured("ab", 10, bold=True) > measured("ab", 10)


@given(st.lists(st.floats(0, 400), min_size=1, max_size=8))
def test_heights_are_moved_apart_within_the_frame_in_their_order(heights: list[float]) -> None:
    moved = spread(heights, 10, 300)
    ordered = [moved[place] for place in sorted(range(len(heights)), key=lambda place: (heights[place], -place))]
    assert all(above - below >= LEADING - 1e-6 for below, above in pairwise(ordered))
    assert ordered[0] >= 10 - 1e-6 and ordered[-1] <= 300 + 1e-6
    assert spread([50.0, 100.0], 10, 300) == [50.0, 100.0], "what has room stays"


@given(st.lists(extents, min_size=1, max_size=6), st.lists(extents, max_size=4))
def test_a_label_takes_the_first_place_within_the_frame_that_covers_nothing(
    options: list[tuple[float, float, float, float]], taken: list[tuple[float, float, float, float]]
) -> None:
    frame = (0.0, 0.0, 80.0, 80.0)
    free = [one for one in options if is_within(one, frame) and not any(cover(one, other) for other in taken)]
    assert unoccupied(options, taken, frame) == (free[0] if free else None)


def test_extents_that_only_touch_do_not_cover_each_other() -> None:
    corners = [(0.0, 0.0, 1.0, 1.0), (1.0, 0.0, 2.0, 1.0), (0.0, 1.0, 1.0, 2.0)]
    assert not any(cover(one, other) for one, other in combinations(corners, 2))
    assert cover((0, 0, 2, 2), (1, 1, 3, 3)) and cover((0, 0, 3, 3), (1, 1, 2, 2))


@given(st.lists(st.floats(0.1, 1e9), min_size=1, max_size=9))
def test_ratios_lie_between_few_round_ticks(values: list[float]) -> None:
    ticks = round_ratios(min(values), max(values))
    assert ticks[0] <= min(values) and max(values) <= ticks[-1] and 2 <= len(ticks) <= 12
    assert ticks == sorted(set(ticks)) and all(f"{tick:e}"[0] in "125" for tick in ticks)


def test_ticks_are_in_thousands_and_millions() -> None:
    assert [thousands(number) for number in (0.5, 2000, 5e6, 1e9)] == ["0.5", "2,000", "5 M", "1,000 M"]
