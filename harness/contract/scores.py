"""Rules of encoded sets and scores: shapes, padding, tiles, order, seeds, saved weights, attention."""

from __future__ import annotations

import io

import torch

from harness.config.cards import MethodCard
from harness.config.registry import load_class
from harness.config.sections import Scalar, Tunable
from harness.contract.rule import DoesNotApply, hold
from harness.contract.samples import (
    CAPTIONS,
    IMAGES,
    build,
    close,
    encoded,
    padded,
    regions,
    rows,
    words,
)


def the_class_is_built_by_its_settings(card: MethodCard) -> None:
    kind = load_class(card)
    hold(isinstance(build(card), kind), f"{kind.__name__}(settings, inputs) gives another class")


@torch.no_grad()
def encoded_sets_and_scores_have_their_shapes(card: MethodCard) -> None:
    images, captions = encoded(method := build(card))
    for side, sets, count in (("images", images, IMAGES), ("captions", captions, CAPTIONS)):
        shape, mask = tuple(sets.vectors.shape), tuple(sets.mask.shape)
        hold(len(shape) == 3 and shape[0] == count, f"encode_{side}: vectors {shape}, not ({count}, L, D)")
        hold(sets.vectors.is_floating_point(), f"encode_{side}: vectors of {sets.vectors.dtype}, not of float")
        kind = f"{mask} of {sets.mask.dtype}"
        hold(kind == f"{shape[:2]} of torch.bool", f"encode_{side}: mask {kind}, not {shape[:2]} of torch.bool")
        hold(bool(sets.mask.any(1).all()), f"encode_{side}: a set without a real vector")
        one = card.scoring == "fragment" or shape[1] == 1
        hold(one, f'encode_{side}: {shape[1]} vectors per set, where the card says scoring = "embedding"')
    scores = method.score(images, captions)
    actual, expected = f"{tuple(scores.shape)} of {scores.dtype}", f"({IMAGES}, {CAPTIONS}) of torch.float32"
    hold(actual == expected, f"score: {actual}, not {expected}; images come first")


@torch.no_grad()
def scores_are_finite_and_differ(card: MethodCard) -> None:
    scores = build_scores(card)
    bad = int((~scores.isfinite()).sum())
    hold(bad == 0, f"{bad} of {scores.numel()} scores are NaN or infinite")
    hold(bool(scores.std() > 0), f"all scores are {scores.flatten()[0]:.5g}")


def build_scores(card: MethodCard) -> torch.Tensor:
    """The scores of nine images and eleven captions."""
    method = build(card)
    return method.score(*encoded(method))


@torch.no_grad()
def attention_is_that_of_each_pair_and_zero_for_padding(card: MethodCard) -> None:
    images, captions = encoded(method := build(card))
    weights = method.regions_of_words(images, captions)
    if weights is None:
        raise DoesNotApply("no attention: regions_of_words returns None")
    shape = (IMAGES, CAPTIONS, captions.mask.shape[1], images.mask.shape[1])
    hold(weights.shape == shape, f"regions_of_words: {tuple(weights.shape)}, not (n, m, T, R) = {shape}")
    real = captions.mask[None, :, :, None] & images.mask[:, None, None, :]
    hold(bool(weights.isfinite().all()), "regions_of_words: a weight is NaN or infinite")
    hold(bool((weights >= 0).all()), "regions_of_words: a weight is below zero")
    hold(not weights[~real].any(), "regions_of_words: a weight of padding is not zero")
    hold(bool(weights[real].any()), "regions_of_words: all weights are zero")
    one = method.regions_of_words(rows(images, [4]), rows(captions, [7]))
    hold(one is not None, "regions_of_words: None for a single pair")
    assert one is not None
    close(one, weights[4:5, 7:8], "weights of a single pair")
    more = method.regions_of_words(method.encode_images(*padded(regions())), method.encode_captions(*padded(words())))
    hold(more is not None, "regions_of_words: None for padded sets")
    assert more is not None
    close(more[:, :, : shape[2], : shape[3]], weights, "weights with further padding")


