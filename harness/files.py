"""Files read with errors that say where, and replaced so that a reader sees the old or the new one."""

from __future__ import annotations

import codecs
import errno
import hashlib
import io
import itertools
import json
import logging
import os
import re
import secrets
import shlex
import stat
import struct
import time
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, Location, StoreError, first_line

ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}  # no file of that name can be there
LONGEST_NAME = 100  # characters
SHARED, PRIVATE = 0o666, 0o600  # rights of a new file, the first less those that the umask takes away
LARGEST_TEXT = 2 << 30  # bytes of a text file, which is read whole
MARKS = {  # of the byte order; UTF-32 first, because its mark begins with that of UTF-16
    **{codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"},
    **{codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"},
}
PART = re.compile(r"\.(\d+)-[0-9a-f]{8}\.part$")  # ends the name of a file being written, with its writer's process
ABANDONED_SECONDS = 3600.0
GZIP = b"\x1f\x8b"
DAMAGE = (  # what reading a file of this program raises that was cut, filled or exchanged: by Python, zip, NumPy, torch
    *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, MemoryError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, DataError),
)
T = TypeVar("T")
Hook = Callable[[dict[str, Any]], Any]


def unreadable(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError("no such file; put it there, or name another one", Location(path))
    return DataError(f"cannot be read ({error}); see to its rights, and whether it is there", Location(path))


def check_regular(path: Path) -> None:
    """DataError where something other than a file lies at a path: reading a pipe or a device may never end."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise DataError(f"it is {what}, and must be a file; put the file itself there", Location(path))


def has_file(path: Path) -> bool:
    """Whether a file that may be absent is there; DataError where something else lies in its place."""
    if not _is_there(path):
        return False
    check_regular(path)
    return True


def has_folder(path: Path) -> bool:
    """Whether a folder, or a link to one, is there; DataError where that cannot be told for want of rights."""
    return _is_there(path) and path.is_dir()


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        if error.errno not in ABSENT:
            raise unreadable(path, error) from error
        return False
    return True


def resolved(path: Path) -> Path:
    """An absolute path without links, there or not; OSError for a circle of links, which Pythons handle differently."""
    try:
        return path.resolve(strict=True)
    except RuntimeError as error:  # a circle, until Python 3.12
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise
        return path.resolve()


def listing(folder: Path) -> list[Path]:
    """What lies in a folder, by name; DataError where it is none or cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error) from error


def entries(folder: Path, start: str = "") -> list[Path]:
    """What lies in a folder, of names that begin so, by name; nothing where there is no folder."""
    return sorted(path for path in folder.iterdir() if path.name.startswith(start)) if folder.is_dir() else []


def sha256(path: Path) -> str:
    """Hex sha256 of a file, read in pieces; DataError where it cannot be read."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def read_bytes(path: Path) -> bytes:
    """A file's content; DataError where it cannot be read or is larger than a text file can be."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            data = file.read() if path.stat().st_size <= LARGEST_TEXT else None
    except OSError as error:
        raise unreadable(path, error) from error
    if data is None:
        message = f"it is larger than the {LARGEST_TEXT >> 30} GB that a text file may have; get the right file"
        raise DataError(message, Location(path))
    return data


def decoded(data: bytes, path: Path) -> str:
    """Text of a file in UTF-8, or in the encoding that its byte order mark names; DataError names the line that is not.

    Editors of Windows write such marks, and no reader wants one as the first letter of a word.
    """
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if data.startswith(GZIP):
            raise DataError(lfs_hint(path), Location(path)) from error
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"not UTF-8 ({error}); convert the file, or get it again", Location(path, f"line {line}")
        ) from error


def read_text(path: Path) -> str:
    """A text file, with or without a byte order mark; DataError names the line that is not UTF-8."""
    return decoded(read_bytes(path), path)


def read_lines(path: Path, each: str) -> list[str]:
    """The lines of a text file, stripped, with or without a last line feed; LF or CRLF.

    DataError names a line that is empty or not UTF-8; `each` says what every line is.
    """
    texts = [line.strip() for line in read_text(path).removesuffix("\n").split("\n")]
    empty = next((number for number, text in enumerate(texts, start=1) if not text), None)
    if empty:
        raise DataError(f"an empty line; every line {each}", Location(path, f"line {empty}"))
    return texts


