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
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "make the file and its folder writable"),
    errno.EISDIR: "move the folder away",
}


class Lock(Protocol):
    def acquire(self) -> bool: ...
    def release(self) -> None: ...


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
    """Cut off a last line without an end, of a writer that was killed: Optuna would write on behind it."""
    if not file.is_file() or file.read_bytes()[-1:] in (b"", b"\n"):
        return
    lock.acquire()  # a living writer may be in the middle of it
    try:
        os.truncate(file, file.read_bytes().rfind(b"\n") + 1)
    finally:
        lock.release()


def trouble(error: OSError) -> str:
    return f"{error.strerror or error}; {ADVICE.get(error.errno or 0, 'see that its disk works')}"


def damage(file: Path, error: Exception) -> StoreError:
    sign = f"{type(error).__name__}: {error}"
    return StoreError(f"{file} cannot be used: a record is damaged or of another Optuna ({sign}); {AFRESH}")


def another_writer(file: Path, sign: str) -> StoreError:
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
