"""Rules of the loss: a gradient in every parameter, no true match as a negative, sums in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.config.cards import MethodCard
from harness.contract.rule import DoesNotApply, hold
from harness.contract.samples import batch, build, encoded
from harness.method import Method
from harness.trial.device import half_precision

HALF = 0.1  # the part of a loss that half-precision products may change


def trained(card: MethodCard) -> None:
    """DoesNotApply for a method that is not trained."""
    if not card.trainable:
        raise DoesNotApply("nothing to train: trainable = false")


def every_parameter_gets_a_gradient(card: MethodCard, hardest: bool) -> None:
    """By the second step: behind a layer that starts at zero no gradient passes in the first."""
    method = build(card).train()
    silent = {name for name, _ in method.named_parameters()}
    if not card.trainable:
        hold(not silent, f"the card says trainable = false, and there are parameters: {', '.join(sorted(silent))}")
        return
    hold(bool(silent), "there is no parameter; say trainable = false in the card")
    optimizer = torch.optim.SGD(method.parameters(), lr=1e-3)
    for _ in range(2):
        method.zero_grad()
        loss = method.loss(batch(hardest))
        hold(loss.shape == () and bool(loss.isfinite()) and bool(loss > 0), f"loss: {loss}, not a number above zero")
        loss.backward()
        silent -= set(with_gradients(method))
        optimizer.step()
    hold(not silent, f"no gradient but zero reaches {', '.join(sorted(silent))}")


def with_gradients(method: Method) -> list[str]:
    """The parameters whose gradient is not zero; each has one, and it is finite."""
    names = []
    for name, parameter in method.named_parameters():
        hold(parameter.grad is not None, f"{name} has no gradient: the loss does not use it")
        assert parameter.grad is not None
        hold(bool(parameter.grad.isfinite().all()), f"the gradient of {name} is NaN or infinite")
        names += [name] * bool(parameter.grad.any())
    return names


def pushes_no_true_match_apart(card: MethodCard, hardest: bool) -> None:
    """Where all pairs of a batch match, its loss falls with no score: none of them is a negative."""
    method, everything = build(card), torch.ones(8, 8, dtype=torch.bool)
    scores = recorded_scores(method)
    loss = method.loss(batch(hardest)._replace(positives=everything))
    if not loss.requires_grad or not any(of.requires_grad for of in scores):
        hold(bool(loss == 0), f"the loss of a batch where every pair matches is {loss:.4g}, not 0")
        return
    loss.backward()
    gradients = [of.grad for of in scores if of.grad is not None]
    pushed = any(bool((of > 0).any()) for of in gradients)
    hold(not pushed, "the loss lowers the score of a true match; leave batch.positives out of the negatives")


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


def a_step_in_bfloat16_has_its_loss_in_float32_close_to_the_exact_one(card: MethodCard) -> None:
    trained(card)
    method = build(card)
    exact = method.loss(batch()).item()
    with half_precision(torch.device("cpu")):
        loss = method.loss(batch())
        method.regions_of_words(*encoded(method))
    loss.backward()
    hold(loss.dtype == torch.float32, f"the loss is {loss.dtype} under autocast; sum products by blocks.tiles.in_full")
    hold(abs(loss.item() - exact) <= HALF * abs(exact), f"loss {loss.item():.4g} in bfloat16, {exact:.4g} in float32")
    names = [
        name for name, part in method.named_parameters() if part.grad is not None and not part.grad.isfinite().all()
    ]
    hold(not names, f"the gradient of {', '.join(names)} is NaN or infinite in bfloat16")
