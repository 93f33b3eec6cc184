"""MethodCard and DatasetCard: what a method or a dataset declares about itself in TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from harness.config import Model, read_toml, validate
from harness.sections import Scalar, Tunable

SELECTION = "val"  # in a protocol's place: the trial ends with its measures on val and never opens test


class Table(BaseModel):
    """A frozen table of a card; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Paper(Table):
    """Where a method comes from."""

    title: str
    authors: str
    venue: str
    year: int
    doi: str = ""
    url: str = ""


class Reported(Table):
    """The paper's own numbers, with the table they stand in."""

    dataset: str
    protocol: str
    i2t: tuple[float, float, float]
    t2i: tuple[float, float, float]
    rsum: float
    ensemble: bool = False
    differs: str = Field("", description="why it does not compare with our runs: other features, another split")
    source: str
    note: str = ""

    @property
    def apart(self) -> str:
        """Why it does not compare with a run of the method alone; empty where it does."""
        return self.differs or ("an ensemble of models" if self.ensemble else "")

    @property
    def remarks(self) -> str:
        """Where it is from, and what is to be known of it."""
        return "; ".join(filter(None, (self.source, self.apart, self.note)))


class Request(Table):
    """What a trial of a method asks of a node where harness.toml and flags leave it open."""

    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(-1.0, ge=-1, description="-1: one where there is a GPU, else none")


class MethodCard(Table):
    """One method: the card is its registration."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    class_: str = Field(alias="class", pattern=r"^[\w.]+:\w+$", description="module:Class")
    summary: str
    scoring: Literal["embedding", "fragment"]
    fidelity: Literal["paper", "reconstruction", "baseline"]
    text: Literal["words"] = Field("words", description="the tokenizer its captions come through")
    trainable: bool = True
    resources: Request = Request()
    paper: Paper | None = None
    choices: tuple[str, ...] = Field(description="what the paper leaves open, and what was chosen here")
    defaults: dict[str, Scalar]
    tunable: dict[str, Tunable] = {}
    reported: tuple[Reported, ...] = ()
    path: Path = Field(exclude=True, description="the file this card was read from")


class SplitSize(Table):
    """How many images and captions a split must have."""

    images: int
    captions: int


class DataFile(Table):
    """One file of a dataset, relative to its folder."""

    path: str
    sha256: str = ""
    bytes: int | None = None
    origin: str = Field("", description="where it comes from")


class ProtocolCard(Table):
    """Which queries meet which gallery: a named, versioned declaration with its expected sizes."""

    name: str
    version: int = 1
    split: str = "test"
    folds: int = Field(1, ge=1, description="contiguous folds of the images, averaged")
    images: int
    captions: int

    @field_validator("name")
    @classmethod
    def _not_the_selection(cls, value: str) -> str:
        if value == SELECTION:
            raise ValueError(f"{SELECTION!r} is kept for trials that never open test; choose another name")
        return value


class Positives(Table):
    """A named set of positives beside the dataset's own pairs: more measures on the same scores, in files of ids."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="its measures are called name.i2t_r1, ...")
    protocol: str = Field(description="the gallery: one of the card's protocols, of one fold")
    folder: str = Field(description="below the data root")
    image_to_caption: str = Field(description="json, {image id: [caption ids]}")
    caption_to_image: str = Field(description="json, {caption id: [image ids]}")
    caption_ids: str = Field(description="npy of whole numbers, in the order of the split's captions")
    image_ids: str = Field(description="json, {caption id: [the id of its own image]}")
    captions: str = Field("", description="official captions json; where it lies there, its words are compared")
    outside: int = Field(0, ge=0, description="entries known to name what is not in the gallery; left out")
    sha256: dict[str, str] = Field(default_factory=dict, description="of files that must be one release")
    origin: str = Field(description="where to get it, told when files are absent")

    @property
    def files(self) -> tuple[str, ...]:
        """Those that it cannot do without."""
        return self.image_to_caption, self.caption_to_image, self.caption_ids, self.image_ids


class Text(Table):
    """How captions become tokens."""

    min_count: int = Field(4, ge=1, description="a word seen less often in the vocabulary's captions is <unk>")
    vocabulary: str = Field("", description="a word2idx json to read instead, relative to the dataset's folder")
    vocabulary_splits: tuple[str, ...] = ("train",)


class DatasetCard(Table):
    """One dataset: its layout, its files and the counts it is held to."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    title: str
    summary: str
    layout: Literal["scenes", "coco", "precomp"]
    folder: str = Field("", description="below the data root; empty for generated data")
    licence: str
    origin: str = Field(description="where to get it, shown when files are absent")
    feature_width: int
    max_regions: int
    splits: dict[str, SplitSize]
    protocols: tuple[ProtocolCard, ...] = Field(min_length=1)
    positives: tuple[Positives, ...] = Field((), description="named sets beside the dataset's own pairs")
    text: Text = Text()
    files: tuple[DataFile, ...] = ()
    options: dict[str, Scalar] = Field(default_factory=dict, description="of its layout")
    path: Path = Field(exclude=True, description="the file this card was read from")

    @field_validator("positives")
    @classmethod
    def _of_one_gallery(cls, value: tuple[Positives, ...], info: ValidationInfo) -> tuple[Positives, ...]:
        names = [one.name for one in value]
        known = [protocol.name for protocol in info.data.get("protocols", ()) if protocol.folds == 1]
        for one in value:
            if names.count(one.name) > 1:
                raise ValueError(f"{one.name!r} is there twice; give each set a name of its own")
            if one.protocol not in known:
                raise ValueError(
                    f"{one.name!r}: no protocol {one.protocol!r} of one fold; known: {', '.join(known) or 'none'}"
                )
        return value

    def protocol(self, name: str = "") -> ProtocolCard | None:
        """The protocol of this name; the first one where no name is given."""
        return next((p for p in self.protocols if not name or p.name == name), None)


def read_card(kind: type[Model], path: Path) -> Model:
    """A card from its file; ConfigError names the file and the field."""
    return validate(kind, {**read_toml(path), "path": path.resolve()}, str(path))
