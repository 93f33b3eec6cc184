"""A small fragment method of a card, and its tiled scores against its textbook formula, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from textbook.formula import formula, scores
from torch import Tensor

import methods
from harness.blocks.tiles import in_tiles
from harness.config.cards import MethodCard, read_card
from harness.config.registry import load_class
from harness.method import Batch, Encoded, Inputs

SMALL = {"dim": 12, "word_dim": 8, "width": 5}
COUNTS, LENGTHS = (1, 5, 3, 4), (6, 2, 4, 3, 1)  # of regions and words: one of either among them


def small(name: str, **changes: object) -> Any:
    """A method in float64, its parameters away from the special points where they start; in evaluation mode."""
    card = read_card(MethodCard, Path(methods.__path__[0]) / f"{name}.toml")
    sizes = {key: size for key, size in SMALL.items() if key in card.defaults}
    torch.manual_seed(1)
    kind = load_class(card)
    method = kind(kind.Settings(**{**card.defaults, **sizes, **changes}), Inputs(feature_width=7, vocabulary_size=30))
    for parameter in method.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return method.double().eval()


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Regions and tokens of random numbers with their masks, padding included."""
    torch.manual_seed(2)
    region_mask = torch.arange(max(COUNTS)) < torch.tensor(COUNTS)[:, None]
    token_mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    regions = torch.randn(*region_mask.shape, 7, dtype=torch.float64)
    return regions, region_mask, torch.randint(4, 30, token_mask.shape), token_mask


def encoded(method: Any) -> tuple[Encoded, Encoded]:
    regions, region_mask, tokens, token_mask = inputs()
    return method.encode_images(regions, region_mask), method.encode_captions(tokens, token_mask)


def step(hardest: bool = True) -> Batch:
    """Four pairs, of one region and of one word among them."""
    regions, region_mask, tokens, token_mask = inputs()
    return Batch(regions, region_mask, tokens[1:], token_mask[1:], torch.eye(4, dtype=torch.bool), hardest)


def agrees_with_its_textbook(
    name: str, method: Any, vectors: int, relative: float = 1e-8, absolute: float = 1e-10
) -> None:
    """Scores in tiles of so many vectors, and the gradient of every parameter within these tolerances."""
    weight = torch.randn(len(COUNTS), len(LENGTHS), dtype=torch.float64)
    results = {}
    for who, call in (
        ("ours", lambda: in_tiles(method, *encoded(method), vectors)),
        ("textbook", lambda: scores(formula(name, method), *encoded(method))),
    ):
        method.zero_grad()
        matrix = call()
        (matrix * weight).sum().backward()
        results[who] = matrix.detach(), {key: value.grad for key, value in method.named_parameters()}
    torch.testing.assert_close(results["ours"][0], results["textbook"][0], rtol=1e-9, atol=1e-12)
    assert results["textbook"][0].std() > 1e-3
    for key, gradient in results["textbook"][1].items():
        torch.testing.assert_close(
            *(results["ours"][1][key], gradient),
            **{"rtol": relative, "atol": absolute, "msg": lambda text, key=key: f"{key}: {text}"},
        )


def padding_decides_nothing(method: Any) -> None:
    """Neither a score nor a gradient depends on what stands in the padding of encoded sets."""
    clean = encoded(method)
    noisy = [Encoded(of.vectors.detach() + 5.0 * ~of.mask.unsqueeze(2), of.mask) for of in clean]
    for of in noisy:
        of.vectors.requires_grad_()
    matrix = method.score(*noisy)
    torch.testing.assert_close(matrix, method.score(*clean))
    matrix.square().sum().backward()
    assert all(of.vectors.grad is not None and not of.vectors.grad[~of.mask].any() for of in noisy)


def one_region_and_one_word_train(method: Any) -> None:
    """A step with an image of one region and a caption of one word gives finite gradients."""
    for hardest in (True, False):
        method.train().zero_grad()
        loss = method.loss(step(hardest))
        loss.backward()
        assert loss.isfinite()
        assert all(parameter.grad.isfinite().all() for parameter in method.parameters() if parameter.grad is not None)


def stays_close_under_autocast(method: Any, tolerance: float) -> None:
    """Scores of half-precision products are summed in float32, and gradients are finite."""
    sets = [Encoded(of.vectors.detach().float().requires_grad_(), of.mask) for of in encoded(method)]
    method.float()
    exact = in_tiles(method, *sets)
    with torch.autocast("cpu", torch.bfloat16):
        half = in_tiles(method, *sets)
    assert half.dtype is torch.float32
    torch.testing.assert_close(half, exact, rtol=0, atol=tolerance)
    half.sum().backward()
    assert all(of.vectors.grad is not None and of.vectors.grad.isfinite().all() for of in sets)