def read_json(path: Path, hook: Hook | None = None, unique: bool = False) -> Any:
    """The JSON of a file, each object given to `hook`; DataError where it cannot be read or is none.

    With `unique`, for files that people write, also where a key stands twice in an object; `hook` is not called then.
    """
    return parse_json(read_text(path), Location(path), hook, unique)


def parse_json(text: str, location: Location, hook: Hook | None = None, unique: bool = False) -> Any:
    """JSON that stands at a location; DataError as of `read_json`."""
    try:
        return json.loads(text, object_hook=hook, object_pairs_hook=partial(_unique, location) if unique else None)
    except (ValueError, RecursionError) as error:
        hint = lfs_hint(Path(location.file)) or "correct it, or get the file again"
        raise DataError(f"not readable as JSON ({error}); {hint}", location) from error


def _unique(location: Location, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; DataError where a key stands twice, of which Python would keep the last alone."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in content if keys.count(key) > 1)
        raise DataError(f"the key {twice!r} stands {keys.count(twice)} times; keep one of them", location)
    return content


def parse_xml(text: str, location: Location) -> ElementTree.Element:
    """The root of XML that stands at a location; DataError where it is none."""
    if "<!DOCTYPE" in text:  # nothing else can define entities, which could grow without end
        raise DataError("has a DOCTYPE, which no annotation needs and which is never read; take it out", location)
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"no readable XML ({error}); get it again", location) from error


def lfs_hint(path: Path) -> str:
    """What to do where a file is compressed, or the pointer that Git LFS left in its place; empty for others."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise unreadable(path, error) from error
    if start.startswith(GZIP):
        return f"it is compressed: unpack it by `gunzip -k {shlex.quote(str(path))}`, and give the file that this makes"
    if start.startswith(b"version https://git-lfs.github.com/spec"):
        return "it is a Git LFS pointer and not the file itself: run `git lfs pull` where it came from"
    return ""


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


@contextmanager
def replacing(file: Path, rights: int = SHARED) -> Iterator[Path]:
    """A file to write that takes the place of another one at the end, where all went well; no link is followed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, rights))  # through no link
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def abandoned_parts(folder: Path) -> list[Path]:
    """The files directly in a folder that a killed process was writing for `replacing`, an hour ago or earlier."""
    parts = [(file, PART.search(file.name)) for file in folder.glob(".*.part")]
    return [file for file, match in parts if match and _is_old(file) and not Path("/proc", match[1]).exists()]


def _is_old(file: Path) -> bool:
    """Whether a file was last written long ago: on a shared folder its writer may be on another machine."""
    try:
        return time.time() - file.stat().st_mtime > ABANDONED_SECONDS
    except OSError:
        return False


def write_atomic(path: Path, content: str | bytes, rights: int = SHARED) -> None:
    """Replace a file by rename, so that a reader sees the old or the new content and nothing between."""
    with replacing(path, rights) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def read_own(path: Path, parse: Callable[[bytes], T]) -> T | None:
    """A file that this program wrote, parsed; None where it is absent or damaged: whoever needs it writes it again."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is no file")
        return parse(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:  # what it says may be right: nothing is worked out again for want of rights
        raise StoreError(f"{path} cannot be read ({error}); see to its rights") from error
    except DAMAGE as error:
        logging.getLogger(__name__).warning("%s is damaged (%s) and is written again", path, first_line(error))
        return None


def write_own(path: Path, content: str | bytes, rights: int = SHARED) -> None:
    """Replace a file of this program; what stands in its place and cannot be replaced is renamed."""
    make_way(path)
    write_atomic(path, content, rights)


def make_way(path: Path) -> None:
    """Rename what stands where a file is to be written, or its folder: a folder, or a file in place of that folder."""
    for place, is_wanted in ((path.parent, Path.is_dir), (path, _is_no_folder)):
        if os.path.lexists(place) and not is_wanted(place):
            numbers = (place.with_name(f"{place.name}.aside-{number}") for number in itertools.count(1))
            place.rename(next(name for name in numbers if not os.path.lexists(name)))


def _is_no_folder(path: Path) -> bool:
    return path.is_symlink() or not path.is_dir()


def safe_name(name: str) -> str:
    """A name as one of a file, which leads to no other folder and is not hidden; two that differ stay different."""
    plain = re.sub(r"[^\w.-]|^\.", "_", name)[:LONGEST_NAME] or "_"
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return plain if plain == name else f"{plain}-{digest[:6]}"
