"""MethodCard and DatasetCard: what a method or a dataset declares about itself in TOML."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StrictBool, StrictInt, ValidationInfo, field_serializer, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from harness.addresses import shown
from harness.config.noise import Noise
from harness.config.papers import Cost, Paper, PaperRecipe, Reported, Table
from harness.config.paths import FolderPath, InnerPath, TargetPath, check_inner, check_target
from harness.config.sections import Amount, OpenAmount, Scalar, Tunable
from harness.config.selection import DATASET_NAME, METHOD_NAME
from harness.config.toml import Model, read_toml, validate
from harness.errors import UsageError, unknown

SELECTION = "val"  # in a protocol's place: the trial ends with its measures on val and never opens test


class ResourceRequest(Table):
    """CPUs and GPUs for a trial of a method, where harness.toml and flags leave them open."""

    cpus: Amount = Field(1.0, description="CPU cores, and torch threads")
    gpus: OpenAmount = Field(-1.0, description="-1: one where there is a GPU, else none")


class MethodCard(Table):
    """One method: the card is its registration."""

    name: str = Field(pattern=f"^{METHOD_NAME}$", description="as in --methods; the file is NAME.toml")
    title: str = Field(description="the name to read")
    class_: str = Field(
        alias="class", pattern=r"^[\w.]+:\w+$", description="module:Class; a module beside the card is taken from there"
    )
    summary: str = Field(description="one sentence")
    formula: str = Field("", description="the score of a pair, in the letters of harness/method.py")
    cost: Cost | None = Field(None, description="what it costs, measured")
    scoring: Literal["embedding", "fragment"] = Field(
        description="one vector per image and caption, or sets of vectors"
    )
    fidelity: Literal["paper", "reconstruction", "baseline", "zero-shot"] = Field(
        description="whether it follows the paper, fills gaps in it, follows none, or is a pretrained model as it is"
    )
    trainable: StrictBool = Field(True, description="false where there is nothing to train")
    text_tower: StrictBool = Field(
        False,
        description="true where it needs a dual encoder, such as CLIP, as [text] encoder; it is frozen",
    )
    batch_dependent: str = Field(
        "", description="why a pair's score in training depends on its batch, such as batch norms; empty: it does not"
    )
    resources: ResourceRequest = Field(ResourceRequest(), description="what a trial asks of a node")
    paper: Paper | None = Field(
        None, description="where the method comes from; required unless fidelity is baseline or zero-shot"
    )
    choices: tuple[str, ...] = Field(description="what the paper leaves open, and what was chosen here")
    defaults: dict[str, Scalar] = Field(description="every setting of the class with its default, which gives its type")
    tunable: dict[str, Tunable] = Field({}, description="the range that a setting may be searched in")
    recipes: tuple[PaperRecipe, ...] = Field(
        (), alias="recipe", description="how the paper trained it, one table per dataset"
    )
    reported: tuple[Reported, ...] = Field((), description="the paper's own numbers")
    path: SkipJsonSchema[Path] = Field(exclude=True, description="the file this card was read from")

    @field_validator("recipes")
    @classmethod
    def _one_per_dataset(cls, value: tuple[PaperRecipe, ...], info: ValidationInfo) -> tuple[PaperRecipe, ...]:
        defaults, names = info.data.get("defaults", {}), [recipe.dataset for recipe in value]
        for recipe in value:
            if names.count(recipe.dataset) > 1:
                raise ValueError(f"two recipes are of {recipe.dataset!r}; leave one of them out")
            for key in recipe.settings.keys() - defaults.keys():
                raise ValueError(f"the recipe of {recipe.dataset!r}: {unknown('setting', key, defaults)}")
        return value


class SplitSize(Table):
    """How many images and captions a split must have."""

    images: StrictInt = Field(ge=0, description="number of images")
    captions: StrictInt = Field(ge=0, description="number of captions")


class DataFile(Table):
    """One file of a dataset, relative to its folder."""

    path: InnerPath = Field(description="in the dataset's folder")
    sha256: str = Field("", description="another file is refused; empty: any is taken")
    bytes: StrictInt | None = Field(None, description="its size")
    origin: str = Field("", description="where it comes from")


class Download(Table):
    """A file to download on request, and what it becomes in the dataset's folder."""

    url: str = Field(pattern=r"^https?://[^/\s]+/\S+$", description="http or https address")
    bytes: StrictInt = Field(gt=0, description="size of what the address gives")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of what the address gives, an archive's own")
    path: TargetPath = Field("", description="of the file itself, in the dataset's folder")
    members: dict[str, TargetPath] = Field(default_factory=dict, description="of a zip instead: {name in it: path}")

    @field_serializer("url")
    def _without_secrets(self, url: str) -> str:
        """Write an address as it may be shown: a card is printed, and travels with its trials."""
        return shown(url)

    @property
    def file(self) -> str:
        return urlsplit(self.url).path.rpartition("/")[2]

    @property
    def targets(self) -> tuple[str, ...]:
        """The files in the dataset's folder once it is downloaded."""
        return (self.path,) if self.path else tuple(self.members.values())

    @model_validator(mode="after")
    def _goes_into_the_folder(self) -> Self:
        if bool(self.path) == bool(self.members):
            raise ValueError("give path, for the file itself, or members, for files of a zip")
        if self.file in ("", ".", ".."):
            raise ValueError(f"url: {self.url!r} names no file")
        check_target(self.file)  # of an archive that is kept
        return self


