"""What a trained method retrieved as one web page that needs no other file and holds every picture once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.board.markup import markup
from harness.config.project import Config
from harness.data.content import Preview
from harness.data.pictures import read_picture
from harness.explain.examples_page import PageImage, page_image, points
from harness.explain.private_pages import REASON, is_private
from harness.explain.retrieval import Retrieval, Retriever
from harness.layouts.previews import Previews


def webpage(
    retriever: Retriever, retrievals: Sequence[Retrieval], config: Config, tell: Callable[[str], object]
) -> str:
    """The page of some queries; `tell` is called with a line for each picture that cannot be read."""
    encoder = retriever.gallery.encoder
    card = encoder.dataset.card
    ids = {image for one in retrievals for image in images_of(one)}
    known = {*retriever.gallery.items.image_ids}
    previews = Previews(card, config.data, config.cache)
    looks = {name: look(previews, name, name in known) for name in sorted(ids)}
    for note in previews.notes:
        tell(note)
    page = markup("retrieval.html.j2").render(
        **{"spec": encoder.spec, "split": retriever.gallery.split, "images": retriever.images},
        **{"captions": retriever.captions, "retrievals": retrievals, "card": card, "private": is_private(card)},
        **{"reason": REASON, "points": points, "numbers": {name: number for number, name in enumerate(looks)}},
        looks=looks,
    )
    return str(page)


def images_of(one: Retrieval) -> list[str]:
    """The images that a query and its results show."""
    return [hit.image for hit in one.hits] + ([one.query] if one.direction == "i2t" else [])


def look(previews: Previews, name: str, is_known: bool) -> PageImage | None:
    """An image of the dataset by its id, or a picture by its file; None where nothing can be drawn of it."""
    if is_known:
        return page_image(previews.of_many(name))
    picture = read_picture(Path(name))
    return page_image(Preview(picture.size, picture))
