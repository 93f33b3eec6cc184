"""Names of methods, datasets, trials and campaigns, for a shell that completes a word: from names of files alone.

A shell waits for the answer at every press of a key, so nothing is validated here and nothing heavy imported; a file
that cannot be read gives no names.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

FILE = "harness.toml"
RESULTS = "runs"  # the results folder of a project, unless its harness.toml says otherwise
HERE = Path(__file__).parents[1]  # the package harness; methods and cards of datasets lie as registry.py has them
METHODS = HERE.parent / "methods"
DATASETS = (HERE / "dataset_cards", HERE.parent / "datasets")
MOST = 2000  # folders of trials that are read
Names = Callable[["ProjectPlace"], Iterator[str]]


class ProjectPlace:
    """A project as far as names need it: its root, and [paths] of its harness.toml."""

    def __init__(self, file: Path | None = None) -> None:
        here = Path.cwd()
        files = (place / FILE for place in (here, *here.parents) if (place / FILE).is_file())
        file = file or next(files, None)
        self.root = file.parent if file else here
        self._paths = read_paths(file) if file else {}

    def folders(self, name: str, default: tuple[str, ...] = ()) -> list[Path]:
        """The folders that a key of [paths] names."""
        value = self._paths.get(name, default)
        names = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
        return [self.root / Path(text).expanduser() for text in names if isinstance(text, str)]

    @property
    def results(self) -> Path:
        return next(iter(self.folders("results", (RESULTS,))), self.root / RESULTS)


def read_paths(file: Path) -> Mapping[str, Any]:
    with suppress(OSError, ValueError):
        paths = tomllib.loads(file.read_text(encoding="utf-8")).get("paths", {})
        return paths if isinstance(paths, dict) else {}
    return {}


def methods(place: ProjectPlace) -> Iterator[str]:
    """Every method that has a card here, by its file's name."""
    for folder in (METHODS, *place.folders("methods")):
        yield from (card.stem for card in (folder.glob("*.toml") if folder.is_dir() else [folder]))


def datasets(place: ProjectPlace) -> Iterator[str]:
    """Every dataset that has a card here, by its folder's name."""
    for folder in (*DATASETS, *place.folders("datasets", ("datasets",))):
        yield from (card.parent.name for card in folder.glob("*/card.toml"))


def trials(place: ProjectPlace) -> Iterator[str]:
    """Every trial that has a folder here, as METHOD/DATASET/sSEED."""
    with suppress(OSError), os.scandir(place.results / "trials") as folders:
        for folder in islice(folders, MOST):
            with suppress(OSError, ValueError, KeyError, TypeError):
                spec = json.loads(Path(folder.path, "spec.json").read_bytes())
                yield f"{spec['method']}/{spec['dataset']}/s{spec['seed']}"


def keys(place: ProjectPlace) -> Iterator[str]:
    """The key of every trial that has a folder here."""
    with suppress(OSError), os.scandir(place.results / "trials") as folders:
        yield from (folder.name for folder in folders if "." not in folder.name)


def campaigns(place: ProjectPlace) -> Iterator[str]:
    """Every campaign whose last command is kept."""
    with suppress(OSError, ValueError):
        yield from json.loads((place.results / "commands.json").read_bytes())


def results(place: ProjectPlace) -> Iterator[str]:
    """What may be named where a row, a trial or a method will do."""
    yield from (*methods(place), *trials(place))


def cards(place: ProjectPlace) -> Iterator[str]:
    """What has a card."""
    yield from (*methods(place), *datasets(place))


def fitting(names: Names, file: Path | None, word: str) -> list[str]:
    """The names that go on from what was typed; of a list with commas or an ensemble, its last part does."""
    start = max(word.rfind(","), word.rfind("+")) + 1
    before, begun = word[:start], word[start:]
    place = ProjectPlace(file)
    every = {name for name in names(place) if name.startswith(begun)}
    if not every and begun and names is results:
        every = {name for name in keys(place) if name.startswith(begun)}
    return [before + name for name in sorted(every)]
