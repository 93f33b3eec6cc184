"""Models of timm: weights of a file checked key by key, the numbers that timm gives, killed work that goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_project import Call
from tiny_timm import CONVOLUTIONAL, random_model, state_of, timm_or_skip, weights
from tiny_vision import images
from torch import nn

from harness.cli.datasets import data
from harness.cli.main import cli
from harness.data.pictures import read_picture
from harness.data.region_store import open_store
from harness.errors import ConfigError, DataError
from harness.extraction.extractors import Extractor
from harness.extraction.folding import fold_norms
from harness.extraction.timm_models import as_map
from harness.extraction.vision_models import ModelChoice, load

__all__ = ["images", "weights"]
Captured = pytest.CaptureFixture[str]
cli.add_command(data)


def extractor(name: str, file: Path, **settings: Any) -> Extractor:
    return load(ModelChoice(f"timm:{name}", weights=file, **settings), torch.device("cpu"))


def as_timm_takes_it(name: str, picture: Image.Image) -> torch.Tensor:
    """The picture squeezed and normalised by what timm says of the model, (1, 3, height, width)."""
    known = timm_or_skip().get_pretrained_cfg(name)
    size = known.input_size[:0:-1]
    pixels = np.asarray(picture.resize(size, Image.Resampling[known.interpolation.upper()]), dtype=np.float64) / 255
    return torch.from_numpy((pixels - known.mean) / known.std).permute(2, 0, 1)[None].float()


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_cells_and_vectors_are_those_that_timm_gives(weights: Path, images: Path, name: str) -> None:
    model, picture = random_model(name), read_picture(images / "2.png")
    with torch.inference_mode():
        cells = model.forward_features(as_timm_takes_it(name, picture))
        vector = model.forward_head(cells, pre_logits=True)[0].numpy()
    file = weights / f"{name}.pth"
    grid, whole = extractor(name, file), extractor(name, file, pooled=True)
    (seen,), (one,) = grid.see([grid.prepare(picture)]), whole.see([whole.prepare(picture)])
    largest = cells.abs().max().item()
    np.testing.assert_allclose(seen.regions, cells[0].flatten(1).T.numpy(), atol=1e-4 * largest)
    np.testing.assert_allclose(one.regions, vector[None], atol=1e-4 * np.abs(vector).max())
    rows, columns = cells.shape[2:]
    np.testing.assert_allclose(seen.boxes[columns], [0, 50 / rows, 90 / columns, 50 / rows], rtol=1e-5)
    np.testing.assert_allclose(one.boxes, [[0, 0, 90, 50]])
    assert one.regions.shape == (1, whole.see([whole.prepare(picture)])[0].regions.shape[1])


def test_tokens_of_a_vit_are_cells_of_its_grid(weights: Path, images: Path) -> None:
    model, picture = random_model("test_vit"), read_picture(images / "0.png")
    with torch.inference_mode():
        tokens = model.forward_features(as_timm_takes_it("test_vit", picture))
    vit = extractor("test_vit", weights / "test_vit.pth")
    (seen,) = vit.see([vit.prepare(picture)])
    np.testing.assert_allclose(seen.regions, tokens[0, model.num_prefix_tokens :].numpy(), atol=1e-4)
    assert vit.origin["patches"] == list(model.patch_embed.grid_size)


def test_a_model_without_a_map_or_a_named_grid_is_refused() -> None:
    with pytest.raises(DataError, match="neither a map nor tokens of a grid that it names"):
        as_map(torch.zeros(2, 49, 8), SimpleNamespace())
    nhwc = as_map(torch.zeros(2, 5, 4, 8), SimpleNamespace(output_fmt="NHWC"))
    assert nhwc.shape == (2, 8, 5, 4)


def test_any_pooling_of_the_map_is_a_mean_of_its_cells(weights: Path, images: Path) -> None:
    file, picture = weights / "test_resnet.pth", read_picture(images / "1.png")
    every, four = extractor("test_resnet", file), extractor("test_resnet", file, pool=2)
    (cells,), (means,) = every.see([every.prepare(picture)]), four.see([four.prepare(picture)])
    side = every.origin["patches"][0]
    half = -(-side // 2)
    corner = cells.regions.reshape(side, side, -1)[:half, :half].mean((0, 1))
    np.testing.assert_allclose(means.regions[0], corner, atol=1e-5)
    assert four.origin["regions"] == [2, 2]


# Norms


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def forward(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    given: torch.Tensor = model.forward_features(inputs)
    return given


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_byobnet"])
def test_norms_are_folded_and_numbers_stay(name: str) -> None:
    model, inputs = random_model(name), torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    folded = fold_norms(model, inputs[:1], forward)
    assert norms(folded) < norms(model) / 2
    with torch.inference_mode():
        before, after = forward(model, inputs), forward(folded, inputs)
    assert (before - after).abs().max() <= 1e-4 * before.abs().max()
    assert nn.functional.cosine_similarity(before.flatten(2), after.flatten(2), dim=1).min() > 0.99999


class Twice(nn.Module):
    """A convolution whose output is used beside the norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        nn.init.uniform_(self.norm.weight, 0.5, 2)

    def forward_features(self, inputs: torch.Tensor) -> torch.Tensor:
        made = self.conv(inputs)
        return made + self.norm(made)


