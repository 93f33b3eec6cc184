"""A method built from a folder of weights: its code from what is installed or named, all else from the folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config.cards import MethodCard
from harness.config.registry import Registry, load_class
from harness.config.sources import source_hash
from harness.data.text_encoder import PLAIN, PretrainedTokenizer, encoder_files, is_dual, load_model, load_tower
from harness.data.tokens import Tokenizer, Vocabulary
from harness.data.word_vectors import WordVectors
from harness.errors import DataError, Location, UsageError, first_line, unknown
from harness.files import has_folder, sha256
from harness.portable.weights_folder import AGAIN, FACTS, TENSORS, VOCABULARY, WeightsFacts, WeightsFolder

if TYPE_CHECKING:
    from torch import Tensor

    from harness.method import Method


@dataclass(frozen=True)
class StoredInputs:
    """What a method was built for, as its weights say; a `trial.models.InputSource`."""

    facts: WeightsFacts
    vocabulary: Tokenizer
    encoder: Path | None

    @property
    def feature_width(self) -> int:
        """F, numbers per region."""
        return self.facts.features.width

    @property
    def vectors(self) -> WordVectors | None:
        """As many word vectors as training began with, all zero: those of the weights take their place."""
        size, width = len(self.vocabulary), self.facts.text.vectors_width
        return WordVectors(np.zeros((size, width), np.float32), np.ones(size, np.bool_)) if width else None

    @property
    def has_text_tower(self) -> bool:
        """Whether the text encoder is that of a dual encoder."""
        return self.encoder is not None and is_dual(self.encoder)

    def load_encoder(self) -> Any:
        """The text encoder with its own weights; None without one."""
        if self.encoder is None:
            return None
        return (load_tower if self.has_text_tower else load_model)(self.encoder, len(self.vocabulary))


def load_method(weights: WeightsFolder, registry: Registry, data: Path) -> tuple[Method, StoredInputs]:
    """The method with its weights, on the CPU, and what it was built for. data: root below which encoders lie.

    UsageError where the method is not installed, DataError where its source, an encoder or a tensor is another.
    """
    from harness.explain.weights import method_errors
    from harness.trial.models import build_method

    card, inputs = installed_card(weights, registry), stored_inputs(weights, data)
    with method_errors(load_class(card), card.name):
        method = build_method(card, weights.spec.settings, inputs, weights.spec.seed)
    tensors = read_tensors(weights.folder / TENSORS)
    check_shapes(weights.folder / TENSORS, tensors, method.state_dict())
    method.load_state_dict(tensors)
    return method, inputs


def installed_card(weights: WeightsFolder, registry: Registry) -> MethodCard:
    """The card of the method; nothing of the folder is run, unless the user has named its card."""
    name, facts = weights.spec.method, weights.facts
    card = registry.methods.get(name)
    if card is None:
        raise UsageError(
            f"{unknown('method', name, registry.methods)}. It is not installed, and nothing in {weights.folder} is run "
            f"by itself: read {facts.source_file} there, and if you trust it, name it by --plugin {weights.card}"
        )
    if (source := source_hash(card)) != weights.spec.source:
        raise DataError(
            f"the weights belong to the source {weights.spec.source[:12]} of {name}, of harness {facts.harness}"
            f"{f', commit {facts.commit[:12]}' if facts.commit else ''}; that of {card.path} is {source[:12]}: install "
            "that version, or train and export with this one",
            Location(weights.folder / FACTS),
        )
    if weights.spec.settings.keys() != card.defaults.keys():
        raise DataError(f"its settings are not those of {card.path}; {AGAIN}", Location(weights.folder / FACTS))
    return card


def stored_inputs(weights: WeightsFolder, data: Path) -> StoredInputs:
    text, folder = weights.facts.text, weights.folder
    encoder = found_encoder(weights, data) if text.encoder else None
    prompt = str(weights.spec.settings.get("prompt", PLAIN))
    own: Tokenizer = PretrainedTokenizer(encoder, prompt) if encoder else Vocabulary.read(folder / VOCABULARY)
    if len(own) != text.size:
        raise DataError(
            f"{len(own):,} words or ids, {FACTS} says {text.size:,}; {AGAIN}", Location(encoder or folder / VOCABULARY)
        )
    return StoredInputs(weights.facts, own, encoder)


def found_encoder(weights: WeightsFolder, data: Path) -> Path:
    """The folder of the text encoder, beside the weights or below the data root; DataError where it is another."""
    text = weights.facts.text
    places = [weights.folder / text.encoder, data / text.encoder]
    folder = next(filter(has_folder, places), None)
    if folder is None:
        raise DataError(
            f"its text encoder {text.encoder!r} is neither {places[0]} nor {places[1]}; put it there, or set [paths] "
            "data",
            Location(weights.folder / FACTS),
        )
    hashes = {name: sha256(folder / name) for name in encoder_files(folder)}
    for name in sorted(hashes.keys() | text.encoder_files.keys()):
        if hashes.get(name) != text.encoder_files.get(name):
            message = "not the file that the weights were trained with; get the same encoder, of the same release"
            raise DataError(message, Location(folder / name))
    return folder


def read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"no readable safetensors ({first_line(error)}); {AGAIN}", Location(path)) from error


def check_shapes(path: Path, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """DataError that names the first tensor which is not the method's."""
    for name in sorted(tensors.keys() | own.keys()):
        stored, needed = (None if (one := part.get(name)) is None else (*one.shape,) for part in (tensors, own))
        if stored != needed:
            about = f"{name} has the shape {stored}, the method's {needed}" if stored and needed else f"{name} is "
            about += "" if stored and needed else "not there" if stored is None else "no tensor of the method"
            raise DataError(f"{about}; {AGAIN}", Location(path))


def data_root() -> Path:
    """Where datasets and encoders lie outside of a project; UsageError for the home of nobody."""
    place = Path(os.environ.get("HARNESS_DATA", "").strip() or "data")
    try:
        return place.expanduser()
    except RuntimeError as error:
        raise UsageError(f"HARNESS_DATA {str(place)!r} leads nowhere: {error}; name another folder") from error
