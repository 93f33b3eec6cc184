"""The commands for files of datasets: download what a card allows, make region stores of features and pictures."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from harness.cli.flags import CONFIG, FILE, OUTPUT, DeviceName, Flags, NameList, takes
from harness.errors import DataError, UsageError
from harness.foreign_text import line

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

SLOW = 600  # seconds over which the time left is estimated: a batch may take minutes


@click.group(short_help="Download the files of datasets, or convert and extract features.")
def data() -> None:
    """Get the files of datasets and make them ready."""


@data.command(short_help="Download what a dataset's card allows, after asking.")
@takes(CONFIG, OUTPUT)
@click.argument("name")
@click.option("--yes", is_flag=True, help="Download without asking, as is needed where there is no terminal.")
@click.option("--keep", is_flag=True, help="Keep the archive once its files are taken out.")
@click.option(
    "--least-rate",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="KB",
    help="Give up where a server sends fewer kB per second; 0 means never.",
)
def fetch(flags: Flags, name: str, yes: bool, keep: bool, least_rate: float) -> int:
    """Download what a dataset's card allows, after asking; what is there is not loaded again."""
    from harness.acquisition import download
    from harness.acquisition.pace import Pace
    from harness.cli.dataset_page import fetch_json, fetch_page
    from harness.interruption import signals_raise

    config, registry, out = flags.open()
    card = registry.dataset(name)
    items = download.items(card, config.data)
    missing = [item for item in items if not item.is_done]
    out.note(*(fetch_page(card, missing) if missing else ()))
    if left := sum(item.left for item in missing):
        for item in missing:
            download.check_links(item)
        download.check_room(config.data / card.folder, left)
        agree(f"Load {left / 1e6:,.1f} MB into {config.data / card.folder}?", yes)
    for item in missing:
        with signals_raise(), bar(item.download.file, item.download.bytes, 0, visible=not flags.quiet) as tell:
            download.fetch(item, tell, keep, Pace(rate=1000 * least_rate))
    place = f"all files of {name} that its card can download are in {config.data / card.folder}"
    out.answer(fetch_json(card, items, missing), f"{place}; next: {flags.command('run', '--datasets', name)}")
    return 0


@data.command(short_help="Convert features in other forms to a region store.")
@takes(OUTPUT)
@click.argument("sources", type=FILE, nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--to", "folder", type=FILE, required=True, metavar="FOLDER", help="Write the region store into this folder."
)
@click.option(
    "--ids",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="Read the ids of an array's images here, not beside it; once for each array.",
)
@click.option(
    "--channels",
    type=click.Choice(["first", "last"]),
    help="Say where the channels of a map, or the numbers of a region, stand: (C, h, w) or (h, w, C).",
)
@click.option(
    "--dtype",
    type=click.Choice(["keep", "float32", "float16"]),
    default="keep",
    show_default=True,
    help="Store numbers in this form; keep is that of the source, float32 where it has several or float64.",
)
@click.option("--force", is_flag=True, help="Start again, and replace the store or the unfinished work that is there.")
def convert(
    flags: Flags,
    sources: Sequence[Path],
    folder: Path,
    ids: tuple[Path, ...],
    channels: Literal["first", "last"] | None,
    dtype: Literal["keep", "float32", "float16"],
    force: bool,
) -> int:
    """Make a region store of features in other forms; what was interrupted goes on.

    \b
    SOURCE is one of
      x.npy             an array (images, regions, width), (images, width) or
                        maps (images, channels, height, width), with ids.txt
                        or x_ids.txt beside it: an image's id a line
      a folder          with such an array and ids.txt, or with a file
                        IMAGE_ID.npy or IMAGE_ID.npz for each image
      x.tsv.0 x.tsv.1   bottom-up-attention TSV
    Parts of one release are given in their order.

    \b
    Examples:
      harness data convert grid.npy --to data/mine/regions
      harness data convert trainval.tsv.0 trainval.tsv.1 --to data/coco/regions
    """
    from harness.cli.dataset_page import convert_json, convert_page
    from harness.conversion.convert import convert as converted
    from harness.conversion.opening import ArrayOptions
    from harness.interruption import signals_raise

    out, watch = flags.out(), partial(bar, "converting", visible=not (flags.quiet or flags.as_json))
    with signals_raise():
        store = converted(sources, folder, dtype, force, watch, ArrayOptions(ids, channels))
    out.answer(convert_json(store), *convert_page(store))
    return 0


