"""The choice of a model and of what its regions are, made an extractor that was tried on a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from harness.data.pictures import PictureHead
from harness.errors import DataError, ResourceError, UsageError, first_line
from harness.extraction import hugging_face
from harness.extraction.backbones import Backbone
from harness.extraction.box_files import read_boxes
from harness.extraction.corners import whole
from harness.extraction.extractors import TRIED, CellGrid, Extractor, Pooled
from harness.extraction.given_boxes import Crops, MapMeans
from harness.extraction.placed_boxes import BoxRules, PlacedBoxes, place_boxes
from harness.extraction.timm_models import TimmSource, folder_source, is_timm_folder, load_timm

TIMM = "timm:"
BOXES = 36  # of a picture, as the field has them
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".h5", ".onnx", ".npz")  # of files of weights
Rgb = tuple[float, ...]


@dataclass(frozen=True)
class ModelChoice:
    """A model and its settings; None leaves one to the kind of the model."""

    model: str  # a folder, a name on huggingface.co, or timm:NAME
    download: bool = False
    weights: Path | None = None  # of timm:NAME
    keys_in_order: bool = False  # weights of other names are taken by their places
    mean: Rgb | None = None  # of timm, from 0 to 255
    std: Rgb | None = None
    pooled: bool = False  # one region per picture
    pool: int | None = None  # of a grid
    boxes: int | None = None  # of a detector
    threshold: float | None = None  # of a detector
    by: Literal["crop", "map"] = "crop"  # how given boxes are seen

    def needs_vectors(self, placed: PlacedBoxes | None) -> bool:
        return self.pooled or (placed is not None and self.by == "crop")


@dataclass(frozen=True)
class ExtractionRequest:
    """A model, and the boxes that it is shown."""

    model: ModelChoice
    boxes_from: Path | None
    rules: BoxRules

    def place(self, heads: Mapping[str, PictureHead]) -> PlacedBoxes | None:
        """The given boxes on the pictures; None where boxes are not given."""
        return None if self.boxes_from is None else place_boxes(read_boxes(self.boxes_from), heads, self.rules)


def request_of(
    boxes_from: Path | None, boxes_by: str | None, whole: bool, boxless: str | None, boxes: int | None, **model: Any
) -> ExtractionRequest:
    """The request of a command's flags; UsageError where one says how to use boxes that are not given."""
    if boxes_from is None:
        flags = {"boxes-by": boxes_by, "whole": whole, "boxless": boxless}
        alone = next((name for name, value in flags.items() if value), None)
        if alone:
            raise UsageError(f"--{alone} says how given boxes are used; give --boxes-from FILE, or leave that flag out")
    of_detector = boxes if boxes_from is None else None
    choice = ModelChoice(**model, boxes=of_detector, by="map" if boxes_by == "map" else "crop")
    rules = BoxRules(boxes, whole, "whole" if boxless == "whole" else "refuse")
    return ExtractionRequest(choice, boxes_from, rules)


def load(choice: ModelChoice, device: torch.device, placed: PlacedBoxes | None = None) -> Extractor:
    """The extractor of a choice, tried on a picture; `placed` are the boxes of the pictures, where they are given.

    DataError where the model is absent, damaged or gives no such regions, or NaN, UsageError for a flag of another kind
    of model, ConfigError where a library is absent, ResourceError where the device cannot hold it.
    """
    with fitting(choice.model, device):
        extractor = load_on(choice, device, placed)
        check_finite(choice, of_one_box(extractor, placed))
    return extractor


def check_finite(choice: ModelChoice, extractor: Extractor) -> None:
    """DataError where what a model makes of a picture from black to white is NaN or inf."""
    shaded = Image.linear_gradient("L").resize(TRIED).convert("RGB")  # of one shade -inf is all, and a ReLU hides it
    (seen,) = extractor.see([extractor.prepare(shaded)])
    if not (np.isfinite(seen.regions).all() and np.isfinite(seen.boxes).all()):
        weights = f"the weights {choice.weights}" if choice.weights else f"{choice.model}: its weights"
        raise DataError(f"{weights} give NaN or inf of a picture from black to white; get them again, or take others")


def of_one_box(extractor: Extractor, placed: PlacedBoxes | None) -> Extractor:
    """An extractor of given boxes as one of a picture that is tried, whose only box is all of it; others themselves."""
    if placed is None or not isinstance(extractor, Crops | MapMeans):
        return extractor
    return type(extractor)(extractor.backbone, placed._replace(corners={"": (whole(TRIED),)}))


