"""MethodCard and DatasetCard: what a method or a dataset declares about itself in TOML."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from harness.config.sections import Scalar, Tunable
from harness.config.toml import Model, read_toml, validate
from harness.errors import UsageError, unknown

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


class Download(Table):
    """A file that may be downloaded, once somebody asks for it, and what it becomes in the dataset's folder."""

    url: str = Field(pattern=r"^https?://[^/\s]+/\S+$")
    bytes: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of what the address gives, an archive's own")
    path: str = Field("", description="of the file itself, in the dataset's folder")
    members: dict[str, str] = Field(default_factory=dict, description="of a zip instead: {name in it: path}")

    @property
    def file(self) -> str:
        """The last part of the address."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @property
    def targets(self) -> tuple[str, ...]:
        """What there is in the dataset's folder once it was loaded."""
        return (self.path,) if self.path else tuple(self.members.values())

    @model_validator(mode="after")
    def _goes_into_the_folder(self) -> Self:
        if bool(self.path) == bool(self.members):
            raise ValueError("give path, for the file itself, or members, for files of a zip")
        if self.file in ("", ".", ".."):
            raise ValueError(f"url: {self.url!r} names no file")
        for target in self.targets:
            place = PurePosixPath(target)
            if not place.name or place.is_absolute() or ".." in place.parts or "\\" in target:
                raise ValueError(f"{target!r} is no path inside the dataset's folder; neither / before it nor .. in it")
        return self


class ProtocolCard(Table):
    """Which queries meet which gallery: a named, versioned declaration with its expected sizes."""

    name: str
    version: int = 1
    split: str = "test"
    folds: int = Field(1, ge=1, description="contiguous folds of the images, averaged")
    images: int
    captions: int
    gallery: str = Field("", description="json list of image ids, in the dataset's folder: these alone are scored")
    gallery_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="of that file; needed with one")

    @property
    def identity(self) -> int:
        """The version; with nine digits of the sha256 of a gallery, so that another file is another protocol."""
        return self.version * 10**9 + int(self.gallery_sha256, 16) % 10**9 if self.gallery else self.version

    @property
    def is_whole(self) -> bool:
        """Whether a query meets the whole split."""
        return self.folds == 1 and not self.gallery

    @model_validator(mode="after")
    def _of_one_file(self) -> Self:
        if bool(self.gallery) != bool(self.gallery_sha256):
            raise ValueError("gallery and gallery_sha256 belong together; give both, or neither for the whole split")
        return self

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


class KnownCaption(Table):
    """A caption that is known to stand at one line: what tells exchanged, shifted and sorted files."""

    split: str
    line: int = Field(ge=1, description="its number in the split, from 1")
    caption: str


class Text(Table):
    """How captions become tokens, and what is known of words before training."""

    min_count: int = Field(4, ge=1, description="a word seen less often in the vocabulary's captions is <unk>")
    vocabulary: str = Field("", description="a word2idx json to read instead, relative to the dataset's folder")
    vocabulary_splits: tuple[str, ...] = ("train",)
    vectors: str = Field(
        "", description="text file of word vectors to start from, in the dataset's folder or below the data root"
    )
    encoder: str = Field(
        "", description="folder of a Hugging Face text encoder, likewise; its tokenizer then cuts the captions"
    )

    @model_validator(mode="after")
    def _one_source_of_words(self) -> Self:
        own = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        if self.encoder and own != ["encoder"]:
            others = ", ".join(name for name in own if name != "encoder")
            raise ValueError(f"an encoder brings its own words; leave {others} out, or the encoder")
        return self


class DatasetCard(Table):
    """One dataset: its layout, its files and the counts it is held to."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    title: str
    summary: str
    layout: Literal["scenes", "coco", "entities", "precomp", "karpathy", "folder"]
    folder: str = Field("", description="below the data root; empty for generated data")
    licence: str
    origin: str = Field(description="where to get it, shown when files are absent")
    feature_width: int
    max_regions: int
    splits: dict[str, SplitSize]
    protocols: tuple[ProtocolCard, ...] = Field(min_length=1)
    positives: tuple[Positives, ...] = Field((), description="named sets beside the dataset's own pairs")
    order: tuple[KnownCaption, ...] = Field(
        (), description="captions at known lines, looked at whenever a split is opened"
    )
    text: Text = Text()
    files: tuple[DataFile, ...] = ()
    downloads: tuple[Download, ...] = Field((), description="what `harness data fetch` may load")
    options: dict[str, Scalar] = Field(default_factory=dict, description="of its layout")
    path: Path = Field(exclude=True, description="the file this card was read from")

    @field_validator("positives")
    @classmethod
    def _of_one_gallery(cls, value: tuple[Positives, ...], info: ValidationInfo) -> tuple[Positives, ...]:
        names = [one.name for one in value]
        known = [protocol.name for protocol in info.data.get("protocols", ()) if protocol.is_whole]
        for one in value:
            if names.count(one.name) > 1:
                raise ValueError(f"{one.name!r} is there twice; give each set a name of its own")
            if one.protocol not in known:
                raise ValueError(
                    f"{one.name!r}: no protocol {one.protocol!r} of one fold; known: {', '.join(known) or 'none'}"
                )
        return value

    @field_validator("downloads")
    @classmethod
    def _apart(cls, value: tuple[Download, ...]) -> tuple[Download, ...]:
        targets = [target for one in value for target in one.targets]
        for target in targets:
            if targets.count(target) > 1:
                raise ValueError(f"two downloads become {target!r}; give each a path of its own")
        return value

    @field_validator("order")
    @classmethod
    def _within_splits(cls, value: tuple[KnownCaption, ...], info: ValidationInfo) -> tuple[KnownCaption, ...]:
        splits = info.data.get("splits", {})
        for one in value:
            size = splits.get(one.split, SplitSize(images=0, captions=0)).captions
            if one.line > size:
                raise ValueError(f"caption {one.line} of split {one.split!r}, which has {size} on this card")
        return value

    def protocol(self, name: str = "") -> ProtocolCard | None:
        """The protocol of this name; the first one where no name is given."""
        return next((p for p in self.protocols if not name or p.name == name), None)


def read_card(kind: type[Model], path: Path) -> Model:
    """A card from its file; ConfigError names the file and the field."""
    return validate(kind, {**read_toml(path), "path": path.resolve()}, str(path))


def protocol_of(dataset: DatasetCard, name: str) -> tuple[str, int]:
    """Name and version of a protocol; `val` is none of the dataset's and has no version."""
    if name == SELECTION:
        return SELECTION, 0
    found = find_protocol(dataset, name)
    return found.name, found.identity


def find_protocol(dataset: DatasetCard, name: str) -> ProtocolCard:
    """The dataset's protocol of this name, its first where none is named."""
    protocol = dataset.protocol(name)
    if protocol is None:
        known = (p.name for p in dataset.protocols)
        raise UsageError(f"dataset {dataset.name}: {unknown('protocol', name, known)}")
    return protocol
