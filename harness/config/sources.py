"""The source files of a method: where they are, their hash, and how its module is loaded."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import harness
from harness.config.cards import MethodCard
from harness.errors import ConfigError, first_line

PACKAGE = Path(harness.__file__).parent  # of this name: modules of two packages may be mixed
_imported_sources: dict[Path, bytes] = {}  # of each file of a method, as it was when this process first imported it


def module_of(card: MethodCard) -> str:
    return card.class_.partition(":")[0]


def source_file(card: MethodCard) -> Path:
    """The file of the card's module, located without importing it: beside the card, else on the import path."""
    module = module_of(card)
    beside = card.path.parent / f"{module.rpartition('.')[2]}.py"
    file = beside if beside.is_file() else module_file(module)
    if file is None:
        raise ConfigError(f"{card.path}: class = {card.class_!r}: no {beside.name} beside the card, no module {module}")
    return file


def source_files(card: MethodCard) -> list[Path]:
    """The method's file, and all that it imports, directly or not, of its own package and of what methods share.

    ConfigError where one of them is no Python.
    """
    module, own = module_of(card), source_file(card)
    package = module.partition(".")[0]
    names, waiting = {own: module}, [own]
    while waiting:
        file = waiting.pop()
        for name in imports(file, names[file], card):
            other = module_file(name) if decides(name, package) else None
            if other is not None and other not in names:
                names[other] = name
                waiting.append(other)
    return [own, *sorted(names.keys() - {own}, key=names.__getitem__)]  # by name: the order of paths is a machine's


def decides(name: str, package: str) -> bool:
    """Whether the code of a module can change the results of a method in a package."""
    return name.partition(".")[0] == package or name == "harness.method" or name.startswith("harness.blocks.")


def source_hash(card: MethodCard) -> str:
    digest = hashlib.sha256()
    for path in source_files(card):
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
        digest.update(b"\0")
    return digest.hexdigest()


def package_hash() -> str:
    """Hex sha256 of the source of the package harness, wherever it lies."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py"), key=lambda path: path.relative_to(PACKAGE).as_posix()):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def imports(file: Path, module: str, card: MethodCard) -> tuple[str, ...]:
    """Names that a module's file imports, wherever in it; those of `from a import b` as a and as a.b."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    try:
        return imported(file.read_bytes(), package)
    except SyntaxError as error:
        error.filename = file.name
        raise ConfigError(does_not_import(card, file, error)) from error
    except ValueError as error:  # a byte of zero
        raise ConfigError(does_not_import(card, file, error)) from error


@cache
def imported(source: bytes, package: str) -> tuple[str, ...]:
    """The names that a module of a package imports.

    Kept, so that no trial parses beside the threads of its process: Python counts the depth of a parser for all
    threads together, and ends one of two at work with a SystemError.
    """
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            name = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names += [name, *(f"{name}.{alias.name}" for alias in node.names)]
    return tuple(names)


def module_file(name: str) -> Path | None:
    """The file of an importable module, found without importing it or its parents."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module without a spec, as __main__ may be
        spec = None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.has_location and spec.origin else None
    places = [Path(place, *rest) for place in spec.submodule_search_locations or ()]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return next((file for file in files if file.is_file()), None)


def load_module(card: MethodCard) -> ModuleType:
    """The card's module: by name where `import` finds this very file, else from the file beside the card.

    ConfigError for whatever the module raises, and where Python would take a module that it imported from an earlier
    state of its file, as in a notebook: its results would stand under the key of the code that is there now.
    """
    name = module_of(card)
    own, importable = source_file(card), module_file(name)
    by_name = importable is not None and importable.samefile(own)
    for file in source_files(card):
        source = file.read_bytes()
        if _imported_sources.setdefault(file, source) != source and (by_name or file != own):
            raise ConfigError(f"{file} has changed since this Python imported it; start Python (the kernel) again")
    try:
        return importlib.import_module(name) if by_name else load_file(own)
    except (Exception, SystemExit) as error:
        raise ConfigError(does_not_import(card, own, error)) from error


def does_not_import(card: MethodCard, file: Path, error: BaseException) -> str:
    """Why a file of a method cannot be imported, in words, with the last line of it that the error passed."""
    match error:
        case SystemExit():
            why = f"it calls exit ({error})"
        case ImportError() | SyntaxError():
            why = first_line(error)
        case _:
            why = f"{type(error).__name__}: {first_line(error)}"
    lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if Path(one.filename) == file]
    place = f" (line {lines[-1]})" if lines else ""
    return f"{card.path}: class = {card.class_!r}: {file} does not import: {why}{place}"


class _UncachedLoader(SourceFileLoader):
    """Compiles a file each time: two versions of one second and size share their bytecode, which has no finer time."""

    def path_stats(self, path: Any) -> Mapping[str, Any]:
        raise OSError(f"{path}: no bytecode is read or written")


def load_file(file: Path) -> ModuleType:
    """Load a module from its file, again where the file has changed, under a name that no other module has."""
    digest = hashlib.sha256(str(file.resolve()).encode() + file.read_bytes()).hexdigest()
    name = f"harness_plugin_{digest[:12]}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file, loader=_UncachedLoader(name, str(file)))
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
