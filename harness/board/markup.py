"""Templates of pages in HTML, Markdown and TeX: every value that is printed is escaped. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.board.cells import label, named, tenths
from harness.board.validity import SHORT
from harness.foreign_text import lines, markdown, tex, visible

TEMPLATES = Path(__file__).parents[1] / "templates"
PLAIN_ADDRESS = re.compile(r"https?://[\w.-]+(:\d+)?(/[\w./%~+=&?#-]*)?", re.ASCII)


@cache
def markup(name: str) -> Any:
    """A template of a page in HTML."""
    engine = environment(finalize=readable, autoescape=True)
    engine.filters |= {"px": "{:.1f}".format, "is_web": is_web}
    return engine.get_template(name)


def html_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()) -> str:
    """A table as a notebook shows it, with lines below."""
    return str(markup("notebook.html.j2").render(title=title, head=head, rows=[*rows], notes=[*notes]))


def readable(value: Any) -> Any:
    """Text, escaped for HTML or not yet, without what acts on its reader unseen."""
    return type(value)(visible(value)) if isinstance(value, str) else value


@cache
def tex_escaped() -> Any:
    """The template of a LaTeX table: every value it prints is escaped."""
    marks = {"block_start_string": "<%", "block_end_string": "%>", "comment_start_string": "<#"}
    marks |= {"variable_start_string": "<<", "variable_end_string": ">>", "comment_end_string": "#>"}
    return environment(finalize=tex, **marks).get_template("board.tex.j2")


class Verbatim(str):
    """Text that stands in a code block, where nothing is escaped."""


def escaped(value: Any) -> Any:
    """A value as markdown shows it unchanged."""
    return markdown(value) if isinstance(value, str) and not isinstance(value, Verbatim) else value


def fenced(text: str) -> Verbatim:
    """A block of code that nothing within can end."""
    marks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Verbatim(f"{marks}\n{lines(text)}\n{marks}")


def address(text: str) -> str:
    """The address of a web page as a link; anything else as text."""
    return Verbatim(f"<{text}>") if is_web(text) else text


def is_web(text: str) -> bool:
    """Whether a text is the address of a web page and nothing else."""
    return bool(PLAIN_ADDRESS.fullmatch(text))


def linked(path: str) -> Verbatim:
    """A path as the target of a link."""
    return Verbatim(quote(path, errors="backslashreplace"))


@cache
def template(name: str) -> Any:
    """A template of a page: every value it prints is escaped, no place of it has to remember that."""
    engine = environment(finalize=escaped)
    engine.filters |= {"verbatim": Verbatim, "fenced": fenced, "linked": linked, "address": address}
    return engine.get_template(name)


def environment(finalize: Callable[[Any], Any], **options: Any) -> Environment:
    """What reads the templates of one form; `finalize` escapes, as jinja's own `autoescape` knows HTML alone."""
    settings: dict[str, Any] = {"finalize": finalize, "undefined": StrictUndefined, "autoescape": False}
    settings |= {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    engine = Environment(loader=FileSystemLoader(TEMPLATES), **settings | options)
    engine.filters.update(short=lambda text: text[:SHORT], label=label, named=named, tenths=tenths)
    return engine
