"""The commands for files of datasets: download what a card allows, make region stores of features and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from harness.cli.boundary import agree
from harness.cli.flags import CONFIG, DATASET, FILE, OUTPUT, DeviceName, Flags, parts, takes
from harness.errors import UsageError, count
from harness.terminal.output import bar, counter, passing_bar

if TYPE_CHECKING:
    from harness.acquisition.download import Item

COUNT = click.IntRange(min=1)
TO = click.option(
    "--to", "folder", type=FILE, required=True, metavar="FOLDER", help="Write the region store into this folder."
)
FORCE = click.option(
    "--force", is_flag=True, help="Start again, and replace the store or the unfinished work that is there."
)


class Rgb(click.ParamType[tuple[float, ...]]):
    """A number for each of red, green and blue from 0 to 255, or one for all; 0 is none where they divide."""

    name = "X|R,G,B"

    def __init__(self, divides: bool = False) -> None:
        self._divides = divides

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            numbers = tuple(map(float, parts(value)))
        except ValueError:
            self.fail(f"{value!r} is neither a number nor three", param, ctx)
        if len(numbers) not in (1, 3) or not all(0 <= number <= 255 for number in numbers):
            self.fail(f"{value!r} is neither a number nor three from 0 to 255", param, ctx)
        if max(numbers) <= 1 and (max(numbers) > 0 or self._divides):
            self.fail(f"{value!r} is of pixels from 0 to 1; give 255 times that", param, ctx)
        if self._divides and min(numbers) <= 0:
            self.fail(f"{value!r} divides by 0", param, ctx)
        return numbers * (3 // len(numbers))


@click.group(short_help="Download the files of datasets, or convert and extract features.")
def data() -> None:
    """Get the files of datasets and make them ready."""


@data.command(short_help="Download what a dataset's card allows, after asking.")
@takes(CONFIG, OUTPUT)
@click.argument("name", type=DATASET)
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
    from harness.interruption import signals_raise
    from harness.terminal.dataset_page import fetch_json, fetch_page

    config, registry, out = flags.open()
    card = registry.dataset(name)
    items = download.items(card, config.data)
    missing = [item for item in items if not item.is_done]
    out.note(*(fetch_page(card, missing) if missing else ()))
    for item in missing:
        download.check_links(item)
    left = sum(item.left for item in missing)
    download.check_room(config.data / card.folder, left)
    if not yes:
        agree_to_load(missing, left, config.data / card.folder)
    for item in missing:
        with signals_raise(), bar(item.download.file, item.download.bytes, 0, visible=not flags.quiet) as tell:
            download.fetch(item, tell, keep, Pace(rate=1000 * least_rate))
    place = f"all files of {name} that its card can download are in {config.data / card.folder}"
    out.answer(fetch_json(card, items, missing), f"{place}; next: {flags.command('run', '--datasets', name)}")
    return 0


def agree_to_load(items: Sequence[Item], size: int, folder: Path) -> None:
    """Ask before bytes are loaded, or files that are there replaced by those of an archive beside them."""
    replaced = sum((item.folder / target).exists() for item in items for target in item.download.targets)
    if size:
        agree(f"Load {size / 1e6:,.1f} MB into {folder}?", "nothing was loaded")
    elif replaced:
        agree(f"Replace {count(replaced, 'file')} in {folder}?", "nothing was replaced")


@data.command(short_help="Convert features in other forms to a region store.")
@takes(OUTPUT)
@click.argument("sources", type=FILE, nargs=-1, required=True, metavar="SOURCE...")
@TO
@click.option(
    "--ids",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="Read image ids from this file, not beside the array; once for each array.",
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
@FORCE
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
                        or x_ids.txt beside it: one image id per line
      a folder          with such an array and ids.txt, or with a file
                        IMAGE_ID.npy or IMAGE_ID.npz for each image
      x.tsv.0 x.tsv.1   bottom-up-attention TSV
    Parts of one release are given in their order.

    \b
    Examples:
      harness data convert grid.npy --to data/mine/regions
      harness data convert trainval.tsv.0 trainval.tsv.1 --to data/coco/regions
    """
    from harness.conversion.convert import convert as converted
    from harness.conversion.opening import ArrayOptions
    from harness.interruption import signals_raise
    from harness.terminal.dataset_page import convert_json, convert_page

    out, watch = flags.out(), partial(bar, "converting", visible=not (flags.quiet or flags.as_json))
    with signals_raise():
        store = converted(sources, folder, dtype, force, watch, ArrayOptions(ids, channels))
    out.answer(convert_json(store), *convert_page(store))
    return 0