def test_a_norm_is_not_folded_where_the_numbers_would_change() -> None:
    model = Twice().eval()
    assert fold_norms(model, torch.randn(1, 3, 9, 9), forward) is model


# Weights


def command(images: Path, store: Path, name: str, file: Path, *more: str) -> tuple[str, ...]:
    return (
        "data",
        "extract",
        str(images),
        "--to",
        str(store),
        "--model",
        f"timm:{name}",
        "--weights",
        str(file),
        *more,
    )


def lacking(state: dict[str, Any]) -> Any:
    del state["conv_stem.weight"]
    return state


def with_more(state: dict[str, Any]) -> Any:
    return {**state, "an.other": torch.zeros(1)}


def of_another_shape(state: dict[str, Any]) -> Any:
    return {**state, "conv_stem.weight": torch.zeros(2, 3, 3, 3)}


def renamed(state: dict[str, Any]) -> Any:
    return {f"_{name}": value for name, value in state.items()}


def in_another_order(state: dict[str, Any]) -> Any:
    kinds = {"running_mean": "running_var", "running_var": "running_mean"}
    parts = {name: name.rpartition(".") for name in renamed(state)}
    return {f"{head}.{kinds.get(kind, kind)}": state[name[1:]] for name, (head, _, kind) in parts.items()}


@pytest.mark.parametrize(
    ("change", "flags", "said"),
    [
        (lacking, (), "its keys are not those of the model: 1 missing, conv_stem.weight first; take weights of this"),
        (with_more, (), "1 surplus, an.other first; take weights of this very model"),
        (of_another_shape, (), "the shape of conv_stem.weight is (2, 3, 3, 3), the model's (24, 3, 3, 3)"),
        (renamed, (), "missing, conv_stem.weight first; 88 surplus, _conv_stem.weight first; the order, kinds and"),
        (in_another_order, ("--keys-in-order",), "order, kinds and shapes of its keys are not those of the model"),
        (lambda state: state_of("test_resnet"), ("--keys-in-order",), "are not those of the model; --keys-in-order"),
        (lambda state: [1, 2], (), "holds a list, no tensors by name"),
        (lambda state: {"epoch": 3}, (), "its entry 'epoch' is a int, no tensor"),
        (lambda state: {"weights": SimpleNamespace()}, (), "cannot be read as weights"),  # code would make it
    ],
)
def test_weights_that_are_not_the_models_are_refused(
    weights: Path, images: Path, tmp_path: Path, call: Call, capsys: Captured, change: Any, flags: Any, said: str
) -> None:
    torch.save(change(state_of("test_efficientnet")), tmp_path / "some.pth")
    assert call(*command(images, tmp_path / "store", "test_efficientnet", tmp_path / "some.pth", *flags)) == 3
    err = capsys.readouterr().err
    assert "some.pth" in err and said in err
    assert "weights_only" not in err, "no advice of torch to load objects of any kind"
    assert not (tmp_path / "store").exists()


