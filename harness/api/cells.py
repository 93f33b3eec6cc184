"""A method that a notebook's cell or a script defines, written as a card and a module, as every other method is."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.cell_source import module_text
from harness.config.cards import MethodCard
from harness.config.registry import Registry, load_class
from harness.config.toml import validate
from harness.errors import ConfigError
from harness.files import write_atomic

if TYPE_CHECKING:
    from harness.method import Method

WRITTEN = "written"  # folder of the results


def write_method(method: type[Method], card: Mapping[str, Any], folder: Path) -> Path:
    """Write the module and the card of a class; the card's path. ConfigError for a wrong card or an unknown source."""
    check_class(method)
    name = str(card.get("name", ""))
    path = folder / f"{name}.toml"
    whole = {**defaults_of(method, name), **card, "class": f"{name}:{method.__name__}"}
    validate(MethodCard, {**whole, "path": path}, f"the card of {method.__name__}")
    write_atomic(path.with_suffix(".py"), module_text(method))
    write_atomic(path, toml_text(whole))
    return path


def check_class(method: object) -> None:
    """ConfigError for what is no class of a method."""
    from harness.method import Method

    if not (isinstance(method, type) and issubclass(method, Method)):
        got = f"the class {method.__name__}" if isinstance(method, type) else f"a {type(method).__name__}"
        raise ConfigError(f"register takes a subclass of harness.method.Method, not {got}")


def defaults_of(method: type[Method], name: str) -> dict[str, Any]:
    """Fields of a card that need not be given, those that the class knows among them."""
    settings = fields(method.Settings) if hasattr(method, "Settings") else ()
    return {
        **{"title": name, "summary": inspect.getdoc(method) or f"The method {name}.", "fidelity": "baseline"},
        **{"scoring": "embedding", "choices": []},
        "defaults": {one.name: one.default for one in settings if one.default is not MISSING},
    }


def toml_text(table: Mapping[str, Any], name: str = "") -> str:
    """A table as TOML: its values, then its tables."""
    return "\n".join(lines_of(table, name)) + "\n"


def lines_of(table: Mapping[str, Any], name: str) -> Iterator[str]:
    """The lines of a table, each value as JSON writes it: a literal of TOML as well."""
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    yield from (f"{key} = {json.dumps(value)}" for key, value in table.items() if key not in tables)
    for key, value in tables.items():
        full = f"{name}.{key}" if name else key
        yield f"[{full}]"
        yield from lines_of(value, full)


def loaded_card(registry: Registry, path: Path) -> MethodCard:
    """The card of a written method, its class imported; ConfigError where the cell lacks a name that it uses."""
    card = registry.method(path.stem)
    try:
        load_class(card)
    except NameError as error:
        raise ConfigError(f"{card.name}: {error}; import or define it in the cell of the class") from error
    return card
