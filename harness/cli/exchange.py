"""The commands that take results in, out and away: score, import, export, forget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.boundary import agree, warn
from harness.cli.flags import CONFIG, DATASET, FILE, OUTPUT, PROTOCOL, RESULT, Flags, takes
from harness.errors import UsageError, count

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.board.publishing import Published
    from harness.campaign.external_scores import RankedScores
    from harness.campaign.removal import StoredTrial
    from harness.terminal.board_page import BoardPlace
    from harness.terminal.output import Output

FORMATS = ("trec", "csv", "parquet")
EXPORTED = Path("export")


@click.command(short_help="Rank a file of scores computed elsewhere and list it as external.")
@takes((PROTOCOL,), CONFIG, OUTPUT)
@click.argument("files", type=FILE, nargs=-1, metavar="[FILE...]")
@click.option(
    "--weights",
    type=FILE,
    metavar="DIR",
    help="Score the dataset with the method of this folder of `harness export --weights` instead of a file.",
)
@click.option(
    "--dataset",
    type=DATASET,
    required=True,
    metavar="NAME",
    help="Say of which dataset's images and captions the scores are.",
)
@click.option(
    "--name",
    default="",
    metavar="MODEL",
    help="Name of the model on the leaderboard; with --weights it may be left out: METHOD trained on DATASET.",
)
@click.option(
    "--seed",
    type=int,
    metavar="S",
    help="Seed of the run that made the file, 0 by default; files of several seeds make one row. Not for --weights.",
)
@click.option(
    "--note", default="", metavar="TEXT", help="Say what else a reader must know; another note makes another row."
)
@click.option("--by", default="", metavar="WHO", help="Say who hands the scores in.")
@click.option("--trained-on", default="", metavar="TEXT", help="Say on which data the model was trained, also before.")
@click.option("--selected-on", default="", metavar="TEXT", help="Say on which data epoch and settings were chosen.")
@click.option("--how", default="", metavar="TEXT", help="Say how to make the scores again: a command, a configuration.")
@click.option("--url", default="", metavar="URL", help="Give the address of the code, the weights or the paper.")
def score(
    flags: Flags,
    files: Sequence[Path],
    weights: Path | None,
    dataset: str,
    name: str,
    seed: int | None,
    note: str,
    **said: str,
) -> int:
    """Rank scores computed elsewhere, an .npy file of images by captions, and list them as external.

    Higher is better. They are ranked as the scores of our own trials are, under the dataset's protocol. The scores of
    several files are averaged, with equal weight, and listed as an ensemble. What is said of them stands on the row's
    page; the same file given again with more of it adds to that (docs/guide/rules-of-entry.md). With --weights the
    scores are made by a trained method that was exported, on features of the same kind.

    \b
    Examples:
      harness score clip.npy --dataset f30k --name "CLIP ViT-B/32" --note zero-shot
      harness score clip-l.npy clip-b.npy --dataset f30k --name "CLIP L + B"
      harness score --weights caan-f30k --dataset coco
    """
    from harness.board import publishing
    from harness.board.standings import boards_of
    from harness.campaign import external_scores
    from harness.campaign.current import current
    from harness.portable import scored_weights
    from harness.terminal.board_page import place_of

    check_score(files, weights, name, seed, said)
    config, registry, out = flags.open()
    request: external_scores.ScoreRequest | scored_weights.WeightsRequest
    with out.at_work() as tell:
        tell(f"opening {dataset}")
        if weights:
            request = scored_weights.weights_request(config, registry, weights, dataset, flags.protocol, name, note)
            tell(f"encoding, scoring and ranking {dataset}")
            store, scores = scored_weights.score_weights(request)
        else:
            about = flags.protocol, name, seed or 0, note, {f"entry.{fact}": text for fact, text in said.items()}
            request = external_scores.score_request(config, registry, files, dataset, *about)
            tell(f"ranking the scores of {dataset}")
            store, scores = external_scores.rank_file(config, request)
        boards, now = {(request.spec.dataset, request.spec.protocol)}, current(config, registry)
        tell("writing the board")
        published = publishing.publish(store, registry, now, config.reports, boards)
    answer_scored(scores, place_of(boards_of(store.runs(), registry.methods, now), request.spec.key), published, out)
    return 0


def answer_scored(scores: RankedScores, place: BoardPlace, published: Published, out: Output) -> None:
    """Print what was ranked, where it stands, and its board."""
    from harness.terminal import board_page, campaign_page

    for warning in scores.warnings:
        warn(f"harness: warning: {warning}")
    out.note(*board_page.tables(published.boards, out.console.width))
    data = {**board_page.score_json(scores, place), "reports": [str(file) for file in published.files]}
    out.answer(data, *board_page.score_page(scores, place), *campaign_page.files_page(published))


def check_score(
    files: Sequence[Path], weights: Path | None, name: str, seed: int | None, said: Mapping[str, str]
) -> None:
    """UsageError for arguments of score that do not go together."""
    if bool(files) == bool(weights):
        raise UsageError("give one or more files of scores, or --weights DIR")
    if files and not name:
        raise UsageError("--name: say what the model of these scores is called on the leaderboard")
    if weights and seed is not None:
        raise UsageError("--seed: weights know the seed of their trial; leave it out")
    if weights and (facts := [name for name, text in said.items() if text]):
        flag = facts[0].replace("_", "-")
        raise UsageError(f"--{flag}: weights say themselves what they were trained on; leave it out")


@click.command("import", short_help="Take in finished trials of another project or machine.")
@takes(CONFIG, OUTPUT)
@click.argument("folders", type=FILE, nargs=-1, required=True, metavar="FOLDER...")
@click.option("-n", "--dry-run", is_flag=True, help="Check the folders and say what would be taken; copy nothing.")
def import_(flags: Flags, folders: Sequence[Path], dry_run: bool) -> int:
    """Take in finished trials of another project or machine, so that they stand on the same boards.

    A FOLDER is a project, its results folder (runs), or one or more folders of runs/trials. Every file is checked
    before the first is copied; a trial that this project has finished itself is kept as it is. `harness run` trains
    none of them again.

    \b
    Examples:
      harness import /mnt/other-machine/project
      harness import runs-of-ann runs-of-bob && harness report
    """
    from harness.portable.results import import_results
    from harness.terminal.board_page import import_json, import_page

    config, _, out = flags.open()
    with out.at_work() as tell:
        imported = import_results(config, folders, dry_run, tell)
    out.answer(import_json(imported, dry_run), *import_page(imported, dry_run))
    return 0


@click.command(short_help="Write rankings and ranks of every query, or the weights of a trial.")
@takes(CONFIG, OUTPUT)
@click.argument("names", type=RESULT, nargs=-1, metavar="[ROW_OR_RUN ...]")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Write TREC run files, or tables as csv or parquet.",
)
@click.option(
    "--weights",
    type=FILE,
    metavar="DIR",
    help="Write the weights of one trial into this new folder instead, which loads without the project.",
)
@click.option("--force", is_flag=True, help="Replace weights that were exported into that folder before.")
@click.option("--dataset", type=DATASET, default="", metavar="NAME", help="Export only runs on this dataset.")
@click.option("--protocol", default="", metavar="NAME", help="Export only runs under this protocol.")
@click.option(
    "-o",
    "--output",
    "folder",
    type=FILE,
    metavar="FOLDER",
    help=f"Write the files into this folder instead of {EXPORTED}.",
)
def export(
    flags: Flags,
    names: Sequence[str],
    form: str | None,
    weights: Path | None,
    force: bool,
    dataset: str,
    folder: Path | None,
) -> int:
    """Write rankings and ranks of every query, of rows of the boards or of runs by their ids; or a trial's weights.

    Without names: of all ranked rows. With --weights the best weights of one trial, its card, words and measures are
    written into a folder: `harness.load(DIR)` in Python and `harness score --weights DIR` take it.

    \b
    Examples:
      harness export --format parquet
      harness export caan --format trec --dataset f30k -o for-trec
      harness export caan/f30k/s0 --weights caan-f30k
    """
    if form is None:
        of_rankings = {"--dataset": dataset, "--protocol": flags.protocol, "-o": folder}
        return weights_of(flags, names, weights_folder(names, weights, of_rankings), force)
    if weights or force:
        raise UsageError("--weights and --force are of one trial's weights; leave out --format, or these")
    from harness.board import export
    from harness.board.standings import boards_of
    from harness.campaign.current import current
    from harness.terminal.board_page import export_json, export_page
    from harness.terminal.output import named_steps
    from harness.tracking.result_store import open_store
    from harness.tracking.store import default_uri

    config, registry, out = flags.open()
    store = open_store(default_uri(config))
    runs = export.within(store.runs(), dataset, flags.protocol)
    chosen = export.chosen(runs, boards_of(runs, registry.methods, current(config, registry)), names)
    with named_steps(len(chosen), out.is_live) as tell:
        written = export.written(chosen, store, form, folder or EXPORTED, tell)
    out.answer(export_json(written), *export_page(written))
    return 0


def weights_folder(names: Sequence[str], folder: Path | None, of_rankings: Mapping[str, object]) -> Path:
    """The folder of --weights; UsageError for arguments that do not go together where no --format is given."""
    if folder is None:
        raise UsageError("give --format for rankings, or --weights DIR for the weights of a trial")
    if len(names) != 1:
        raise UsageError("--weights: name one trial, METHOD/DATASET/sSEED or the start of its key")
    if more := [flag for flag, value in of_rankings.items() if value]:
        raise UsageError(f"{more[0]} is of rankings, for --format; leave it out with --weights")
    return folder


def weights_of(flags: Flags, names: Sequence[str], folder: Path, force: bool) -> int:
    """Export the weights of the one trial that is named."""
    from harness.portable.export import export_weights
    from harness.terminal.board_page import weights_json, weights_page

    config, registry, out = flags.open()
    written = export_weights(config, registry, names[0], folder, force)
    out.answer(weights_json(written), *weights_page(written))
    return 0


@click.command(short_help="Remove the results of a method or of one trial.")
@takes(CONFIG, OUTPUT)
@click.argument("names", type=RESULT, nargs=-1, metavar="NAME...")
@click.option(
    "--cache", is_flag=True, help="Remove the results folder's cache too, which is made again when it is needed."
)
@click.option("-y", "--yes", is_flag=True, help="Remove without asking.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be removed; remove nothing.")
def forget(flags: Flags, names: Sequence[str], cache: bool, yes: bool, dry_run: bool) -> int:
    """Remove results: the folders of trials and their runs in the tracking store, after asking.

    A NAME is a method, a model of `harness score`, a trial such as caan/scenes/s0, or the start of a trial's key. Where
    a method and a model share a name, method:NAME is the one and external:NAME the other.
    What is removed is run again by the next command that asks for it. MLflow keeps a deleted run until `mlflow gc`.

    \b
    Examples:
      harness forget caan -n
      harness forget caan/scenes/s0
    """
    from harness.campaign import removal
    from harness.files import entries
    from harness.retention.inventory import size_of
    from harness.terminal.output import named_steps

    config, _, out = flags.open()
    if not names and not cache:
        raise UsageError("give a method, a trial or the start of a key to forget, or --cache")
    trials = removal.removals(config, names) if names else []
    cached = entries(config.cache) if cache else []
    size = sum(map(size_of, cached))
    out.note(*removal_page(trials, cache, size))
    data: dict[str, Any] = {"removed": not dry_run, "trials": [removal_json(one) for one in trials], "cache": cache}
    if dry_run:
        out.answer(data)
        return 0
    if not yes:
        agree("Remove all of this?", "nothing was removed")
    with named_steps(len(trials) + len(cached), out.is_live) as tell:
        removal.remove(config, trials, tell, cache)
    out.answer(data, removed_line(trials, size))
    return 0


def removed_line(trials: Sequence[StoredTrial], size: int) -> str:
    """What was removed, the bytes of the cache among it, and what is to follow."""
    from harness.terminal.upkeep_page import in_bytes

    parts = [*([count(len(trials), "trial")] * bool(trials)), *([f"{in_bytes(size)} of cache"] * bool(size))]
    then = "; `harness report` writes the boards without them" if trials else ""
    return f"{' and '.join(parts)} removed{then}" if parts else "nothing was removed: the cache is empty"


def removal_page(trials: Sequence[StoredTrial], cache: bool, size: int) -> Iterator[RenderableType]:
    from harness.terminal.output import table
    from harness.terminal.upkeep_page import in_bytes

    if trials:
        grid = table("trial", "state", "rsum", "folders", "in store", "key", right=("rsum", "folders"))
        for one in trials:
            stored = "yes" if one.in_store else "–"
            grid.add_row(one.spec.label, one.state, one.shown_rsum, str(len(one.folders)), stored, one.spec.key)
        yield grid
    if cache:
        yield f"{'and ' * bool(trials)}the cache, {in_bytes(size)}, which is worked out again"


def removal_json(one: StoredTrial) -> dict[str, Any]:
    return {**one.as_json(), "in_store": one.in_store}
