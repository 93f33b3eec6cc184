"""What a method is. The letters, used everywhere:

N images, M captions, B batch, R regions, T tokens, L vectors in a set, F feature width, D embedding width.
Images come first in every pair, scores are (N, M), higher is better, a mask is True where a vector is real.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, device, nn

ScorePrecision = Literal["fp32", "tf32", "bf16"]


class Encoded(NamedTuple):
    """A batch of padded vector sets; one global embedding is a set of length 1."""

    vectors: Tensor  # (B, L, D) float
    mask: Tensor  # (B, L) bool, True where a vector is real


class Batch(NamedTuple):
    """One training step: B matching pairs, and which images and captions match each other."""

    regions: Tensor  # (B, R, F) float
    region_mask: Tensor  # (B, R) bool
    tokens: Tensor  # (B, T) int
    token_mask: Tensor  # (B, T) bool
    positives: Tensor  # (B, B) bool, row image, column caption; the diagonal and every other true match
    hardest: bool = True  # the hardest negative, or (in the first epochs) all of them


class Scorer(NamedTuple):
    """What may score encoded sets in the place of a method, in the same three steps."""

    image_side: Callable[[Encoded], Any]
    caption_side: Callable[[Encoded], Any]
    score_sides: Callable[[Any, Any], Tensor]


class Words(NamedTuple):
    """Pretrained knowledge of words, as the dataset's card names it; `blocks.encoders.WordEncoder` uses it."""

    vectors: Tensor | None = None  # (V, E) float, a row per token id
    known: Tensor | None = None  # (V,) bool, whether that id has a vector
    encoder: Callable[[], nn.Module] | None = None  # returns a pretrained `blocks.encoders.TextEncoder`


class Inputs(NamedTuple):
    """What a method must know of the data to build its layers."""

    feature_width: int  # F, geometry included
    vocabulary_size: int
    words: Words = Words()


class Method(nn.Module, ABC):
    """One paper. No optimiser, loop, logger, device or evaluation of its own.

    A subclass has a frozen dataclass `Settings` whose fields are the keys of its card's [defaults].
    """

    Settings: ClassVar[type[Any]]

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        """A method with fresh weights from torch's global generator."""
        super().__init__()
        self.settings = settings
        self.inputs = inputs

    @abstractmethod
    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """Regions (B, R, F) with mask (B, R) -> the images' vector sets."""

    @abstractmethod
    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """Token ids (B, T) with mask (B, T) -> the captions' vector sets."""

    @abstractmethod
    def score(self, images: Encoded, captions: Encoded) -> Tensor:
        """n images against m captions -> (n, m); a pair's score depends on that pair alone."""

    @property
    def tile_growth(self) -> float:
        """How many times larger than its products (n R x m T) the largest tensor of a tile is."""
        return 1.0

    def image_side(self, images: Encoded) -> Any:
        """What every tile of a row of images shares, computed once; by default the sets themselves."""
        return images

    def caption_side(self, captions: Encoded) -> Any:
        """What every tile of a column of captions shares, computed once; by default the sets themselves."""
        return captions

    def score_sides(self, images: Any, captions: Any) -> Tensor:
        """Scores (n, m) from what `image_side` and `caption_side` returned."""
        return self.score(images, captions)

    def fused(self, images: int, captions: int, precision: ScorePrecision, device: device) -> Scorer | None:
        """What scores sets of at most so many regions and words by one kernel on a GPU, without gradients.

        As exactly as the precision says; None, by default, where there is no such kernel.
        """
        return None

    def regions_of_words(self, images: Encoded, captions: Encoded) -> Tensor | None:
        """How strongly each word of a pair relates to each region, (n, m, T, R), for `harness explain`.

        At least zero, zero for padding. A word's weights over the regions where words attend; where regions attend to
        words, each region's share for the word. None for a method without attention.
        """
        return None

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """A batch -> scalar; shared losses live in `blocks.losses`."""