@torch.no_grad()
def padding_changes_no_score(card: MethodCard) -> None:
    method = build(card)
    more = method.score(method.encode_images(*padded(regions())), method.encode_captions(*padded(words())))
    close(more, method.score(*encoded(method)), "scores with three more places of padding")


@torch.no_grad()
def the_values_under_padding_change_no_score(card: MethodCard) -> None:
    method = build(card)
    (images, image_mask), (tokens, token_mask) = regions(), words()
    images = torch.where(image_mask[..., None], images, 0.0)
    tokens = torch.where(token_mask, tokens, 0)
    zeros = method.score(method.encode_images(images, image_mask), method.encode_captions(tokens, token_mask))
    close(zeros, method.score(*encoded(method)), "scores with other values under the padding")


@torch.no_grad()
def tiles_of_any_size_give_the_same_scores(card: MethodCard, tile: int) -> None:
    images, captions = encoded(method := build(card))
    parts = [
        [method.score(rows(images, i), rows(captions, c)) for c in torch.arange(CAPTIONS).split(tile)]
        for i in torch.arange(IMAGES).split(tile)
    ]
    whole = method.score(images, captions)
    close(torch.cat([torch.cat(row, 1) for row in parts]), whole, f"scores in tiles of {tile} x {tile}")


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
        together = scores[image : image + 1, caption : caption + 1]
        close(alone, together, f"the score of image {image} and caption {caption}, encoded alone")


@torch.no_grad()
def permuted_captions_and_images_give_permuted_scores(card: MethodCard) -> None:
    images, captions = encoded(method := build(card))
    scores = method.score(images, captions)
    rng = torch.Generator().manual_seed(3)
    row, column = torch.randperm(IMAGES, generator=rng), torch.randperm(CAPTIONS, generator=rng)
    close(method.score(images, rows(captions, column)), scores[:, column], "scores of captions in another order")
    close(method.score(rows(images, row), captions), scores[row], "scores of images in another order")
    tokens, mask = words()
    again = method.score(images, method.encode_captions(tokens[column], mask[column]))
    close(again, scores[:, column], "scores of captions that were encoded in another order")


def one_seed_gives_the_same_weights_and_another_does_not(card: MethodCard) -> None:
    first, again, other = (build(card, seed).state_dict() for seed in (5, 5, 6))
    unlike = [name for name in first if not torch.equal(first[name], again[name])]
    hold(not unlike, f"one seed gave two values of {', '.join(unlike)}; draw from torch's global generator")
    differ = any(not torch.equal(first[name], other[name]) for name in first)
    is_fixed = card.fidelity == "zero-shot" and not first
    hold(differ or is_fixed, "two seeds gave the same weights; only a pretrained model as it is draws nothing")


@torch.no_grad()
def saved_weights_give_equal_scores(card: MethodCard) -> None:
    method, other = build(card, seed=1), build(card, seed=2)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    equal = torch.equal(method.score(*encoded(method)), other.score(*encoded(other)))
    hold(equal, "another object with these weights scores otherwise: some state is neither parameter nor buffer")


@torch.no_grad()
def every_tunable_choice_and_bound_gives_finite_scores(card: MethodCard) -> None:
    if not card.tunable:
        raise DoesNotApply("the card has no [tunable]")
    for name, tunable in card.tunable.items():
        for value in choices_of(tunable):
            method = build(card, 0, **{name: value})
            finite = method.score(*encoded(method)).isfinite().all()
            hold(bool(finite), f"{name} = {value}: a score is NaN or infinite")


def choices_of(tunable: Tunable) -> list[Scalar]:
    """The choices of a setting, or both ends of its range."""
    if tunable.type == "categorical":
        return list(tunable.choices)
    kind = {"int": int, "float": float}[tunable.type]
    return [kind(end) for end in (tunable.low, tunable.high) if end is not None]


# What holds whatever the words begin with.
HELD_BY_ALL = (
    padding_changes_no_score,
    the_values_under_padding_change_no_score,
    the_score_of_a_pair_depends_on_that_pair_alone,
    permuted_captions_and_images_give_permuted_scores,
    one_seed_gives_the_same_weights_and_another_does_not,
    saved_weights_give_equal_scores,
)
