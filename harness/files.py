"""Files read with errors that say where, and replaced so that a reader sees the old or the new one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, Location

LONGEST_NAME = 100  # characters
SHARED, PRIVATE = 0o666, 0o600  # rights of a new file, the first less those that the umask takes away
Hook = Callable[[dict[str, Any]], Any]


def unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot be read ({error}); see to its rights, and whether it is there", Location(path))


def sha256(path: Path) -> str:
    """Hex sha256 of a file, read in pieces; DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def read_bytes(path: Path) -> bytes:
    """A file's content; DataError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte order mark; DataError names the line that is not UTF-8."""
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data[: error.start].count(b"\n") + 1, error) from error


def read_lines(path: Path, each: str) -> list[str]:
    """The lines of a UTF-8 text file, stripped, with or without a last line feed; LF or CRLF.

    DataError names a line that is empty or not UTF-8; `each` says what every line is.
    """
    texts = []
    for number, line in enumerate(read_bytes(path).removesuffix(b"\n").split(b"\n"), start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise _not_utf8(path, number, error) from error
        if not text:
            raise DataError(f"an empty line; every line {each}", Location(path, f"line {number}"))
        texts.append(text)
    return texts


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    return DataError(f"not UTF-8 ({error}); convert the file, or get it again", Location(path, f"line {line}"))


def read_json(path: Path, hook: Hook | None = None) -> Any:
    """The JSON of a file, each object given to `hook`; DataError where it cannot be read or is none."""
    return parse_json(read_text(path), Location(path), hook)


def parse_json(text: str, location: Location, hook: Hook | None = None) -> Any:
    """JSON that stands at a location; DataError where it is none."""
    try:
        return json.loads(text, object_hook=hook)
    except (ValueError, RecursionError) as error:
        hint = lfs_hint(Path(location.file)) or "correct it, or get the file again"
        raise DataError(f"not readable as JSON ({error}); {hint}", location) from error


def lfs_hint(path: Path) -> str:
    """What to do where a file is the pointer that Git LFS left in its place; empty where it is none."""
    with path.open("rb") as file:
        pointer = file.read(64).startswith(b"version https://git-lfs.github.com/spec")
    return "it is a Git LFS pointer and not the file itself: run `git lfs pull` where it came from" if pointer else ""


def npz(**arrays: NDArray[Any]) -> bytes:
    return _bytes(np.savez, **arrays)


def npy(array: NDArray[Any]) -> bytes:
    return _bytes(np.save, arr=array)


def _bytes(save: Callable[..., None], **arrays: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    save(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Arrays as a compressed .npz file, replaced atomically."""
    write_atomic(path, _bytes(np.savez_compressed, **arrays))


def load_arrays(path: Path | BinaryIO) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file that this program wrote; DataError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged ({error}); delete it, it is worked out again") from error


@contextmanager
def replacing(file: Path, rights: int = SHARED) -> Iterator[Path]:
    """A file to write that takes the place of another one at the end, where all went well; no link is followed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)  # of a killed process that had this number
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, rights))  # so that no link lies there
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes, rights: int = SHARED) -> None:
    """Replace a file by rename, so that a reader sees the old or the new content and nothing between."""
    with replacing(path, rights) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def safe_name(name: str) -> str:
    """A name as one of a file, which leads to no other folder and is not hidden; two that differ stay different."""
    plain = re.sub(r"[^\w.-]|^\.", "_", name)[:LONGEST_NAME] or "_"
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return plain if plain == name else f"{plain}-{digest[:6]}"
