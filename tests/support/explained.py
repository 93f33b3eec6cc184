"""Explanations of made-up weights over made-up regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

from PIL import Image

from harness.config.cards import DatasetCard, read_card
from harness.data.content import Preview
from harness.explain.explanation import Explanation, Word

CARD = read_card(DatasetCard, Path(__file__).parents[2] / "datasets" / "scenes" / "card.toml")


class Spec(NamedTuple):
    method: str = "caan"
    dataset: str = "scenes"
    protocol: str = "full"
    seed: int = 0
    limit: int | None = None


class Trial(NamedTuple):
    spec: Spec = Spec()


def explained(boxes: Any, weights: Any, look: Preview | None = None) -> Explanation:
    """An explanation with a word for each row of weights, in a picture of 100 x 80 unless another one is given."""
    words = tuple(Word(f"word{place}", True, tuple(row)) for place, row in enumerate(weights))
    look = look or Preview((100, 80), Image.new("RGB", (100, 80), "black"))
    places = tuple(map(tuple, boxes))
    return Explanation(cast(Any, Trial()), CARD, "test", "an image", "a caption", words, places, look, 0.5, None)


def grid(across: int, down: int, width: float = 100, height: float = 80) -> list[tuple[float, ...]]:
    wide, tall = width / across, height / down
    return [(x * wide, y * tall, wide, tall) for y in range(down) for x in range(across)]
