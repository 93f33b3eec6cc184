"""A method with its weights: as a trial begins, and as the best epoch of a trial has left it in a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.blocks.encoders import TextEncoder
from harness.config.cards import MethodCard
from harness.config.registry import load_class
from harness.config.sections import Scalar
from harness.config.sources import source_hash
from harness.data.dataset import Dataset
from harness.errors import ConfigError, DataError
from harness.method import Inputs, Method, Words
from harness.trial.checkpoint import checksum_of, fits, load_checkpoint, mapped_checkpoint
from harness.trial.folder import CHECKPOINT
from harness.trial.text_tower import TextTower


def build_method(card: MethodCard, settings: dict[str, Scalar], dataset: Dataset, seed: int) -> Method:
    kind, size = load_class(card), len(dataset.vocabulary)
    words = known_words(dataset)
    torch.manual_seed(seed)
    return kind(kind.Settings(**settings), Inputs(dataset.card.feature_width, size, words))


def known_words(dataset: Dataset) -> Words:
    vectors = dataset.vectors
    if dataset.has_text_tower:
        return Words(encoder=lambda: TextTower(*dataset.load_encoder()))
    if dataset.encoder:
        return Words(encoder=lambda: TextEncoder(dataset.load_encoder()))
    return Words(torch.from_numpy(vectors.numbers), torch.from_numpy(vectors.known)) if vectors else Words()


def load_best(method: Method, folder: Path, name: str, cache: Path | None = None) -> None:
    """Load the weights of a trial's best epoch from its folder; DataError where they are gone or damaged.

    With a cache, a checkpoint that was whole and is unchanged is not read whole again.
    """
    file = folder / CHECKPOINT
    if not file.is_file():
        raise DataError(f"{file} is gone; run {name} again with --force")
    state = mapped_checkpoint(file, cache) if cache else load_checkpoint(file, torch.device("cpu"))
    best = state.get("best") if state else None
    weights: Any = best.get("method") if isinstance(best, dict) else None
    if not fits(weights, method):
        raise DataError(f"{file} is damaged; run {name} again with --force")
    method.load_state_dict(weights)


def weights_of(folder: Path) -> str:
    """Which weights a trial has left, as a checksum: those of another training of the same trial may differ."""
    return checksum_of(folder / CHECKPOINT)


def check_fingerprint(dataset: Dataset, planned: str) -> None:
    if dataset.fingerprint != planned:
        problem = "changed since the trial was planned, or are others on this node; run the command again"
        raise DataError(f"the files of {dataset.card.name} {problem}")


def check_source(card: MethodCard, planned: str) -> None:
    try:
        source = source_hash(card)
    except ConfigError as error:
        problem = f"is not on this node; install its package there, or use a shared folder: {error}"
        raise DataError(f"the source of {card.name} {problem}") from error
    if source != planned:
        problem = "changed since the trial was planned, or is another on this node; run the command again"
        raise DataError(f"the source of {card.name} {problem}")
