"""The table of readers: a dataset is opened by the layout on its card."""

from __future__ import annotations

from pathlib import Path

from harness.config.cards import DatasetCard
from harness.data.content import Reader
from harness.data.dataset import Dataset, fingerprint_of, place_of
from harness.layouts.coco import Coco
from harness.layouts.entities import Entities
from harness.layouts.karpathy import Karpathy
from harness.layouts.own_folder import OwnFolder
from harness.layouts.precomp import Precomp
from harness.layouts.scenes import Scenes

LAYOUTS: dict[str, type[Reader]] = {
    "coco": Coco,
    "entities": Entities,
    "scenes": Scenes,
    "precomp": Precomp,
    "karpathy": Karpathy,
    "folder": OwnFolder,
}


def open_dataset(card: DatasetCard, data: Path, cache: Path, limit: int | None = None) -> Dataset:
    """The dataset of a card below the data root; `limit` keeps the first images of every split and their captions."""
    return Dataset(place_of(card, data, cache), data, LAYOUTS[card.layout], limit)


def fingerprint(card: DatasetCard, data: Path, cache: Path) -> str:
    """Hex sha256 of what decides results of a dataset, without opening it; see `data.dataset.fingerprint_of`."""
    return fingerprint_of(place_of(card, data, cache), data, LAYOUTS[card.layout])
