"""The commands that look at results: report, compare, explain."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from fnmatch import filter as filter_names
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.flags import CONFIG, DATASET, FILE, METHOD, OUTPUT, PROTOCOL, RESULT, TRIAL, Flags, NameList, takes
from harness.errors import UsageError, unknown

if TYPE_CHECKING:
    from harness.board.standings import Board
    from harness.config.cards import DatasetCard
    from harness.config.project import Config
    from harness.config.registry import Registry
    from harness.explain.explanation import Explanations
    from harness.terminal.output import Output
    from harness.tracking.result_store import ResultStore
    from harness.tracking.runs import Run

EXAMPLES = "examples"  # a form that needs the dataset beside the store
PAGE = ".html"
PICTURES = (".svg", ".png", PAGE)
OUTDATED = 5
READING = "reading the tracking store"


@click.command(short_help="Write leaderboards from the tracking store, in several forms.")
@takes(CONFIG, OUTPUT)
@click.option("--datasets", type=NameList(), help="Write only the boards of these datasets, by names or globs.")
@click.option(
    "--format",
    "formats",
    default="md",
    show_default=True,
    help="Write these forms, with commas between them: md, html, csv, json, latex, examples.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 5 with the difference where a file is out of date.")
def report(flags: Flags, formats: str, check: bool) -> int:
    """Write leaderboards from the tracking store, and the pages of searches from their studies.

    The form `examples` is a page of sampled queries, with what each method found first. Files that harness wrote for
    rows, boards or searches that are gone are removed; with --check they are named. A board is made again only where
    something has changed that decides its files; --check makes every board. With --datasets only the boards of these
    are looked at: all else that was written stays as it is.

    \b
    Examples:
      harness report --format md,html
      harness report --datasets scenes,'f30k*'
      harness report --check
    """
    from harness.board import forms, publishing
    from harness.board.evidence import assessed
    from harness.board.standings import boards_of
    from harness.campaign import healing
    from harness.campaign.current import current
    from harness.search.publishing import publish_searches, search_files
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
    runs, are_all = of_datasets(store.runs(), flags.datasets), flags.datasets is None
    boards = boards_of(runs, registry.methods, now)
    pages = examples(boards, store, config, registry, out) if EXAMPLES in names else {}
    if check:
        with out.at_work() as tell:
            tell("making every board, to compare it with its files")
            files = forms.files(assessed(runs, registry.methods, store.artifact, now), registry.methods, chosen) | pages
            files |= search_files(config) if are_all else {}
        lines = publishing.outdated(files, config.reports, report_pages(boards, registry, files) if are_all else None)
        return outdated([*lines], len(files), out)
    with named_steps(len(boards), out.is_live) as tell:
        published = publishing.refresh(boards, store, registry, config, chosen, are_all, tell)
    published += publishing.written(pages, config.reports)
    if are_all:
        published += publish_searches(config)
        written = [str(file.relative_to(config.reports)) for file in published.files]
        published += publishing.cleared(config.reports, report_pages(boards, registry, written))
    out.answer(campaign_page.published_json(published), *campaign_page.published_page(published))
    return 0


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
    boards: Sequence[Board], store: ResultStore, config: Config, registry: Registry, out: Output
) -> dict[str, bytes]:
    """The pages of examples, by file name; prints which boards have none, and why, and why git ignores some."""
    from harness.explain.examples_page import pages
    from harness.explain.private_pages import FOLDER, REASON, private_folder
    from harness.terminal.output import near

    with out.at_work() as tell:
        tell("pages of examples")
        files, notes = pages(boards, registry, config, store.artifact)
    out.note(*notes)
    if any(name.startswith(f"{FOLDER}/") for name in files):
        out.note(f"{near(private_folder(config.reports))} is ignored by git: {REASON}")
    return files


def listed(text: str, kind: str, known: Collection[str]) -> tuple[str, ...]:
    """The names in a text with commas between them; UsageError for an unknown one."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in known:
            raise UsageError(unknown(kind, name, known))
    return names


def outdated(lines: Sequence[str], files: int, out: Output) -> int:
    """Print how reports differ from the store; the exit code."""
    from harness.terminal.output import count

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


