"""Weights that no network has, or that make no numbers: refused before a picture is seen."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_timm import state_of, timm_or_skip, weights
from tiny_vision import models
from torch import Tensor

from harness.data.pictures import PictureHead
from harness.errors import DataError
from harness.extraction.box_files import GivenBoxes
from harness.extraction.placed_boxes import BoxRules, PlacedBoxes, place_boxes
from harness.extraction.vision_models import ModelChoice, load
from harness.extraction.weights import read_weights

__all__ = ["models", "weights"]
CPU = torch.device("cpu")


def one_box() -> PlacedBoxes:
    boxes = GivenBoxes(Path("boxes.json"), {"a": [(0.0, 0.0, 1e-9, 9.0)]}, {})
    return place_boxes(boxes, {"a": PictureHead((9, 9), 1)}, BoxRules())


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({1: torch.zeros(2)}, "its entry 1 has a key of int, no text; take a state dict"),
        ({"a": torch.zeros(2), b"b": torch.zeros(2)}, "its entry b'b' has a key of bytes, no text"),
        (
            {"a": torch.zeros(2, dtype=torch.complex64)},
            "its entry 'a' holds complex numbers, which no network",
        ),
        ({"a": 1}, "its entry 'a' is a int, no tensor; take a state dict"),
    ],
)
def test_an_entry_that_no_state_has_is_named(tmp_path: Path, entry: dict[Any, Any], said: str) -> None:
    torch.save({"state_dict": entry}, tmp_path / "a.pth")
    with pytest.raises(DataError, match=re.escape(f"a.pth: {said}")):
        read_weights(tmp_path / "a.pth")


def spoiled(state: dict[str, Tensor], number: float) -> dict[str, Tensor]:
    first = next(name for name, value in state.items() if value.ndim == 4)
    return {name: torch.full_like(value, number) if name == first else value for name, value in state.items()}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize(
    ("settings", "placed"),
    [({}, None), ({"pooled": True}, None), ({"by": "crop"}, one_box()), ({"by": "map"}, one_box())],
    ids=["grid", "pooled", "crop", "map"],
)
def test_weights_that_give_nan_are_refused_with_their_file(
    tmp_path: Path, number: float, settings: dict[str, Any], placed: PlacedBoxes | None
) -> None:
    timm_or_skip()
    file = tmp_path / "nan.pth"
    torch.save(spoiled(state_of("test_resnet"), number), file)
    with pytest.raises(DataError, match=r"the weights .*nan\.pth give NaN or inf of a picture .*; get them again"):
        load(ModelChoice("timm:test_resnet", weights=file, **settings), CPU, placed)


def test_a_folder_whose_weights_give_nan_is_named(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "vit", tmp_path / "vit")
    file = tmp_path / "vit" / "model.safetensors"
    save_file(spoiled(load_file(file), float("nan")), file, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"/vit: its weights give NaN or inf"):
        load(ModelChoice(str(tmp_path / "vit")), CPU)


@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(weights: Path, models: Path, tmp_path: Path, kind: torch.dtype) -> None:
    def quantised(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(kind) if name.endswith(".weight") else value for name, value in state.items()}

    save_file(quantised(load_file(weights / "test_efficientnet.safetensors")), tmp_path / "a.safetensors")
    with pytest.raises(DataError, match=r"a\.safetensors: .*\.weight is of torch\..*, as quantised weights are; take"):
        load(ModelChoice("timm:test_efficientnet", weights=tmp_path / "a.safetensors"), CPU)
    shutil.copytree(models / "vit", tmp_path / "vit")
    file = tmp_path / "vit" / "model.safetensors"
    save_file(quantised(load_file(file)), file, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"vit/model\.safetensors: .*\.weight is of [IF]8.*, as quantised weights are"):
        load(ModelChoice(str(tmp_path / "vit")), CPU)


def test_weights_of_another_shape_than_their_config_says_are_named_with_both(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "vit", tmp_path / "vit")
    config = tmp_path / "vit" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "image_size": 64}))
    said = r"the shape of embeddings\.position_embeddings is \(1, 17, 16\), that of its config\.json \(1, 65, 16\)"
    with pytest.raises(DataError, match=said):
        load(ModelChoice(str(tmp_path / "vit")), CPU)


def test_a_suffix_in_capitals_is_of_safetensors_too(weights: Path, tmp_path: Path) -> None:
    timm_or_skip()
    shutil.copyfile(weights / "test_efficientnet.safetensors", tmp_path / "A.SAFETENSORS")
    assert read_weights(tmp_path / "A.SAFETENSORS").keys() == state_of("test_efficientnet").keys()


def test_a_model_is_tried_whatever_the_boxes_are(weights: Path) -> None:
    timm_or_skip()
    choice = ModelChoice("timm:test_resnet", weights=weights / "test_resnet.pth", by="map")
    extractor = load(choice, CPU, one_box())
    (seen,) = extractor.see([extractor.prepare(Image.new("RGB", (9, 9)), "a")])
    assert seen.regions.shape[0] == 1
