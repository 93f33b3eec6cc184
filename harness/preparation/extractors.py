"""What a vision model makes of pictures: the patches of a grid, or the objects that it finds, each with its box."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from harness.data.regions import Floats, Ints
from harness.errors import DataError, ResourceError, UsageError


class Pixels(NamedTuple):
    inputs: dict[str, Tensor]  # without a batch axis
    size: tuple[int, int]  # width and height of the picture itself


class Seen(NamedTuple):
    regions: Floats  # (R, F)
    boxes: Floats  # (R, 4), x, y, width, height in pixels of the picture itself


class Extractor(ABC):
    """A vision model of transformers, in float32, with its image processor; `origin` says what decides its numbers."""

    def __init__(self, model: Any, processor: Any, origin: dict[str, Any]) -> None:
        self._model = model.eval()
        self._processor = processor
        self._device = next(model.parameters()).device
        self.origin = origin

    @abstractmethod
    def prepare(self, picture: Image.Image) -> Pixels:
        """What the model takes of an RGB picture; may be called in any thread."""

    @abstractmethod
    def read(self, outputs: Any, sizes: Floats) -> list[Seen]:
        """What the model's outputs say of n pictures of some sizes (n, 2), width and height."""

    def see(self, pictures: Sequence[Pixels]) -> list[Seen]:
        """What the model makes of pictures; ResourceError where the device has no room for all of them at once.

        Only pictures of one shape go through the model together: none is padded, so its numbers are its own.
        """
        alike: dict[object, list[int]] = defaultdict(list)
        for place, picture in enumerate(pictures):
            alike[tuple((name, *one.shape) for name, one in picture.inputs.items())].append(place)
        seen: dict[int, Seen] = {}
        for places in alike.values():
            seen.update(zip(places, self._see_alike([pictures[place] for place in places]), strict=True))
        return [seen[place] for place in range(len(pictures))]

    def _see_alike(self, pictures: Sequence[Pixels]) -> list[Seen]:
        sizes = np.array([picture.size for picture in pictures], dtype=np.float32)
        names = pictures[0].inputs
        try:
            # the GPU's short cut for float32 convolutions keeps ten bits of a number
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                inputs = {name: torch.stack([one.inputs[name] for one in pictures]).to(self._device) for name in names}
                return self.read(self._model(**inputs), sizes)
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"{self._device} has no room for {len(pictures)} pictures at a time; what is done is kept: "
                "give the command again with a smaller --batch-size"
            ) from error