def seen_by(file: Path, picture: Image.Image, **settings: Any) -> Any:
    model = extractor("test_efficientnet", file, **settings)
    return model.see([model.prepare(picture)])[0].regions


def test_weights_are_read_in_every_form_that_keeps_their_names(weights: Path, images: Path, tmp_path: Path) -> None:
    picture, state = read_picture(images / "0.png"), state_of("test_efficientnet")
    forms = {
        "wrapped": {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3},
        "no classifier": {name: value for name, value in state.items() if not name.startswith("classifier")},
        "other classes": {**state, "classifier.weight": torch.zeros(3, 256), "classifier.bias": torch.zeros(3)},
    }
    expected = seen_by(weights / "test_efficientnet.pth", picture)
    for name, content in forms.items():
        torch.save(content, tmp_path / f"{name}.pth")
        np.testing.assert_array_equal(seen_by(tmp_path / f"{name}.pth", picture), expected)
    np.testing.assert_array_equal(seen_by(weights / "test_efficientnet.safetensors", picture), expected)
    torch.save(renamed(state), tmp_path / "renamed.pth")
    np.testing.assert_array_equal(seen_by(tmp_path / "renamed.pth", picture, keys_in_order=True), expected)


def test_a_folder_of_the_hub_says_name_weights_and_numbers(weights: Path, images: Path, tmp_path: Path) -> None:
    known = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "input_size": [3, 96, 64], "interpolation": "bilinear"}
    config = {"architecture": "test_efficientnet", "num_classes": 1000, "pretrained_cfg": known}
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "timm_wrapper"}))
    state = {f"timm_model.{name}": value for name, value in state_of("test_efficientnet").items()}
    save_file(state, tmp_path / "model.safetensors")
    model = load(ModelChoice(str(tmp_path)), torch.device("cpu"))
    assert model.origin["input"] == [96, 64] and model.origin["model"] == "timm:test_efficientnet"
    assert model.origin["preprocessing"] == {"resample": "bilinear", "mean": [127.5] * 3, "std": [63.75] * 3}
    assert model.prepare(read_picture(images / "0.png")).inputs["picture"].shape == (96, 64, 3)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"has no model\.safetensors; get all files"):
        load(ModelChoice(str(tmp_path)), torch.device("cpu"))


def test_an_absent_library_is_told(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"timm cannot be imported .*pip install 'itm-harness\[vision\]'"):
        extractor("test_resnet", weights / "test_resnet.pth")


@pytest.mark.parametrize(
    ("model", "flags", "said"),
    [
        ("timm:test_resnett", ("--weights", "x.pth"), "unknown model of timm 'test_resnett'; did you mean test_resnet"),
        ("timm:test_resnet", (), "needs --weights FILE, safetensors or a state dict of that network"),
        ("x.pth", (), "does not say of which network: give that by a name of timm, --model timm:NAME --weights x.pth"),
        ("timm:test_resnet", ("--weights", "x.safetensors", "--keys-in-order"), "of safetensors, which keeps no order"),
        ("timm:test_resnet", ("--weights", "x.pth", "--threshold", "0.5"), "--threshold 0.5: timm:test_resnet is no"),
        ("timm:test_resnet", ("--weights", "x.pth", "--boxes", "5"), "--boxes 5: timm:test_resnet is no object"),
        ("timm:test_resnet", ("--weights", "x.pth", "--pooled", "--pool", "2"), "--pool 2: timm:test_resnet gives one"),
        ("timm:test_resnet", ("--weights", "x.pth", "--pool", "9"), "--pool 9: the model makes 5 x 5 patches"),
        ("timm:test_resnet", ("--mean", "0.485"), "'0.485' is of pixels from 0 to 1; give 255 times that"),
        ("timm:test_resnet", ("--std", "128,0,128"), "'128,0,128' divides by 0"),
        ("timm:test_resnet", ("--std", "1,2"), "neither a number nor three from 0 to 255"),
        ("timm:test_resnet", ("--whole",), "--whole says how given boxes are used; give --boxes-from FILE"),
    ],
)
def test_what_cannot_be_meant_says_what_can(
    weights: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
    capsys: Captured,
    model: str,
    flags: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(state_of("test_resnet"), "x.pth")
    save_file(state_of("test_resnet"), "x.safetensors")
    assert call("data", "extract", str(images), "--to", str(tmp_path / "store"), "--model", model, *flags) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "store").exists()