@click.command(short_help="Draw which regions the words of a caption attend to.")
@takes((PROTOCOL,), CONFIG, OUTPUT)
@click.option("--method", type=METHOD, metavar="NAME", help="Take this method, which must have attention.")
@click.option(
    "--methods", type=NameList(), help="Show these methods, by names or globs, side by side on a page instead."
)
@click.option("--image", required=True, metavar="ID", help="Take the image with this id in its dataset.")
@click.option("--caption", metavar="TEXT", help="Explain this text instead of the image's own first caption.")
@click.option(
    "--words",
    default="",
    metavar="WORDS",
    help="Show these words or phrases of the caption, with commas between, instead of all; a phrase is the mean of "
    "its words.",
)
@click.option(
    "--dataset", type=DATASET, metavar="NAME", help="Take this dataset instead of the first of [campaign] datasets."
)
@click.option(
    "--split",
    default="",
    metavar="NAME",
    help="Look for the image in this split instead of the one that the protocol scores.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Take the trial of this seed instead of the first one that is trained.",
)
@click.option(
    "--run",
    "key",
    default="",
    type=TRIAL,
    metavar="KEY",
    help="Take the trial of this key, start of a key, or name METHOD/DATASET/sSEED.",
)
@click.option(
    "-o", "--output", "file", type=FILE, metavar="FILE", help="Write the picture into this .svg, .png or .html file."
)
def explain(
    flags: Flags,
    method: str | None,
    image: str,
    caption: str | None,
    words: str,
    dataset: str | None,
    split: str,
    seed: int | None,
    key: str,
    file: Path | None,
) -> int:
    """Draw which regions of an image the words of a caption attend to, with the weights of a trained method.

    Pictures of a dataset that is not generated are written to private/ in the folder of reports, which git ignores.

    \b
    Examples:
      harness explain --method caan --image test-0055b
      harness explain --method caan --image test-0055b --caption "a blue triangle" -o triangle.png
      harness explain --methods caan,bssan --image test-0055b --words triangle
    """
    from harness.explain import explanation as explaining
    from harness.explain.weights import TrialChoice
    from harness.terminal.board_page import explained_json, explained_page

    check_explain(method, flags.methods, key, file)
    config, registry, out = flags.open()
    name = dataset or registry.select_datasets(config.campaign.datasets)[0]
    methods = (method,) if method else registry.select_methods(flags.methods or ())
    choices = [TrialChoice(one, name, flags.protocol, seed, key) for one in methods]
    with out.at_work() as tell:
        tell(f"opening {name}, loading weights and scoring by {', '.join(methods)}")
        several = explaining.explanations(config, registry, choices, explaining.Pair(image, caption, split, words))
    file = file or explain_file(registry.dataset(name), config.reports, method, image, out)
    draw(several, file)
    out.note(*(f"left out: {', '.join(names)}: {reason}" for reason, names in several.left_out.items()))
    out.note(*dict.fromkeys(note for one in several.ones for note in explaining.notes(one)))
    out.answer(explained_json(several, file, bool(method)), explained_page(several, file))
    return 0


def check_explain(method: str | None, methods: Sequence[str] | None, key: str, file: Path | None) -> None:
    """UsageError for flags of explain that do not go together."""
    if bool(method) == bool(methods):
        raise UsageError("give --method for one method, or --methods for several side by side")
    if methods and key:
        raise UsageError("--run names the trial of one method; give --method instead of --methods")
    if file and file.suffix.lower() not in (PICTURES if method else (PAGE,)):
        forms = "an .svg, a .png or an .html file" if method else "an .html file, as several methods stand on a page"
        raise UsageError(f"-o {file}: write {forms}")


def explain_file(card: DatasetCard, reports: Path, method: str | None, image: str, out: Output) -> Path:
    """Where a picture is written if no file is named; in the private folder where it shows what others made."""
    from harness.explain.private_pages import REASON, is_private, private_folder
    from harness.files import safe_name
    from harness.terminal.output import near

    name = safe_name(f"explain-{method}-{image}") + ".svg" if method else safe_name(f"explain-{image}") + PAGE
    if not is_private(card):
        return Path(name)
    folder = private_folder(reports)
    out.note(f"{near(folder)} is ignored by git: {REASON}")
    return folder / name


def draw(several: Explanations, file: Path) -> None:
    """Write the picture or page; UsageError where it cannot be written."""
    from harness.explain.attention_page import webpage
    from harness.explain.picture import png, svg
    from harness.files import write_atomic

    suffix, first = file.suffix.lower(), several.ones[0]
    picture = webpage(several) if suffix == PAGE else png(first) if suffix == ".png" else svg(first)
    try:
        write_atomic(file, picture)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error}; name another with -o") from error
