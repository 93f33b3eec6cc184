"""TOML text to a validated model: parsing, overrides, and hints of the nearest known name."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.errors import ConfigError, DataError, unknown
from harness.files import check_regular, read_text

Model = TypeVar("Model", bound=BaseModel)
LARGEST = 4 << 20  # bytes of a file
SHOWN = 120  # characters of a wrong value
PARTS = 32  # of a dotted key: tomllib's time grows with the square of their number
PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*"""
LONG_KEY = re.compile(rf"""(?<![\w"'.-])(?:{PART}){{{PARTS}}}""")
INTEGERS = range(-(2**63), 2**63)  # of TOML


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a file; ConfigError names the file and what is wrong in it."""
    try:
        check_regular(path)
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path}: it is larger than {LARGEST >> 20} MB; name a file that people write")
        return parse(read_text(path))
    except DataError as error:
        raise ConfigError(str(error)) from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(text: str) -> dict[str, Any]:
    """The table of TOML text, within limits: a text from outside costs no more time and memory than its size asks for.

    ValueError for what is no TOML, keys of very many parts, deep nesting, and integers of more than 64 bits.
    """
    if LONG_KEY.search(text):
        raise ValueError(f"a dotted key of more than {PARTS} parts; write tables, [a.b], of fewer")
    try:
        table = tomllib.loads(text, parse_float=lambda number: float(number) + 0.0)  # -0.0 is 0.0
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        raise ValueError("a whole number of thousands of digits; give one of 64 bits") from None
    except RecursionError:
        raise ValueError("lists or tables inside one another, hundreds deep; write fewer levels") from None
    check_integers(table)
    return table


def check_integers(value: Any) -> None:
    """ValueError for an integer that TOML does not know, which neither shows nor converts like others."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        check_integers(item)
    if isinstance(value, int) and value not in INTEGERS:
        raise ValueError("a whole number of more than 64 bits; give a smaller one")


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` of -s: the value is read as TOML where it is TOML, as a plain string where it is not."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"-s {text}: write it as key=value, for example -s training.epochs=3")
    try:
        return key.strip(), parse(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value
    except ValueError as error:
        raise ConfigError(f"-s {cut(text)}: {error}") from error


def override_value(value: Any) -> str:
    """A value as `-s key=` takes it: `parse_override` reads the same value back."""
    return value if isinstance(value, str) and value.isprintable() and is_read_as_text(value) else literal(value)


def shortly(value: bool | float | str) -> str:
    """A value as people read it in a table: a float in four digits."""
    return f"{value:.4g}" if isinstance(value, float) else override_value(value)


def is_read_as_text(value: str) -> bool:
    """Whether a text without quotes is no other value to TOML, and none that is refused."""
    try:
        return bool(parse_override(f"key={value}")[1] == value)
    except ConfigError:
        return False


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


def without_minus(value: Any) -> Any:
    """A value in which -0.0 is 0.0, as in TOML that is read here: two trials of equal values are one."""
    if isinstance(value, dict):
        return {key: without_minus(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_minus(item) for item in value]
    return value + 0.0 if isinstance(value, float) else value


def validate(model: type[Model], table: Mapping[str, Any], where: str | Callable[[str], str]) -> Model:
    """A model from a table; every problem is named with its file and field in one ConfigError.

    where: the file, or what gives it for a field such as `training.lr`.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise ConfigError("\n".join(_line(model, item, where) for item in error.errors())) from None


def _line(model: type[BaseModel], item: Any, where: str | Callable[[str], str]) -> str:
    place = dotted(item["loc"])
    source = where if isinstance(where, str) else where(place)
    problem = _problem(model, item)
    return f"{source}: {problem.removeprefix(f'{place}: ') if source.endswith(place) else problem}"


def dotted(place: Sequence[str | int]) -> str:
    """A place in tables as people write it: `recipe[0].training.lr`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _problem(model: type[BaseModel], item: Any) -> str:
    place = item["loc"]
    if item["type"] == "extra_forbidden":
        names = [dotted((*place[:-1], name)) for name in _known(model, place[:-1])]
        tables = () if place[1:] else [f"{name}.{key}" for name in names for key in _known(model, [name])]
        return unknown("key", cut(dotted(place)), [*names, *tables])
    if item["type"] == "missing":
        return f"the key {dotted(place)!r} is missing"
    return f"{dotted(place)}: {item['msg'].removeprefix('Value error, ')} (got {cut(repr(item['input']))})"


def cut(text: str) -> str:
    """The beginning of a text that may be of any length."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _known(kind: Any, place: Sequence[str | int]) -> list[str]:
    """The keys of the table at a place of a model; none where no model stands there."""
    for part in place:
        kind = _inner(_plain(kind), part)
    model = _plain(kind)
    fields = model.model_fields.items() if _is_model(model) else ()
    return [field.alias or name for name, field in fields if not field.exclude]


def _inner(kind: Any, part: str | int) -> Any:
    """The type of what stands under a key or an index; None where nothing can."""
    if _is_model(kind):
        fields = kind.model_fields.items()
        return next((field.annotation for name, field in fields if part in (name, field.alias)), None)
    is_table = get_origin(kind) is dict
    return get_args(kind)[-1 if is_table else 0] if get_origin(kind) in (dict, list, tuple) else None


def _plain(kind: Any) -> Any:
    """A type without the None that may stand in its place, and without its bounds."""
    if get_origin(kind) in (Annotated, Union, UnionType):
        return _plain(next(part for part in get_args(kind) if part is not NoneType))
    return kind


def _is_model(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseModel)
