"""The file of studies: whether it is one, and in plain words what is wrong with it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from harness.errors import StoreError

FORMER = "studies.db"  # the studies of an earlier harness, beside today's
AFRESH = "move it away, and its searches begin afresh; finished trials are kept in their folders and not run again"
ADVICE = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "free space in your quota",
    errno.EACCES: "make the file and its folder writable",
    errno.EPERM: "make the file and its folder writable",
    errno.EROFS: "make the file and its folder writable",
    errno.EISDIR: "move the folder away",
}


class Lock(Protocol):
    """What a writer of the file holds while it writes."""

    def acquire(self) -> bool:
        """Wait for it."""

    def release(self) -> None:
        """Give it back."""


def check_kind(file: Path) -> None:
    """StoreError where a file is none of ours, and for studies of an earlier harness beside it."""
    former = file.with_name(FORMER)
    if former.is_file():
        raise StoreError(f"{former}: studies in the form of an earlier harness, which is no longer read; {AFRESH}")
    if file.is_file():
        try:
            with file.open("rb") as stream:
                first = stream.read(1)
        except OSError as error:
            raise StoreError(f"{file} cannot be used: {trouble(error)}") from error
        if first not in (b"", b"{"):  # before anything is cut off or written
            raise StoreError(f"{file} is no journal of Optuna's; {AFRESH}")


def cut_torn_line(file: Path, lock: Lock) -> None:
    """Cut off a last line without an end: its writer was killed or had no space, and nobody was told that it is there.

    Optuna would write on behind it, and from then on could not read the file.
    """
    if not _is_torn(file):
        return
    lock.acquire()  # a living writer may be in the middle of it
    try:
        os.truncate(file, file.read_bytes().rfind(b"\n") + 1)
    finally:
        lock.release()


def trouble(error: OSError) -> str:
    """What the system says, and what to do."""
    return f"{error.strerror or error}; {ADVICE.get(error.errno or 0, 'see that its disk works')}"


def damage(file: Path, error: Exception) -> StoreError:
    """Of a file with a record that cannot be read."""
    return StoreError(
        f"{file} cannot be used: a record is damaged or of another Optuna ({type(error).__name__}: {error}); {AFRESH}"
    )


def another_writer(file: Path, sign: str) -> StoreError:
    """Of a file that has changed under this driver."""
    return StoreError(f"{file}: another program writes to it ({sign}); stop it, then go on")


@contextmanager
def store_errors(file: Path) -> Iterator[None]:
    """Whatever goes wrong in the file becomes one StoreError that says what to do."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise damage(file, error) from error
    except OSError as error:
        raise StoreError(f"{file} cannot be used: {trouble(error)}") from error
    except (KeyError, ValueError, RuntimeError) as error:  # as Optuna raises them for a trial that is gone, or over
        raise another_writer(file, str(error.args[0] if error.args else error).rstrip(".")) from error


def _is_torn(file: Path) -> bool:
    if not file.is_file() or not file.stat().st_size:
        return False
    with file.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"
