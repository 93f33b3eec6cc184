"""Models of timm, by name with weights of a local file, or in a folder as the hub has them; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from harness.data.torchvision import import_torchvision
from harness.errors import ConfigError, DataError, Location, UsageError, first_line, unknown
from harness.extraction.backbones import Backbone
from harness.extraction.corners import Corners
from harness.extraction.folding import fold_norms
from harness.extraction.weights import fitted, read_weights
from harness.files import has_file, read_json, sha256

CONFIG, WEIGHTS = "config.json", "model.safetensors"
RANGE = 255  # mean and deviation are said of numbers from 0 to this


class Preprocessing(NamedTuple):
    """How a picture becomes numbers: resized to a size (height, width), then less a mean, by a deviation."""

    size: tuple[int, int]
    resample: str
    mean: tuple[float, ...]  # of red, green, blue from 0 to 255
    std: tuple[float, ...]


class TimmSource(NamedTuple):
    """What makes a model: a name that timm knows, a file of weights, what a folder says beside these."""

    name: str
    weights: Path
    arguments: Mapping[str, Any] = {}
    preprocessing: Mapping[str, Any] = {}  # in place of what timm says of the name


class TimmBackbone(Backbone):
    """A model of timm with its norms folded; pictures are bytes (height, width, 3) until they are a batch."""

    def __init__(self, model: Any, facts: Mapping[str, Any], device: torch.device, how: Preprocessing) -> None:
        super().__init__(facts, device, how.size)
        self._resample = Image.Resampling[how.resample.upper()]
        self._mean, self._std = (torch.tensor(numbers).view(1, -1, 1, 1).to(device) for numbers in (how.mean, how.std))
        model = model.eval().to(device)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((1, 3, *how.size), generator=generator).to(device)
        self.model: Any = fold_norms(model, noise, features).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def squeezed(self, picture: Image.Image, corners: Corners | None = None) -> Tensor:
        height, width = self.size
        return torch.from_numpy(np.array(picture.resize((width, height), self._resample, box=corners)))

    def _features(self, inputs: Tensor) -> Tensor:
        numbers = inputs.permute(0, 3, 1, 2).float()  # channels last in memory
        return features(self.model, numbers.sub_(self._mean).div_(self._std))

    def cells(self, inputs: Tensor) -> Tensor:
        return as_map(self._features(inputs), self.model)

    def vectors(self, inputs: Tensor) -> Tensor:
        vectors: Tensor = self.model.forward_head(self._features(inputs), pre_logits=True)
        if vectors.ndim != 2:
            raise DataError(f"a {type(self.model).__name__} of timm gives no vector of a picture; leave --pooled out")
        return vectors


def features(model: Any, inputs: Tensor) -> Tensor:
    output = model.forward_features(inputs)
    if not isinstance(output, Tensor):
        raise DataError(f"a {type(model).__name__} of timm gives {type(output).__name__}, no map; take another model")
    return output


def as_map(output: Tensor, model: Any) -> Tensor:
    """What a model gives as (B, D, rows, columns): a map as it is, tokens in the grid that the model names."""
    if output.ndim == 4:
        return output.permute(0, 3, 1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else output
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    prefix = getattr(model, "num_prefix_tokens", 0)
    if output.ndim != 3 or grid is None or output.shape[1] != prefix + grid[0] * grid[1]:
        shape = tuple(output.shape[1:])
        raise DataError(
            f"a {type(model).__name__} of timm gives shape {shape}, neither a map nor tokens of a grid that it "
            "names: take another model, or --pooled"
        )
    return output[:, prefix:].transpose(1, 2).reshape(len(output), -1, *grid)


def is_timm_folder(folder: Path) -> bool:
    """Whether a folder holds a model of timm as the hub has it."""
    if not has_file(folder / CONFIG):
        return False
    config = read_json(folder / CONFIG)
    return isinstance(config, dict) and isinstance(config.get("architecture"), str) and "pretrained_cfg" in config


def folder_source(folder: Path) -> TimmSource:
    config = read_json(folder / CONFIG)
    if not has_file(folder / WEIGHTS):
        raise DataError(f"has no {WEIGHTS}; get all files of the model", Location(folder))
    own, arguments = config["pretrained_cfg"], config.get("model_args") or {}
    if not isinstance(own, dict) or not isinstance(arguments, dict):
        raise DataError("is no config of timm; get it again", Location(folder / CONFIG))
    return TimmSource(config["architecture"], folder / WEIGHTS, arguments, own)


def load_timm(
    source: TimmSource,
    device: torch.device,
    in_order: bool = False,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> TimmBackbone:
    """A model with its weights, every key of which is checked; `mean` and `std` replace those of timm."""
    library = timm()
    if not library.is_model(source.name):
        raise UsageError(unknown("model of timm", source.name, library.list_models()))
    weights = read_weights(source.weights)
    model = created(library, source)
    known = {**library.get_pretrained_cfg(source.name).to_dict(), **source.preprocessing}
    how = preprocessing_of(source.name, known, mean, std)
    state = fitted(weights, model.state_dict(), classifiers(known), source.weights, in_order)
    model.load_state_dict(state, strict=False)  # `fitted` has said what may be left out
    facts = {
        "model": f"timm:{source.name}",
        "class": type(model).__name__,
        "weights_sha256": sha256(source.weights),
        "preprocessing": {"resample": how.resample, "mean": list(how.mean), "std": list(how.std)},
        **({"keys": "in order"} if in_order else {}),
        **({"arguments": dict(source.arguments)} if source.arguments else {}),
        "timm": library.__version__,
    }
    return TimmBackbone(model, facts, device, how)


def timm() -> Any:
    """The library, imported late."""
    import_torchvision()
    try:
        import timm as library
    except ImportError as error:
        raise ConfigError(
            f"timm cannot be imported ({first_line(error)}): pip install 'itm-harness[vision]' brings what it needs"
        ) from error
    return library


def created(library: Any, source: TimmSource) -> nn.Module:
    try:
        model: nn.Module = library.create_model(source.name, pretrained=False, **source.arguments)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, AssertionError) as error:
        raise DataError(f"timm cannot make {source.name} ({first_line(error)}); take another") from error
    return model


def classifiers(known: Mapping[str, Any]) -> list[str]:
    """How the keys of a model's classifiers begin: no feature passes through them."""
    names = known.get("classifier") or ()
    return [f"{name}." for name in ((names,) if isinstance(names, str) else names)]


def preprocessing_of(
    name: str, known: Mapping[str, Any], mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Preprocessing:
    """How pictures are to be shown to a model; DataError where its config does not say it."""
    try:
        channels, height, width = known["input_size"]
        resample = str(known["interpolation"])
        Image.Resampling[resample.upper()]
        own_mean, own_std = (tuple(round(RANGE * float(one), 6) for one in known[key]) for key in ("mean", "std"))
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"timm:{name} does not say how it takes pictures ({first_line(error)}); take another"
        ) from error
    if channels != 3:
        raise DataError(f"timm:{name} takes pictures of {channels} channels; take one of three")
    return Preprocessing((height, width), resample, mean or own_mean, std or own_std)
