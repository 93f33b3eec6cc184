"""A method against its textbook: the equation in a few lines, of one image and one caption at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness.config.cards import MethodCard
from harness.config.sources import load_file
from harness.contract.rule import BrokenRule, DoesNotApply, hold
from harness.contract.samples import build, close, encoded, regions, words

FUNCTION = "score"
TOLERANCE = 1e-4  # of two orders of summation in float32


def oracle_file(card: MethodCard) -> Path:
    """Where a method's textbook lies: beside the card."""
    return card.path.with_name(f"{card.name}_oracle.py")


@torch.no_grad()
def scores_are_those_of_the_oracle(card: MethodCard) -> None:
    file = oracle_file(card)
    if not file.is_file():
        raise DoesNotApply(f"no {file.name} beside the card")
    method, score = build(card), oracle_of(file)
    (images, image_mask), (tokens, token_mask) = regions(), words()
    rows = [
        [float(score(method, image[real], caption[said])) for caption, said in zip(tokens, token_mask, strict=True)]
        for image, real in zip(images, image_mask, strict=True)
    ]
    actual = method.score(*encoded(method))
    spread = torch.tensor(rows).std()
    hold(bool(spread > 0), f"{file.name} gives one score to every pair")
    close(actual, torch.tensor(rows), f"scores beside {file.name}", TOLERANCE)


def oracle_of(file: Path) -> Callable[[Any, torch.Tensor, torch.Tensor], Any]:
    """The function `score(method, regions (R, F), tokens (T,))` of a file; nothing is padded."""
    try:
        function = getattr(load_file(file), FUNCTION, None)
    except (ImportError, SyntaxError) as error:
        raise BrokenRule(f"{file} does not import: {error}") from error
    if not callable(function):
        raise BrokenRule(f"{file} has no function {FUNCTION}(method, regions, tokens)")
    return function  # type: ignore[no-any-return]
