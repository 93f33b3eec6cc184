"""The commands that exchange with others: rank a file of scores, export rankings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from harness.flags import CONFIG, FILE, OUTPUT, PROTOCOL, Flags, takes

FORMATS = ("trec", "csv", "parquet")


@click.command()
@takes((PROTOCOL,), CONFIG, OUTPUT)
@click.argument("file", type=FILE)
@click.option("--dataset", required=True, metavar="NAME", help="Whose images and captions the scores are of.")
@click.option("--name", required=True, metavar="MODEL", help="What the model is called on the leaderboard.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="Files of several seeds are one row.")
@click.option("--note", default="", metavar="TEXT", help="What else a reader must know; another note is another row.")
def score(flags: Flags, file: Path, dataset: str, name: str, seed: int, note: str) -> int:
    """Rank somebody else's scores, an .npy file of images by captions, and list them as external.

    Higher is better. They are ranked as the scores of our own trials are, under the dataset's protocol.
    """
    from harness import summary
    from harness.board import publishing
    from harness.board.standings import boards_of
    from harness.campaign import external_scores

    config, registry, out = flags.open()
    asked = external_scores.wanted(config, registry, file, dataset, flags.protocol, name, seed, note)
    tracker, found = external_scores.ranked(config, asked)
    for warning in found.warnings:
        click.echo(f"harness: warning: {warning}", err=True)
    boards = {(asked.spec.dataset, asked.spec.protocol)}
    published = publishing.publish(tracker, registry, config.reports, boards)
    place = external_scores.place_of(boards_of(tracker.frame(), registry.methods), asked.spec.key)
    out.note(*published.tables)
    data = {**external_scores.as_json(found, place), "reports": [str(file) for file in published.files]}
    out.answer(data, *external_scores.page(found, place), *summary.files_page(published))
    return 0


@click.command()
@takes((PROTOCOL,), CONFIG, OUTPUT)
@click.argument("names", nargs=-1, metavar="[ROW_OR_RUN ...]")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="TREC run files, or tables.")
@click.option("--dataset", default="", metavar="NAME", help="Only of this dataset; default: all.")
@click.option("-o", "--output", "folder", type=FILE, default=Path("export"), show_default=True, metavar="FOLDER")
def export(flags: Flags, names: Sequence[str], form: str, dataset: str, folder: Path) -> int:
    """Rankings and ranks of every query, from the tracking store: of rows of the boards, or of runs by their ids.

    None named: all ranked rows.
    """
    from harness.board import export
    from harness.board.standings import boards_of
    from harness.tracking.store import default_uri
    from harness.tracking.tracker import open_store

    config, registry, out = flags.open()
    tracker = open_store(default_uri(config))
    frame = export.within(tracker.frame(), dataset, flags.protocol)
    runs = export.chosen(frame, boards_of(frame, registry.methods), names)
    written = export.written(runs, tracker, form, folder)
    out.answer(export.as_json(written), *export.page(written))
    return 0
