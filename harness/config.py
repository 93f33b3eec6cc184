"""harness.toml, environment and -s overrides -> one frozen, validated Config."""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, field_validator

from harness.errors import ConfigError, unknown

FILE = "harness.toml"
DEFAULTS = Path(__file__).parent / "templates" / "settings.toml"
Model = TypeVar("Model", bound=BaseModel)


def one_value(value: object) -> object:
    """A setting as it was written; ValueError for what is no value of TOML or no finite number."""
    if not isinstance(value, bool | int | float | str):
        raise ValueError("give one number, text, true or false")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("give a finite number")
    return value


Scalar = Annotated[bool | int | float | str, PlainValidator(one_value)]


class Section(BaseModel):
    """A frozen table of harness.toml; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Campaign(Section):
    """What `harness run` runs when no flag says otherwise."""

    name: str = Field("main", description="the parent run in MLflow")
    methods: tuple[str, ...] = Field(("*",), description="names or globs")
    datasets: tuple[str, ...] = Field(("scenes",), description="names or globs")
    seeds: tuple[int, ...] = Field((0, 1, 2), description="one trial a method, dataset and seed")
    protocol: str = Field("", description="empty: the first protocol of the dataset's card")


class Paths(Section):
    """Places, relative to the folder of this file."""

    data: Path = Field(Path("data"), description="root of datasets on disk; HARNESS_DATA overrides it")
    results: Path = Field(Path("runs"), description="trials, tracking store, caches")
    reports: Path = Field(Path("reports"), description="generated leaderboards")
    methods: tuple[Path, ...] = Field((), description="folders or files of further method cards")
    datasets: tuple[Path, ...] = Field((Path("datasets"),), description="folders of dataset cards")


class Training(Section):
    """One recipe for every method; all of it is part of a trial's identity."""

    epochs: int = Field(12, ge=0, description="passes over all training pairs")
    batch_size: int = Field(128, ge=2, description="pairs a step; hard negatives depend on it, so it is never shrunk")
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(0.0, ge=0, description="of the optimizer")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up from zero")
    schedule: Literal["constant", "step", "cosine"] = Field("cosine", description="of the learning rate")
    drop_after: tuple[int, ...] = Field(
        (7,), description="step schedule: lr is multiplied by drop_factor after these epochs"
    )
    drop_factor: float = Field(0.1, gt=0, le=1, description="see drop_after")
    clip: float = Field(2.0, ge=0, description="largest gradient norm; 0 is none")
    all_negatives_epochs: int = Field(
        1, ge=0, description="first epochs whose loss sums over all negatives; the hardest after"
    )
    drop_words: float = Field(0.1, ge=0, lt=1, description="share of words hidden at random in a training batch")
    drop_regions: float = Field(0.1, ge=0, lt=1, description="share of regions hidden at random in a training batch")
    patience: int = Field(0, ge=0, description="stop after so many epochs without a better val rsum; 0 is never")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 autocast on GPUs that have it")


