"""What the files of a project are now, which decides what on its boards is current."""

from __future__ import annotations

from functools import cache

from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.sources import source_hash
from harness.errors import HarnessError
from harness.layouts.opening import fingerprint
from harness.trial.results import Current


def current(config: Config, registry: Registry) -> Current:
    """The data, protocols and sources as they are now; unknown where they are absent, as where boards are only read."""

    def data(dataset: str) -> str:
        card = registry.datasets.get(dataset)
        try:
            return fingerprint(card, config.data, config.cache) if card else ""
        except HarnessError:  # absent or unreadable here: then the newest run decides
            return ""

    def protocol(dataset: str, name: str) -> int:
        card = registry.datasets.get(dataset)
        return next((one.identity for one in card.protocols if one.name == name), 0) if card else 0

    def source(method: str) -> str:
        card = registry.methods.get(method)
        try:
            return source_hash(card) if card else ""
        except HarnessError:
            return ""

    def val_images(dataset: str) -> int:
        card = registry.datasets.get(dataset)
        return card.splits["val"].images if card and "val" in card.splits else 0

    return Current(cache(data), protocol, cache(source), val_images)
