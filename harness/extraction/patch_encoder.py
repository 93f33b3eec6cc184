"""Encoders of transformers that cut pictures into patches, as networks: a map of patches, or a vector of a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from harness.errors import DataError
from harness.extraction.backbones import Backbone, OwnView
from harness.extraction.corners import Corners, whole

Vectors = Callable[[Tensor], Tensor]


class PatchEncoder(Backbone):
    """An encoder of transformers with its image processor, whose map is the last hidden state of its patches.

    `vectors_of` makes a vector of each picture, where the model has one.
    """

    def __init__(self, model: Any, processor: Any, facts: Mapping[str, Any], vectors_of: Vectors | None = None) -> None:
        self._model = model.eval()
        self._processor = processor
        self._vectors_of = vectors_of
        super().__init__(facts, next(model.parameters()).device, input_size(processor))
        self.crops = crops(processor)

    def squeezed(self, picture: Image.Image, corners: Corners | None = None) -> Tensor:
        """Resized here and not by the processor, whose own way may crop."""
        height, width = self.size
        resample = Image.Resampling(int(self._processor.resample))
        resized = picture.resize((width, height), resample, box=corners)
        return self._processed(resized, do_resize=False, do_center_crop=False)

    def own_view(self, picture: Image.Image) -> OwnView:
        """As the processor does it, its crop included; squeezed where that would keep proportions without a crop."""
        if not self.crops and "shortest_edge" in dict(self._processor.size or {}):
            return super().own_view(picture)
        return OwnView(self._processed(picture), shown(self._processor, picture.size))

    def _processed(self, picture: Image.Image, **how: bool) -> Tensor:
        pixels: Tensor = self._processor(images=picture, return_tensors="pt", **how)["pixel_values"][0]
        return pixels

    def cells(self, inputs: Tensor) -> Tensor:
        grid = grid_size(self.size, self._model.config)
        return patches(self._model(pixel_values=inputs).last_hidden_state, grid)

    def vectors(self, inputs: Tensor) -> Tensor:
        if self._vectors_of is None:
            raise DataError("the model has no vector of a whole picture; leave --pooled out for its patches")
        return self._vectors_of(inputs)


def shown(processor: Any, size: tuple[int, int]) -> Corners:
    """The part of a picture of a size that a processor shows: all of it, or what its crop in the middle leaves."""
    if not crops(processor):
        return whole(size)
    resized = dict(processor.size)
    scale = resized.get("shortest_edge", 0) / min(size)
    becomes = resized.get("width") or scale * size[0], resized.get("height") or scale * size[1]
    shares = (min(1.0, side / full) for side, full in zip(input_size(processor)[::-1], becomes, strict=True))
    across, down = (share * side for share, side in zip(shares, size, strict=True))
    left, top = (size[0] - across) / 2, (size[1] - down) / 2
    return (left, top, left + across, top + down)


def crops(processor: Any) -> bool:
    return bool(getattr(processor, "do_center_crop", False))


def input_size(processor: Any) -> tuple[int, int]:
    """Height and width of what a processor makes of a picture; DataError where it does not say."""
    sides = processor.crop_size if crops(processor) else processor.size
    size = {key: side for key, side in dict(sides or {}).items() if side}
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
