"""What a run asks of the machine beside GPUs: Python, open files, shared memory, loopback, room for files."""

from __future__ import annotations

import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.doctor.diagnosis import Remark, fault, sound, warning
from harness.errors import count
from harness.executors.ray_session import OBJECT_STORE_BYTES, has_loopback, socket_place
from harness.trial.private_folders import left_behind

FEW_FILES = 1024  # every worker of Ray's holds some dozen, MLflow a hundred; a Ray with one worker starts with 200
SHARED_MEMORY = Path("/dev/shm")
SCANT_BYTES = 2_000_000_000  # of a disk, below which a campaign may fill it
FULL = 0.95  # of a disk, from which on Ray refuses objects
GB = 1e9


def python() -> Iterator[Remark]:
    """The interpreter, and the environment that it is of."""
    where = "in an environment of its own" if sys.prefix != sys.base_prefix else "not in a virtual environment"
    yield sound(f"{platform.python_version()}, {sys.executable}, {where}")


def open_files() -> Iterator[Remark]:
    """The limit on open files; whether a Ray starts with it, its own check tries."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    cure = f"ulimit -n {FEW_FILES * 4}" if most < 0 or most >= FEW_FILES * 4 else "raise nofile in limits.conf"
    if 0 <= limit < FEW_FILES:
        yield warning(f"the limit is {limit}, many trials at a time need {FEW_FILES}", cure)
    else:
        yield sound(f"up to {limit:,}" if limit >= 0 else "no limit")


def shared_memory() -> Iterator[Remark]:
    """The memory in which Ray keeps objects."""
    cure = "start the container with --shm-size=1g"
    if not SHARED_MEMORY.is_dir():
        yield warning(f"there is no {SHARED_MEMORY}: Ray uses the disk instead, more slowly", cure)
        return
    usage = shutil.disk_usage(SHARED_MEMORY)
    if usage.free < OBJECT_STORE_BYTES:
        need = OBJECT_STORE_BYTES >> 20
        yield warning(f"{SHARED_MEMORY} has {usage.free >> 20} MiB free of {usage.total >> 20}, Ray takes {need}", cure)
    else:
        yield sound(f"{SHARED_MEMORY} has {usage.free / GB:.1f} GB free, Ray takes {OBJECT_STORE_BYTES / GB:.2f}")


def loopback() -> Iterator[Remark]:
    """The network of the machine with itself, which a local Ray listens on."""
    if has_loopback():
        yield sound("127.0.0.1 answers")
    else:
        yield fault("this machine does not reach itself at 127.0.0.1", "ip link set lo up, or run with --here")


def temporary_folder() -> Iterator[Remark]:
    """The folders of Ray's sockets and of temporary files."""
    place = socket_place()
    yield from room("Ray's files", place)
    other = Path(tempfile.gettempdir())
    if other != place:
        yield from room("temporary files", other)


def room(what: str, folder: Path) -> Iterator[Remark]:
    """How much room the disk of a folder has, whether the folder is there yet or not."""
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    usage = shutil.disk_usage(nearest)
    text = f"{what} in {folder}: {usage.free / GB:,.1f} GB free"
    cure = "make room: `harness gc` says what can go"
    if usage.total and usage.used / (usage.used + usage.free) > FULL and usage.free < 10 * SCANT_BYTES:
        yield warning(f"{text}, the disk is over {FULL:.0%} full", cure)
    elif usage.free < SCANT_BYTES:
        yield warning(text, cure)
    else:
        yield sound(text)


def leftovers() -> Iterator[Remark]:
    """What killed commands left in temporary folders."""
    folders = left_behind()
    if folders:
        names = ", ".join(map(str, folders[:2]))
        yield warning(
            f"left of commands that were killed: {count(len(folders), 'folder')}, {names}",
            "the next `harness run` removes what is left, or `harness gc --yes`",
        )
    else:
        yield sound("nothing of killed commands in temporary folders")
