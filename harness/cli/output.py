"""Where a command prints: pages on a console, or JSON alone on stdout and everything else on stderr."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.cli.boundary import has_characters

if TYPE_CHECKING:
    from harness.cli.view import LineView

WATCH_SECONDS = 2.0  # between two looks
PIPE_WIDTH = 160  # columns of a table where there is no terminal to measure


class Output:
    def __init__(self, as_json: bool = False, quiet: bool = False) -> None:
        self._as_json = as_json
        self._quiet = quiet
        self._console = Console(stderr=as_json, highlight=False, markup=False, emoji=False)
        if not self._console.is_terminal:
            self._console.width = PIPE_WIDTH

    def answer(self, data: Any, *page: RenderableType) -> None:
        """Print the answer of a command: `data` with --json, else `page`."""
        if self._as_json:
            text = json.dumps(data, indent=2, ensure_ascii=False)
            click.echo(text if has_characters(text) else json.dumps(data, indent=2))
        else:
            self._print(page)

    def note(self, *page: RenderableType) -> None:
        """Print something beside the answer; left out with --quiet."""
        if not self._quiet:
            self._print(page)

    def _print(self, page: Iterable[RenderableType]) -> None:
        for part in page:
            self._console.print(part, soft_wrap=isinstance(part, str))

    def watch(self, look: Callable[[], tuple[bool, list[RenderableType]]]) -> None:
        """Redraw the page that `look` returns until it says that no more is to come, or until Ctrl-C."""
        page: list[RenderableType] = []
        with suppress(KeyboardInterrupt), Live(console=self._console, transient=True, auto_refresh=False) as live:
            more = True
            while more:
                more, page = look()
                live.update(Group(*page), refresh=True)
                time.sleep(WATCH_SECONDS if more else 0)
        self._print(page)

    def view(self) -> LineView:
        from harness.cli.view import LineView, LiveView  # plans and data come along, which most commands do without

        if self._quiet or self._as_json or not self._console.is_terminal:
            return LineView(self._console, self._quiet)
        return LiveView(self._console)


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for name in columns:
        grid.add_column(Text(name), justify="right" if name in right else "left", overflow="fold")
    return grid


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, in the plural unless it is 1; `plural` where that is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def near(file: Path) -> str:
    """A path relative to the working folder, where it lies below."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)
