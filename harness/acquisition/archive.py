"""Files taken out of a zip, within limits, as its own word on their sizes is nobody's."""

from __future__ import annotations

import errno
import lzma
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.errors import DataError

ALWAYS = 100_000_000  # bytes that any archive may unpack to
RATIO = 50  # times an archive's own size, for what is larger; text shrinks to a tenth or so
PIECE = 4096  # bytes read at a time: of some compressions they become 20,000 times as many in memory
MOST = 500_000_000_000  # bytes of all files of an archive, where the card does not give their sizes
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OverflowError, ValueError)
IN_THE_ZIP = (None, errno.EINVAL)  # numbers of an OSError: of bz2, and of a place before the beginning
REMEDY = "take it out by hand, or give path instead of members in the card"


def unpacked_size(archive: Path, members: Mapping[str, int | None], name: str) -> int:
    """The bytes that members of a zip take, checked against the sizes that are known of them.

    DataError where one is absent, of another size or encrypted, or where all are out of proportion; `name` is the
    archive's in messages.
    """
    with _opened(archive, name) as file:
        infos = {info.filename: info for info in file.infolist()}
        for member, size in members.items():
            if member not in infos or infos[member].is_dir():
                raise DataError(f"{name} has no {member!r} in it; correct members in the card")
            _check(infos[member], size, name)
        total = sum(infos[member].file_size for member in members)
    limit = min(MOST, max(ALWAYS, RATIO * archive.stat().st_size))
    if None in members.values() and total > limit:
        raise DataError(
            f"{name} unpacks to {total / 1e6:,.0f} MB from {archive.stat().st_size / 1e6:,.1f} MB, more than the "
            f"{limit / 1e6:,.0f} MB that are allowed where the card gives no sizes: if that is right, give the bytes "
            "of its files under [[files]] in the card"
        )
    return total


def unpack(archive: Path, member: str, target: Path, name: str) -> None:
    """Write one member of a zip to a file that is not there yet, no more of it than the zip says it is."""
    with _opened(archive, name) as file, file.open(member) as content, target.open("xb") as out:
        shutil.copyfileobj(content, out, PIECE)


def _check(info: zipfile.ZipInfo, size: int | None, name: str) -> None:
    if info.flag_bits & 1:
        raise DataError(f"{name}: {info.filename!r} is encrypted; {REMEDY}")
    if size is not None and info.file_size != size:
        raise DataError(
            f"{name}: {info.filename!r} has {info.file_size:,} bytes, the card says {size:,} under [[files]]; it is "
            "another release: correct the card"
        )


@contextmanager
def _opened(archive: Path, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as file:
            yield file
    except NotImplementedError as error:  # a compression, or a version of the format
        raise DataError(f"{name} cannot be unpacked here ({error}); {REMEDY}") from error
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in IN_THE_ZIP:
            raise  # of the disk
        raise DataError(f"{name} is no zip ({error}); give path instead of members in the card") from error