def load_on(choice: ModelChoice, device: torch.device, placed: PlacedBoxes | None) -> Extractor:
    source = named_source(choice)
    if source is not None:
        return of_timm(choice, source, device, placed)
    folder = hugging_face.local_folder(choice.model, choice.download)
    if is_timm_folder(folder):
        refuse(choice, "is a folder with weights", weights=choice.weights)
        return of_timm(choice, folder_source(folder), device, placed)
    return of_transformers(choice, folder, device, placed)


def of_timm(choice: ModelChoice, source: TimmSource, device: torch.device, placed: PlacedBoxes | None) -> Extractor:
    refuse(choice, "is no object detector: its regions are cells of a map", threshold=choice.threshold)
    return regions_by(choice, load_timm(source, device, choice.keys_in_order, choice.mean, choice.std), placed)


def of_transformers(choice: ModelChoice, folder: Path, device: torch.device, placed: PlacedBoxes | None) -> Extractor:
    only_timm = "is no model of timm; --weights, --mean, --std and --keys-in-order are for those alone"
    refuse(choice, only_timm, weights=choice.weights, mean=choice.mean, std=choice.std)
    refuse(choice, only_timm, **{"keys-in-order": choice.keys_in_order or None})
    vectors = choice.needs_vectors(placed)
    files = hugging_face.read_files(choice.model, folder, vectors)
    facts = hugging_face.facts_of(choice.model, folder, files)
    if files.finds:
        why = "is an object detector, whose regions are boxes"
        refuse(choice, why, pool=choice.pool, pooled=choice.pooled or None)
        if placed is not None:
            raise UsageError(f"--boxes-from: {choice.model} {why} of its own; take an encoder, or leave that flag out")
        return hugging_face.load_detector(files, facts, device, choice.boxes or BOXES, choice.threshold or 0.0)
    refuse(choice, "is no object detector: its regions are patches", threshold=choice.threshold)
    return regions_by(choice, hugging_face.load_encoder(files, facts, device, vectors), placed)


def regions_by(choice: ModelChoice, backbone: Backbone, placed: PlacedBoxes | None) -> Extractor:
    """The regions that are asked for of a model that is no detector."""
    if placed is not None:
        refuse(choice, "sees given boxes (--boxes-from)", pool=choice.pool, pooled=choice.pooled or None)
        return Crops(backbone, placed) if choice.by == "crop" else MapMeans(backbone, placed)
    refuse(choice, "is no object detector: its regions are patches", boxes=choice.boxes)
    if choice.pooled:
        refuse(choice, "gives one region per picture (--pooled)", pool=choice.pool)
        return Pooled(backbone)
    return CellGrid(backbone, choice.pool)


def named_source(choice: ModelChoice) -> TimmSource | None:
    """What makes a model that is named as timm's; None for a folder or a name of the hub, UsageError for a file."""
    if choice.model.startswith(TIMM):
        if choice.weights is None:
            name = choice.model.removeprefix(TIMM)
            raise UsageError(
                f"--model {choice.model} needs --weights FILE, safetensors or a state dict of that network; nothing is "
                f"downloaded (timm's own are model.safetensors of huggingface.co/timm/{name}...)"
            )
        return TimmSource(choice.model.removeprefix(TIMM), choice.weights)
    path = Path(choice.model)
    if path.is_file() or path.suffix.lower() in SUFFIXES:
        raise UsageError(
            f"--model {path} is a file of weights, which does not say of which network: give that by a name of timm, "
            f"--model timm:NAME --weights {path}; features of your own are read by harness data convert"
        )
    return None


def refuse(choice: ModelChoice, why: str, **flags: object) -> None:
    for name, value in flags.items():
        if value is not None:
            said = f"--{name}" if value is True else f"--{name} {value}"
            raise UsageError(f"{said}: {choice.model} {why}; leave that flag out")


@contextmanager
def fitting(model: str, device: torch.device) -> Iterator[None]:
    """Raise a ResourceError where a device has no room for a model, DataError where it refuses its first picture."""
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ResourceError(f"--device {device}: this process sees {torch.cuda.device_count()} CUDA devices")
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ResourceError(f"--device {device} has no room for {model}; free it or take another") from error
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(f"{model} does not take what its own image processor makes ({first_line(error)})") from error
