"""The commands that look into a trial: at its scores beyond their measures (looks), at what it attends to (explain)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.boards import READING, note_ignored
from harness.cli.flags import (
    CONFIG,
    DATASET,
    FILE,
    METHOD,
    OUTPUT,
    PROTOCOL,
    RESULT,
    TRIAL,
    DeviceName,
    Flags,
    NameList,
    takes,
)
from harness.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.config.cards import DatasetCard
    from harness.config.registry import Registry
    from harness.diagnostics.table import Looks
    from harness.explain.explanation import Explanations
    from harness.terminal.output import Output
    from harness.tracking.runs import Run

PAGE = ".html"
DEVICE = (click.option("--device", type=DeviceName(), help="Make the scores of --score on this device."),)
PICTURES = (".svg", ".png", PAGE)
NO_RANKINGS = "hubness needs the run's rankings, which the store has lost or never had; run it again with --force"
NO_CATEGORIES = "no category-level mAP: the images of {dataset} have no categories"
NOT_KEPT = (
    "no category-level mAP, which this trial, of an earlier version, did not keep: `harness looks {key} --score` makes "
    "its scores again from its weights"
)
NO_CHOICES = (
    "two-way choices not answered yet: {names}; `harness looks {key} --score` scores them with the trial's weights"
)


@click.command(short_help="Look at hubness, category-level mAP and choices of a trial.")
@takes(DEVICE, CONFIG, OUTPUT)
@click.argument("run", type=RESULT)
@click.option(
    "--score",
    "again",
    is_flag=True,
    help="Make the scores again from the trial's weights, for looks that need all of them, and record these.",
)
def looks(flags: Flags, run: str, again: bool) -> int:
    """Look at the scores of a trial beyond its measures; nothing of it is ranked.

    Hubness is read from the stored rankings: how often the most returned item stands first, and the skew of N_10.
    Category-level mAP is kept by every trial of a dataset that has categories of its images, such as coco-objects; with
    --score it is worked out for older ones, and two-way choices (an image, its right caption and a wrong one) that the
    dataset's card names by [[choices]] are answered. An ensemble's scores are the mean of its members'. The same stands
    on the row's page of `harness report`.

    \b
    Examples:
      harness looks vsepp/coco-objects/s0
      harness looks 3f9a1c --score --json
    """
    from harness.board.evidence import run_looks
    from harness.explain.rescoring import look_again
    from harness.tracking.naming import known_run
    from harness.tracking.result_store import open_store
    from harness.tracking.store import default_uri

    if flags.device and not again:
        raise UsageError("--device is for --score, which makes the scores again; give both, or neither")
    config, registry, out = flags.open()
    store = open_store(default_uri(config))
    with out.at_work() as tell:
        tell(READING)
        one = known_run(store.runs(), run)
        if again:
            tell(f"making the scores of {one.label} again")
            look_again(config, registry, one, flags.device or "auto")
        known = run_looks(store.artifact, one.run_id)
    notes = list(missing(known, one, registry))
    out.answer(looks_json(known, one, notes), *looks_page(known, one), *notes)
    return 0


def missing(known: Looks, run: Run, registry: Registry) -> Iterator[str]:
    """What is not known of a run, why, and how to get it."""
    from harness.explain.rescoring import has_categories, why_not_again

    if not known.hubness:
        yield NO_RANKINGS
    card = registry.datasets.get(run.spec.test_dataset)
    if card is None:
        return
    if not (known.category or has_categories(card)):
        yield NO_CATEGORIES.format(dataset=card.name)
    is_lost = has_categories(card) and not known.category
    names = [one.name for one in card.choices if one.name not in known.choices]
    if reason := why_not_again(run):
        if lacks := ["no category-level mAP"] * is_lost + ["no choices"] * bool(names):
            yield f"{' and '.join(lacks)}: this trial {reason}"
        return
    if is_lost:
        yield NOT_KEPT.format(key=run.key)
    if names:
        yield NO_CHOICES.format(names=", ".join(names), key=run.key)


def looks_page(known: Looks, run: Run) -> Iterator[RenderableType]:
    from harness.diagnostics.table import HEADER
    from harness.terminal.output import table

    name, *directions = HEADER
    grid = table(f"{run.label}: {name}", *directions, right=directions)
    for line in known.lines:
        grid.add_row(*line)
    if known.lines:
        yield grid


def looks_json(known: Looks, run: Run, notes: list[str]) -> dict[str, Any]:
    about = {"run": run.label, "key": run.key, "dataset": run.spec.dataset, "protocol": run.spec.protocol}
    return {**about, **known.as_json(), "notes": notes}


@click.command(short_help="Draw which regions the words of a caption attend to.")
@takes((PROTOCOL,), CONFIG, OUTPUT)
@click.option("--method", type=METHOD, metavar="NAME", help="Take this method, which must have attention.")
@click.option(
    "--methods",
    type=NameList(),
    help="Show these methods, by names or globs, side by side on a page; without --method those of [campaign].",
)
@click.option(
    "--image", default="", metavar="ID", help="Take the image with this id in its dataset instead of the split's first."
)
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
      harness explain
      harness explain --method caan --image test-0055b
      harness explain --method caan --image test-0055b --caption "a blue triangle" -o triangle.png
      harness explain --methods caan,bssan --image test-0055b --words "violet diamond,square"
    """
    from harness.explain import explanation as explaining
    from harness.explain.weights import TrialChoice
    from harness.terminal.board_page import explained_json, explained_page

    check_explain(method, flags.methods, key, file)
    if key and (seed is not None or flags.protocol):
        raise UsageError("--run names one trial, with its seed and protocol; leave out --seed and --protocol")
    config, registry, out = flags.open()
    name = dataset or registry.select_datasets(config.campaign.datasets)[0]
    methods = (method,) if method else registry.select_methods(flags.methods or config.campaign.methods)
    choices = [TrialChoice(one, name, flags.protocol, seed, key) for one in methods]
    with out.at_work() as tell:
        tell(f"opening {name}, loading weights and scoring by {', '.join(methods)}")
        several = explaining.explanations(
            config, registry, choices, explaining.Pair(image, caption, split, words), flags.command
        )
    file = file or unnamed_file(registry.dataset(name), config.reports, file_name(method, several.ones[0].image), out)
    write_named(file, drawn(several, file))
    out.note(*(f"left out: {', '.join(names)}: {reason}" for reason, names in several.left_out.items()))
    out.note(*dict.fromkeys(note for one in several.ones for note in explaining.notes(one)))
    out.answer(explained_json(several, file, bool(method)), explained_page(several, file))
    return 0


