"""The commands that look at results: board, report, compare."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from fnmatch import filter as filter_names
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.flags import CONFIG, OUTPUT, RESULT, Flags, NameList, takes
from harness.errors import UsageError, count, unknown

if TYPE_CHECKING:
    from harness.board.evidence import Assessed
    from harness.board.publishing import Published
    from harness.board.standings import Board
    from harness.config.project import Config
    from harness.config.registry import Registry
    from harness.terminal.output import Output
    from harness.tracking.result_store import ResultStore
    from harness.tracking.runs import Run

EXAMPLES = "examples"  # a form that needs the dataset beside the store
OUTDATED = 5
READING = "reading the tracking store"


@click.command(short_help="Show leaderboards here, or open their pages.")
@takes(CONFIG, OUTPUT)
@click.argument("datasets", nargs=-1, metavar="[DATASET ...]")
@click.option("--open", "is_opened", is_flag=True, help="Write the pages of the boards, and open them in the browser.")
def board(flags: Flags, is_opened: bool) -> int:
    """Show the leaderboards of all datasets that have results, or of these by names or globs.

    In a terminal of 110 columns or more with the 95 % interval of each row. `harness report` writes them into files.

    \b
    Examples:
      harness board
      harness board scenes --open
      harness board f30k --json
    """
    from harness.board import forms
    from harness.board.evidence import assessed
    from harness.board.publishing import write_boards
    from harness.board.standings import boards_of
    from harness.campaign.current import current
    from harness.terminal.board_page import NO_TRIALS, tables
    from harness.tracking.result_store import open_store
    from harness.tracking.store import default_uri

    config, registry, out = flags.open()
    store, now = open_store(default_uri(config)), current(config, registry)
    with out.at_work() as tell:
        tell(READING)
        all_runs = store.runs()
        runs = of_datasets(all_runs, flags.datasets or None)
        tell("intervals and tests of the boards")
        boards = assessed(runs, registry.methods, store.artifact, now)
    data = [forms.board_json(one, registry.methods) for one in boards] if flags.as_json else []
    out.answer(data, *(tables(boards, out.console.width) if boards else [NO_TRIALS]))
    if is_opened and boards:
        write_boards(boards, boards_of(all_runs, registry.methods, now), registry, config.reports, ["html"])
        name = forms.page_name(boards[0].board, "html") if len(boards) == 1 else forms.INDEX
        browse(config.reports / name, out)
    return 0


def browse(file: Path, out: Output) -> None:
    """Open a page in the browser; say where it is where there is none."""
    import webbrowser

    if not webbrowser.open(file.as_uri()):
        out.note(f"no browser was found here: open {file.as_uri()}")


@click.command(short_help="Write leaderboards from the tracking store, in several forms.")
@takes(CONFIG, OUTPUT)
@click.option("--datasets", type=NameList(), help="Write only the boards of these datasets, by names or globs.")
@click.option(
    "--format",
    "formats",
    default="md,html",
    show_default=True,
    help="Write these forms, with commas between them: md, html, csv, json, latex, examples.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 5 with the difference where a file is out of date.")
def report(flags: Flags, formats: str, check: bool) -> int:
    """Write leaderboards from the tracking store, and the pages of searches from their studies.

    The form `html` is a page per board that sorts and filters, with an index.html that leads to all of them.
    The form `examples` is a page of sampled queries, with what each method found first. Files that harness wrote for
    rows, boards or searches that are gone are removed; with --check they are named. A board is made again only where
    something has changed that decides its files; --check makes every board. With --datasets only the boards of these
    are looked at: all else that was written stays as it is.

    \b
    Examples:
      harness report
      harness report --format latex --datasets scenes,'f30k*'
      harness report --check
    """
    from harness.board import forms, publishing
    from harness.board.evidence import assessed
    from harness.board.standings import boards_of
    from harness.campaign import healing
    from harness.campaign.current import current
    from harness.terminal import campaign_page
    from harness.terminal.output import named_steps
    from harness.tracking.result_store import open_store
    from harness.tracking.store import default_uri

    config, registry, out = flags.open()
    names = listed(formats, "format", [*forms.FORMS, EXAMPLES])
    chosen = [form for form in names if form != EXAMPLES]
    store, now = open_store(default_uri(config)), current(config, registry)
    if warning := healing.warning(config.results, default_uri(config)):
        click.echo(f"harness: warning: {warning}", err=True)
    all_runs, are_all = store.runs(), flags.datasets is None
    runs = of_datasets(all_runs, flags.datasets)
    boards = boards_of(runs, registry.methods, now)
    every = boards if are_all else boards_of(all_runs, registry.methods, now)
    pages = examples(boards, store, config, registry, check, out) if EXAMPLES in names else {}
    if check:
        with out.at_work() as tell:
            tell("making every board, to compare it with its files")
            boards_now = assessed(runs, registry.methods, store.artifact, now)
            files = current_files(boards_now, registry, config, chosen, are_all) | pages
        lines = publishing.outdated(files, config.reports, report_pages(boards, registry, files) if are_all else None)
        return outdated([*lines], len(files), out)
    with named_steps(len(boards), out.is_live) as tell:
        published = publishing.refresh(boards, store, registry, config, chosen, every, tell)
    published += publishing.written(pages, config.reports)
    published = with_searches(published, boards, registry, config) if are_all else published
    out.answer(campaign_page.published_json(published), *campaign_page.published_page(published, bool(boards)))
    return 0


def with_searches(published: Published, boards: Sequence[Board], registry: Registry, config: Config) -> Published:
    """What was written, with the pages of searches; what belongs to no board or search any more is removed."""
    from harness.board.publishing import cleared
    from harness.search.publishing import publish_searches

    published += publish_searches(config)
    written = [str(file.relative_to(config.reports)) for file in published.files]
    return published + cleared(config.reports, report_pages(boards, registry, written))


def current_files(
    boards: Sequence[Assessed], registry: Registry, config: Config, chosen: Sequence[str], are_all: bool
) -> dict[str, bytes]:
    """What the files of boards should be now, and where these are all boards the index and the pages of searches."""
    from harness.board import forms
    from harness.search.publishing import search_files

    files = forms.files(boards, registry.methods, chosen)
    if are_all:
        files |= search_files(config)
        files |= forms.index([one.board for one in boards]) if "html" in chosen else {}
    return files


def of_datasets(runs: Sequence[Run], patterns: Sequence[str] | None) -> list[Run]:
    """The runs of datasets, by names or globs, all where none is given; UsageError where the store has none of one."""
    known = {run.spec.dataset for run in runs}
    chosen = {name for pattern in patterns or ["*"] for name in matching(pattern, known)}
    return [run for run in runs if run.spec.dataset in chosen]


def matching(pattern: str, known: Collection[str]) -> list[str]:
    if (names := filter_names(known, pattern)) or pattern == "*":
        return names
    raise UsageError(unknown("dataset with results", pattern, known))


def report_pages(boards: Sequence[Board], registry: Registry, written: Iterable[str]) -> set[str]:
    """The names of all pages that a project has now, in forms that were not asked for, too."""
    from harness.board.forms import pages
    from harness.explain.examples_page import page_names

    return pages(boards) | page_names(boards, registry) | {*written}


def examples(
    boards: Sequence[Board], store: ResultStore, config: Config, registry: Registry, check: bool, out: Output
) -> dict[str, bytes]:
    """The pages of examples, by file name; prints which boards have none, and why, and why git ignores some."""
    from harness.explain.examples_page import pages
    from harness.explain.private_pages import FOLDER, private_folder

    with out.at_work() as tell:
        tell("pages of examples")
        files, notes = pages(boards, registry, config, store.artifact)
    out.note(*notes)
    if any(name.startswith(f"{FOLDER}/") for name in files):
        note_ignored(config.reports / FOLDER if check else private_folder(config.reports), out)
    return files


def note_ignored(folder: Path, out: Output) -> None:
    """Say that git ignores a folder, and why."""
    from harness.explain.private_pages import REASON
    from harness.terminal.output import near

    out.note(f"{near(folder)} is ignored by git: {REASON}")


def listed(text: str, kind: str, known: Collection[str]) -> tuple[str, ...]:
    """The names in a text with commas between them; UsageError for an unknown one."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in known:
            raise UsageError(unknown(kind, name, known))
    return names