class Resources(Section):
    """What one trial asks of a machine."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:0")
    cpus_per_trial: float = Field(
        -1.0, description="also its torch threads; -1: what the method's card asks for, else 1"
    )
    gpus_per_trial: float = Field(
        -1.0, ge=-1, description="a share is allowed; -1: what the card asks for, else one where there is a GPU"
    )
    max_concurrent: int = Field(0, ge=0, description="trials at a time; 0: as many as fit")

    @field_validator("cpus_per_trial")
    @classmethod
    def _some_or_the_cards(cls, value: float) -> float:
        if value <= 0 and value != -1:
            raise ValueError("give more than 0, or -1 for what the method's card asks for")
        return value


class Cluster(Section):
    """Where Ray runs."""

    address: str = Field("", description="an existing cluster; empty: RAY_ADDRESS, else a local Ray")


class Tracking(Section):
    """Where MLflow keeps results."""

    uri: str = Field("", description="any MLflow server; empty: sqlite in the results folder")


class PerDataset(Section):
    """What one dataset wants otherwise: keys of [training], tables of [settings]."""

    training: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, dict[str, Scalar]] = Field(default_factory=dict)


class Config(Section):
    """A whole harness.toml."""

    campaign: Campaign = Campaign()
    paths: Paths = Paths()
    training: Training = Training()
    settings: dict[str, dict[str, Scalar]] = Field(
        default_factory=dict,
        description='a table a method, or a glob such as "*" for every method that has the setting',
    )
    per_dataset: dict[str, PerDataset] = Field(default_factory=dict, description="a table a dataset")
    resources: Resources = Resources()
    cluster: Cluster = Cluster()
    tracking: Tracking = Tracking()
    root: Path = Field(Path(), description="folder of harness.toml; every path is relative to it", exclude=True)

    @field_validator("root")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.resolve()

    def for_dataset(self, name: str) -> Config:
        """With [training] and [settings] as this dataset wants them."""
        own = self.per_dataset.get(name, PerDataset())
        training = {**self.training.model_dump(), **own.training}
        return self.model_copy(
            update={
                "training": validate(Training, training, f"[per_dataset.{name}.training]"),
                "settings": merged(self.settings, own.settings),
            }
        )

    def path(self, place: Path) -> Path:
        """A configured place, absolute."""
        return (self.root / place.expanduser()).resolve()

    @property
    def data(self) -> Path:
        """Root of the datasets on disk."""
        return self.path(self.paths.data)

    @property
    def results(self) -> Path:
        """Results root, `runs/`."""
        return self.path(self.paths.results)

    @property
    def reports(self) -> Path:
        """Folder of generated leaderboards."""
        return self.path(self.paths.reports)


def load(file: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """The configuration of this folder: the file (or the nearest harness.toml upwards), environment, overrides.

    Without any file the defaults hold and the working folder is the root.
    Raises ConfigError naming the file and the field, with the nearest known key.
    """
    path = file or find(Path.cwd())
    table = merged(read_toml(DEFAULTS), read_toml(path) if path else {})
    if "HARNESS_DATA" in os.environ:
        put(table, "paths.data", os.environ["HARNESS_DATA"])
    for override in overrides:
        put_everywhere(table, *parse_override(override))
    table["root"] = path.parent if path else Path.cwd()
    return validate(Config, table, str(path or "the configuration"))


def built_in() -> Config:
    """The configuration where there is no file, no environment and no override."""
    return validate(Config, read_toml(DEFAULTS), str(DEFAULTS))


def find(folder: Path) -> Path | None:
    """The nearest harness.toml in a folder or above it."""
    for place in (folder, *folder.parents):
        if (place / FILE).is_file():
            return place / FILE
    return None


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dict; ConfigError says where it does not parse."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` of -s: the value is read as TOML where it is TOML, as a plain string where it is not."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"-s {text}: write it as key=value, for example -s training.epochs=3")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def override_value(value: Any) -> str:
    """A value as `-s key=` takes it: `parse_override` reads the same value back."""
    if isinstance(value, str) and value.isprintable() and parse_override(f"key={value}")[1] == value:
        return value
    return literal(value)


def literal(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(literal(item) for item in value)}]"
    if isinstance(value, str | Path):
        quoted = json.dumps(str(value), ensure_ascii=False)
        return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
    return repr(value)


def put(table: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key in nested dicts."""
    *parents, last = dotted.split(".")
    for name in parents:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{dotted}: {name} is a value, not a table")
    table[last] = value


def put_everywhere(table: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key, and over what single datasets want: an override from the command line always wins."""
    put(table, dotted, value)
    if dotted.split(".")[0] in PerDataset.model_fields:
        for own in table.get("per_dataset", {}).values():
            put(own, dotted, value)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables, the second laid over the first."""
    both = {
        key: merged(under[key], over[key])
        for key in over
        if isinstance(under.get(key), Mapping) and isinstance(over[key], Mapping)
    }
    return {**under, **over, **both}


def validate(model: type[Model], table: Mapping[str, Any], where: str) -> Model:
    """A model from a table; every problem is named with its file and field in one ConfigError."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        lines = [_problem(model, item) for item in error.errors()]
        raise ConfigError("\n".join(f"{where}: {line}" for line in lines)) from None


def _problem(model: type[BaseModel], item: Any) -> str:
    """One pydantic error as a line for people."""
    place = [str(part) for part in item["loc"]]
    if item["type"] == "extra_forbidden":
        return unknown("key", ".".join(place), (".".join([*place[:-1], name]) for name in _known(model, place[:-1])))
    if item["type"] == "missing":
        return f"the key {'.'.join(place)!r} is missing"
    return f"{'.'.join(place)}: {item['msg'].removeprefix('Value error, ')} (got {item['input']!r})"


def _known(model: Any, place: Sequence[str]) -> list[str]:
    """The field names of the model at a place inside a model."""
    for name in place:
        field = model.model_fields.get(name) if _is_model(model) else None
        if field is None:
            continue  # an index of a list or a key of a dict: stay at its element
        model = next((part for part in _parts(field.annotation) if _is_model(part)), None)
    return [field.alias or name for name, field in model.model_fields.items()] if _is_model(model) else []


def _parts(annotation: Any) -> list[Any]:
    """An annotation and everything inside its brackets."""
    inner = [part for arg in getattr(annotation, "__args__", ()) for part in _parts(arg)]
    return [annotation, *inner]


def _is_model(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseModel)
