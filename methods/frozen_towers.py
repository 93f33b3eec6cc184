"""Pretrained dual encoders as they are, and heads that are trained on top of their frozen towers.

Regions are image embeddings that the model's image tower gave, one per image; of several their mean is taken. The text
tower is the dataset's [text] encoder, which the tokenizer's ids are of: prompts are put around captions before that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.blocks.contrastive import LARGEST_LOG_SCALE, sigmoid_loss, softmax_loss
from harness.blocks.families import EmbeddingMethod, one_vector
from harness.blocks.pooling import masked_mean
from harness.blocks.text_tower import frozen_tower
from harness.errors import DataError
from harness.method import Batch, Encoded, Inputs

Head = Literal["linear", "mlp"]


class ZeroShot(EmbeddingMethod):
    """The cosine of image and caption in the model's own space."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        prompt: str  # with {} where the caption stands; the dataset's tokenizer reads it

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.tower = frozen_tower(inputs)
        if inputs.feature_width != self.tower.width:
            raise DataError(
                f"regions have {inputs.feature_width} numbers, embeddings of the text encoder {self.tower.width}; take "
                "image embeddings of the same model, one per image, or a method that trains heads"
            )

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """(B, R, F) -> (B, 1, E), the mean over regions."""
        return one_vector(masked_mean(regions, mask))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """(B, T) -> (B, 1, E)."""
        return one_vector(self.tower(tokens, mask))

    def loss(self, batch: Batch) -> Tensor:
        """CLIP's, which nothing here is trained by."""
        images = self.encode_images(batch.regions, batch.region_mask)
        captions = self.encode_captions(batch.tokens, batch.token_mask)
        return softmax_loss((self.tower.tower.scale or 1.0) * self.score(images, captions), batch.positives)


class ResidualHead(nn.Module):
    """Unit vectors (B, F) -> (B, E): x + f(x), f linear or an MLP that starts at zero.

    Where F is not E, a linear layer of x stands for x.
    """

    def __init__(self, kind: Head, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.skip = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs, bias=False)
        last = nn.Linear(width if kind == "mlp" else inputs, outputs)
        self.change = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), last) if kind == "mlp" else last
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """Not normalised."""
        unit = normalize(vectors, dim=-1)
        changed: Tensor = self.skip(unit) + self.change(unit)
        return changed


class TrainedHeads(EmbeddingMethod):
    """A residual head on each side's embeddings: where widths are equal, training starts at the zero-shot scores."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        prompt: str  # with {} where the caption stands; the dataset's tokenizer reads it
        head: Head
        width: int  # hidden, of an MLP
        scale: float  # of cosines, at the start; learned; 0: the pretrained model's

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.tower = frozen_tower(inputs)
        scale = settings.scale or self.tower.tower.scale
        if not scale:
            raise DataError("the dataset's [text] encoder has no scale of its own; give settings.*.scale a number")
        self.image_head = ResidualHead(settings.head, inputs.feature_width, self.tower.width, settings.width)
        self.text_head = ResidualHead(settings.head, self.tower.width, self.tower.width, settings.width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """(B, R, F) -> (B, 1, E), the mean over regions through its head."""
        return one_vector(self.image_head(masked_mean(regions, mask)))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """(B, T) -> (B, 1, E)."""
        return one_vector(self.text_head(self.tower(tokens, mask)))

    def cosines(self, batch: Batch) -> Tensor:
        """(B, B)."""
        images = self.encode_images(batch.regions, batch.region_mask)
        return self.score(images, self.encode_captions(batch.tokens, batch.token_mask))


class SoftmaxHeads(TrainedHeads):
    """Heads trained by CLIP's loss."""

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.log_scale.data.clamp_(max=LARGEST_LOG_SCALE)  # beyond it no gradient would reach the scale

    def loss(self, batch: Batch) -> Tensor:
        """Mean over the batch and both directions."""
        return softmax_loss(self.log_scale.clamp(max=LARGEST_LOG_SCALE).exp() * self.cosines(batch), batch.positives)


class SigmoidHeads(TrainedHeads):
    """Heads trained by SigLIP's loss."""

    @dataclass(frozen=True)
    class Settings(TrainedHeads.Settings):
        """Settings of the card."""

        bias: float  # of scaled cosines, at the start; learned; with scale 0 the pretrained model's, where it has one

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        own = None if settings.scale else self.tower.tower.bias
        self.bias = nn.Parameter(torch.tensor(settings.bias if own is None else own))

    def loss(self, batch: Batch) -> Tensor:
        """The sum over all pairs of the batch, per image."""
        return sigmoid_loss(self.log_scale.exp() * self.cosines(batch) + self.bias, batch.positives)
