"""Vision models as maps and vectors: what a picture becomes before anything is called a region."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from harness.extraction.corners import Corners, whole


class OwnView(NamedTuple):
    """What a backbone takes of one picture."""

    inputs: Tensor  # without a batch axis
    corners: Corners  # the part of the picture that it shows


class Backbone(ABC):
    """A vision model in float32 on its device; `facts` are all that decides its numbers."""

    def __init__(self, facts: Mapping[str, Any], device: torch.device, size: tuple[int, int]) -> None:
        self.facts = dict(facts)
        self.device = device
        self.size = size  # height and width of what it takes
        self.covered = (1.0, 1.0)  # shares of the height and width that the cells of its map lie on
        self.crops = False  # whether a picture as its makers show it is but the middle of it

    @abstractmethod
    def squeezed(self, picture: Image.Image, corners: Corners | None = None) -> Tensor:
        """A part of a picture in RGB, all of it unless said, resized to what the model takes; in any thread."""

    def own_view(self, picture: Image.Image) -> OwnView:
        """A picture as the makers of the model show it; all of it, squeezed, where they are not followed in that."""
        return OwnView(self.squeezed(picture), whole(picture.size))

    @abstractmethod
    def cells(self, inputs: Tensor) -> Tensor:
        """The last map (B, D, rows, columns) of a batch of inputs; DataError where the model has none."""

    @abstractmethod
    def vectors(self, inputs: Tensor) -> Tensor:
        """A vector for each input of a batch, (B, D); DataError where the model has none."""
