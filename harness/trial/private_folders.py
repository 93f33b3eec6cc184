"""Temporary folders that their user alone can enter; what an ended process left is removed by the next command."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PREFIX = "itm-"
KINDS = ("ray", "node")  # what folders are made for: the session of a local Ray, a trial on a node of its own
PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # whose paths are short enough for Ray's sockets
OWNER = "owner"  # locked by the process that made the folder, for as long as it lives
PROGRAMS = ("python", "raylet", "gcs_server")  # of Ray
ENDING_SECONDS = 5.0
YOUNG_SECONDS = 3600.0  # a folder without its lock is being made, unless it is older
_locks: dict[Path, int] = {}  # the folders of this process


def private_folder(kind: str, place: Path | None = None) -> Path:
    """Make a folder that belongs to this process until it ends or removes it."""
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-", dir=place))
    unnamed = folder / f".{OWNER}"
    lock = os.open(unnamed, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    unnamed.rename(folder / OWNER)  # only now: under this name it is never seen unlocked while its owner lives
    _locks[folder] = lock
    return folder


def remove_private(folder: Path) -> None:
    """End the processes that were started in a private folder, and remove it."""
    end_processes(folder)
    end = time.monotonic() + ENDING_SECONDS
    while not _is_emptied(folder) and time.monotonic() < end:
        time.sleep(0.05)  # a process that is just ending may still have written
    with suppress(OSError):
        (folder / OWNER).unlink()
        folder.rmdir()
    if (lock := _locks.pop(folder, None)) is not None:
        os.close(lock)


def remove_left_behind() -> None:
    """Remove the private folders on this machine whose processes have ended without doing so, of this user alone."""
    for folder in _folders():
        lock = _lock_of_the_dead(folder)
        if lock is not None:
            remove_private(folder)
            os.close(lock)


def left_behind() -> list[Path]:
    """The folders that `remove_left_behind` would remove now."""
    folders = []
    for folder in _folders():
        lock = _lock_of_the_dead(folder, may_remove=False)
        if lock is not None:
            os.close(lock)
            folders.append(folder)
    return folders


def private_cache() -> Path | None:
    """The folder for this user's generated data on this machine; None where its name is not safely the user's."""
    folder = Path(tempfile.gettempdir()) / f"{PREFIX}cache-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700)
    return folder if _is_private(folder) else None


def end_processes(folder: Path) -> None:
    """Kill what runs in a folder and wait until it is gone; does nothing on a system without /proc."""
    end = time.monotonic() + ENDING_SECONDS
    while (pids := processes_in(folder)) and time.monotonic() < end:
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def processes_in(folder: Path, programs: tuple[str, ...] = PROGRAMS) -> set[int]:
    """The processes of Ray that work below a folder; a shell that somebody has there is none."""
    pids = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            cwd, program = (process / "cwd").readlink(), (process / "exe").readlink().name
            if folder in cwd.parents and program.startswith(programs) and process.name != str(os.getpid()):
                pids.add(int(process.name))
    return pids


def _is_emptied(folder: Path) -> bool:
    """Remove all but the lock, which is the last to go: what cannot be removed now is found again."""
    with suppress(OSError):
        for entry in [entry for entry in folder.iterdir() if entry.name != OWNER]:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()
        return [*folder.iterdir()] == [folder / OWNER]
    return not folder.exists()


def _folders() -> list[Path]:
    """The private folders on this machine, of all users."""
    places = {Path(tempfile.gettempdir()), *map(Path, PLACES)}
    return [folder for place in places for kind in KINDS for folder in place.glob(f"{PREFIX}{kind}-*")]


def _lock_of_the_dead(folder: Path, may_remove: bool = True) -> int | None:
    """The lock of a folder whose owner has ended, held now by this process; None where it lives or is another user."""
    if not _is_private(folder):
        return None
    if not (folder / OWNER).exists():
        with suppress(OSError):
            if may_remove and time.time() - folder.stat().st_mtime > YOUNG_SECONDS:
                shutil.rmtree(folder)
        return None
    lock = -1
    try:
        lock = os.open(folder / OWNER, os.O_RDWR | os.O_NOFOLLOW)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if lock >= 0:
            os.close(lock)
        return None
    return lock


def _is_private(folder: Path) -> bool:
    """Whether a folder is one and no link, this user's, and closed to everybody else."""
    try:
        about = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077
