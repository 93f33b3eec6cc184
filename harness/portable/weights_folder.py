"""A folder of exported weights: its files, what it says of itself, and whether all of it is as it was written.

model.safetensors   the tensors of the best epoch
weights.json        the trial's spec and measures, how words and features were made, the sha256 of all other files
vocabulary.json     words and their ids; absent where the dataset has a pretrained text encoder
METHOD.toml         the method's card
MODULE.py           the method's source, to be read; it runs only where a user names METHOD.toml by --plugin
README.md           what this is, in words
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.data.region_store import FeatureFacts
from harness.errors import DataError, Location, UsageError
from harness.files import has_file, has_folder, read_bytes, sha256
from harness.trial.results import TrialSpec

TENSORS, FACTS, VOCABULARY, README = "model.safetensors", "weights.json", "vocabulary.json", "README.md"
AGAIN = "get the folder again, or export the trial again"


class Portable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextFacts(Portable):
    """Where the ids of words are from."""

    size: int = Field(ge=1, description="of the vocabulary, or ids of the encoder's tokenizer")
    encoder: str = Field("", description="folder of the pretrained text encoder, as the dataset's card names it")
    encoder_files: dict[str, str] = Field(
        default_factory=dict, description="sha256 of the files that decide its states"
    )
    vectors: str = Field("", description="file of word vectors that training began with; they lie in the tensors")
    vectors_width: int = 0


class WeightsFacts(Portable):
    """What weights.json says."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    version: Literal[1] = 1
    key: str = Field(description="of the trial")
    spec: TrialSpec
    method_title: str
    dataset_title: str
    licence: str = Field(description="of the data")
    best_epoch: int
    measures: dict[str, float] = Field(description="on the protocol's split")
    val: dict[str, float] = Field(description="of the best epoch")
    gallery: dict[str, int]
    text: TextFacts
    features: FeatureFacts
    source_file: str = Field(description="the method's own file")
    further_sources: tuple[str, ...] = Field((), description="that it imports beside harness, and that are not here")
    harness: str = Field(description="version")
    commit: str = ""
    files: dict[str, str] = Field(description="sha256 of every other file")


class WeightsFolder(NamedTuple):
    folder: Path
    facts: WeightsFacts

    @property
    def spec(self) -> TrialSpec:
        """The trial's."""
        return self.facts.spec

    @property
    def card(self) -> Path:
        """The method's card; with `--plugin` its source is run."""
        return self.folder / card_name(self.spec.method)


def card_name(method: str) -> str:
    return f"{method}.toml"


def read_weights_folder(folder: Path) -> WeightsFolder:
    """The folder, every file of it compared with its hash; UsageError where it is none, DataError where one differs."""
    if not has_folder(folder):
        raise UsageError(f"{folder}: no such folder; name one that `harness export NAME --weights DIR` has written")
    if not has_file(folder / FACTS):
        raise DataError(f"no folder of weights: it has no {FACTS}; {AGAIN}", Location(folder))
    facts = read_facts(folder / FACTS)
    for name, digest in facts.files.items():
        path = folder / name
        if not has_file(path):
            raise DataError(f"missing, and {FACTS} promises it; {AGAIN}", Location(path))
        if (other := sha256(path)) != digest:
            raise DataError(
                f"its sha256 is {other}, {FACTS} says {digest}; it is damaged or another: {AGAIN}", Location(path)
            )
    return WeightsFolder(folder, facts)


def read_facts(path: Path) -> WeightsFacts:
    """What weights.json says; DataError where it is damaged or contradicts itself."""
    try:
        facts = WeightsFacts.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise DataError(
            f"damaged, or of another version of harness ({first['msg']}); {AGAIN}", Location(path, field)
        ) from None
    if facts.spec.key != facts.key:
        raise DataError(
            f"its trial has the key {facts.spec.key}, it says {facts.key}; it was altered: {AGAIN}", Location(path)
        )
    needed = {
        TENSORS,
        README,
        card_name(facts.spec.method),
        *[VOCABULARY] * (not facts.text.encoder),
        facts.source_file,
    }
    if wrong := needed ^ facts.files.keys() or {name for name in facts.files if Path(name).name != name}:
        raise DataError(
            f"names other files than such a folder has: {', '.join(sorted(wrong))}; {AGAIN}", Location(path)
        )
    return facts
