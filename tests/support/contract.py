"""What every method must hold, as checks of a card: tests ask them of methods that begin in several ways."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
from tiny_towers import inputs_with_a_tower
from torch import Tensor

from harness.config.cards import MethodCard
from harness.config.project import Config
from harness.config.registry import load_class, settings_for
from harness.config.sections import Scalar
from harness.method import Batch, Encoded, Inputs, Method

INPUTS = Inputs(feature_width=20, vocabulary_size=50)
SMALL = Config(settings={"*": {"dim": 16, "word_dim": 12, "width": 8}})


def build(card: MethodCard, seed: int = 0, **changes: Scalar) -> Method:
    """A small method with the weights of a seed."""
    kind = load_class(card)
    torch.manual_seed(seed)
    return kind(kind.Settings(**{**settings_for(card, SMALL), **changes}), inputs_of(card)).eval()


def inputs_of(card: MethodCard, feature_width: int = 0, vocabulary_size: int = 0) -> Inputs:
    """What a method is built from: with a text tower where its card needs one."""
    sizes = feature_width or INPUTS.feature_width, vocabulary_size or INPUTS.vocabulary_size
    return (
        inputs_with_a_tower(*sizes)
        if card.text_tower
        else INPUTS._replace(feature_width=sizes[0], vocabulary_size=sizes[1])
    )


def random_sets(sizes: list[int], seed: int, width: int = 0) -> tuple[Tensor, Tensor]:
    """Padded regions (B, R, F), or token ids (B, T) without a width; and their mask. Padding is not zero."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    if width:
        return torch.randn(*mask.shape, width, generator=generator), mask
    return torch.randint(4, INPUTS.vocabulary_size, mask.shape, generator=generator), mask


def regions(count: int = 9) -> tuple[Tensor, Tensor]:
    return random_sets([3 + k % 4 for k in range(count)], seed=1, width=INPUTS.feature_width)


def words(count: int = 11) -> tuple[Tensor, Tensor]:
    return random_sets([2 + k % 6 for k in range(count)], seed=2)


def encoded(method: Method) -> tuple[Encoded, Encoded]:
    return method.encode_images(*regions()), method.encode_captions(*words())


def rows(sets: Encoded, places: Any) -> Encoded:
    return Encoded(sets.vectors[places], sets.mask[places])


def padded(sets: tuple[Tensor, Tensor], by: int = 3) -> tuple[Tensor, Tensor]:
    """The same sets with further padding, of other values than zero."""
    values, mask = sets
    more = torch.full((len(values), by, *values.shape[2:]), 7, dtype=values.dtype)
    return torch.cat([values, more], 1), torch.cat([mask, torch.zeros(len(mask), by, dtype=torch.bool)], 1)


def batch(hardest: bool = True) -> Batch:
    """Eight pairs of random regions and words; the first two share their image."""
    images, mask = regions(8)
    positives = torch.eye(8, dtype=torch.bool)
    for values in (images, mask):
        values[1] = values[0]
    positives[:2, :2] = True
    return Batch(images, mask, *words(8), positives, hardest)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def padding_changes_no_score(card: MethodCard) -> None:
    method = build(card)
    more = method.score(method.encode_images(*padded(regions())), method.encode_captions(*padded(words())))
    close(more, method.score(*encoded(method)))


@torch.no_grad()
def the_values_under_padding_change_no_score(card: MethodCard) -> None:
    method = build(card)
    (images, image_mask), (tokens, token_mask) = regions(), words()
    images = torch.where(image_mask[..., None], images, 0.0)
    tokens = torch.where(token_mask, tokens, 0)
    zeros = method.score(method.encode_images(images, image_mask), method.encode_captions(tokens, token_mask))
    close(zeros, method.score(*encoded(method)))


@torch.no_grad()
def tiles_of_any_size_give_the_same_scores(card: MethodCard, tile: int) -> None:
    images, captions = encoded(method := build(card))
    parts = [
        [method.score(rows(images, i), rows(captions, c)) for c in torch.arange(11).split(tile)]
        for i in torch.arange(9).split(tile)
    ]
    close(torch.cat([torch.cat(row, 1) for row in parts]), method.score(images, captions))


