"""What the files of a project are now, which decides what on its boards is current."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from harness.config.cards import DatasetCard
from harness.config.project import Config
from harness.config.registry import Registry, built_in_dataset, choices, settings_for, training_for
from harness.config.selection import member_names
from harness.config.sources import source_hash
from harness.config.transfer import without_words
from harness.errors import HarnessError
from harness.layouts.opening import fingerprint
from harness.trial.ensembles import joint_source
from harness.trial.results import Current


def current(config: Config, registry: Registry) -> Current:
    """The data, protocols and sources as they are now; unknown where they are absent, as where boards are only read."""

    def fingerprint_of(card: DatasetCard) -> str:
        try:
            return fingerprint(card, config.data, config.cache)
        except HarnessError:  # absent or unreadable here: then the newest run decides
            return ""

    def data(dataset: str) -> str:
        card = registry.datasets.get(dataset)
        return fingerprint_of(card) if card else ""

    def test_data(dataset: str) -> str:
        card = registry.datasets.get(dataset)
        return fingerprint_of(without_words(card)) if card else ""

    def protocol(dataset: str, name: str) -> int:
        card = registry.datasets.get(dataset)
        return next((one.identity for one in card.protocols if one.name == name), 0) if card else 0

    def source(method: str) -> str:
        if members := member_names(method):
            return joint_source(map(source, members))
        card = registry.methods.get(method)
        try:
            return source_hash(card) if card else ""
        except HarnessError:
            return ""

    def val_images(dataset: str) -> int:
        card = registry.datasets.get(dataset)
        return card.splits["val"].images if card and "val" in card.splits else 0

    def resized(dataset: str) -> tuple[str, ...]:
        card, known = registry.datasets.get(dataset), built_in_dataset(dataset)
        return tuple(other_sizes(card, known)) if card and known else ()

    @cache
    def configured(method: str, dataset: str) -> dict[str, str]:
        card, own = registry.methods.get(method), config.for_dataset(dataset)
        try:
            return choices(settings_for(card, own), training_for(card, own)) if card else {}
        except HarnessError:
            return {}

    return Current(cache(data), cache(test_data), protocol, cache(source), val_images, resized, configured)


def other_sizes(card: DatasetCard, known: DatasetCard) -> Iterator[str]:
    """`train 500 images (29,000)`: the splits and protocols that have another size than those of a known card."""
    splits = {name: (card.splits.get(name), size) for name, size in known.splits.items()}
    own = {protocol.name: protocol for protocol in card.protocols}
    protocols = {f"protocol {one.name}": (own.get(one.name), one) for one in known.protocols if one.name in own}
    for name, (ours, theirs) in {**splits, **protocols}.items():
        for what in ("images", "captions"):
            size, other = getattr(ours, what, 0), getattr(theirs, what)
            if size != other:
                yield f"{name} {size:,} {what} ({other:,})"
                break
    for name, (ours, theirs) in protocols.items():
        for what in ("split", "folds"):
            if getattr(ours, what) != getattr(theirs, what):
                yield f"{name} {what} {getattr(ours, what)} ({getattr(theirs, what)})"
