"""A method whose scores anybody can add up."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.blocks.families import FragmentMethod
from harness.method import Encoded

CPU = torch.device("cpu")


class Sums(FragmentMethod):
    """Sum of all inner products; out of memory where a tile has more than `room` of them."""

    room = 10**9
    rows = 0

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        return Encoded(regions, mask)

    encode_captions = encode_images

    def image_side(self, images: Encoded) -> Tensor:
        self.rows += 1
        return images.vectors * images.mask[..., None]

    caption_side = image_side

    def score_sides(self, images: Tensor, captions: Tensor) -> Tensor:
        if images[..., 0].numel() * captions[..., 0].numel() > self.room:
            raise torch.OutOfMemoryError("too large")
        return torch.einsum("nrd,mtd->nm", images, captions)