@torch.no_grad()
def the_score_of_a_pair_depends_on_that_pair_alone(card: MethodCard) -> None:
    method = build(card)
    (images, image_mask), (tokens, token_mask) = regions(), words()
    scores = method.score(*encoded(method))
    for image, caption in ((0, 0), (3, 8), (8, 5)):
        size, length = int(image_mask[image].sum()), int(token_mask[caption].sum())
        alone = method.score(
            method.encode_images(images[image : image + 1, :size], image_mask[image : image + 1, :size]),
            method.encode_captions(tokens[caption : caption + 1, :length], token_mask[caption : caption + 1, :length]),
        )
        close(alone, scores[image : image + 1, caption : caption + 1])


@torch.no_grad()
def permuted_captions_and_images_give_permuted_scores(card: MethodCard) -> None:
    images, captions = encoded(method := build(card))
    scores = method.score(images, captions)
    rng = torch.Generator().manual_seed(3)
    row, column = torch.randperm(9, generator=rng), torch.randperm(11, generator=rng)
    close(method.score(images, rows(captions, column)), scores[:, column])
    close(method.score(rows(images, row), captions), scores[row])
    tokens, mask = words()
    close(method.score(images, method.encode_captions(tokens[column], mask[column])), scores[:, column])


def one_seed_gives_the_same_weights_and_another_does_not(card: MethodCard) -> None:
    first, again, other = (build(card, seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = any(not torch.equal(first[name], other[name]) for name in first)
    assert drawn or (card.fidelity == "zero-shot" and not first), "only a pretrained model as it is draws nothing"


def every_parameter_gets_a_gradient(card: MethodCard, hardest: bool) -> None:
    """By the second step: behind a layer that starts at zero no gradient passes in the first."""
    method = build(card).train()
    if not card.trainable:
        assert not list(method.parameters())
        return
    silent = {name for name, _ in method.named_parameters()}
    optimizer = torch.optim.SGD(method.parameters(), lr=1e-3)
    for _ in range(2):
        method.zero_grad()
        loss = method.loss(batch(hardest))
        assert loss.shape == () and loss.isfinite() and loss > 0
        loss.backward()
        silent -= set(with_gradients(method))
        optimizer.step()
    assert not silent, f"the gradients of {silent} are zero"


def with_gradients(method: Method) -> list[str]:
    """The parameters whose gradient is not zero; each has one, and it is finite."""
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"
    return [name for name, parameter in method.named_parameters() if parameter.grad.any()]


def pushes_no_true_match_apart(card: MethodCard, hardest: bool) -> None:
    """Where all pairs of a batch match, its loss falls with no score: none of them is a negative."""
    method, everything = build(card), torch.ones(8, 8, dtype=torch.bool)
    scores = recorded_scores(method)
    loss = method.loss(batch(hardest)._replace(positives=everything))
    if not loss.requires_grad or not any(of.requires_grad for of in scores):
        assert loss == 0
        return
    loss.backward()
    gradients = [of.grad for of in scores if of.grad is not None]
    assert not any((of > 0).any() for of in gradients)


def recorded_scores(method: Method) -> list[Tensor]:
    """All scores that the method computes from now on; a list that grows."""
    scores: list[Tensor] = []

    def recording(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*sides: Any) -> Tensor:
            scores.append(compute(*sides))
            if scores[-1].requires_grad:
                scores[-1].retain_grad()
            return scores[-1]

        return call

    for name in ("score", "score_sides"):
        setattr(method, name, recording(getattr(method, name)))
    return scores


@torch.no_grad()
def saved_weights_give_equal_scores(card: MethodCard) -> None:
    method, other = build(card, seed=1), build(card, seed=2)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(method.score(*encoded(method)), other.score(*encoded(other)))


# What holds whatever the words begin with.
HELD_BY_ALL = (
    padding_changes_no_score,
    the_values_under_padding_change_no_score,
    the_score_of_a_pair_depends_on_that_pair_alone,
    permuted_captions_and_images_give_permuted_scores,
    one_seed_gives_the_same_weights_and_another_does_not,
    saved_weights_give_equal_scores,
)