MODEL = (
    click.option(
        "--model",
        required=True,
        metavar="FOLDER|NAME|timm:NAME",
        help="Use this model of Hugging Face (a detector, a ViT, CLIP or DINO), or of timm.",
    ),
    click.option("--download", is_flag=True, help="Get a model of Hugging Face where it is not here."),
    click.option("--weights", type=FILE, metavar="FILE", help="Take the weights of timm:NAME from this file."),
    click.option("--keys-in-order", is_flag=True, help="Match weights to the model by order, not by name."),
    click.option("--mean", type=Rgb(), help="Subtract this mean of pixels (0 to 255), not timm's."),
    click.option("--std", type=Rgb(divides=True), help="Divide by this deviation of pixels, not timm's."),
)
REGIONS = (
    click.option("--pool", type=COUNT, metavar="N", help="Average the map or patches of an encoder to N x N regions."),
    click.option("--pooled", is_flag=True, help="Make each picture one region: the model's own vector of it."),
    click.option(
        "--boxes-from", type=FILE, metavar="FILE", help="Take boxes of a COCO json, VOC folder or json of lists."
    ),
    click.option(
        "--boxes", type=COUNT, metavar="N", help="Keep N boxes per picture: the best found (36), or first given."
    ),
    click.option(
        "--boxes-by", type=click.Choice(["crop", "map"]), help="Encode each given box as a crop, or from the map."
    ),
    click.option("--whole", is_flag=True, help="Put the whole picture before its given boxes."),
    click.option(
        "--boxless", type=click.Choice(["refuse", "whole"]), help="Refuse pictures without a box, or take them whole."
    ),
    click.option(
        "--threshold", type=click.FloatRange(0, 1), metavar="X", help="Leave out a detector's boxes below it."
    ),
)
RUNNING = (
    click.option(
        "--dtype",
        type=click.Choice(["float32", "float16"]),
        default="float32",
        show_default=True,
        help="Store numbers in this form.",
    ),
    click.option(
        "--batch-size", type=COUNT, default=16, show_default=True, metavar="N", help="See N pictures at a time."
    ),
    click.option(
        "--device", type=DeviceName(), default="auto", show_default=True, help="Run the model on this device."
    ),
    click.option(
        "--unusual",
        type=click.Choice(["refuse", "convert"]),
        default="refuse",
        show_default=True,
        help="Refuse CMYK, 16-bit and animated pictures, or convert them: the first frame, to 8-bit RGB.",
    ),
    FORCE,
)


@data.command(short_help="Extract a region store from pictures with a vision model.")
@takes((TO,), MODEL, REGIONS, RUNNING, OUTPUT)
@click.argument("images", type=FILE)
def extract(flags: Flags, images: Path, folder: Path, **settings: Any) -> int:
    """Make a region store of pictures through a vision model; what was interrupted goes on.

    IMAGES: a folder of .jpg, .png or .webp files; an image's id is its file's name without the suffix.

    \b
    Examples:
      harness data extract pictures --to data/mine/regions --model facebook/dinov2-base --download
      harness data extract pictures --to data/mine/regions --model timm:resnet50 --weights resnet50.safetensors
      harness data extract pictures --to data/mine/regions --model models/clip --boxes-from boxes.json --whole
    """
    from harness.data.pictures import check_usual, find_pictures, read_heads
    from harness.extraction import extract, vision_models
    from harness.interruption import signals_raise
    from harness.terminal import dataset_page
    from harness.trial.device import choose_device

    out, visible = flags.out(), not (flags.quiet or flags.as_json)
    dtype, batch_size, force, unusual = (settings.pop(name) for name in ("dtype", "batch_size", "force", "unusual"))
    request = vision_models.request_of(**settings)
    pictures = find_pictures(images)
    out.note(*dataset_page.left_out(images, pictures))
    with signals_raise():
        with passing_bar("looking at pictures", len(pictures.files), visible) as tell:
            heads = read_heads(pictures.files, request.boxes_from is not None, tell)
        if unusual == "refuse":
            check_usual(pictures.files, heads, "give --unusual convert")
        placed = request.place(heads)
        out.note(*dataset_page.pictures_page(heads, placed))
        extractor = vision_models.load(request.model, choose_device(flags.device or "auto"), placed)
        store = extract.extract(
            pictures.files, extractor, folder, dtype, batch_size, force, partial(counter, visible=visible)
        )
    out.answer(dataset_page.extract_json(store, heads, placed), *dataset_page.extract_page(store, placed))
    return 0


@click.group(
    invoke_without_command=True,
    subcommand_metavar="[dataset NAME|method NAME]",
    short_help="Write a commented harness.toml, the card of a dataset, or a method that runs.",
)
@takes(OUTPUT)
@click.option("--force", is_flag=True, help="Replace the harness.toml that is there.")
def init(flags: Flags, force: bool) -> int:
    """Write a commented harness.toml into this folder, the card of a dataset, or a method that runs."""
    if click.get_current_context().invoked_subcommand:
        if force or flags.as_json or flags.quiet:
            raise UsageError("give flags behind the name: harness init dataset NAME --force")
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
    from harness.preparation import card
    from harness.terminal.dataset_page import card_json, card_page

    config, registry, out = flags.open()
    request = card.request_of(config, registry.datasets, name, folder, config.cache)
    with out.at_work() as tell:
        tell(f"measuring {name}")
        measured = card.write_card(request, tell if out.is_live else out.note, force)
    out.answer(card_json(request, measured), *card_page(request, measured, flags.command("run", "--datasets", name)))
    return 0
