"""The command that searches a gallery with a trained method: retrieve."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.boundary import warn
from harness.cli.flags import CONFIG, FILE, OUTPUT, RESULT, DeviceName, Flags, takes
from harness.cli.looks import PAGE, unnamed_file, write_named
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.config.project import Config
    from harness.explain.query_picture import ModelPlace
    from harness.explain.retrieval import Retrieval, Retriever
    from harness.terminal.output import Output

STDIN = "-"


@click.command(short_help="Find the images of a text, or the captions of an image.")
@takes(CONFIG, OUTPUT)
@click.option(
    "--trial",
    "name",
    type=RESULT,
    default="",
    metavar="NAME",
    help="Search with the method of this finished trial, METHOD/DATASET/sSEED or the start of its key; may be left out "
    "where there is only one.",
)
@click.option(
    "--text",
    "texts",
    multiple=True,
    metavar="TEXT",
    help="Find images for this text; may be repeated. With - for each line of standard input, as it comes, and with "
    "--json by a line of JSON for each.",
)
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="ID|FILE",
    help="Find captions for the image with this id, or for this picture; may be repeated.",
)
@click.option("-k", "k", type=int, metavar="K", help="Show the first K results of each query instead of ten.")
@click.option(
    "--split", default="", metavar="NAME", help="Search this split instead of the one that the trial was scored on."
)
@click.option(
    "--protocol", default="", metavar="NAME", help="Search the gallery of this protocol instead of the trial's own."
)
@click.option("--page", is_flag=True, help="Write a page with pictures, too.")
@click.option("-o", "--output", "file", type=FILE, metavar="FILE", help="Write the page into this .html file.")
@click.option(
    "--model",
    default="",
    metavar="FOLDER|NAME|timm:NAME",
    help="Take the model that made the dataset's regions from here, for pictures of your own.",
)
@click.option("--weights", type=FILE, metavar="FILE", help="Take the weights of timm:NAME from this file.")
@click.option("--device", type=DeviceName(), default="cpu", show_default=True, help="Encode and score on this device.")
def retrieve(
    flags: Flags,
    name: str,
    texts: Sequence[str],
    images: Sequence[str],
    k: int | None,
    split: str,
    page: bool,
    file: Path | None,
    model: str,
    weights: Path | None,
) -> int:
    """Search the gallery of a trained trial: the first images for a text, the first captions for an image.

    The gallery is encoded by the first query and kept in the results folder's cache for later ones; `harness forget`
    removes it with its trial. Pages of a dataset that is not generated are written to private/ in the folder of
    reports, which git ignores.

    \b
    Examples:
      harness retrieve --trial vsepp/scenes/s0 --text "a blue triangle" --text "a red square" -k 5
      harness retrieve --trial vsepp/scenes/s0 --text -
      harness retrieve --trial vsepp/scenes/s0 --image test-0055b --page
      harness retrieve --trial vsepp/mine/s0 --image holiday.jpg --model models/dinov2 --json
    """
    from harness.explain.encoding import open_encoder
    from harness.explain.gallery import Gallery
    from harness.explain.query_picture import ModelPlace
    from harness.explain.retrieval import Retriever, gallery_choice
    from harness.explain.weights import trial_with_weights
    from harness.terminal.output import passing_bar
    from harness.terminal.retrieval_page import retrieved_json, retrieved_page

    check_queries(texts, images, page, file, bool(model or weights))
    config, registry, out = flags.open()
    trial = trial_with_weights(config.trials, name)
    choice = gallery_choice(trial.spec, registry.dataset(trial.spec.dataset), split, flags.protocol)
    with out.at_work() as tell:
        tell(f"loading {trial.spec.label} and its dataset")
        encoder = open_encoder(config, registry, trial, flags.device or "cpu")
    watch = partial(passing_bar, visible=not flags.quiet)
    retriever = Retriever(Gallery(encoder, choice.split, config.cache, out.note, watch), choice.protocol)
    if STDIN in texts:
        return converse(retriever, k, out)
    retrievals = [*retriever.of_texts(texts, k)] if texts else []
    retrievals += of_images(retriever, images, k, ModelPlace(model, weights), config)
    warn_of_unknown(retrievals)
    written = write_page(retriever, retrievals, config, file, out) if page or file else None
    out.answer(retrieved_json(retriever, retrievals, written), *retrieved_page(retriever, retrievals, written))
    return 0


def converse(retriever: Retriever, k: int | None, out: Output) -> int:
    """Answer the texts that come on standard input, each as it comes, if only by naming it and why it has no answer."""
    from harness.explain.retrieval import checked_k
    from harness.terminal.retrieval_page import retrieved_json, retrieved_page

    checked_k(k, retriever.images, "images")
    for text in lines_asked():
        try:
            own = retriever.of_texts([text], k)
        except UsageError as error:
            warn(f"harness: {error}")
            own = []
        warn_of_unknown(own)
        out.part(retrieved_json(retriever, own, None), *retrieved_page(retriever, own, None))
    return 0


def lines_asked() -> Iterator[str]:
    """The lines of standard input that are not empty, each asked for where somebody types them."""
    is_typed = sys.stdin.isatty()
    while True:
        if is_typed:
            click.echo("text (Ctrl-D ends): ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            return
        if text := line.strip():
            yield text


def warn_of_unknown(retrievals: Iterable[Retrieval]) -> None:
    """Name the words of queries that the vocabulary lacks."""
    for one in retrievals:
        if one.unknown:
            warn(f"harness: warning: not in the vocabulary, all one word to the method: {', '.join(one.unknown)}")


def check_queries(texts: Sequence[str], images: Sequence[str], page: bool, file: Path | None, has_model: bool) -> None:
    """UsageError for no query, for a page that cannot be written, and for a model without a picture of one's own."""
    if STDIN in texts and (len(texts) > 1 or images or page or file):
        raise UsageError(f"--text {STDIN} takes all queries from standard input: give it without others, and no page")
    if not texts and not images:
        raise UsageError("give --text TEXT to find images, or --image ID or FILE to find captions")
    if has_model and not images:
        raise UsageError("--model and --weights are for pictures of your own; give one by --image FILE")
    if file and file.suffix.lower() != PAGE:
        raise UsageError(f"-o {file}: write an .html file")


