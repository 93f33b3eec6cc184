"""Batch norms folded into the convolutions before them: one pass over a map instead of two, with the same numbers."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

ROUNDING = 1e-4  # of the largest number: by more a folded model may not differ
Forward = Callable[[nn.Module, Tensor], Tensor]


def fold_norms(model: nn.Module, inputs: Tensor, forward: Forward) -> nn.Module:
    """A model with its norms folded, where `forward` gives the same to rounding for some inputs; else the model itself.

    That is how a convolution is found whose output goes elsewhere too.
    """
    with torch.inference_mode():
        pairs, expected = _pairs(model, inputs, forward)
    if not pairs:
        return model
    copied = copy.deepcopy(model)
    for conv_name, norm_name in pairs:
        conv, norm = copied.get_submodule(conv_name), copied.get_submodule(norm_name)
        rest = _rest(norm)
        if rest is not None and isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            _replace(copied, conv_name, fuse_conv_bn_eval(conv, norm))
            _replace(copied, norm_name, rest)
    with torch.inference_mode():
        difference = (forward(copied, inputs) - expected).abs().max()
    return copied if bool(difference <= ROUNDING * expected.abs().max()) else model


def _pairs(model: nn.Module, inputs: Tensor, forward: Forward) -> tuple[list[tuple[str, str]], Tensor]:
    """Names of convolutions and of the norms that take what they give, each called once; and what the model gives."""
    makers: dict[int, tuple[str, Tensor]] = {}  # with the tensor, so that no other gets its id
    pairs: list[tuple[str, str]] = []
    calls: Counter[str] = Counter()
    hooks: list[Any] = []

    def watch(name: str, module: nn.Module) -> None:
        def made(_: nn.Module, __: Any, output: Tensor) -> None:
            calls[name] += 1
            makers[id(output)] = (name, output)

        def took(_: nn.Module, taken: tuple[Tensor, ...]) -> None:
            calls[name] += 1
            if id(taken[0]) in makers:
                pairs.append((makers[id(taken[0])][0], name))

        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(made))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(took))

    for name, module in model.named_modules():
        watch(name, module)
    try:
        outputs = forward(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1], outputs


def _rest(norm: nn.Module) -> nn.Module | None:
    """What a norm does beside its scale and shift; None where that is not known."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    drop, act = getattr(norm, "drop", None), getattr(norm, "act", None)  # of timm's norm with an activation
    return nn.Sequential(drop, act) if isinstance(drop, nn.Module) and isinstance(act, nn.Module) else None


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)
