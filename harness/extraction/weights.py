"""Weights of a local file: safetensors, or a state dict that is loaded as tensors alone; checked key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.errors import DataError, Location, UsageError, first_line
from harness.files import check_regular, lfs_hint

SAFE = ".safetensors"
WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which a checkpoint of a training may keep its weights
PREFIXES = ("module.", "timm_model.")  # of data parallel training, and of transformers
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # of plain weights, not quantised ones
Weights = Mapping[str, Tensor]


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, in its order; DataError where it holds anything else, or is damaged."""
    check_regular(file)
    if hint := lfs_hint(file):
        raise DataError(hint, Location(file))
    content = _read(file)
    for name in WRAPPERS:
        content = content[name] if isinstance(content, Mapping) and isinstance(content.get(name), Mapping) else content
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"holds a {type(content).__name__}, no tensors by name; take a state dict", Location(file))
    for name, value in content.items():
        if wrong := _wrong(name, value):
            raise DataError(f"its entry {name!r} {wrong}; take a state dict", Location(file))
    return _without_prefix(dict(content))


def _wrong(name: object, value: object) -> str:
    """Why an entry is no tensor of a network by its name; empty where it is one."""
    if not isinstance(name, str):
        return f"has a key of {type(name).__name__}, no text"
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, no tensor"
    return "holds complex numbers, which no network here has" if value.is_complex() else ""


def _read(file: Path) -> Any:
    try:
        if is_safe(file):
            from safetensors.torch import load_file

            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what the reader of pickles does, safetensors a class of its own
        # not torch's own words, which advise to load objects of any kind
        why = first_line(error) if is_safe(file) else "it is damaged, or holds more than tensors"
        message = f"cannot be read as weights ({why}); safetensors or a state dict of tensors is needed"
        raise DataError(message, Location(file)) from error


def is_safe(file: Path) -> bool:
    return file.suffix.lower() == SAFE


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def fitted(weights: Weights, model: Weights, unused: Sequence[str], file: Path, in_order: bool) -> dict[str, Tensor]:
    """The weights of a file under the names of a model's state; DataError names a key that is missing or does not fit.

    Keys that begin with one of `unused`, such as those of a classifier, may be missing and are left out. `in_order`
    takes keys of other names by their places, where kinds and shapes of all are those of the model.
    """
    if in_order:
        weights = _renamed(weights, model, unused, file)
    needed = {name for name in model if not name.startswith(tuple(unused))}
    missing = [name for name in model if name in needed and name not in weights]
    surplus = [name for name in weights if name not in model]
    if missing or surplus:
        what = (f"{len(names)} {kind}, {names[0]} first" for kind, names in _named(missing, surplus) if names)
        message = f"its keys are not those of the model: {'; '.join(what)}; {_advice(weights, model, unused, file)}"
        raise DataError(message, Location(file))
    for name in needed:
        if problem := _problem(name, weights[name], model[name]):
            raise DataError(problem, Location(file))
    return {name: weights[name] for name in model if name in needed}


def _problem(name: str, own: Tensor, wanted: Tensor) -> str:
    """Why a tensor cannot take the place of another one of its name; empty where it can."""
    if own.shape != wanted.shape:
        shapes = f"{tuple(own.shape)}, the model's {tuple(wanted.shape)}"
        return f"the shape of {name} is {shapes}; take weights of this very model"
    if wanted.is_floating_point() and own.dtype not in FLOATS:
        return f"{name} is of {own.dtype}, as quantised weights are; take weights in floats"
    return ""


def _named(missing: list[str], surplus: list[str]) -> list[tuple[str, list[str]]]:
    return [("missing", missing), ("surplus", surplus)]


def _advice(weights: Weights, model: Weights, unused: Sequence[str], file: Path) -> str:
    if not is_safe(file) and _is_alike(weights, model, unused):
        return (
            f"the order, kinds and shapes of all {len(weights)} are those of the model: where you know that both are "
            "one network, --keys-in-order takes them by their places"
        )
    return "take weights of this very model"


def _renamed(weights: Weights, model: Weights, unused: Sequence[str], file: Path) -> Weights:
    if is_safe(file):
        raise UsageError(f"--keys-in-order: {file.name} is of safetensors, which keeps no order; leave that flag out")
    if not _is_alike(weights, model, unused):
        message = "order, kinds and shapes of its keys are not those of the model; --keys-in-order needs that they are"
        raise DataError(message, Location(file))
    return dict(zip(model, weights.values(), strict=True))


def _is_alike(weights: Weights, model: Weights, unused: Sequence[str]) -> bool:
    """Whether two states have tensors of one order: as many, each of one kind (the last part of a name) and shape."""
    return len(weights) == len(model) and all(
        own.rpartition(".")[2] == other.rpartition(".")[2]
        and (model[own].shape == weights[other].shape or own.startswith(tuple(unused)))
        for own, other in zip(model, weights, strict=True)
    )