class ProtocolCard(Table):
    """Which queries meet which gallery: a named, versioned declaration with its expected sizes."""

    name: str = Field(description="as in --protocol; `val` is reserved")
    version: StrictInt = Field(1, description="raised when the meaning changes; two versions never share a table")
    split: str = Field("test", description="whose images and captions")
    folds: StrictInt = Field(1, ge=1, description="contiguous folds of the images, averaged")
    images: StrictInt = Field(description="number of images in the split or gallery, all folds together")
    captions: StrictInt = Field(description="number of captions, likewise")
    gallery: InnerPath = Field("", description="json list of image ids in the dataset's folder: these alone are scored")
    gallery_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="of that file; needed with one")

    @property
    def identity(self) -> int:
        """The version; with nine digits of the sha256 of a gallery, so that another file is another protocol."""
        return self.version * 10**9 + int(self.gallery_sha256, 16) % 10**9 if self.gallery else self.version

    @property
    def is_whole(self) -> bool:
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
    folder: InnerPath = Field(description="below the data root")
    image_to_caption: InnerPath = Field(description="json, {image id: [caption ids]}")
    caption_to_image: InnerPath = Field(description="json, {caption id: [image ids]}")
    caption_ids: InnerPath = Field(description="npy of whole numbers, in the order of the split's captions")
    image_ids: InnerPath = Field(description="json, {caption id: [the id of its own image]}")
    captions: InnerPath = Field("", description="official captions json; where it lies there, its words are compared")
    outside: StrictInt = Field(0, ge=0, description="entries known to name what is not in the gallery; left out")
    sha256: dict[str, str] = Field(default_factory=dict, description="of files that must be one release")
    origin: str = Field(description="where to get it, shown when files are absent")

    @property
    def files(self) -> tuple[str, ...]:
        return self.image_to_caption, self.caption_to_image, self.caption_ids, self.image_ids


