"""Regions of pictures: the cells of a model's map, its vector of all of a picture, or the objects that it finds."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from harness.data.regions import Floats, Ints, grid_boxes
from harness.errors import DataError, ResourceError, UsageError
from harness.extraction.backbones import Backbone
from harness.extraction.corners import Corners

NO_BOXES = np.zeros((0, 4), dtype=np.float32)
TRIED = (96, 64)  # width and height of the picture that shows whether a model works


class Pixels(NamedTuple):
    inputs: dict[str, Tensor]  # without a batch axis
    size: tuple[int, int]  # width and height of the picture itself
    boxes: Floats = NO_BOXES  # (R, 4) of the regions, where they are known before the model sees the picture


class Seen(NamedTuple):
    regions: Floats  # (R, F)
    boxes: Floats  # (R, 4), x, y, width, height in pixels of the picture itself


class Extractor(ABC):
    """What makes regions of pictures with a vision model; `origin` says what decides its numbers."""

    def __init__(self, device: torch.device, origin: dict[str, Any]) -> None:
        self.device = device
        self.origin = origin

    @property
    def on_cores(self) -> bool:
        """Whether the model computes on the cores that read pictures."""
        return self.device.type == "cpu"

    @abstractmethod
    def prepare(self, picture: Image.Image, image: str = "") -> Pixels:
        """What the model takes of an RGB picture of an id; may be called in any thread."""

    @abstractmethod
    def regions_of(self, pictures: Sequence[Pixels]) -> list[Seen]:
        """What the model makes of pictures."""

    def see(self, pictures: Sequence[Pixels]) -> list[Seen]:
        """What the model makes of pictures, in any thread; ResourceError where the device has no room for them."""
        try:
            with torch.inference_mode(), self._in_full_precision():
                return self.regions_of(pictures)
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"{self.device} has no room for {len(pictures)} pictures at a time; what is done is kept: "
                "give the command again with a smaller --batch-size"
            ) from error

    def _in_full_precision(self) -> AbstractContextManager[None]:
        """Without the GPU's short cut for float32 convolutions, which keeps ten bits of a number.

        It is switched for the whole process: threads that see batches on cores side by side would restore it wrongly.
        """
        return nullcontext() if self.on_cores else torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


class CellGrid(Extractor):
    """A region is a cell of the model's last map, or the mean of some: row by row from the top left.

    The whole picture is resized, without a crop, so that every pixel lies in a region; its proportions are lost. With
    `pool` the cells are averaged to pool x pool regions; UsageError where that is more than there are.
    """

    def __init__(self, backbone: Backbone, pool: int | None = None) -> None:
        self.backbone = backbone
        cells = map_size(backbone)
        if pool is not None and pool > min(cells):
            rows, columns = cells
            raise UsageError(f"--pool {pool}: the model makes {rows} x {columns} patches of a picture; take fewer")
        self._pool = (pool, pool) if pool else cells
        self._shares = cell_shares(cells, self._pool, backbone.covered)
        own = {"kind": "patches", "input": list(backbone.size), "patches": list(cells), "regions": list(self._pool)}
        super().__init__(backbone.device, {**own, **backbone.facts})

    def prepare(self, picture: Image.Image, image: str = "") -> Pixels:
        boxes = self._shares * np.tile(np.array(picture.size, dtype=np.float32), 2)
        return Pixels({"picture": self.backbone.squeezed(picture)}, picture.size, boxes)

    def regions_of(self, pictures: Sequence[Pixels]) -> list[Seen]:
        cells = self.backbone.cells(batch_of(pictures, "picture").to(self.device))
        return seen_together(numbers(pooled(cells, self._pool)), pictures)


class Pooled(Extractor):
    """The only region of a picture is all that its model shows of it, its numbers the model's own vector of it."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        super().__init__(
            backbone.device,
            {"kind": "embedding", "input": list(backbone.size), "crop": backbone.crops, **backbone.facts},
        )

    def prepare(self, picture: Image.Image, image: str = "") -> Pixels:
        view = self.backbone.own_view(picture)
        return Pixels({"picture": view.inputs}, picture.size, as_boxes([view.corners]))

    def regions_of(self, pictures: Sequence[Pixels]) -> list[Seen]:
        vectors = self.backbone.vectors(batch_of(pictures, "picture").to(self.device))
        return seen_together(numbers(vectors)[:, None], pictures)