def outdated(lines: Sequence[str], files: int, out: Output) -> int:
    """Print how reports differ from the store; the exit code."""
    same = f"nothing to write: {count(files, 'file')} as the tracking store and the studies say"
    out.answer({"files": files, "difference": lines}, *(lines or [same]))
    return OUTDATED if lines else 0


@click.command(short_help="Test whether one row or run is better than another.")
@takes(CONFIG, OUTPUT)
@click.argument("names", type=RESULT, nargs=2, metavar="A B")
def compare(flags: Flags, names: Sequence[str]) -> int:
    """Test whether A is better than B, in a paired test: two rows of the boards, or two runs by their ids.

    \b
    Examples:
      harness compare caan vsepp
      harness compare caan/scenes/s0 3f9a1c
    """
    from harness.board import comparison
    from harness.board.evidence import hits
    from harness.board.standings import boards_of
    from harness.campaign.current import current
    from harness.terminal.board_page import compare_json, compare_page
    from harness.tracking.result_store import open_store
    from harness.tracking.store import default_uri

    config, registry, out = flags.open()
    store = open_store(default_uri(config))
    with out.at_work() as tell:
        tell(READING)
        runs = store.runs()
        boards = boards_of(runs, registry.methods, current(config, registry))
        tell(f"comparing {names[0]} with {names[1]}, image by image")
        comparisons = comparison.comparisons(runs, boards, names, partial(hits, store))
    out.answer(compare_json(comparisons), *compare_page(comparisons))
    return 0
