"""The source files of a method: where they are, their hash, and how its module is loaded."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import harness
from harness.config.cards import MethodCard
from harness.errors import ConfigError

PACKAGE = Path(harness.__file__).parent  # of this name: modules of two packages may be mixed


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
    """The method's file, and all that it imports, directly or not, of its own package and of what methods share."""
    module, own = module_of(card), source_file(card)
    package = module.partition(".")[0]
    names, waiting = {own: module}, [own]
    while waiting:
        file = waiting.pop()
        for name in imports(file, names[file]):
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


def imports(file: Path, module: str) -> Iterator[str]:
    """Names that a module's file imports, wherever in it; those of `from a import b` as a and as a.b."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    yield from imported(file.read_bytes(), package)


@cache
def imported(source: bytes, package: str) -> tuple[str, ...]:
    """The names that a module of a package imports.

    Kept, so that no trial parses beside the threads of its process: Python counts the depth of a parser for all
    threads together, and ends one of two at work with a SystemError.
    """
    names: list[str] = []
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ()  # loading the file says so
    for node in ast.walk(tree):
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
    """The card's module: by name where `import` finds this very file, else from the file beside the card."""
    name = module_of(card)
    file, importable = source_file(card), module_file(name)
    try:
        if importable is not None and importable.samefile(file):
            return importlib.import_module(name)
        return load_file(file)
    except (ImportError, SyntaxError, SystemExit) as error:
        why = f"it calls exit ({error})" if isinstance(error, SystemExit) else error
        raise ConfigError(f"{card.path}: class = {card.class_!r}: {file} does not import: {why}") from error


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
