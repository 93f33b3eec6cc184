"""Files of datasets that are present and unchanged, and what is worked out of them, under `<results>/cache`."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.data.content import Place
from harness.errors import DataError, Location, StoreError
from harness.files import has_file, has_folder, npz, read_own, sha256, unreadable, write_own

MEMORY = "fingerprints.json"
NAME = "name"  # the array that says which file of the cache it stands in
T = TypeVar("T")
Arrays = dict[str, NDArray[Any]]


def require(place: Place, names: list[str]) -> None:
    """DataError where a file is absent: which, where from, where to put it."""
    absent = [name for name in names if not present(place.folder, name)]
    if not absent:
        return
    card = place.card
    origins = {file.path: f"  ({file.origin})" for file in card.files if file.origin}
    lines = [f"  {name}{origins.get(name, '')}{broken_link(place.folder / name)}" for name in absent]
    fetch = f"`harness data fetch {card.name}` gets those that may be downloaded. Or get" if card.downloads else "Get"
    get = (
        f"{fetch} them from {card.origin}. Put them there, or set [paths] data in harness.toml, or HARNESS_DATA, "
        f"to the folder that holds {card.folder or 'them'}."
    )
    head = f"dataset {card.name}: {len(absent)} of its {len(names)} files are not in {place.folder}:"
    raise DataError("\n".join([head, *lines, get]))


def broken_link(path: Path) -> str:
    """A note where a path is a link to what is not there, or that leads back to itself; empty otherwise."""
    return f"  (there is a link to {path.readlink()}, which leads nowhere)" if path.is_symlink() else ""


def present(folder: Path, name: str) -> bool:
    """Whether a file is there, or a folder where the name ends with a slash."""
    path = folder / name
    return has_folder(path) if name.endswith("/") else has_file(path)


def checked_sha256(place: Place, name: str) -> str:
    """The sha256 of a file or folder of the dataset; DataError with both hashes where its card says another."""
    path = place.folder / name
    digest = folder_sha256(place.cache, path) if path.is_dir() else file_fact(place.cache, path, "sha256", sha256)
    expected = next((file.sha256 for file in place.card.files if file.path == name), "")
    if expected and digest != expected:
        raise DataError(
            f"its sha256 is {digest}, the card says {expected}; it is damaged or another release: get it again from "
            f"{place.card.origin}. Where you made it again and the card is your own, {place.card.path}: "
            f"`harness init dataset {place.card.name} --force` measures it and replaces the card",
            Location(path),
        )
    return digest


def folder_sha256(cache: Path, folder: Path) -> str:
    """Hex sha256 over names and contents of a folder's own files, those of subfolders left out; remembered."""
    try:
        with os.scandir(folder) as entries:
            listing = sorted((entry.name, *marks(entry.stat())) for entry in entries if entry.is_file())
        state = hashlib.sha256(json.dumps(listing).encode()).hexdigest()
        names = [name for name, *_ in listing]
        return _fact(cache, f"sha256 {folder.resolve()} {state}", lambda: _sha256_of_all(folder, names))
    except OSError as error:
        raise unreadable(folder, error) from error


def _sha256_of_all(folder: Path, names: list[str]) -> str:
    total = hashlib.sha256()
    for name in names:
        total.update(json.dumps([name, sha256(folder / name)]).encode())
    return total.hexdigest()


def file_fact(cache: Path, path: Path, what: str, work_out: Callable[[Path], str]) -> str:
    """A fact about a file; worked out again only when the file's marks are others."""
    try:
        key = " ".join([what, str(path.resolve()), *map(str, marks(path.stat()))])
    except OSError as error:
        raise unreadable(path, error) from error
    return _fact(cache, key, lambda: work_out(path))


def remembered_sha256(cache: Path, path: Path) -> str:
    """The sha256 of a file where it was worked out before and the file is the one of then; empty otherwise."""
    return _facts(cache).get(" ".join(["sha256", str(path.resolve()), *map(str, marks(path.stat()))]), "")


def marks(status: os.stat_result) -> tuple[int, int, int]:
    """Size and times of a file: `cp -p` and `rsync -t` can restore the time of its content, not that of its change."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def forget_facts(cache: Path, places: Iterable[Path] | None = None) -> None:
    """Forget what is known of files, all or these and those below these folders: they are read again when asked for."""
    facts, others = _facts(cache), {}
    if places is not None:
        paths = [f" {os.path.realpath(place)}{end}" for place in places for end in (" ", os.sep)]  # also of loops
        others = {key: fact for key, fact in facts.items() if not any(path in key for path in paths)}
    if len(others) < len(facts):
        save(cache / MEMORY, sealed(others))


def cached(path: Path, parse: Callable[[Arrays], T], make: Callable[[], None]) -> T:
    """What a file of the cache holds, by `parse`; where it is absent or damaged `make` writes it again.

    zip checks the sum of every array, the file says its own name, and `parse` may raise any of DAMAGE.
    """
    value = read_own(path, lambda data: parse(parsed_arrays(path, data)))
    if value is None:
        make()
        value = parse(parsed_arrays(path, path.read_bytes()))
    return value


def save_cached(path: Path, arrays: Arrays) -> None:
    """Write a file for `cached`."""
    save(path, npz(**arrays, **{NAME: text_array(path.name)}))


def parsed_arrays(path: Path, data: bytes) -> Arrays:
    """The arrays of a file that `save_cached` wrote; any of DAMAGE where it is none."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = dict(file)
    if text_of(arrays.pop(NAME)) != path.name:
        raise ValueError("it is another file of the cache")
    return arrays


def text_array(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def text_of(array: NDArray[Any]) -> str:
    return array.tobytes().decode()


def _fact(cache: Path, key: str, work_out: Callable[[], str]) -> str:
    fact = _facts(cache).get(key)
    if fact is None:
        fact = work_out()
        save(cache / MEMORY, sealed({**_facts(cache), key: fact}))
    return fact


def _facts(cache: Path) -> dict[str, str]:
    """All facts by their keys; none where the file is absent or damaged, for they can be worked out again."""
    file = cache / MEMORY
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return _parsed(file, status.st_ino, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _parsed(file: Path, inode: int, changed: int) -> dict[str, str]:
    return read_own(file, unsealed) or {}


def sealed(facts: dict[str, str]) -> str:
    """Facts as JSON with their own checksum: an altered one would name data that are not there."""
    return json.dumps({"facts": facts, "sha256": _checksum(facts)}, indent=0, sort_keys=True)


def unsealed(data: bytes) -> dict[str, str]:
    """The facts of such a file; ValueError where it is none."""
    content = json.loads(data)
    facts: dict[str, str] = content["facts"]
    if _checksum(facts) != content["sha256"]:
        raise ValueError("its checksum is another")
    return facts


def _checksum(facts: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def save(path: Path, content: str | bytes) -> None:
    with writing(path):
        write_own(path, content)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """StoreError where a file of the cache cannot be written."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error}); set [paths] results to a folder with room") from error