def of_images(
    retriever: Retriever, images: Sequence[str], k: int | None, place: ModelPlace, config: Config
) -> list[Retrieval]:
    """The first captions for each image; UsageError for a model where none of them is a picture of one's own."""
    if images and any(place) and {*images} <= {*retriever.gallery.items.image_ids}:
        known = f"{images[0]!r} is an image of the dataset, whose regions are there"
        raise UsageError(f"--model and --weights are for pictures of your own, and {known}: leave them out")
    return [of_image(retriever, image, k, place, config) for image in images]


def of_image(retriever: Retriever, image: str, k: int | None, place: ModelPlace, config: Config) -> Retrieval:
    """The first captions for an image of the gallery, else for a picture in a file; UsageError where it is neither."""
    from harness.explain.query_picture import picture_regions
    from harness.files import has_file

    gallery = retriever.gallery
    if image in gallery.items.image_ids or not has_file(Path(image)):
        return retriever.of_image(image, k)
    encoder = gallery.encoder
    regions = picture_regions(encoder.dataset, Path(image), place, config.root, str(encoder.device))
    return retriever.of_image(image, k, regions)


def write_page(
    retriever: Retriever, retrievals: Sequence[Retrieval], config: Config, file: Path | None, out: Output
) -> Path:
    """Write the page of queries; its path."""
    from harness.explain.retrieval_page import webpage
    from harness.files import safe_name

    name = safe_name("-".join(page_words(retriever, retrievals))) + PAGE
    place = file or unnamed_file(retriever.gallery.encoder.dataset.card, config.reports, name, out)
    write_named(place, webpage(retriever, retrievals, config, out.note))
    return place


def page_words(retriever: Retriever, retrievals: Sequence[Retrieval]) -> Iterator[str]:
    """What a page is named by: its trial and its queries."""
    spec = retriever.gallery.encoder.spec
    yield from ("retrieve", spec.method, spec.dataset, f"s{spec.seed}")
    yield from (Path(one.query).name for one in retrievals)