class ChoiceSet(Table):
    """A file of two-way choices, {image, right, wrong}: which of two captions a method scores higher, never ranked."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="as it is shown")
    split: str = Field("test", description="whose images it asks about, by their ids")
    folder: InnerPath = Field(description="below the data root")
    file: InnerPath = Field(description='json, a list of {"image": id, "right": caption, "wrong": caption}')
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="another file is refused; empty: any is taken")
    origin: str = Field(description="where to get it")


class KnownCaption(Table):
    """A caption with its line in a split: shows files that are exchanged, shifted or sorted."""

    split: str = Field(description="name of the split")
    line: StrictInt = Field(ge=1, description="its number in the split, from 1")
    caption: str = Field(description="its text")


class TextSettings(Table):
    """How captions become tokens, and pretrained word vectors or a pretrained encoder."""

    min_count: StrictInt = Field(4, ge=1, description="a word seen less often in the vocabulary's captions is <unk>")
    vocabulary: InnerPath = Field("", description="a word2idx json to read instead, relative to the dataset's folder")
    vocabulary_splits: tuple[str, ...] = Field(("train",), description="splits whose captions make the vocabulary")
    vectors: InnerPath = Field(
        "", description="text file of word vectors to start from, in the dataset's folder or below the data root"
    )
    encoder: InnerPath = Field(
        "", description="folder of a Hugging Face text or dual encoder, likewise; its tokenizer then cuts the captions"
    )

    @model_validator(mode="after")
    def _one_source_of_words(self) -> Self:
        own = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        if self.encoder and own != ["encoder"]:
            others = ", ".join(name for name in own if name != "encoder")
            raise ValueError(f"an encoder brings its own words; leave {others} out, or the encoder")
        return self


class DatasetCard(Table):
    """One dataset: its layout, its files and the counts that are checked when a split is opened."""

    name: str = Field(pattern=f"^{DATASET_NAME}$", description="as in --datasets; the folder is datasets/NAME")
    title: str = Field(description="the name to read")
    summary: str = Field(description="one sentence")
    layout: Literal["scenes", "coco", "entities", "precomp", "karpathy", "folder"] = Field(
        description="kind of files, and the reader for them"
    )
    folder: FolderPath = Field("", description="below the data root; empty for generated data")
    licence: str = Field(description="of the data")
    origin: str = Field(description="where to get it, shown when files are absent")
    feature_width: StrictInt = Field(ge=0, description="F, numbers per region")
    max_regions: StrictInt = Field(ge=0, description="most regions of an image")
    splits: dict[str, SplitSize] = Field(description="train, val and test with their sizes")
    protocols: tuple[ProtocolCard, ...] = Field(min_length=1, description="the first one is the default")
    positives: tuple[Positives, ...] = Field((), description="named sets beside the dataset's own pairs")
    choices: tuple[ChoiceSet, ...] = Field((), description="two-way choices, which `harness looks --score` answers")
    order: tuple[KnownCaption, ...] = Field(
        (), description="captions at known lines, looked at whenever a split is opened"
    )
    text: TextSettings = Field(TextSettings(), description="how captions become tokens")
    noise: Noise = Field(Noise(), description="wrong pairs to train on, on purpose; a board says so")
    files: tuple[DataFile, ...] = Field((), description="files with size and hash to check")
    downloads: tuple[Download, ...] = Field((), description="what `harness data fetch` may load")
    options: dict[str, Scalar] = Field(default_factory=dict, description="of its layout")
    path: SkipJsonSchema[Path] = Field(exclude=True, description="the file this card was read from")

    @field_validator("positives")
    @classmethod
    def _of_one_gallery(cls, value: tuple[Positives, ...], info: ValidationInfo) -> tuple[Positives, ...]:
        names = [positives.name for positives in value]
        known = [protocol.name for protocol in info.data.get("protocols", ()) if protocol.is_whole]
        for name, protocol in ((positives.name, positives.protocol) for positives in value):
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is there twice; give each set a name of its own")
            if protocol not in known:
                raise ValueError(f"{name!r}: no protocol {protocol!r} of one fold; known: {', '.join(known) or 'none'}")
        return value

    @field_validator("splits")
    @classmethod
    def _plain_names(cls, value: dict[str, SplitSize]) -> dict[str, SplitSize]:
        for name in value:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(f"{name!r} is no name of a split: files are named by it; give letters and digits")
        return value

    @field_validator("options")
    @classmethod
    def _inner(cls, value: dict[str, Scalar]) -> dict[str, Scalar]:
        for text in value.values():
            if isinstance(text, str):
                check_inner(text)
        return value

    @model_validator(mode="after")
    def _loads_below_the_data_root(self) -> Self:
        if self.downloads and Path(self.folder).is_absolute():
            raise ValueError(
                f"folder {self.folder!r} is absolute; downloads go below the data root: give its name there"
            )
        return self

    @field_validator("downloads")
    @classmethod
    def _apart(cls, value: tuple[Download, ...]) -> tuple[Download, ...]:
        targets = [str(PurePosixPath(target)) for download in value for target in download.targets]
        for target in targets:
            if targets.count(target) > 1:
                raise ValueError(f"two downloads become {target!r}; give each a path of its own")
        return value

    @field_validator("order")
    @classmethod
    def _within_splits(cls, value: tuple[KnownCaption, ...], info: ValidationInfo) -> tuple[KnownCaption, ...]:
        splits = info.data.get("splits", {})
        for caption in value:
            size = splits.get(caption.split, SplitSize(images=0, captions=0)).captions
            if caption.line > size:
                raise ValueError(f"caption {caption.line} of split {caption.split!r}, which has {size} on this card")
        return value

    def protocol(self, name: str = "") -> ProtocolCard:
        """The protocol of this name, the first one where no name is given; UsageError with the nearest names."""
        named = [protocol for protocol in self.protocols if not name or protocol.name == name]
        if not named:
            known = (protocol.name for protocol in self.protocols)
            raise UsageError(f"dataset {self.name}: {unknown('protocol', name, known)}")
        return named[0]

    def protocol_identity(self, name: str = "") -> tuple[str, int]:
        """Name and version of a protocol; `val`, which is no protocol of a dataset, has version 0."""
        if name == SELECTION:
            return SELECTION, 0
        protocol = self.protocol(name)
        return protocol.name, protocol.identity


def read_card(kind: type[Model], path: Path) -> Model:
    """A card from its file; ConfigError names the file and the field."""
    return validate(kind, {**read_toml(path), "path": path.resolve()}, str(path))