class Detector(Extractor):
    """An object detector of the DETR kind: a region is a box that it finds, its features the box's last hidden state.

    The `most` boxes of the highest scores are taken, of these only such with at least `threshold`, but one always.
    """

    def __init__(self, model: Any, processor: Any, origin: dict[str, Any], most: int, threshold: float = 0.0) -> None:
        self._model = model.eval()
        self._processor = processor
        self._most = most
        self._threshold = threshold
        self._takes = {"pixel_values", "pixel_mask"} & set(inspect.signature(model.forward).parameters)
        device = next(model.parameters()).device
        super().__init__(device, {"kind": "boxes", "most": most, "threshold": threshold, **origin})

    def prepare(self, picture: Image.Image, image: str = "") -> Pixels:
        """As the model's processor does it; a picture that it cannot resize is a ValueError."""
        inputs = self._processor(images=picture, return_tensors="pt")
        return Pixels({name: inputs[name][0] for name in self._takes if name in inputs}, picture.size)

    def regions_of(self, pictures: Sequence[Pixels]) -> list[Seen]:
        """Only pictures of one shape go through the model together: none is padded, so its numbers are its own."""
        alike: dict[object, list[int]] = defaultdict(list)
        for place, picture in enumerate(pictures):
            alike[tuple((name, *one.shape) for name, one in picture.inputs.items())].append(place)
        seen: dict[int, Seen] = {}
        for places in alike.values():
            seen.update(zip(places, self._see_alike([pictures[place] for place in places]), strict=True))
        return [seen[place] for place in range(len(pictures))]

    def _see_alike(self, pictures: Sequence[Pixels]) -> list[Seen]:
        sizes = np.array([picture.size for picture in pictures], dtype=np.float32)
        inputs = {name: batch_of(pictures, name).to(self.device) for name in pictures[0].inputs}
        outputs = self._model(**inputs)
        scores = numbers(object_scores(outputs.logits, self._model.config.num_labels))
        states = numbers(box_states(outputs.last_hidden_state, scores.shape[1]))
        boxes = numbers(outputs.pred_boxes)
        places = [best(of_one, self._most, self._threshold) for of_one in scores]
        return [
            Seen(states[image, own], in_pixels(boxes[image, own], sizes[image])) for image, own in enumerate(places)
        ]


def map_size(backbone: Backbone) -> tuple[int, int]:
    """Rows and columns of a backbone's map, tried on a black picture; DataError where it has none."""
    with torch.inference_mode():
        black = backbone.squeezed(Image.new("RGB", TRIED))
        _, _, rows, columns = backbone.cells(black[None].to(backbone.device)).shape
    return rows, columns


def check_vectors(backbone: Backbone) -> None:
    """DataError where a backbone has no vector of a black picture."""
    with torch.inference_mode():
        backbone.vectors(backbone.squeezed(Image.new("RGB", TRIED))[None].to(backbone.device))


def cell_shares(cells: tuple[int, int], regions: tuple[int, int], covered: tuple[float, float]) -> Floats:
    """x, y, width and height of every region as shares of the picture, (R, 4), where regions are means of cells."""
    axes = []
    for count, bins, share in zip(cells, regions, covered, strict=True):
        starts = np.arange(bins) * count // bins
        ends = -(-np.arange(1, bins + 1) * count // bins)
        axes.append(np.stack([starts, ends - starts], axis=1) * share / count)
    return grid_boxes(*axes)


def batch_of(pictures: Sequence[Pixels], name: str) -> Tensor:
    return torch.stack([picture.inputs[name] for picture in pictures])


def seen_together(regions: Floats, pictures: Sequence[Pixels]) -> list[Seen]:
    return [Seen(own, picture.boxes) for own, picture in zip(regions, pictures, strict=True)]


def as_boxes(corners: Sequence[Corners]) -> Floats:
    """Corners (R, 4) as x, y, width, height."""
    first, last = np.split(np.array(corners, dtype=np.float64).reshape(-1, 4), 2, axis=1)
    return np.concatenate([first, last - first], axis=1).astype(np.float32)


def pooled(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cells (B, D, rows, columns) averaged to a grid, as regions (B, R, D)."""
    if cells.shape[2:] != grid:
        cells = functional.adaptive_avg_pool2d(cells, grid)
    regions: Tensor = cells.flatten(2).transpose(1, 2)
    return regions


def object_scores(logits: Tensor, classes: int) -> Tensor:
    """The best score of every box for a class, (B, Q), from logits (B, Q, classes).

    A further class means "no object", and all share one probability; else each class has its own.
    """
    if logits.shape[2] == classes + 1:
        return logits.softmax(2)[..., :-1].amax(2)
    if logits.shape[2] == classes:
        return logits.sigmoid().amax(2)
    raise DataError(f"the model gives {logits.shape[2]} scores per box, its config has {classes} classes; take another")


def box_states(states: Tensor | None, boxes: int) -> Tensor:
    """Hidden states (B, Q, D) of boxes; where patches have states too, they stand before those."""
    if states is None or states.ndim != 3 or states.shape[1] < boxes:
        raise DataError("the model gives no hidden state of every box; take one of the DETR kind")
    return states[:, -boxes:]


def best(scores: Floats, most: int, threshold: float) -> Ints:
    """Places of the highest of some scores (Q,), the first among equals; one at least, even where all are too low."""
    places = np.argsort(-scores, kind="stable")[:most]
    return places[: max(1, int((scores[places] >= threshold).sum()))]


def numbers(tensor: Tensor) -> Floats:
    array: Floats = tensor.float().cpu().numpy()
    return array


def in_pixels(boxes: Floats, size: Floats) -> Floats:
    """Boxes (R, 4) as centre, width, height in shares of a picture -> x, y, width, height in its pixels, cut to it."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    first, last = (np.clip(corner, 0, 1) * size for corner in (centre - half, centre + half))
    return np.concatenate([first, last - first], axis=1)
