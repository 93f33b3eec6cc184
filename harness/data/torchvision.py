"""torchvision as a dependency of timm and transformers: imported where it is installed, also beside another torch.

PyPI's builds of torchvision for Linux are for CUDA. Beside a CPU build of torch their compiled part does not load, and
then the import ends because torch does not know two operators of it. What is used here needs none of them: they are
declared, with no code behind them, by torch's own way to do so (docs/decisions/0026-torchvision-beside-a-cpu-torch.md).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from harness.errors import ConfigError, first_line

UNKNOWN = "operator torchvision::"  # how torch's message begins
ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")  # those that torchvision describes to torch whether its compiled part is there or not


def import_torchvision() -> None:
    """Nothing where torchvision is not installed; ConfigError where it is, and cannot be imported."""
    if find_spec("torchvision") is None:
        return
    try:
        try:
            import_module("torchvision")
        except RuntimeError as error:
            if not first_line(error).startswith(UNKNOWN):
                raise
            _declare_operators()
            import_module("torchvision")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise ConfigError(
            f"torchvision {_version('torchvision')} cannot be imported beside torch {_version('torch')} "
            f"({first_line(error)}): install the release that belongs to this torch, or remove it by "
            "pip uninstall torchvision"
        ) from error


@cache
def _declare_operators() -> Any:
    """The library of declarations, which torch forgets with the object."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        library.define(f"{name}{ARGUMENTS}")
    return library


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(no release)"
