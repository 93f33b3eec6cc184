"""TOML text to a validated model: parsing, overrides, and hints of the nearest known name."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import ConfigError, DataError, unknown
from harness.files import read_text

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except DataError as error:
        raise ConfigError(str(error)) from error
    except tomllib.TOMLDecodeError as error:
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


def validate(model: type[Model], table: Mapping[str, Any], where: str) -> Model:
    """A model from a table; every problem is named with its file and field in one ConfigError."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        lines = [_problem(model, item) for item in error.errors()]
        raise ConfigError("\n".join(f"{where}: {line}" for line in lines)) from None


def _problem(model: type[BaseModel], item: Any) -> str:
    place = [str(part) for part in item["loc"]]
    if item["type"] == "extra_forbidden":
        return unknown("key", ".".join(place), (".".join([*place[:-1], name]) for name in _known(model, place[:-1])))
    if item["type"] == "missing":
        return f"the key {'.'.join(place)!r} is missing"
    return f"{'.'.join(place)}: {item['msg'].removeprefix('Value error, ')} (got {item['input']!r})"


def _known(model: Any, place: Sequence[str]) -> list[str]:
    for name in place:
        field = model.model_fields.get(name) if _is_model(model) else None
        if field is None:
            continue  # an index of a list or a key of a dict: stay at its element
        model = next((part for part in _parts(field.annotation) if _is_model(part)), None)
    return [field.alias or name for name, field in model.model_fields.items()] if _is_model(model) else []


def _parts(annotation: Any) -> list[Any]:
    inner = [part for arg in getattr(annotation, "__args__", ()) for part in _parts(arg)]
    return [annotation, *inner]


def _is_model(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseModel)
