"""The source of a class that a notebook or script defines, with all that it uses, from whichever cells that is."""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import symtable
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from harness.errors import ConfigError

FUTURE = "from __future__ import annotations"
OWN = {*dir(builtins), "__name__", "__file__", "__doc__"}  # names that every module has


def module_text(cls: type) -> str:
    """A module that defines a class: the imports, functions, classes and constants that it uses, then itself.

    ConfigError for what cannot be written: a class of a function's body, and a name whose value is no literal.
    """
    if "<locals>" in cls.__qualname__:
        raise ConfigError(f"{cls.__name__} is defined inside a function; define it at the top of a cell or file")
    source = CellSource(cls)
    source.add(cls.__name__, cls.__name__)
    about = f'"""The class {cls.__name__} as a notebook or script has defined it. Written by harness."""'
    return "\n\n".join([about, *([FUTURE] if source.has_future else []), *source.texts.values()]) + "\n"


class CellSource:
    """Statements by the name that each defines, those that others use first."""

    def __init__(self, cls: type) -> None:
        function = next((member for member in functions_of(cls) if top_level(member, cls.__name__)), None)
        if function is None:
            raise ConfigError(
                f"the source of {cls.__name__} is not known: define it, with at least one function of its own, at the "
                "top of a cell or file"
            )
        self.texts: dict[str, str] = {}
        self.has_future = False
        self._names: Mapping[str, Any] = {**function.__globals__, cls.__name__: cls}
        self._file = function.__code__.co_filename  # of the class
        self._begun: set[str] = set()

    def add(self, name: str, user: str) -> None:
        """Add what a name means, and before it what that uses; `user` is who uses it."""
        if name in self._begun:
            return
        self._begun.add(name)
        if name not in self._names:
            raise ConfigError(f"{user} uses {name}, which is not defined; import or define it in a cell before")
        self.texts[name] = self._text(name, user)

    def _text(self, name: str, user: str) -> str:
        value = self._names[name]
        if isinstance(value, ModuleType):
            return f"import {value.__name__} as {name}" if value.__name__ != name else f"import {name}"
        home, known_as = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
        if home == self._names.get("__name__") and known_as:
            return self._definition(name, value)
        if home and known_as.isidentifier() and getattr(sys.modules.get(home), known_as, None) is value:
            return f"from {home} import {known_as}" + (f" as {name}" if name != known_as else "")
        if is_literal(value):
            return f"{name} = {value!r}"
        raise ConfigError(
            f"{user} uses {name}, a value of type {type(value).__name__}, which cannot be written to a file; make it "
            "inside the class or in a function, or use a number, a text or a list of them"
        )

    def _definition(self, name: str, value: Any) -> str:
        inner = inspect.unwrap(value)
        members = [inner, *(functions_of(inner) if isinstance(inner, type) else [])]
        nodes = (top_level(member, name) for member in members if hasattr(member, "__code__"))
        node = next(filter(None, nodes), None)
        if node is None:
            raise ConfigError(f"the source of {name} is not known; define it by def or class, at the top of a cell")
        text = ast.unparse(node)
        for used in sorted({*names_used(text)} - OWN - {name}):
            self.add(used, name)
        self.has_future |= any(FUTURE in "".join(lines_of(member)) for member in members if hasattr(member, "__code__"))
        return text


def functions_of(cls: type) -> list[Any]:
    """The functions that a class's own body defines, those within properties and class methods too."""
    members = (getattr(member, "__func__", getattr(member, "fget", member)) for member in vars(cls).values())
    return [inspect.unwrap(member) for member in members if inspect.isfunction(member)]


def lines_of(function: Any) -> list[str]:
    """The lines of the cell or file in which a function stands, without a notebook's own commands."""
    lines = linecache.getlines(function.__code__.co_filename)
    return [line for line in lines if not line.lstrip().startswith(("%", "!"))]


def top_level(function: Any, name: str) -> ast.stmt | None:
    """The statement at the top of a function's cell or file that defines a name; None where there is none."""
    try:
        tree = ast.parse("".join(lines_of(function)))
    except SyntaxError:
        return None
    kinds = (ast.FunctionDef, ast.ClassDef)
    return next((node for node in reversed(tree.body) if isinstance(node, kinds) and node.name == name), None)


def names_used(text: str) -> Iterator[str]:
    """The global names that a definition uses, now or when it is called."""
    top = symtable.symtable(text, "<cell>", "exec")
    yield from (one.get_name() for one in top.get_symbols() if one.is_referenced() and not one.is_assigned())
    tables = top.get_children()
    while tables:
        table = tables.pop()
        yield from (one.get_name() for one in table.get_symbols() if one.is_global())
        tables += table.get_children()


def is_literal(value: Any) -> bool:
    """Whether the text of a value gives the value again."""
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError):
        return False
