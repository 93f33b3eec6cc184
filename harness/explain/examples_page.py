"""Examples of a board as one web page that needs no other file and holds every picture once. Pure: the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.board.cells import file_name
from harness.board.drawing import shortened
from harness.board.markup import markup
from harness.board.standings import Board
from harness.config.cards import DatasetCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.transfer import without_words
from harness.data.content import Preview
from harness.errors import DataError
from harness.evaluation.ranks import DIRECTIONS
from harness.explain.examples import ALL, FIRST, GROUPS, NONE, SOME, Examples, examples_of
from harness.explain.private_pages import FOLDER as PRIVATE
from harness.explain.private_pages import REASON, is_private
from harness.layouts.opening import fingerprint
from harness.layouts.previews import Previews, thumbnail
from harness.tracking.artifacts import Read

SIDE = 160  # pixels of a picture's longer side
SIGNS = {SOME: "◐", ALL: "●", NONE: "○"}
NAMED = 5  # boxes of a canvas whose names are written
GLYPH, TALL = 0.56, 1.15  # of a letter, in its size


class Tag(NamedTuple):
    x: float
    y: float
    text: str


class PageImage(NamedTuple):
    """An image as the page draws it: a picture, else boxes on an empty canvas, else its id alone."""

    width: int
    height: int
    uri: str
    boxes: tuple[tuple[float, ...], ...]
    tags: tuple[Tag, ...]
    size: float  # of a tag's letters


def pages(
    boards: Sequence[Board], registry: Registry, config: Config, read: Read
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """A page per board, by file name; a line per board without one and per unreadable picture, with the reason."""
    files: dict[str, bytes] = {}
    notes = list[str]()
    for board in (board for board in boards if board.ranked):
        try:
            files[page_name(board, registry)], own = page_of(board, registry, config, read)
            notes += (f"{board.dataset}, protocol {board.protocol}: {note}" for note in own)
        except DataError as error:
            notes.append(f"{board.dataset}, protocol {board.protocol}: no examples: {error}")
    return files, tuple(notes)


def page_name(board: Board, registry: Registry) -> str:
    """The path of a board's page from the folder of reports: in the private one unless its dataset is generated."""
    card = registry.datasets.get(board.ranked_dataset)
    return f"{PRIVATE}/{own_name(board)}" if card is None or is_private(card) else own_name(board)


def page_names(boards: Sequence[Board], registry: Registry) -> set[str]:
    """The paths of all pages that boards may have; one whose dataset has no card any more may have an older page."""
    older = {own_name(board) for board in boards if board.ranked_dataset not in registry.datasets}
    return {page_name(board, registry) for board in boards} | older


def own_name(board: Board) -> str:
    return file_name(board.dataset, f"{board.protocol}-examples", "html")


def page_of(board: Board, registry: Registry, config: Config, read: Read) -> tuple[bytes, tuple[str, ...]]:
    """The page of one board, and notes on its pictures.

    DataError where its dataset is not here as it was, or the store has no rankings.
    """
    card = registry.datasets.get(board.ranked_dataset)
    if card is None:
        raise DataError("the dataset has no card here")
    images = without_words(card) if board.tested_on else card
    if fingerprint(images, config.data, config.cache) != (board.tests or board.data):
        raise DataError("the dataset here is another than that of the board")
    examples = examples_of(board, registry.methods, read)
    if examples is None:
        raise DataError("the tracking store has no rankings of its rows; run them again with --force")
    pictures = Previews(card, config.data, config.cache)
    return webpage(examples, card, pictures).encode(), tuple(pictures.notes)


def webpage(one: Examples, card: DatasetCard, pictures: Previews) -> str:
    ids, captions = one.runs[0].images, one.runs[0].captions
    pairs = one.runs[0].pairs.tolist()[::-1]  # so that the first of several stays
    looks = {number: page_image(pictures.of_many(ids[number])) for number in images_of(one)}
    page = markup("examples.html.j2").render(
        **{
            "card": card,
            "private": is_private(card),
            "reason": REASON,
            "one": one,
            "board": one.board,
            "runs": one.runs,
            "ids": ids,
            "signs": SIGNS,
        },
        **{"captions": captions, "looks": looks, "groups": GROUPS, "first": FIRST, "points": points},
        titles={image: captions[caption] for image, caption in pairs},
        owners={caption: ids[image] for image, caption in pairs},
    )
    return str(page)


def images_of(one: Examples) -> list[int]:
    from_images, from_captions = (one.directions[direction].queries for direction in DIRECTIONS)
    numbers = {query.number for query in from_images} | {number for query in from_captions for number in query.matches}
    numbers |= {example.number for query in from_captions for answer in query.answers for example in answer.top}
    return sorted(numbers)


def points(score: float) -> str:
    return f"{score:.3f}" if abs(score) < 10 else f"{score:.4g}"


def page_image(look: Preview) -> PageImage | None:
    """An image for the page; None where nothing is known of it but its id."""
    shape = look.shape
    if shape is None:
        return None
    if look.picture is not None:
        return PageImage(*shape, thumbnail(look.picture, SIDE, shape), (), (), 0.0)
    look, size = reshaped(look, shape), max(shape) / 10
    return PageImage(*shape, "", look.boxes, tags(look, size), size)


def reshaped(look: Preview, shape: tuple[int, int]) -> Preview:
    """Boxes in the pixels of another shape of their picture."""
    across, down = (new / old for new, old in zip(shape, look.size or shape, strict=True))
    boxes = tuple((x * across, y * down, w * across, h * down) for x, y, w, h in look.boxes)
    return look._replace(size=shape, boxes=boxes)


def tags(look: Preview, size: float) -> tuple[Tag, ...]:
    taken: list[tuple[float, float, float]] = []  # left, right, foot
    width, names = (look.size or (0, 0))[0], list[Tag]()
    for (x, y, _, _), label in zip(look.boxes, look.labels, strict=False):
        text = shortened(label, width, size)
        wide = GLYPH * size * len(text)
        left = max(0.0, min(x + size / 4, width - wide))
        foot = y + TALL * size
        free = all(right < left or left + wide < other or abs(foot - low) > TALL * size for other, right, low in taken)
        if free and len(names) < NAMED:
            taken.append((left, left + wide, foot))
            names.append(Tag(left, foot, text))
    return tuple(names)
