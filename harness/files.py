"""Files of a dataset: present, unchanged, and facts about them worked out once and remembered."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

CHUNK = 1 << 22


def sha256(path: Path) -> str:
    """Hex sha256 of a file, read in pieces; DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); see to the file and its rights") from error


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte order mark; DataError names the line that is not UTF-8."""
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); see to the file and its rights") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line} is not UTF-8 ({error}); convert the file, or get it again") from error


def read_lines(path: Path, each: str) -> list[str]:
    """The lines of a UTF-8 text file, stripped, with or without a last line feed; LF or CRLF.

    DataError names a line that is empty or not UTF-8; `each` says what every line is.
    """
    try:
        lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); see to the file and its rights") from error
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number} is not UTF-8 ({error}); convert the file") from error
        if not text:
            raise DataError(f"{path}, line {number} is empty; every line {each}")
        texts.append(text)
    return texts


def npz(**arrays: NDArray[Any]) -> bytes:
    """Arrays as the bytes of an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def load_arrays(path: Path | BinaryIO) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file of the cache; DataError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}); delete it, it is made anew") from error


def lfs_hint(path: Path) -> str:
    """What to do where a file is the pointer that Git LFS left in its place; empty where it is none."""
    with path.open("rb") as file:
        pointer = file.read(64).startswith(b"version https://git-lfs.github.com/spec")
    return "it is a Git LFS pointer and not the file itself: run `git lfs pull` where it came from" if pointer else ""


def read_json(text: str, path: Path, where: str, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """JSON of a file, each object given to `hook`; DataError names the place `where` it does not parse."""
    try:
        return json.loads(text, object_hook=hook)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not readable JSON ({error}); {lfs_hint(path) or 'get it again'}") from error


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace a file by rename, so that a reader sees the old or the new content and nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    data = content.encode() if isinstance(content, str) else content
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def npy(array: NDArray[Any]) -> bytes:
    """An array as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A file to write that takes the place of another one at the end, where all went well."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Arrays as .npz, replaced atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())
