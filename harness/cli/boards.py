"""The commands that look at results: report, compare, explain, reproduce."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from fnmatch import filter as filter_names
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import CONFIG, FILE, OUTPUT, PROTOCOL, RESULT, Flags, NameList, takes
from harness.errors import UsageError, unknown
from harness.files import safe_name

if TYPE_CHECKING:
    from harness.board.standings import Board
    from harness.cli.output import Output
    from harness.config.project import Config
    from harness.config.registry import Registry
    from harness.explain.explanation import Explanation
    from harness.tracking.result_store import ResultStore
    from harness.tracking.runs import Run

EXAMPLES = "examples"  # a form that needs the dataset beside the store
PICTURES = (".svg", ".png")
OUTDATED, DIFFERENT = 5, 4


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
    from harness.cli import campaign_page
    from harness.search.publishing import publish_searches, search_files
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
        files = forms.files(assessed(runs, registry.methods, store.artifact, now), registry.methods, chosen) | pages
        files |= search_files(config) if are_all else {}
        lines = publishing.outdated(files, config.reports, report_pages(boards, files) if are_all else None)
        return outdated([*lines], len(files), out)
    published = publishing.refresh(boards, store, registry, config, chosen, are_all)
    published += publishing.written(pages, config.reports)
    if are_all:
        published += publish_searches(config)
        written = [str(file.relative_to(config.reports)) for file in published.files]
        published += publishing.cleared(config.reports, report_pages(boards, written))
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


def report_pages(boards: Sequence[Board], written: Iterable[str]) -> set[str]:
    """The names of all pages that a project has now, in forms that were not asked for, too."""
    from harness.board.forms import pages
    from harness.explain.examples_page import page_name

    return pages(boards) | {page_name(board) for board in boards} | {*written}


def examples(
    boards: Sequence[Board], store: ResultStore, config: Config, registry: Registry, out: Output
) -> dict[str, bytes]:
    """The pages of examples, by file name; prints which boards have none, and why."""
    from harness.explain.examples_page import pages

    files, notes = pages(boards, registry, config, store.artifact)
    out.note(*notes)
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
    from harness.cli.output import count

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
    from harness.cli.board_page import compare_json, compare_page
    from harness.tracking.result_store import open_store
    from harness.tracking.store import default_uri

    config, registry, out = flags.open()
    store = open_store(default_uri(config))
    runs = store.runs()
    load = partial(hits, store)
    comparisons = comparison.comparisons(
        runs, boards_of(runs, registry.methods, current(config, registry)), names, load
    )
    out.answer(compare_json(comparisons), *compare_page(comparisons))
    return 0


@click.command(short_help="Run a trial of the store again and compare the results.")
@takes(CONFIG, OUTPUT)
@click.argument("run", type=RESULT)
@click.option("-n", "--dry-run", is_flag=True, help="Say what has changed since the run; train nothing.")
def reproduce(flags: Flags, run: str, dry_run: bool) -> int:
    """Run a trial of the store again from its spec, say what has changed, and whether the result is the same.

    \b
    Examples:
      harness reproduce caan/scenes/s0 -n
      harness reproduce 3f9a1c
    """
    from harness.campaign import reproduction
    from harness.cli.board_page import drift_json, drift_page, reproduction_json, reproduction_page
    from harness.cli.view import view_for
    from harness.tracking.result_store import open_store
    from harness.tracking.store import default_uri

    config, registry, out = flags.open()
    store = open_store(default_uri(config))
    case = reproduction.case_of(store, config, registry, run)
    out.note(*drift_page(case))
    if dry_run:
        out.answer(drift_json(case))
        return 0
    repetition = reproduction.repeat(case, view_for(out))
    out.answer(reproduction_json(repetition), *reproduction_page(repetition))
    return 0 if repetition.is_reproduced else DIFFERENT


@click.command(short_help="Draw which regions the words of a caption attend to.")
@takes((PROTOCOL,), CONFIG, OUTPUT)
@click.option("--method", required=True, metavar="NAME", help="Take this method, which must have attention.")
@click.option("--image", required=True, metavar="ID", help="Take the image with this id in its dataset.")
@click.option("--caption", metavar="TEXT", help="Explain this text instead of the image's own first caption.")
@click.option("--dataset", metavar="NAME", help="Take this dataset instead of the first of [campaign] datasets.")
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
    metavar="KEY",
    help="Take the trial of this key, start of a key, or name METHOD/DATASET/sSEED.",
)
@click.option(
    "-o", "--output", "file", type=FILE, metavar="FILE", help="Write the picture into this .svg or .png file."
)
def explain(
    flags: Flags,
    method: str,
    image: str,
    caption: str | None,
    dataset: str | None,
    split: str,
    seed: int | None,
    key: str,
    file: Path | None,
) -> int:
    """Draw which regions of an image the words of a caption attend to, with the weights of a trained method.

    \b
    Examples:
      harness explain --method caan --image test-0055b
      harness explain --method caan --image test-0055b --caption "a blue triangle" -o triangle.png
    """
    from harness.explain import explanation as explaining
    from harness.explain.weights import TrialChoice

    file = file or Path(safe_name(f"explain-{method}-{image}") + ".svg")
    if file.suffix.lower() not in PICTURES:
        raise UsageError(f"-o {file}: write an {' or a '.join(PICTURES)} file")
    config, registry, out = flags.open()
    name = dataset or registry.select_datasets(config.campaign.datasets)[0]
    choice = TrialChoice(method, name, flags.protocol, seed, key)
    explained = explaining.explanation(config, registry, choice, explaining.Pair(image, caption, split))
    draw(explained, file)
    out.note(*explaining.notes(explained))
    spec = explained.trial.spec
    page = f"{file} written: {spec.label}, trial {spec.key}, score {explained.score:.3f}"
    out.answer(explain_json(explained, file), page)
    return 0


def draw(explained: Explanation, file: Path) -> None:
    """Write the picture; UsageError where it cannot be written."""
    from harness.explain.picture import png, svg
    from harness.files import write_atomic

    picture = png(explained) if file.suffix.lower() == ".png" else svg(explained)
    try:
        write_atomic(file, picture)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error}; name another with -o") from error


def explain_json(one: Explanation, file: Path) -> dict[str, Any]:
    from harness.explain.explanation import notes

    spec = one.trial.spec
    best = one.trial.result.best_epoch
    return {
        **{"method": spec.method, "dataset": spec.dataset, "protocol": spec.protocol, "split": one.split},
        **{"trial": spec.key, "best_epoch": best, "image": one.image, "caption": one.caption},
        "seed": spec.seed,
        "score": one.score,
        "rank": one.rank._asdict() if one.rank else None,
        "boxes": one.boxes or None,
        "labels": one.look.labels or None,
        "words": [{"word": word.text, "known": word.is_known, "weights": word.weights} for word in one.words],
        "notes": notes(one),
        "file": str(file),
    }
