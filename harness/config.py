"""harness.toml, environment and -s overrides -> one frozen, validated Config."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator

from harness.errors import ConfigError, unknown
from harness.sections import (
    Campaign,
    Cluster,
    Failures,
    Paths,
    PerDataset,
    Resources,
    Scalar,
    Search,
    Section,
    Tracking,
    Training,
)

FILE = "harness.toml"
DEFAULTS = Path(__file__).parent / "templates" / "settings.toml"
Model = TypeVar("Model", bound=BaseModel)


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
    failures: Failures = Failures()
    search: Search = Search()
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
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(key)} = {literal(item)}' for key, item in value.items())}}}"
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
