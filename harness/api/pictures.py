"""Pictures for notebooks: a board's plots, and images of a dataset side by side. Drawn when they are shown or saved."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness.api.frames import RETRIEVED
from harness.board import drawing
from harness.board.drawing import BLUE, POINTS, add_box, canvas, shortened
from harness.board.plots import WIDTH, Paint, Plot
from harness.data.content import Preview
from harness.errors import StoreError, UsageError, unknown
from harness.files import write_atomic
from harness.layouts.previews import Previews

if TYPE_CHECKING:
    from harness.board.drawing import Axes, Figure

PIXELS = 2.0  # per point, for screens of high density
FORMS = (".png", ".svg")
MOST, COLUMNS = 100, 5  # images of a sheet, and in a row
SIDE, GAP, MARGIN = 120.0, 12.0, 8.0  # of an image, between two, around all; points
TITLE, TEXT, LINE = 12.0, 9.0, 1.45  # sizes of text, and of a line in its size
HEAD, BELOW = 24.0, 30.0  # points of the title, and of what is written below an image
PAPER = "#f5f6f8"  # the ground of an image without a picture


@dataclass(frozen=True, repr=False)
class Picture:
    """A picture that a notebook shows, as PNG, and that can be saved."""

    title: str
    description: str  # what it shows, in words
    size: tuple[float, float]  # width and height in inches
    paint: Paint
    layout: Literal["constrained"] | None = None

    def png(self) -> bytes:
        """The picture on white, as PNG."""
        with canvas(*self.size, self.layout) as figure:
            self.paint(figure)
            return drawing.png(figure, PIXELS)

    def svg(self) -> bytes:
        """The picture on no ground, as SVG with its title and description."""
        with canvas(*self.size, self.layout) as figure:
            self.paint(figure)
            return drawing.svg(figure, self.title, self.description)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write it to a file whose name ends in .png or .svg, in place of an earlier one; the path.

        UsageError for another ending, StoreError where the file cannot be written.
        """
        file = Path(path).expanduser()
        if file.suffix.lower() not in FORMS:
            raise UsageError(f"{file}: give a name that ends in {' or '.join(FORMS)}")
        content = self.svg() if file.suffix.lower() == ".svg" else self.png()
        try:
            write_atomic(file, content)
        except OSError as error:
            raise StoreError(f"{file} cannot be written: {error}; name a file in another folder") from error
        return file

    def _repr_png_(self) -> bytes:
        return self.png()

    def __repr__(self) -> str:
        """What it shows, for readers without a screen of pictures."""
        return f"<picture: {self.title}: {self.description}>"


def plot_picture(plots: Iterable[Plot], name: str) -> Picture:
    """One of a board's plots; UsageError for an unknown name, and where there is nothing to draw, with the reason."""
    known = {Path(plot.file).stem: plot for plot in plots}
    if name not in known:
        raise UsageError(unknown("plot", name, known))
    plot = known[name]
    if plot.paint is None:
        raise UsageError(f"{plot.title}: there is nothing to draw: {plot.note}")
    return Picture(plot.title, "; ".join(plot.numbers), (WIDTH, plot.height), plot.paint, "constrained")


class SheetImage(NamedTuple):
    """An image of a sheet, with what is written below it."""

    name: str
    note: str
    look: Preview


def ids_and_notes(images: Any) -> list[tuple[str, str]]:
    """Ids of images, each with a note: its rank and score in a frame of retrieved items, else empty."""
    if hasattr(images, "columns"):
        if not {*RETRIEVED} <= {*images.columns}:
            raise UsageError(f"images: give ids, or a frame that `retrieve` returned, with {', '.join(RETRIEVED)}")
        lines = images[[*RETRIEVED]].itertuples(index=False)
        return [(str(item), f"{rank}: {score:.3f}") for rank, item, score in lines]
    return [(str(image), "") for image in ([images] if isinstance(images, str) else images)]


def check_ids(names: Iterable[str], splits: Iterable[Sequence[str]]) -> None:
    """UsageError with the nearest ids for an image that is in no split; splits are looked through until all are met."""
    missing, known = {*names}, set[str]()
    for ids in splits:
        if missing <= known:
            return
        known.update(ids)
    for name in sorted(missing - known):
        raise UsageError(unknown("image", name, known))


def sheet(images: Sequence[tuple[str, str]], previews: Previews, title: str) -> Picture:
    """Images of a dataset side by side, each with its id and a note; UsageError for none or too many.

    One whose picture cannot be read is its id alone, and a warning says why.
    """
    if not 1 <= len(images) <= MOST:
        raise UsageError(f"images: give 1 to {MOST} ids, not {len(images)}")
    shown = [SheetImage(name, note, previews.of_many(name)) for name, note in images]
    for warning in previews.notes:
        warnings.warn(warning, stacklevel=3)  # of the caller of Project.pictures
    rows, columns = ceil(len(shown) / COLUMNS), min(len(shown), COLUMNS)
    width = 2 * MARGIN + columns * (SIDE + GAP) - GAP
    height = 2 * MARGIN + HEAD * bool(title) + rows * (SIDE + BELOW + GAP) - GAP
    description = ", ".join(f"{note} {name}".strip() for name, note in images)
    size = width / POINTS, height / POINTS
    return Picture(title or "images", description, size, lambda figure: paint_sheet(figure, shown, title))


def paint_sheet(figure: Figure, images: Sequence[SheetImage], title: str) -> None:
    """Draw the title, then the images in rows."""
    width, height = (POINTS * side for side in figure.get_size_inches())
    head = shortened(title, width - 2 * MARGIN, TITLE, bold=True)
    figure.text(MARGIN / width, 1 - (MARGIN + TITLE) / height, head, size=TITLE, weight="bold", va="baseline")
    for place, image in enumerate(images):
        left = MARGIN + place % COLUMNS * (SIDE + GAP)
        top = MARGIN + HEAD * bool(title) + place // COLUMNS * (SIDE + BELOW + GAP)
        axes = figure.add_axes((left / width, 1 - (top + SIDE) / height, SIDE / width, SIDE / height))
        paint_look(axes, image.look)
        for line, text in enumerate(filter(None, [image.note, image.name]), start=1):
            axes.text(0, SIDE + line * LINE * TEXT, shortened(text, SIDE, TEXT), size=TEXT, va="baseline")


def paint_look(axes: Axes, look: Preview) -> None:
    """Draw a picture within the axes, which are SIDE points wide and high; without one its boxes, or plain ground."""
    axes.set_axis_off()
    axes.set_xlim(0, SIDE)
    axes.set_ylim(SIDE, 0)
    shape = look.shape or (1, 1)
    wide, tall = (SIDE * side / max(shape) for side in shape)
    if look.picture is not None:
        axes.imshow(look.picture.convert("RGB"), extent=(0, wide, tall, 0), aspect="auto", clip_on=False)
        return
    add_box(axes, (0, 0, wide, tall), facecolor=PAPER, lw=0)
    across, down = (side / own for side, own in zip((wide, tall), look.size or shape, strict=True))
    for x, y, w, h in look.boxes:
        add_box(axes, (x * across, y * down, (x + w) * across, (y + h) * down), fill=False, edgecolor=BLUE, lw=0.8)
