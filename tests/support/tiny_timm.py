"""Small models of timm with weights of a file, and a backbone that shows what it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from harness.errors import ConfigError

CONVOLUTIONAL = ("test_efficientnet", "test_resnet", "test_convnext", "test_byobnet")


def timm_or_skip() -> Any:
    """The library; skips where it is not here, or cannot be imported beside this torch."""
    from harness.extraction.timm_models import timm

    try:
        return timm()
    except ConfigError as error:
        pytest.skip(f"no timm to test with: {error}")


def random_model(name: str, seed: int = 0) -> torch.nn.Module:
    """A model with random weights, and norms whose statistics differ from those of a new one."""
    torch.manual_seed(seed)
    model: torch.nn.Module = timm_or_skip().create_model(name, pretrained=False).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 2)
            for tensor in (module.bias, module.running_mean):
                torch.nn.init.normal_(tensor, 0, 0.3)
    return model


def state_of(name: str, seed: int = 0) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in random_model(name, seed).state_dict().items()}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with NAME.pth of several models, and one of them in safetensors."""
    timm_or_skip()
    folder = tmp_path_factory.mktemp("weights")
    for name in (*CONVOLUTIONAL, "test_vit"):
        torch.save(state_of(name), folder / f"{name}.pth")
    save_file(state_of("test_efficientnet"), folder / "test_efficientnet.safetensors")
    return folder
