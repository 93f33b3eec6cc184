"""Writes a region store as a stream: constant memory, and a writer that was killed goes on where it stopped.

Numbers go to `*.part` files; `journal.part` tells, a line per image, what of them is whole. What was written after its
last line is cut off when the work goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import KeysView
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from harness.data.arrays import LARGEST, largest
from harness.data.content import is_unicode
from harness.data.region_journal import JournalLine, as_line, whole_lines, write_tables
from harness.data.region_store import BOXES, FACTS, JOURNAL, REGIONS, STORE_FILES, StoreFacts
from harness.errors import DataError, ResourceError, StoreError, UsageError
from harness.files import write_atomic

PART = ".part"
HEAD = 128  # bytes kept free for the header of an .npy file
COMMIT_SECONDS = 5.0  # of work that a killed writer may lose
Dtype = Literal["float32", "float16"]


class RegionWriter:
    """One store being written, as a context; unfinished work goes on where `origin`, its source, is the same."""

    def __init__(self, folder: Path, dtype: Dtype, origin: dict[str, Any]) -> None:
        self.folder = folder
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.origin = origin
        self.places: dict[str, int] = {}  # of every image that is written, its id and where it stands in the source
        self._entries: list[JournalLine] = []  # in the journal
        self._waiting: list[JournalLine] = []  # not yet
        self._journal_size = 0  # bytes that are whole
        self._files: dict[str, BinaryIO] = {}
        self._committed = time.monotonic()
        self._is_new = False  # whether the folder was made for it
        self._lock = _lock(folder)

    @property
    def done(self) -> KeysView[str]:
        return self.places.keys()

    @property
    def digests(self) -> dict[str, str]:
        """Of the bytes that each image was made of, as far as they are known."""
        return {entry.id: entry.digest for entry in (*self._entries, *self._waiting) if entry.digest}

    @property
    def at(self) -> int:
        """Where the last image that is written stands in the source; 0 at the beginning."""
        return self._last.at if self._last else 0

    def __enter__(self) -> RegionWriter:
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder} is a file; name a folder, which need not be there")
        try:
            self._is_new = not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            if (self.folder / FACTS).is_file():
                raise UsageError(f"{self.folder} holds a finished store; --force replaces it, or take another folder")
            self._resume()
        except Timeout as error:
            raise _busy(self.folder) from error
        except OSError as error:
            self._close()
            raise self._unwritable(error) from error
        except (StoreError, UsageError):
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._waiting:
                self._commit()
        except OSError as failure:  # as a rule the one that ended the work, once more
            if not isinstance(error, StoreError):
                raise self._unwritable(failure) from failure
        finally:
            if not self._entries:
                self._withdraw()
            self._close()

    def add(
        self,
        image: str,
        regions: NDArray[Any],
        boxes: NDArray[Any] | None = None,
        size: tuple[int, int] | None = None,
        at: int = 0,
        digest: str = "",
    ) -> None:
        """Append one image: regions (R, F), boxes (R, 4) as x, y, width, height in pixels, size as width, height.

        `digest` is of the bytes that it was made of; where all images have one the store knows them.
        """
        self._check_like_others(image, regions, boxes, size)
        rows = self._as_stored(image, regions)
        try:
            self._append(REGIONS, rows)
            if boxes is not None:
                self._append(BOXES, np.asarray(boxes, dtype="<f4"))
            self._waiting.append(JournalLine(image, len(rows), rows.shape[1], size, at, digest))
            self.places[image] = at
            if time.monotonic() - self._committed > COMMIT_SECONDS:
                self._commit()
        except OSError as error:
            raise self._unwritable(error) from error

    def ends_with(self, image: str, regions: NDArray[Any]) -> bool:
        last = self._last
        if last is None or (last.id, last.regions, last.width) != (image, *regions.shape):
            return False
        self._files[REGIONS].flush()
        part = self.folder / (REGIONS + PART)
        begin = part.stat().st_size - regions.size * self.dtype.itemsize
        stored = np.fromfile(part, dtype=self.dtype, offset=begin)
        return bool((stored == self._as_stored(image, regions).ravel()).all())

    def finish(self, **known: Any) -> StoreFacts:
        """Give the files their names, store.json last; `known` joins the origin. DataError where there is no image."""
        if self._last is None:
            raise DataError(f"{self.folder}: not one image was found for the store; see to its source")
        try:
            self._commit()
            facts = self._facts(known)
            self._name(REGIONS, (facts.regions, facts.width), self.dtype)
            if facts.boxes:
                self._name(BOXES, (facts.regions, 4), np.dtype("<f4"))
            write_tables(self.folder, self._entries)
            write_atomic(self.folder / FACTS, facts.model_dump_json(indent=2))
            (self.folder / JOURNAL).unlink()
        except OSError as error:
            raise self._unwritable(error) from error
        return facts

    @property
    def _last(self) -> JournalLine | None:
        entries = self._waiting or self._entries
        return entries[-1] if entries else None

    def _check_like_others(
        self, image: str, regions: NDArray[Any], boxes: NDArray[Any] | None, size: tuple[int, int] | None
    ) -> None:
        where, last = f"image {image!r}", self._last
        if image in self.done:
            raise DataError(f"{where} stands twice; take one of the two out")
        if not is_image_id(image):
            raise DataError(f"{where}: that id does not fit on one line of a text file; give it another")
        if regions.ndim != 2 or not regions.size:
            message = f"{where} has regions of shape {regions.shape}; (regions, width) is needed, one at least"
            raise DataError(f"{message}: take it out, or make all of the picture one region")
        if boxes is not None and (boxes.shape != (len(regions), 4) or not np.isfinite(boxes).all()):
            raise DataError(f"{where} has boxes of shape {boxes.shape}; ({len(regions)}, 4) finite numbers are needed")
        if boxes is not None and (boxes[:, 2:] < 0).any():
            raise DataError(f"{where} has boxes that end before they begin; x, y, width, height are needed")
        if last and last.width != regions.shape[1]:
            raise DataError(f"{where} has {regions.shape[1]} numbers per region, those before it have {last.width}")
        if last and ((BOXES in self._files) != (boxes is not None) or (last.size is None) != (size is None)):
            message = "differs from those before it in having boxes or a size; give all of them, or none"
            raise DataError(f"{where} {message}")

    def _as_stored(self, image: str, regions: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(regions, dtype=self.dtype)
        if not largest(rows) <= LARGEST:
            raise DataError(f"image {image!r} holds {_refused(regions, rows)}")
        return rows

    def _withdraw(self) -> None:
        """Leave nothing in the folder, as no image came into it."""
        for path in (self.folder / JOURNAL, *(self.folder / (name + PART) for name in (REGIONS, BOXES))):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _close(self) -> None:
        for file in self._files.values():
            with suppress(OSError):  # what the journal tells is on the disk, and the rest is cut off
                file.close()
        if self._lock.is_locked:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()
        if self._is_new:
            with suppress(OSError):  # it holds something, as a rule
                self.folder.rmdir()

    def _append(self, name: str, rows: NDArray[Any]) -> None:
        if name not in self._files:
            self._files[name] = (self.folder / (name + PART)).open("wb")
            self._files[name].write(bytes(HEAD))
        self._files[name].write(rows.data)

    def _commit(self) -> None:
        """Make what was appended durable, and only then say so in the journal."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        lines = b"".join(map(as_line, self._waiting))
        with (self.folder / JOURNAL).open("r+b") as journal:
            journal.seek(self._journal_size)  # where a disk was full, part of them stands there already
            journal.write(lines)
            journal.truncate()
            journal.flush()
            os.fsync(journal.fileno())
        self._journal_size += len(lines)
        self._entries += self._waiting
        self._waiting = []
        self._committed = time.monotonic()

    def _resume(self) -> None:
        head = as_line({"origin": self.origin, "dtype": self.dtype.name})
        first, *lines = whole_lines(self.folder / JOURNAL) or [head]
        strange = [name for name in STORE_FILES if (self.folder / name).exists()]
        if strange and not (self.folder / JOURNAL).is_file():
            raise UsageError(f"{self.folder} holds {strange[0]} and is no store; take another folder, it would be lost")
        if first != head and lines:  # of an image at least
            raise UsageError(
                f"{self.folder} holds unfinished work on something else ({first.decode(errors='replace').strip()}); "
                "--force begins again, or take another folder"
            )
        if first != head:
            self._withdraw()
        for name in (REGIONS, BOXES):  # whoever was killed while naming them left them named
            if (self.folder / name).is_file():
                (self.folder / name).replace(self.folder / (name + PART))
        images = {entry.id: entry for entry in (JournalLine(*json.loads(line)) for line in lines)}  # of two lines, one
        self._entries = self._in_files(list(images.values()))
        self.places = {entry.id: entry.at for entry in self._entries}
        self._reopen()
        journal = head + b"".join(map(as_line, self._entries))
        write_atomic(self.folder / JOURNAL, journal)
        self._journal_size = len(journal)

    def _in_files(self, entries: list[JournalLine]) -> list[JournalLine]:
        room = {name: self._size(name) for name in (REGIONS, BOXES)}
        rows = np.cumsum([entry.regions for entry in entries], dtype=np.int64)  # whose width is one
        whole = HEAD + rows * (entries[0].width * self.dtype.itemsize if entries else 0) <= room[REGIONS]
        if room[BOXES]:
            whole &= HEAD + rows * 16 <= room[BOXES]
        return entries[: int(whole.sum())]

    def _reopen(self) -> None:
        rows = sum(entry.regions for entry in self._entries)
        if not rows:
            return
        for name, each in ((REGIONS, self._entries[0].width * self.dtype.itemsize), (BOXES, 16)):
            if self._size(name):
                file = (self.folder / (name + PART)).open("r+b")
                self._files[name] = file
                file.truncate(HEAD + rows * each)
                file.seek(0, os.SEEK_END)

    def _size(self, name: str) -> int:
        path = self.folder / (name + PART)
        return path.stat().st_size if path.is_file() else 0

    def _facts(self, known: dict[str, Any]) -> StoreFacts:
        return StoreFacts(
            images=len(self._entries),
            regions=sum(entry.regions for entry in self._entries),
            width=self._entries[0].width,
            dtype=self.dtype.name,
            boxes=BOXES in self._files,
            sizes=self._entries[0].size is not None,
            origin={**self.origin, **known},
        )

    def _name(self, name: str, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Write the header of an .npy file into the room kept for it, and give the file its name."""
        file = self._files[name]
        text = repr({"descr": dtype.str, "fortran_order": False, "shape": shape})
        magic = np.lib.format.magic(1, 0)
        room = HEAD - len(magic) - 2
        file.seek(0)
        file.write(magic + room.to_bytes(2, "little") + f"{text:<{room - 1}}\n".encode("latin-1"))
        file.flush()
        os.fsync(file.fileno())
        (self.folder / (name + PART)).replace(self.folder / name)

    def _unwritable(self, error: OSError) -> StoreError:
        advice = "see to its rights and room, then run again: it goes on"
        return StoreError(f"{self.folder} cannot be written ({error}); {advice}")


def _refused(regions: NDArray[Any], rows: NDArray[Any]) -> str:
    """What is wrong with an image's regions, of which `rows` would be stored."""
    if not np.isfinite(regions).all():
        return "NaN or inf; get its file again, or take other weights where a model makes the numbers"
    if not np.isfinite(rows).all():
        advice = "take float32" if rows.dtype == np.float16 else "extract it again"
        return f"a number beyond {rows.dtype.name}; {advice}"
    return f"a number beyond {LARGEST:.0e}, whose square overflows; extract it again"


def is_image_id(text: str) -> bool:
    """Whether a text can be an image's id in a store: one line, not empty, read back as it was written."""
    is_line = bool(text) and text.strip() == text.replace("\n", " ") and is_unicode(text)
    return is_line and text.encode().decode("utf-8-sig") == text  # a mark of the byte order is no letter for readers


def discard(folder: Path) -> None:
    """Delete a store, finished or not, and nothing else.

    StoreError where that fails, ResourceError where another process writes it.
    """
    if not any((folder / name).is_file() for name in (FACTS, JOURNAL)):
        return
    lock = _lock(folder)
    try:
        lock.acquire()
        for path in [folder / name for name in STORE_FILES] + [*folder.glob(f"*{PART}")]:
            path.unlink(missing_ok=True)
    except Timeout as error:
        raise _busy(folder) from error
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error}); see to its rights") from error
    finally:
        lock.release()


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / f"writer.lock{PART}", blocking=False)


def _busy(folder: Path) -> ResourceError:
    return ResourceError(f"{folder}: another process writes this store; wait for it or stop it")
