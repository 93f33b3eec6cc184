"""The commands that read the tracking store: leaderboards, comparisons, reproductions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from harness.errors import UsageError, unknown
from harness.flags import CONFIG, OUTPUT, Flags, takes

if TYPE_CHECKING:
    from harness.config.project import Config
    from harness.config.registry import Registry
    from harness.output import Output
    from harness.tracking.tracker import Tracker

EXAMPLES = "examples"  # a form that needs the dataset beside the store
OUTDATED, DIFFERENT = 5, 4


@click.command()
@takes(CONFIG, OUTPUT)
@click.option("--format", "said", default="md", help="Forms, with commas: md, html, csv, json, latex, examples.")
@click.option("--check", is_flag=True, help="Write nothing; exit 5 with the difference where a file is out of date.")
def report(flags: Flags, said: str, check: bool) -> int:
    """Write leaderboards anew from the tracking store, and the pages of searches from their studies.

    The form `examples` is a page of sampled queries, with what each method found first.
    """
    from harness import summary
    from harness.board import forms, publishing
    from harness.search.publishing import publish_searches, search_files
    from harness.tracking.store import default_uri
    from harness.tracking.tracker import open_store

    config, registry, out = flags.open()
    asked = named(said, "format", [*forms.FORMS, EXAMPLES])
    chosen = [form for form in asked if form != EXAMPLES]
    tracker = open_store(default_uri(config))
    pages = examples(tracker, config, registry, out) if EXAMPLES in asked else {}
    if check:
        files = forms.files(publishing.boards_of_store(tracker, registry), registry.methods, chosen)
        files |= search_files(config.results, config.reports) | pages
        return outdated([*publishing.outdated(files, config.reports)], len(files), out)
    published = publishing.publish(tracker, registry, config.reports, chosen=chosen)
    published += publish_searches(config.results, config.reports)
    published += publishing.written(pages, config.reports)
    out.answer(summary.published_json(published), *summary.published_page(published))
    return 0


def examples(tracker: Tracker, config: Config, registry: Registry, out: Output) -> dict[str, bytes]:
    """The pages of examples, by file name; says which boards have none, and why."""
    from harness.board.standings import boards_of
    from harness.explain.examples_page import pages

    made, notes = pages(boards_of(tracker.frame(), registry.methods), registry, config, tracker.artifact)
    out.note(*notes)
    return made


def named(said: str, kind: str, known: Collection[str]) -> tuple[str, ...]:
    """Names with commas between them; UsageError for one that is not known."""
    names = tuple(dict.fromkeys(name.strip() for name in said.split(",")))
    for name in names:
        if name not in known:
            raise UsageError(unknown(kind, name, known))
    return names


def outdated(lines: Sequence[str], files: int, out: Output) -> int:
    """Say how reports differ from the store."""
    from harness.summary import count

    data = {"files": files, "difference": lines}
    out.answer(
        data, *(lines or [f"nothing to write: {count(files, 'file')} as the tracking store and the studies say"])
    )
    return OUTDATED if lines else 0


@click.command()
@takes(CONFIG, OUTPUT)
@click.argument("names", nargs=2, metavar="A B")
def compare(flags: Flags, names: Sequence[str]) -> int:
    """Whether A is better than B: a paired test of two rows of the boards, or of two runs by their ids."""
    from harness.board import comparison
    from harness.board.evidence import hits
    from harness.board.standings import boards_of
    from harness.tracking.store import default_uri
    from harness.tracking.tracker import open_store

    config, registry, out = flags.open()
    tracker = open_store(default_uri(config))
    frame = tracker.frame()
    load = partial(hits, tracker)
    found = comparison.comparisons(frame, boards_of(frame, registry.methods), names, load)
    out.answer(comparison.as_json(found), *comparison.page(found))
    return 0


@click.command()
@takes(CONFIG, OUTPUT)
@click.argument("run")
@click.option("-n", "--dry-run", is_flag=True, help="Say what has changed since the run; train nothing.")
def reproduce(flags: Flags, run: str, dry_run: bool) -> int:
    """Run a trial of the store again from its spec: what has changed since, and whether the result comes back."""
    from harness.campaign import reproduction
    from harness.tracking.store import default_uri
    from harness.tracking.tracker import open_store

    config, registry, out = flags.open()
    tracker = open_store(default_uri(config))
    case = reproduction.case_of(tracker, config, registry, run)
    out.note(*reproduction.drift_page(case))
    if dry_run:
        out.answer(reproduction.drift_json(case))
        return 0
    again = reproduction.again(case, out.view())
    out.answer(reproduction.as_json(again), *reproduction.page(again))
    return 0 if again.is_reproduced else DIFFERENT
