"""Templates of pages in HTML, Markdown and TeX: every value that is printed is escaped. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.board.cells import label, tenths
from harness.board.validity import SHORT

# What HTML has no characters for.
UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
TEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--"},
}
TEMPLATES = Path(__file__).parents[1] / "templates"
MARKS = re.compile(r"[&<>\\`*\[\]|~$\"']|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word means nothing


@cache
def markup(name: str) -> Any:
    """A template of a page in HTML."""
    made = environment(finalize=readable, autoescape=True)
    made.filters["px"] = "{:.1f}".format
    return made.get_template(name)


def readable(value: Any) -> Any:
    """Text without what HTML cannot hold."""
    return UNREADABLE.sub("\ufffd", value) if type(value) is str else value


def tex(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return "".join(TEX.get(mark, mark) for mark in " ".join(value.split()))


@cache
def tex_escaped() -> Any:
    """The template of a LaTeX table: every value it prints is escaped."""
    marks = {"block_start_string": "<%", "block_end_string": "%>", "comment_start_string": "<#"}
    marks |= {"variable_start_string": "<<", "variable_end_string": ">>", "comment_end_string": "#>"}
    return environment(finalize=tex, **marks).get_template("board.tex.j2")


class Verbatim(str):
    """Text that stands in a code block, where nothing is escaped."""


def escaped(value: Any) -> Any:
    """Text as markdown shows it unchanged: on one line, and without a mark that would be read as layout."""
    if not isinstance(value, str) or isinstance(value, Verbatim):
        return value
    line = " ".join(re.sub(r"[^\S ]|[\x00-\x1f\x7f-\x9f]", " ", value).split())
    return MARKS.sub(lambda mark: f"&#{ord(mark[0])};", line)


def fenced(text: str) -> Verbatim:
    """A block of code that nothing within can end."""
    marks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Verbatim(f"{marks}\n{text}\n{marks}")


@cache
def template(name: str) -> Any:
    """A template of a page: every value it prints is escaped, no place of it has to remember that."""
    made = environment(finalize=escaped)
    made.filters |= {"verbatim": Verbatim, "fenced": fenced, "linked": lambda path: Verbatim(quote(path))}
    return made.get_template(name)


def environment(finalize: Callable[[Any], Any], **options: Any) -> Environment:
    """What reads the templates of one form; `finalize` escapes, as jinja's own `autoescape` knows HTML alone."""
    settings: dict[str, Any] = {"finalize": finalize, "undefined": StrictUndefined, "autoescape": False}
    settings |= {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    made = Environment(loader=FileSystemLoader(TEMPLATES), **settings | options)
    made.filters.update(short=lambda text: text[:SHORT], label=label, tenths=tenths)
    return made
