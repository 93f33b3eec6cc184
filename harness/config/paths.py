"""Paths in cards: a card may come from anybody, so it names files in the dataset's folder and nowhere else."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 255  # bytes of a name, in most file systems


def check_inner(path: str) -> str:
    """A relative path that leads into a folder and not out of it; ValueError for any other."""
    place = PurePosixPath(path)
    if path and not place.name:
        raise ValueError(f"{path!r} is no path inside the dataset's folder; name a file or a folder in it")
    return _check(path, place.is_absolute())


def check_folder(path: str) -> str:
    """A path of a folder without a way up; ValueError for any other."""
    return _check(path, refused=False)


def _check(path: str, refused: bool) -> str:
    parts = PurePosixPath(path).parts
    if refused or ".." in parts or "\\" in path:
        raise ValueError(f"{path!r} is no path inside the dataset's folder; neither / before it nor .. in it")
    if not path.isprintable() or any(len(part.encode()) > LONGEST for part in parts):
        raise ValueError(f"{path!r} is no name of a file: give printable names of at most {LONGEST} bytes")
    return path


def check_target(path: str) -> str:
    """A path that a file may be written to: inner, and hidden nowhere; ValueError for any other.

    Hidden files steer programs, such as .git and .ssh, and those of `harness data fetch` itself are hidden.
    """
    check_inner(path)
    if any(part.startswith(".") for part in PurePosixPath(path).parts):
        raise ValueError(f"{path!r}: no download becomes a hidden file; give a name without a dot before it")
    return path


InnerPath = Annotated[str, AfterValidator(check_inner)]
FolderPath = Annotated[str, AfterValidator(check_folder)]
TargetPath = Annotated[str, AfterValidator(check_target)]
