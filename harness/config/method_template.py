"""The file and the card that `harness init method` writes: a small method that runs, to be changed into another."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template
from typing import Literal, NamedTuple

from harness.config.cards import MethodCard
from harness.config.project import Config
from harness.config.registry import HERE, Registry
from harness.config.sources import module_file
from harness.errors import StoreError, UsageError
from harness.files import write_atomic

TEMPLATES = HERE / "templates"
IMPORTED = ("EmbeddingMethod", "UnitFragments", "RegionEncoder", "WordEncoder", "Encoded", "Inputs", "Tensor", "Any")
Scoring = Literal["embedding", "fragment"]
WORDS: dict[Scoring, dict[str, str]] = {
    "embedding": {
        "summary": "The mean region against the mean word state.",
        "formula": "cos(1/R sum_r v_r, 1/T sum_t u_t)",
    },
    "fragment": {"summary": "The mean cosine of all words and regions.", "formula": "1/RT sum_r sum_t v_r . u_t"},
}


class MethodFiles(NamedTuple):
    """A method's two files, and whether harness.toml leads to them."""

    module: Path
    card: Path
    is_listed: bool


def write_method(config: Config, registry: Registry, name: str, scoring: Scoring, force: bool = False) -> MethodFiles:
    """Write NAME.py and NAME.toml; UsageError where they are there already, unless `force`, or the name cannot be."""
    files = files_of(config, name)
    check_name(name, files, registry)
    there = [str(file) for file in files[:2] if file.exists()]
    if there and not force:
        raise UsageError(f"{' and '.join(there)} there already; --force replaces what was written into them")
    title, class_name = name.replace("_", " ").capitalize(), class_of(name)
    words = {"name": name, "title": title, "class_name": class_name, "scoring": scoring, **WORDS[scoring]}
    for file, template in ((files.module, f"method_{scoring}.py.txt"), (files.card, "method.toml.txt")):
        text = Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(words)
        try:
            write_atomic(file, text)
        except OSError as error:
            raise StoreError(f"{file} cannot be written ({error}); see to its rights and room") from error
    return files


def files_of(config: Config, name: str) -> MethodFiles:
    """In the first folder of [paths] methods, else in the working folder."""
    folders = [place for place in map(config.path, config.paths.methods) if place.is_dir()]
    folder = folders[0] if folders else Path.cwd()
    return MethodFiles(folder / f"{name}.py", folder / f"{name}.toml", bool(folders))


def class_of(name: str) -> str:
    """`MyMethod` of my_method."""
    return "".join(part.capitalize() for part in name.split("_"))


def check_name(name: str, files: MethodFiles, registry: Registry) -> None:
    """UsageError for what is no name of a method, another method's, or one that Python uses for something else."""
    pattern = MethodCard.model_json_schema()["properties"]["name"]["pattern"]
    if not re.fullmatch(pattern, name):
        raise UsageError(f"{name!r} is no name of a method; it must match {pattern}, as my_method does")
    known = registry.methods.get(name)
    if known and known.path != files.card.resolve():
        raise UsageError(f"there is a method {name!r} already: {known.path}; take another name")
    other = module_file(name)
    if keyword.iskeyword(name) or (other and other.resolve() != files.module.resolve()):
        raise UsageError(f"{name!r} is a word or a module of Python, which {name}.py would hide; take another name")
    if keyword.iskeyword(class_of(name)) or class_of(name) in IMPORTED:
        raise UsageError(
            f"{name!r}: its class would be {class_of(name)}, which means something else; take another name"
        )