@data.command(short_help="Extract a region store from pictures with a vision model.")
@takes(OUTPUT)
@click.argument("images", type=FILE)
@click.option(
    "--to", "folder", type=FILE, required=True, metavar="FOLDER", help="Write the region store into this folder."
)
@click.option(
    "--model",
    required=True,
    metavar="FOLDER|NAME",
    help="Use this model of Hugging Face: a detector, a ViT, CLIP or DINO.",
)
@click.option("--download", is_flag=True, help="Get the model from huggingface.co where it is not here.")
@click.option(
    "--boxes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the N best boxes of a detector per picture; 36 unless given.",
)
@click.option(
    "--threshold", type=click.FloatRange(0, 1), metavar="X", help="Leave out boxes whose score by a detector is lower."
)
@click.option("--pool", type=click.IntRange(min=1), metavar="N", help="Average the patches of an encoder to N x N.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Store numbers in this form.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    metavar="N",
    help="Give the model N pictures at a time.",
)
@click.option("--device", type=DeviceName(), default="auto", show_default=True, help="Run the model on this device.")
@click.option("--force", is_flag=True, help="Start again, and replace the store or the unfinished work that is there.")
def extract(
    flags: Flags,
    images: Path,
    folder: Path,
    dtype: Literal["float32", "float16"],
    batch_size: int,
    force: bool,
    **settings: Any,
) -> int:
    """Make a region store of pictures through a vision model; what was interrupted goes on.

    IMAGES: a folder of .jpg, .png or .webp files; an image's id is its file's name without the suffix.

    \b
    Examples:
      harness data extract pictures --to data/mine/regions --model facebook/dinov2-base --download
    """
    from harness.cli.dataset_page import extract_json, extract_page
    from harness.data.pictures import find_pictures
    from harness.interruption import signals_raise
    from harness.preparation import extract, vision_models
    from harness.trial.device import choose_device

    out, watch = flags.out(), partial(counter, visible=not (flags.quiet or flags.as_json))
    pictures = find_pictures(images)
    out.note(*[f"left out of {images}, as they are no pictures: {pictures.others:,} files"] * bool(pictures.others))
    with signals_raise():
        extractor = vision_models.load(vision_models.ModelChoice(**settings), choose_device(flags.device or "auto"))
        store = extract.extract(pictures.files, extractor, folder, dtype, batch_size, force, watch)
    out.answer(extract_json(store), *extract_page(store))
    return 0


def agree(question: str, yes: bool) -> None:
    """Go on after a yes; UsageError after a no, and where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to answer at; say yes with --yes")
    if not click.confirm(line(question), err=True):
        raise UsageError("nothing was loaded")


def progress_bar(visible: bool, *columns: ProgressColumn, **options: Any) -> Progress:
    """A bar on stderr, hidden where that is no terminal."""
    from rich.progress import Progress

    from harness.cli.output import Console

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


@click.group(
    invoke_without_command=True,
    subcommand_metavar="[dataset NAME]",
    short_help="Write a commented harness.toml, or the card of a dataset of your own.",
)
@takes(OUTPUT)
@click.option("--force", is_flag=True, help="Replace the harness.toml that is there.")
def init(flags: Flags, force: bool) -> int:
    """Write a commented harness.toml into this folder, or the card of a dataset of your own."""
    if click.get_current_context().invoked_subcommand:
        if force or flags.as_json:
            raise UsageError("give flags behind the dataset's name: harness init dataset NAME --force")
        return 0
    from harness.config.template import write_template

    file = write_template(Path.cwd(), force)
    flags.out().answer({"written": str(file)}, f"{file.name} written; next: harness run")
    return 0


@init.command(short_help="Write the measured card of a folder of files.")
@takes(CONFIG, OUTPUT)
@click.argument("name")
@click.option(
    "--folder", type=FILE, metavar="DIR", help="Look for its files here instead of in NAME below [paths] data."
)
@click.option("--force", is_flag=True, help="Replace the card that is there.")
def dataset(flags: Flags, name: str, folder: Path | None, force: bool) -> int:
    """Write the card of a folder of files, measured: layout, counts, widths, hashes.

    Where something is missing, it says what, and which command makes it.

    \b
    A folder holds one of
      captions.jsonl, split.json, regions/             your own
      dataset_NAME.json, regions/                      Karpathy's captions and splits
      train_ims.npy, train_caps.txt, dev_…, test_…     the field's precomputed regions
    """
    from harness.cli.dataset_page import card_json, card_page
    from harness.preparation import card

    config, registry, out = flags.open()
    request = card.request_of(config, registry.datasets, name, folder, config.cache)
    measured = card.write_card(request, out.note, force)
    out.answer(card_json(request, measured), *card_page(request, measured, flags.command("run", "--datasets", name)))
    return 0


@click.command(short_help="Check a dataset from all sides before anything is scored.")
@takes(CONFIG, OUTPUT)
@click.option(
    "--dataset",
    "--datasets",
    "datasets",
    type=NameList(),
    help="Check these datasets, by names or globs, instead of [campaign] datasets.",
)
def validate(flags: Flags) -> int:
    """Check the files, splits, captions, regions and protocols of a dataset; every fault has its file and line.

    Errors end with exit code 3. Warnings and notes do not: what they mean for results is said with each.
    """
    from harness.campaign.plan import check_writable
    from harness.cli import dataset_page
    from harness.preparation.validation import Validation

    config, registry, out = flags.open()
    names = registry.select_datasets(flags.datasets or config.campaign.datasets)
    check_writable(config.results)
    steps = partial(passing_bar, visible=not flags.quiet)
    reports = [Validation(registry.datasets[name], config.data, config.cache, steps).run() for name in names]
    out.answer(dataset_page.validation_json(reports), *dataset_page.validation_page(reports))
    return 0 if all(report.is_sound for report in reports) else DataError.exit_code