def check_explain(method: str | None, methods: Sequence[str] | None, key: str, file: Path | None) -> None:
    """UsageError for flags of explain that do not go together."""
    if method and methods:
        raise UsageError("give --method for one method, or --methods for several side by side")
    if key and not method:
        raise UsageError("--run names the trial of one method; name that with --method")
    if file and file.suffix.lower() not in (PICTURES if method else (PAGE,)):
        forms = "an .svg, a .png or an .html file" if method else "an .html file, as several methods stand on a page"
        raise UsageError(f"-o {file}: write {forms}")


def file_name(method: str | None, image: str) -> str:
    """The name of a picture of one method, or of the page of several."""
    from harness.files import safe_name

    return safe_name(f"explain-{method}-{image}") + ".svg" if method else safe_name(f"explain-{image}") + PAGE


def unnamed_file(card: DatasetCard, reports: Path, name: str, out: Output) -> Path:
    """Where a picture or page is written if no file is named: privately where it shows what others made, else here."""
    from harness.explain.private_pages import is_private, private_folder

    if not is_private(card):
        return Path(name)
    folder = private_folder(reports)
    note_ignored(folder, out)
    return folder / name


def drawn(several: Explanations, file: Path) -> str | bytes:
    """What a file is to hold, by its suffix: a picture of one method, or the page of several."""
    from harness.explain.attention_page import webpage
    from harness.explain.picture import png, svg

    suffix, first = file.suffix.lower(), several.ones[0]
    return webpage(several) if suffix == PAGE else png(first) if suffix == ".png" else svg(first)


def write_named(file: Path, content: str | bytes) -> None:
    """Write a picture or page; UsageError where it cannot be written."""
    from harness.files import write_atomic

    try:
        write_atomic(file, content)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error}; name another with -o") from error