class PatchGrid(Extractor):
    """An encoder that cuts a picture into patches: a region is a patch, or the mean of some.

    The whole picture is resized, without a crop, so that every pixel lies in a region; its proportions are lost. With
    `pool` the patches are averaged to pool x pool regions; UsageError where that is more than there are.
    """

    def __init__(self, model: Any, processor: Any, origin: dict[str, Any], pool: int | None = None) -> None:
        self._input = input_size(processor)
        rows, columns = grid_size(self._input, model.config)
        if pool is not None and pool > min(rows, columns):
            raise UsageError(f"--pool {pool}: the model makes {rows} x {columns} patches of a picture; take fewer")
        self._grid = (rows, columns)
        self._pool = (pool, pool) if pool else self._grid
        self._shares = self._boxes_as_shares(model.config)
        own = {"kind": "patches", "input": list(self._input), "patches": [rows, columns], "regions": list(self._pool)}
        super().__init__(model, processor, {**own, **origin})

    def prepare(self, picture: Image.Image) -> Pixels:
        """Resized here and not by the processor, whose own way may crop."""
        height, width = self._input
        whole = picture.resize((width, height), Image.Resampling(int(self._processor.resample)))
        inputs = self._processor(images=whole, do_resize=False, do_center_crop=False, return_tensors="pt")
        return Pixels({"pixel_values": inputs["pixel_values"][0]}, picture.size)

    def read(self, outputs: Any, sizes: Floats) -> list[Seen]:
        regions = numbers(pooled(patches(outputs.last_hidden_state, self._grid), self._pool))
        return [Seen(one, self._shares * np.tile(size, 2)) for one, size in zip(regions, sizes, strict=True)]

    def _boxes_as_shares(self, config: Any) -> Floats:
        """x, y, width and height of every region as shares of the picture, (R, 4)."""
        axes = []
        for cells, bins, side, patch in zip(self._grid, self._pool, self._input, pair(config.patch_size), strict=True):
            starts = np.arange(bins) * cells // bins
            ends = -(-np.arange(1, bins + 1) * cells // bins)
            axes.append(np.stack([starts, ends - starts]) * patch / side)
        (y, height), (x, width) = axes
        rows, columns = len(y), len(x)
        boxes = [np.tile(x, rows), np.repeat(y, columns), np.tile(width, rows), np.repeat(height, columns)]
        return np.stack(boxes, axis=1).astype(np.float32)


class Detector(Extractor):
    """An object detector of the DETR kind: a region is a box that it finds, its features the box's last hidden state.

    The `most` boxes of the highest scores are taken, of these only such with at least `threshold`, but one always.
    """

    def __init__(self, model: Any, processor: Any, origin: dict[str, Any], most: int, threshold: float = 0.0) -> None:
        self._most = most
        self._threshold = threshold
        self._takes = {"pixel_values", "pixel_mask"} & set(inspect.signature(model.forward).parameters)
        super().__init__(model, processor, {"kind": "boxes", "most": most, "threshold": threshold, **origin})

    def prepare(self, picture: Image.Image) -> Pixels:
        """As the model's processor does it; a picture that it cannot resize is a ValueError."""
        inputs = self._processor(images=picture, return_tensors="pt")
        return Pixels({name: inputs[name][0] for name in self._takes if name in inputs}, picture.size)

    def read(self, outputs: Any, sizes: Floats) -> list[Seen]:
        scores = numbers(object_scores(outputs.logits, self._model.config.num_labels))
        states = numbers(box_states(outputs.last_hidden_state, scores.shape[1]))
        boxes = numbers(outputs.pred_boxes)
        places = [best(of_one, self._most, self._threshold) for of_one in scores]
        return [
            Seen(states[image, own], in_pixels(boxes[image, own], sizes[image])) for image, own in enumerate(places)
        ]


def input_size(processor: Any) -> tuple[int, int]:
    """Height and width of what a processor makes of a picture; DataError where it does not say."""
    crops = bool(getattr(processor, "do_center_crop", False))
    size = {key: side for key, side in dict((processor.crop_size if crops else processor.size) or {}).items() if side}
    if {"height", "width"} <= set(size):
        return size["height"], size["width"]
    if "shortest_edge" in size:
        return size["shortest_edge"], size["shortest_edge"]
    raise DataError(f"the model's image processor makes pictures of no one size ({size}); take another model")


def grid_size(size: tuple[int, int], config: Any) -> tuple[int, int]:
    """Rows and columns of patches in an input of a size; DataError where the model is none of patches."""
    patch = getattr(config, "patch_size", None)
    if not isinstance(patch, int | list | tuple) or len(pair(patch)) != 2:
        raise DataError(
            f"a {config.model_type} model cuts no picture into patches; take a ViT, CLIP, DINO or SigLIP one"
        )
    rows, columns = (side // each for side, each in zip(size, pair(patch), strict=True))
    return rows, columns


def pair(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def patches(states: Tensor, grid: tuple[int, int]) -> Tensor:
    """The hidden states (B, L, D) of patches as (B, D, rows, columns).

    Tokens that are no patch (class, distillation, registers) stand before them: what is left over is theirs.
    """
    rows, columns = grid
    others = states.shape[1] - rows * columns if states.ndim == 3 else -1
    if others < 0:
        raise DataError(
            f"the model gives shape {tuple(states.shape[1:])}, no row for each of {rows} x {columns} patches: "
            "take a plain ViT, CLIP, DINO or SigLIP one"
        )
    return states[:, others:].transpose(1, 2).reshape(len(states), -1, rows, columns)


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
    raise DataError(f"the model gives {logits.shape[2]} scores a box, its config names {classes} classes; take another")


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
