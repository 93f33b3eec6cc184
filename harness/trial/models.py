"""A method with its weights: as a trial begins, and as the best epoch of a trial has left it in a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from harness.blocks.encoders import TextEncoder
from harness.config.cards import MethodCard
from harness.config.registry import load_class
from harness.config.sections import Scalar
from harness.config.sources import source_hash
from harness.data.dataset import Dataset
from harness.data.split import Split
from harness.data.tokens import Tokenizer
from harness.data.word_vectors import WordVectors
from harness.errors import ConfigError, DataError
from harness.layouts.opening import open_dataset
from harness.method import Inputs, Method, Words
from harness.trial.checkpoint import checksum_of, fits, load_checkpoint, mapped_checkpoint
from harness.trial.folder import CHECKPOINT
from harness.trial.results import UNKNOWN_WORDS, Assignment
from harness.trial.text_tower import TextTower


class InputSource(Protocol):
    """What a method is built for: a `Dataset`, or what exported weights say of theirs."""

    @property
    def feature_width(self) -> int: ...

    @property
    def vocabulary(self) -> Tokenizer: ...

    @property
    def vectors(self) -> WordVectors | None: ...

    @property
    def encoder(self) -> Path | None: ...

    @property
    def has_text_tower(self) -> bool: ...

    def load_encoder(self) -> Any: ...


class TrialData(NamedTuple):
    """The dataset that a trial is trained on, and where it is tested on another that one."""

    own: Dataset
    other: Dataset | None

    def tests(self, own: Dataset) -> Dataset:
        """The dataset that is tested on, its captions read as `own` reads them."""
        return self.other.worded_as(own) if self.other else own

    def check_unchanged(self) -> None:
        for dataset in filter(None, self):
            dataset.check_unchanged()


def unknown_words(split: Split) -> dict[str, str]:
    """For the environment of a transfer: the words of a split that the trained vocabulary lacks, and all of them."""
    unknown, words = split.tokens.unknown_words
    return {UNKNOWN_WORDS: f"{unknown} of {words}"}


def open_data(assignment: Assignment) -> TrialData:
    """The datasets of a trial; DataError where their files are no longer those that it was planned with."""
    spec, data, cache = assignment.spec, assignment.data, assignment.cache
    own = open_dataset(assignment.dataset_card, data, cache, spec.limit)
    check_fingerprint(own, spec.data_fingerprint)
    if assignment.test_card is None:
        return TrialData(own, None)
    other = open_dataset(assignment.test_card, data, cache, spec.limit)
    check_fingerprint(other, spec.test_fingerprint)
    other.check_alike(own)
    return TrialData(own, other)


def build_method(card: MethodCard, settings: dict[str, Scalar], source: InputSource, seed: int) -> Method:
    kind, size = load_class(card), len(source.vocabulary)
    words = known_words(source)
    torch.manual_seed(seed)
    return kind(kind.Settings(**settings), Inputs(source.feature_width, size, words))


def known_words(source: InputSource) -> Words:
    vectors = source.vectors
    if source.has_text_tower:
        return Words(encoder=lambda: TextTower(*source.load_encoder()))
    if source.encoder:
        return Words(encoder=lambda: TextEncoder(source.load_encoder()))
    return Words(torch.from_numpy(vectors.numbers), torch.from_numpy(vectors.known)) if vectors else Words()


def load_best(method: Method, folder: Path, name: str, key: str, cache: Path | None = None) -> None:
    """Load the weights of a trial's best epoch from its folder; DataError where they are gone or damaged.

    key: of the trial, for the weights to be refused where the file says that it is another trial's. With a cache, a
    checkpoint that was whole and is unchanged is not read whole again.
    """
    file = folder / CHECKPOINT
    if not file.is_file():
        raise DataError(f"{file} is gone; run {name} again with --force")
    state = mapped_checkpoint(file, cache) if cache else load_checkpoint(file, torch.device("cpu"))
    best = state.get("best") if state else None
    weights: Any = best.get("method") if isinstance(best, dict) else None
    is_others = bool(state and state.get("key", key) != key)
    if is_others or not fits(weights, method):
        raise DataError(f"{file} is damaged; run {name} again with --force")
    method.load_state_dict(weights)


def weights_of(folder: Path) -> str:
    """Which weights a trial has left, as a checksum, empty where it trained nothing; another training's may differ."""
    return checksum_of(folder / CHECKPOINT) if (folder / CHECKPOINT).is_file() else ""


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
