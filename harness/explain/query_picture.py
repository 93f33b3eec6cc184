"""Regions of a picture that is no part of a dataset, by the model that made the regions of the dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.data.dataset import Dataset
from harness.data.pictures import read_picture
from harness.data.region_store import MODEL_NAMES, StoreFacts, differences
from harness.data.regions import Floats
from harness.errors import DataError, Location, UsageError

if TYPE_CHECKING:
    from harness.extraction.vision_models import ModelChoice

OWN = "or give the id of an image of the dataset, or its regions in Python (docs/guide/retrieving.md)"


class ModelPlace(NamedTuple):
    """Where the model that made a dataset's regions lies now."""

    model: str = ""  # a folder, or a name; empty: as the region store names it
    weights: Path | None = None  # of timm:NAME


def picture_regions(dataset: Dataset, file: Path, place: ModelPlace, root: Path, device: str = "cpu") -> Floats:
    """Regions (R, F) of a picture, made as those of the dataset.

    DataError where the file is no picture or the model here is another one, UsageError where no model is known to have
    made the dataset's regions, or where they are of boxes that were given.
    """
    read_picture(file)  # a broken one is named before a model is loaded
    facts = known_facts(dataset)
    choice = model_choice(facts.origin, dataset.card.name, place, root)

    from harness.extraction import extract, vision_models
    from harness.trial.device import choose_device

    extractor = vision_models.load(choice, choose_device(device))
    check_origin(facts.origin, extractor.origin, choice.model)
    regions = extractor.see([extract.prepared(file.stem, file, extractor)])[0].regions
    stored: Floats = regions.astype(facts.dtype).astype(np.float32)
    return stored


def known_facts(dataset: Dataset) -> StoreFacts:
    """What the region store of a dataset says; UsageError where it has none, or says nothing of a model."""
    name, stores = dataset.card.name, dataset.region_stores
    if len(stores) != 1:
        raise UsageError(
            f"regions of {name} are in no region store, so nobody knows what made them, and a file cannot be a query; "
            f"extract a dataset's regions with `harness data extract`, {OWN}"
        )
    if "model" not in stores[0].origin or "kind" not in stores[0].origin:
        raise UsageError(
            f"the region store of {name} was converted from files and names no model, so a file cannot be a query; "
            f"extract its regions with `harness data extract`, {OWN}"
        )
    return stores[0]


def model_choice(origin: Mapping[str, Any], dataset: str, place: ModelPlace, root: Path) -> ModelChoice:
    """The model and settings that an origin names; UsageError where they do not suffice for another picture."""
    from harness.extraction.vision_models import TIMM, ModelChoice

    kind = origin["kind"]
    if kind == "given boxes":
        raise UsageError(f"regions of {dataset} are of given boxes, and a new picture has none; {OWN}")
    model = place.model or found_folder(str(origin["model"]), root)
    if model.startswith(TIMM) and place.weights is None:
        raise UsageError(f"regions of {dataset} are by {model}; give its weights by --weights FILE")
    how = origin.get("preprocessing", {}) if model.startswith(TIMM) else {}
    grid, cells = origin.get("regions"), origin.get("patches")
    return ModelChoice(
        model,
        weights=place.weights,
        keys_in_order=origin.get("keys") == "in order",
        pooled=kind == "embedding",
        pool=grid[0] if grid != cells and grid else None,
        boxes=origin.get("most"),
        threshold=origin.get("threshold") or None,
        mean=tuple(how["mean"]) if "mean" in how else None,
        std=tuple(how["std"]) if "std" in how else None,
    )


def found_folder(name: str, root: Path) -> str:
    """The folder of a model of this name below the project or its `models`, else the name as it is."""
    places = [root / name, root / "models" / name]
    return next((str(folder) for folder in places if folder.is_dir()), name)


def check_origin(stored: Mapping[str, Any], own: Mapping[str, Any], model: str) -> None:
    """DataError where a model makes other regions than those that a store holds."""
    made = json.loads(json.dumps(own))
    if said := differences(stored, made, "here", MODEL_NAMES):
        raise DataError(
            f"it makes other regions than those of the dataset ({said}); name the model that made them by --model",
            Location(model),
        )
