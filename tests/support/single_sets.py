"""Methods with one vector per side against their textbook, which takes one image and one caption at a time."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import methods
from harness.config.cards import MethodCard, read_card
from harness.config.registry import load_class
from harness.method import Batch, Inputs, Method

SIZES, LENGTHS = (1, 5, 3, 4), (6, 1, 4, 2)  # one region, one token
SMALL = {"dim": 12, "word_dim": 8, "width": 6}
DOUBLE = torch.float64


def textbook(name: str) -> Any:
    """The formulas of a method's module."""
    return import_module(f"textbook.{name}")


def build(name: str, **changes: Any) -> Method:
    """A small method in float64 without dropout, moved away from special points where parts start."""
    card = read_card(MethodCard, Path(methods.__path__[0]) / f"{name}.toml")
    small = {key: value for key, value in SMALL.items() if key in card.defaults}
    torch.manual_seed(1)
    kind = load_class(card)
    method = kind(kind.Settings(**{**card.defaults, **small, **changes}), Inputs(feature_width=7, vocabulary_size=30))
    for parameter in method.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for key, value in method.named_buffers():
        if "running" in key:
            value += torch.rand_like(value)
    return method.double().eval()


def batch(hardest: bool = True) -> Batch:
    """Four pairs of random sizes; the last two share their image."""
    torch.manual_seed(2)
    regions, tokens = torch.randn(4, 5, 7, dtype=DOUBLE), torch.randint(4, 30, (4, 6))
    masks = [torch.arange(most) < torch.tensor(sizes)[:, None] for most, sizes in ((5, SIZES), (6, LENGTHS))]
    regions[2], masks[0][2] = regions[3], masks[0][3]
    positives = torch.eye(4, dtype=torch.bool)
    positives[2:, 2:] = True
    return Batch(regions, masks[0], tokens, masks[1], positives, hardest)


def vectors(method: Method) -> tuple[Tensor, Tensor]:
    """The method's own, (B, D) a side."""
    of = batch()
    images = method.encode_images(of.regions, of.region_mask)
    return images.vectors[:, 0], method.encode_captions(of.tokens, of.token_mask).vectors[:, 0]


def textbook_vectors(method: Any, formulas: Any) -> tuple[Tensor, Tensor]:
    """Those of the textbook, which takes the states of the method's word encoder."""
    of = batch()
    images = [formulas.image(method, x[real]) for x, real in zip(of.regions, of.region_mask, strict=True)]
    states = [
        method.words(x[real][None], real[real][None])[0] for x, real in zip(of.tokens, of.token_mask, strict=True)
    ]
    return torch.stack(images), torch.stack([formulas.caption(method, words) for words in states])


def equal_with_gradients(method: Method, ours: Callable[[], Tensor], theirs: Callable[[], Tensor]) -> None:
    """Two ways to one tensor, which also gives every parameter the same gradient."""
    values, gradients = zip(*(_results(method, call) for call in (ours, theirs)), strict=True)
    torch.testing.assert_close(*values, rtol=1e-9, atol=1e-10)
    for key in gradients[0]:
        torch.testing.assert_close(
            *(of[key] for of in gradients), rtol=1e-7, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}"
        )


def _results(method: Method, call: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    method.zero_grad()
    result = call()
    weight = torch.randn(result.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(3))
    (result * weight).sum().backward()
    gradients = {key: torch.zeros_like(of) if of.grad is None else of.grad for key, of in method.named_parameters()}
    return result.detach(), gradients


def vectors_equal_the_textbook(name: str, **changes: Any) -> None:
    """Vectors of both sides and their gradients."""
    method = build(name, **changes)
    formulas = textbook(type(method).__module__.rpartition(".")[2])
    equal_with_gradients(
        method, lambda: torch.cat(vectors(method)), lambda: torch.cat(textbook_vectors(method, formulas))
    )
