"""A method that a notebook's cell or a script defines, written as a card and a module, as every other method is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields, is_dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.cell_source import module_text
from harness.api.running import plain
from harness.config.cards import MethodCard
from harness.config.registry import Registry, load_class
from harness.config.toml import cut, dotted, literal, validate
from harness.errors import ConfigError, StoreError
from harness.files import write_atomic

if TYPE_CHECKING:
    from harness.method import Method

WRITTEN = "written"  # folder of the results
BARE = re.compile("[A-Za-z0-9_-]+")  # a key of TOML that needs no quotes


@contextmanager
def written(method: type[Method], card: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """The card of a class, written with its module; both files are as they were before where the block raises.

    ConfigError for a wrong card or an unknown source, StoreError where the files cannot be written.
    """
    check_class(method)
    name, about = str(card.get("name", "")), f"the card of {method.__name__}"
    path = folder / f"{name}.toml"
    whole = plain({**defaults_of(method, name), **card, "class": f"{name}:{method.__name__}"})
    check_value(whole, about, ())
    validate(MethodCard, {**whole, "path": path}, about)
    texts = {path.with_suffix(".py"): module_text(method), path: "\n".join([*toml_lines(whole), ""])}
    before = {file: file.read_bytes() if file.is_file() else None for file in texts}
    try:
        write_files(texts)
        yield path
    except BaseException:
        put_back(before)
        raise


def write_files(texts: Mapping[Path, str]) -> None:
    for file, text in texts.items():
        try:
            write_atomic(file, text)
        except OSError as error:
            raise StoreError(f"{file} cannot be written ({error}); see to its rights and room") from error


def put_back(contents: Mapping[Path, bytes | None]) -> None:
    """Write files as they were before, and remove those that were not there."""
    for file, content in contents.items():
        with suppress(OSError):  # where nothing can be written, nothing was
            if content is None:
                file.unlink(missing_ok=True)
            else:
                write_atomic(file, content)


def check_class(method: object) -> None:
    """ConfigError for what is no class of a method."""
    from harness.method import Method

    if not (isinstance(method, type) and issubclass(method, Method)):
        got = f"the class {method.__name__}" if isinstance(method, type) else f"a {type(method).__name__}"
        raise ConfigError(f"register takes a subclass of harness.method.Method, not {got}")
    if not is_dataclass(getattr(method, "Settings", None)):
        raise ConfigError(
            f"{method.__name__} has no Settings dataclass; write one in it, as harness.method.Method says"
        )


def defaults_of(method: type[Method], name: str) -> dict[str, Any]:
    """Fields of a card that need not be given, those that the class knows among them."""
    return {
        **{"title": name, "summary": inspect.getdoc(method) or f"The method {name}.", "fidelity": "baseline"},
        **{"scoring": "embedding", "choices": []},
        "defaults": {one.name: one.default for one in fields(method.Settings) if one.default is not MISSING},
    }


def toml_lines(table: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """A table of this name as TOML: its values, then its tables; the tables of a list stand within it."""
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    yield from (f"{quoted(key)} = {literal(value)}" for key, value in table.items() if key not in tables)
    for key, value in tables.items():
        full = f"{name}.{quoted(key)}" if name else quoted(key)
        yield f"[{full}]"
        yield from toml_lines(value, full)


def quoted(key: str) -> str:
    """A key as TOML takes it: bare where it can be."""
    return key if BARE.fullmatch(key) else literal(key)


def check_value(value: object, about: str, place: tuple[str | int, ...]) -> None:
    """ConfigError that names the first value which a card cannot hold, such as NaN or None."""
    match value:
        case dict() | list():
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                check_value(item, about, (*place, key))
        case bool() | int() | str() | Path():
            pass
        case float() if isfinite(value):
            pass
        case _:
            raise ConfigError(
                f"{about}: {dotted(place)}: {cut(repr(value))} cannot stand in a card; give a finite number, a text, "
                "true or false, or a list or table of these"
            )


def loaded_card(registry: Registry, path: Path) -> MethodCard:
    """The card of a written method, its class imported; ConfigError where the cell lacks a name that it uses."""
    card = registry.method(path.stem)
    try:
        load_class(card)
    except ConfigError as error:
        if isinstance(error.__cause__, NameError):
            raise ConfigError(
                f"{card.name}: {error.__cause__}; import or define it in the cell of the class"
            ) from error
        raise
    return card
