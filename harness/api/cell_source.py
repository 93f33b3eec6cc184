"""The source of a class that a notebook or script defines, with all that it uses, from whichever cells that is."""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import symtable
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from types import ModuleType
from typing import Any

from harness.errors import ConfigError

FUTURE = "from __future__ import annotations"
Definition = ast.FunctionDef | ast.ClassDef
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
        function = next((one for one in functions_of(cls) if top_level(file_of(one), cls.__name__)), None)
        if function is None:
            raise ConfigError(
                f"the source of {cls.__name__} is not known: define it, with at least one function of its own, at the "
                "top of a cell or file"
            )
        self.texts: dict[str, str] = {}
        self.has_future = False
        self._names: Mapping[str, Any] = {**function.__globals__, cls.__name__: cls}
        self._file = file_of(function)  # of the class
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
        statements = [*self._statements(name, inner)]
        if not statements:
            raise ConfigError(f"the source of {name} is not known; define it by def or class, at the top of a cell")
        file, node = next((one for one in statements if may_define(one[1], inner)), statements[0])
        text = ast.unparse(node)
        for used in sorted({*names_used(text)} - OWN - {name}):
            self.add(used, name)
            self._add_submodules(used, text)
        self.has_future |= FUTURE in "".join(lines_of(file))
        return text

    def _statements(self, name: str, value: Any) -> Iterator[tuple[str, Definition]]:
        """The file and the statement that define a function or class; of a class without functions all that may."""
        functions = functions_of(value) if isinstance(value, type) else [value]
        own = [file_of(one) for one in functions if hasattr(one, "__code__") and self._is_here(one)]
        if first := next(statements_of(own, name), None):
            yield first
        elif isinstance(value, type):
            yield from statements_of([*cells(), self._file], name)

    def _is_here(self, function: Any) -> bool:
        """Whether a function is of the notebook or script, not one that a library has put into a class."""
        return bool(function.__globals__.get("__name__") == self._names.get("__name__"))

    def _add_submodules(self, name: str, text: str) -> None:
        """Import also the modules that a text reaches through a module, as `xml.dom.minidom` through `xml`."""
        if isinstance(module := self._names[name], ModuleType):
            lines = [f"import {one}" for one in reached(module, name, text)]
            self.texts[name] = "\n".join(dict.fromkeys([*lines, *self.texts[name].split("\n")]))


def functions_of(cls: type) -> list[Any]:
    """The functions that a class's own body defines, those within properties and class methods too."""
    members = (getattr(member, "__func__", getattr(member, "fget", member)) for member in vars(cls).values())
    return [inspect.unwrap(member) for member in members if inspect.isfunction(member)]


def file_of(function: Any) -> str:
    """The cell or file in which a function stands."""
    return str(function.__code__.co_filename)


def cells() -> list[str]:
    """The cells of a notebook, the latest first: Python knows their lines, of no file that could change."""
    return [name for name, entry in reversed(linecache.cache.items()) if len(entry) > 1 and entry[1] is None]


def lines_of(file: str) -> list[str]:
    """The lines of a cell or file, without a notebook's own commands."""
    return [line for line in linecache.getlines(file) if not line.lstrip().startswith(("%", "!"))]


def statements_of(files: Iterable[str], name: str) -> Iterator[tuple[str, Definition]]:
    """The cells or files that define a name at their top, each with its last statement that does."""
    for file in files:
        if node := top_level(file, name):
            yield file, node


def top_level(file: str, name: str) -> Definition | None:
    """The statement at the top of a cell or file that defines a name; None where there is none."""
    try:
        tree = ast.parse("".join(lines_of(file)))
    except SyntaxError:
        return None
    kinds = (ast.FunctionDef, ast.ClassDef)
    return next((node for node in reversed(tree.body) if isinstance(node, kinds) and node.name == name), None)


def may_define(node: Definition, value: Any) -> bool:
    """Whether a class has the names and literals of a statement, which in another cell may define an earlier one."""
    if not isinstance(node, ast.ClassDef):
        return True
    own = {*vars(value), *vars(value).get("__annotations__", {}), *getattr(value, "__members__", {})}
    body = dict(named_values(node))
    names = {name for name in own if not name.startswith("_")}
    return names == {name for name in body if not name.startswith("_")} and all(
        constant_of(value, name) == literal for name, text in body.items() for literal in literals(text)
    )


def named_values(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The names that the body of a class gives a value or a type, and the text of the value, empty without one."""
    for one in node.body:
        match one:
            case ast.Assign(targets=targets, value=value):
                yield from ((ast.unparse(target), ast.unparse(value)) for target in targets)
            case ast.AnnAssign(target=target, value=given):
                yield ast.unparse(target), ast.unparse(given) if given else ""
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name, ""


def constant_of(cls: type, name: str) -> Any:
    """The value of a class's constant, of a member of an Enum, or the default of a field."""
    fields = {field: one.default for field, one in getattr(cls, "__dataclass_fields__", {}).items()}
    value = {**getattr(cls, "_field_defaults", {}), **fields}.get(name, getattr(cls, name, None))
    return value.value if isinstance(value, Enum) else value


def literals(text: str) -> Iterator[Any]:
    """The value that a text gives, where it is a literal."""
    with suppress(ValueError, SyntaxError, TypeError):
        yield ast.literal_eval(text)


def reached(module: ModuleType, name: str, text: str) -> Iterator[str]:
    """The modules within a module, known by a name, whose attributes a text uses."""
    chains = (ast.unparse(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute))
    for chain in sorted({chain for chain in chains if chain.startswith(f"{name}.")}):
        full = f"{module.__name__}.{chain.removeprefix(f'{name}.')}"
        parent, _, last = full.rpartition(".")
        inner = sys.modules.get(full)
        if inner is not None and getattr(sys.modules.get(parent), last, None) is inner:
            yield full


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
