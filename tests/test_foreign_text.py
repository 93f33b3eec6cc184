"""Text that others wrote, in each format: no text acts there, none is hidden, and plain text stays as it is."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from unicodedata import category

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.foreign_text import NUMBER, UNSEEN, cell, json_text, line, lines, markdown, tex

ACTING = "=+-@#*_`<>[]()!|\\${}~^&%;:'\" \n\t\r\x1b\x07\x9b\x00\u202e\u2066\u200b\u200f\ufeff\xad\u2028\u3164\ufe0f"
FOREIGN = st.one_of(st.text(max_size=30), st.text(st.sampled_from(ACTING + "a1./wxhtps"), max_size=30))
HIDDEN = (
    *("\x1b[31m", "\x1b]8;;http://x\x07", "\x9b2J", "\x07", "\x08", "\x7f", "\x00", "\r", "\x0b", "\x0c", "\x85"),
    *(
        "\u061c",
        "\u200b",
        "\u200e",
        "\u200f",
        "\u202a",
        "\u202e",
        "\u2066",
        "\u2069",
        "\u2028",
        "\u2029",
        "\ufeff",
        "\xad",
    ),
    *("\u3164", "\u115f", "\u2800", "\u034f", "\ufe00", "\U000e0041", "\U000e0100", "\ue000", "\ufffe", "\ud800"),
)
FORMULAS = (
    *(
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(A1)",
        " =1+1",
        "\t=1+1",
        "\n=1",
        "\r=1",
        "\u200b=1",
        "\ufeff=1",
        "\uff1d1",
        "a;=1",
        "a|@x",
        'a;"=1',
        'a|" "-1',
    ),
    *("=cmd|' /C calc'!A0", '=HYPERLINK("http://x")', "-2+3+cmd|x", "\u00a0=1", "\x00=1", "--1", "1-=2;=3", "'=1"),
)
LINKS = (
    *("[a](javascript:x)", "![a](http://x)", "<http://x.org>", "http://x.org", "www.x.org", "[a]: http://x", "[a][b]"),
    *(
        "<script>x</script>",
        "<img src=x onerror=y>",
        "&lt;script&gt;",
        "a@b.org",
        "<a@b.org>",
        "mailto:a.b+c@d-e.org",
        "a@b@c.org",
        "ftp://x.org",
        "Www.x.org",
    ),
)
BLOCKS = (
    "# a",
    "- a",
    "+ a",
    "* a",
    "1. a",
    "1) a",
    "> a",
    "---",
    "===",
    "***",
    "___",
    "~~~",
    "```",
    "|a|",
    "    a",
    "\ta",
    ":-",
    "a\nb",
)
COMMANDS = (
    r"\input{/etc/passwd}",
    r"\write18{ls}",
    "$x$",
    "%x",
    "^^5cinput",
    "a & b",
    "#1",
    "~",
    "{",
    "}",
    "[2]",
    "*",
    "_",
    "a<b>|c",
    '"a"',
    "--recipe---x–-–",
    "``a''",
    "?`!`,,",
)


def unseen(text: str) -> list[str]:
    """The characters that act on a terminal or that no reader sees."""
    kinds = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return [ascii(mark) for mark in text if (category(mark) in kinds and mark not in "\n\t") or UNSEEN.match(mark)]


@pytest.mark.parametrize("mark", HIDDEN)
def test_what_acts_or_is_not_seen_is_written_as_an_escape(mark: str) -> None:
    text = f"a{mark}b"
    for show in (line, lines, cell, tex, markdown, json_text):
        shown = show(text)
        assert not unseen(shown) and shown.isprintable() and shown != "ab", (show, shown)
    assert json.loads(json_text(text)) == text


@given(FOREIGN)
def test_no_text_acts_in_any_format(text: str) -> None:
    for show in (line, cell, tex, markdown, json_text):
        shown = show(text)
        assert not unseen(shown) and "\n" not in shown and "\t" not in shown, show
    assert not unseen(lines(text))
    assert json.loads(json_text({text: [text]})) == {text: [text]}
    check_cell(text)
    check_markdown(text)
    check_tex(text)


@given(st.text(st.characters(min_codepoint=0x20, exclude_categories=("C", "Z")), min_size=1))
def test_plain_text_is_as_it_was(text: str) -> None:
    if not UNSEEN.search(text):
        assert line(text) == lines(text) == text
        assert html.unescape(markdown(text)) == html.unescape(text) or "&" in text


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text: str) -> None:
    check_cell(text)


@given(st.lists(st.text(st.sampled_from("=-+@;|\"', a1\uff1d"), max_size=6), max_size=3))
@example([';"=1'])  # quotes are doubled in the file, and a pair of them behind a divider is not shown
@example(["-0", "2+1"])
def test_no_cell_is_a_formula_beside_others(texts: list[str]) -> None:
    check_cell(*texts)


@pytest.mark.parametrize("value", ["-1.5", "+3", "1e-5", "-.5", -1.5, 3, None, True, "a=b", "2-1", "x@y"])
def test_numbers_and_plain_cells_stay(value: object) -> None:
    assert cell(value) == value


@pytest.mark.parametrize("text", (*LINKS, *BLOCKS))
def test_markdown_shows_it_and_makes_nothing_of_it(text: str) -> None:
    check_markdown(text)


@pytest.mark.parametrize("text", COMMANDS)
def test_tex_shows_it_and_runs_nothing(text: str) -> None:
    check_tex(text)


def check_cell(*texts: str) -> None:
    """A line as our files have it, which begins with a word of ours; and each text first, unless it is a number."""
    cells = [cell(text) for text in texts]
    check_line(["run", *(one for text in cells for one in (text, -1.5)), "b"])
    for text in cells:
        if not NUMBER.fullmatch(text):
            check_line([text, "b"])


def check_line(line: list[object]) -> None:
    """No cell is a formula, whichever mark divides cells."""
    out = io.StringIO()
    csv.writer(out).writerow(line)
    for divider in ",;|":
        for row in csv.reader(io.StringIO(out.getvalue()), delimiter=divider):
            for one in row:
                number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", one)
                assert number or not re.match(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]", one), ascii(one)


def check_markdown(text: str) -> None:
    """A paragraph, and the cell of a table, of nothing but the text."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    shown = markdown(text)
    for page in (shown, f"| a |\n| --- |\n| {shown} |"):
        for token in parser.parse(page):
            assert token.type in ("paragraph_open", "paragraph_close", "inline") or token.type.startswith(
                ("table", "tr", "th", "td", "thead", "tbody")
            ), (token.type, shown)
            assert {child.type for child in token.children or []} <= {"text", "text_special", "softbreak"}, shown
    assert not re.search(r"(https?|ftp)://|\bwww\.", shown, re.IGNORECASE), "GitHub makes links of these"
    assert not re.search(r"[\w.+-]@[\w-]+\.[\w-]", shown), "others make links of these"
    assert len([token for token in parser.parse(f"| a |\n| --- |\n| {shown} |") if token.type == "td_open"]) == 1


def check_tex(text: str) -> None:
    shown = tex(text)
    known = r"\\(text(backslash|asciitilde|asciicircum|less|greater|bar)\{\}|symbol\{34\})|\$\\pm\$|\\[&%$#_{}]"
    assert not re.search(r"[\\$%#&~^_]", re.sub(known, "", shown)), shown
    assert not re.search(r"(?<!\{)[\[\]*]", shown), shown
    assert not re.search(r"[<>|\"]|''|,,|[`?!]`", shown), "another sign than the one that was written"
    assert shown.count("--") == line(text).count("–"), shown
