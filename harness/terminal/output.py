"""Where a command prints: pages on a console, or JSON alone on stdout and everything else on stderr.

What others wrote comes with escapes for what acts on a terminal.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, Self, TextIO

import click
import rich.console
import rich.text
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table

from harness.foreign_text import json_text, line, lines

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

WATCH_SECONDS = 2.0  # between two looks
PIPE_WIDTH = 160  # columns of a table where there is no terminal to measure, and COLUMNS says nothing
NARROWEST = 40  # columns in which a table can be read
TRAILING = re.compile(r" +$", re.MULTILINE)
SLOW = 600  # seconds over which the time left is estimated: a batch may take minutes


class Console(rich.console.Console):
    """Prints text as it is, without a language for colours in it."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)
        columns = os.environ.get("COLUMNS", "")
        wanted = int(columns) if columns.isdecimal() else 0  # 0, as some shells and CI say it, is not known
        if not self.is_terminal:
            self.width = max(NARROWEST, wanted or PIPE_WIDTH)
        elif columns and not wanted:
            self.width = get_terminal_size((PIPE_WIDTH, 0)).columns

    def render_str(self, text: str, **options: Any) -> rich.text.Text:
        """Turn text, of a cell of a table too, into what is printed."""
        return super().render_str(lines(text), **options)


class Text(rich.text.Text):
    """Text with a style."""

    def __init__(self, text: str = "", style: str = "", **options: Any) -> None:
        super().__init__(lines(text), style, **options)

    @classmethod
    def assemble(cls, *parts: Any, **options: Any) -> Self:
        """Join texts, each by itself or in a pair with its style."""
        whole = cls(**options)
        for part in parts:
            whole.append(*part) if isinstance(part, tuple) else whole.append(part)
        return whole

    def append(self, text: rich.text.Text | str, style: Any = None) -> Self:
        """Add text behind."""
        super().append(lines(text) if isinstance(text, str) else text, style)
        return self


class Output:
    def __init__(self, as_json: bool = False, quiet: bool = False, stdout: TextIO | None = None) -> None:
        """stdout: where JSON goes, if that is not sys.stdout."""
        self._as_json = as_json
        self._stdout = stdout
        self.is_quiet = quiet
        self.console = Console(stderr=as_json)

    def answer(self, data: Any, *page: RenderableType) -> None:
        """Print the answer of a command: `data` with --json, else `page`."""
        self._answer(data, page, indent=2)

    def part(self, data: Any, *page: RenderableType) -> None:
        """Print one of the answers of a command that goes on: `data` on a line of its own with --json, else `page`."""
        self._answer(data, page, indent=None)

    def _answer(self, data: Any, page: Iterable[RenderableType], indent: int | None) -> None:
        if not self._as_json:
            self._print(page)
            return
        text, stream = json_text(data, indent), self._stdout or sys.stdout
        click.echo(text if has_characters(text, stream) else json.dumps(json.loads(text), indent=indent), stream)

    def note(self, *page: RenderableType) -> None:
        """Print something beside the answer; left out with --quiet."""
        if not self.is_quiet:
            self._print(page)

    def _print(self, page: Iterable[RenderableType]) -> None:
        for part in page:
            with nullcontext() if self.console.is_terminal else self.console.capture() as captured:
                self.console.print(part, soft_wrap=isinstance(part, str))
            if captured:  # a table fills its last column with blanks, which a file or a pipe does without
                click.echo(TRAILING.sub("", captured.get()), self.console.file, nl=False)

    def watch(self, look: Callable[[], tuple[bool, list[RenderableType]]]) -> None:
        """Redraw the page that `look` returns until it says that no more is to come, or until Ctrl-C."""
        page: list[RenderableType] = []
        with suppress(KeyboardInterrupt), Live(console=self.console, transient=True, auto_refresh=False) as live:
            more = True
            while more:
                more, page = look()
                live.update(Group(*page), refresh=True)
                time.sleep(WATCH_SECONDS if more else 0)
        self._print(page)

    @contextmanager
    def at_work(self) -> Iterator[Callable[[str], None]]:
        """A line that is gone afterwards; call what it yields with what the command is at, whose seconds are counted.

        For work whose end cannot be foreseen; with a number of steps it is `named_steps`.
        """
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with progress_bar(self.is_live, *columns, transient=True) as progress:
            task = progress.add_task("starting")
            yield lambda name: progress.reset(task, description=line(name))

    @property
    def is_live(self) -> bool:
        """Whether there is somebody to watch a page that is redrawn."""
        return self.console.is_terminal and not (self.is_quiet or self._as_json)


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for name in columns:
        grid.add_column(Text(name), justify="right" if name in right else "left", overflow="fold")
    return grid


def near(file: Path) -> str:
    """A path relative to the working folder, where it lies below."""
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


def progress_bar(visible: bool, *columns: ProgressColumn, **options: Any) -> Progress:
    """A bar on stderr, hidden where that is no terminal."""
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not (visible and console.is_terminal), **options)


@contextmanager
def bar(what: str, total: int, done: int, visible: bool) -> Iterator[Callable[[int], None]]:
    """A bar of bytes with their rate; call what it yields with the bytes that are done."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    numbers = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with progress_bar(visible, TextColumn("{task.description}", markup=False), BarColumn(), *numbers) as progress:
        task = progress.add_task(line(what), total=total, completed=done)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def counter(total: int, done: int, visible: bool) -> Iterator[Callable[[int], None]]:
    """A bar of pictures with their rate; call what it yields with the pictures that are done."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    began = time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with progress_bar(visible, *columns, speed_estimate_period=SLOW) as progress:
        task = progress.add_task("", total=total, completed=done, rate="")

        def tell(now: int) -> None:
            rate = (now - done) / max(time.monotonic() - began, 1e-9)
            progress.update(task, completed=now, rate=f"{rate:,.1f} pictures/s")

        yield tell


@contextmanager
def passing_bar(what: str, total: int, visible: bool) -> Iterator[Callable[[int], None]]:
    """A bar that is gone afterwards; call what it yields with the steps done since."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with progress_bar(visible, *columns, transient=True) as progress:
        task = progress.add_task(line(what), total=total)
        yield lambda steps: progress.advance(task, steps)


@contextmanager
def named_steps(total: int, visible: bool, counted: bool = True) -> Iterator[Callable[[str], None]]:
    """A bar that is gone afterwards; call what it yields with the name of each step before it begins.

    counted: whether steps take about equally long, so that a time left can be said.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn

    timing = (MofNCompleteColumn(), TimeRemainingColumn()) if counted else ()
    columns = (SpinnerColumn(), BarColumn(20), *timing, TextColumn("{task.description}", markup=False))
    with progress_bar(visible, *columns, transient=True, speed_estimate_period=SLOW) as progress:
        task, begun = progress.add_task("", total=total), 0

        def tell(name: str) -> None:
            nonlocal begun
            progress.update(task, completed=min(begun, total), description=line(name))
            begun += 1

        yield tell


def has_characters(text: str, stream: TextIO) -> bool:
    """Whether the encoding of a stream has every character of a text."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