def test_mean_and_deviation_of_flags_are_used_and_recorded(
    weights: Path, images: Path, tmp_path: Path, call: Call, capsys: Captured
) -> None:
    file = weights / "test_efficientnet.pth"
    words = command(images, tmp_path / "store", "test_efficientnet", file, "--mean", "127", "--std", "128,64,32")
    assert call(*words, "--json") == 0
    origin = json.loads(capsys.readouterr().out)["origin"]
    assert origin["preprocessing"]["mean"] == [127.0] * 3 and origin["preprocessing"]["std"] == [128.0, 64.0, 32.0]
    assert len(origin["weights_sha256"]) == 64 and origin["timm"] == timm_or_skip().__version__
    model, picture = random_model("test_efficientnet"), read_picture(images / "3.png")
    pixels = np.asarray(picture.resize((160, 160), Image.Resampling.BICUBIC), dtype=np.float32)
    with torch.inference_mode():
        inputs = torch.from_numpy((pixels - 127) / np.array([128, 64, 32], dtype=np.float32)).permute(2, 0, 1)[None]
        cells = model.forward_features(inputs)[0].flatten(1).T.numpy()
    store = open_store(tmp_path / "store", tmp_path / "cache")
    np.testing.assert_allclose(store.images[3], cells, atol=1e-4 * np.abs(cells).max())


# Killed


KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
import torch
from harness.data import region_writer
from harness.data.pictures import find_pictures, read_heads
from harness.extraction.extract import extract
from harness.extraction.vision_models import load, request_of

images, store, weights, boxes = map(Path, sys.argv[1:5])
model = {"model": "timm:test_efficientnet", "weights": weights}
given = boxes if boxes.is_file() else None
request = request_of(boxes_from=given, boxes=None, boxes_by=None, whole=given is not None, boxless=None, **model)
files = find_pictures(images).files
extractor = load(request.model, torch.device("cpu"), request.place(read_heads(files, False, lambda _: None)))

class Killing(region_writer.RegionWriter):
    def add(self, image, *rest, **named):
        super().add(image, *rest, **named)
        if len(self.done) == 6:
            os.kill(os.getpid(), signal.SIGKILL)

if len(sys.argv) > 5:
    import harness.extraction.extract as module
    region_writer.COMMIT_SECONDS = 0.0
    module.RegionWriter = Killing
print(extract(files, extractor, store, batch_size=4).before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["grid", "boxes"])
def test_a_killed_process_goes_on_to_the_same_bytes(weights: Path, images: Path, tmp_path: Path, given: bool) -> None:
    boxes = tmp_path / "boxes.json"
    if given:
        boxes.write_text(json.dumps({str(n): [[1, 2, 20 + n, 30], [0, 0, 9, 9 + n]][: 1 + n % 2] for n in range(9)}))
    words = [sys.executable, "-c", KILLED, str(images)]
    rest = [str(weights / "test_efficientnet.pth"), str(boxes)]
    threads = {**os.environ, "OMP_NUM_THREADS": "2"}
    killed = subprocess.run([*words, str(tmp_path / "twice"), *rest, "kill"], env=threads, check=False)
    assert killed.returncode == -signal.SIGKILL
    again = subprocess.run([*words, str(tmp_path / "twice"), *rest], env=threads, check=True, capture_output=True)
    assert again.stdout in (b"5\n", b"6\n")  # in the middle of the second batch of four
    subprocess.run([*words, str(tmp_path / "once"), *rest], env=threads, check=True, capture_output=True)
    twice, once = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("twice", "once"))
    assert twice == once
