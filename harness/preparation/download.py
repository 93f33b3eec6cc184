"""What a card lets one download: loaded when somebody asks, resumed where it was cut, checked, put in place whole.

A file under way lies beside its place as NAME.part. Of an archive the card knows the sha256, but not that of each file
in it: what was taken out of which archive is noted in RECEIPT, so that it is known again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout
from rich.filesize import decimal

from harness import __version__
from harness.config.cards import DatasetCard, Download
from harness.errors import DataError, ResourceError, StoreError, UsageError
from harness.files import sha256, write_atomic

RECEIPT = ".fetched.json"
LOCK = ".fetch.lock"
PIECE = 1 << 18
SILENCE = 30.0  # seconds that a server may say nothing
PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before one more try, of those that bring nothing; then it is given up
BUSY = (408, 425, 429)  # answers, beside 5xx, after which another try may do
SPAN = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
Tell = Callable[[int], object]  # how many bytes are there


class _Cut(Exception):
    """There was no connection, or it broke; another try may do."""


@dataclass(frozen=True)
class Item:
    """One download of a card, and where it goes."""

    download: Download
    folder: Path

    @property
    def whole(self) -> Path:
        """Where the file, or the archive, lies once it is whole."""
        return self.folder / (self.download.path or self.download.file)

    @property
    def part(self) -> Path:
        """Where it lies before."""
        return self.whole.with_name(f"{self.whole.name}.part")

    @property
    def loaded(self) -> int:
        """Bytes of the part."""
        return self.part.stat().st_size if self.part.is_file() else 0

    @property
    def is_at_hand(self) -> bool:
        """Whether the file itself, or the archive, lies there and is the card's."""
        wanted = self.download
        return (
            self.whole.is_file() and self.whole.stat().st_size == wanted.bytes and sha256(self.whole) == wanted.sha256
        )

    @property
    def is_done(self) -> bool:
        """Whether all that it becomes is there and right."""
        if self.download.path:
            return self.is_at_hand
        receipt = _receipt(self.folder)
        return all(
            (self.folder / target).is_file() and receipt.get(target) == _entry(self, member)
            for member, target in self.download.members.items()
        )

    @property
    def left(self) -> int:
        """Bytes still to be loaded."""
        return 0 if self.is_at_hand else max(0, self.download.bytes - self.loaded)


def items(card: DatasetCard, data: Path) -> list[Item]:
    """The downloads of a card, below the data root; UsageError where it has none."""
    if not card.downloads:
        raise UsageError(f"the card of {card.name} has nothing to download; its files are from: {card.origin}")
    return [Item(download, data / card.folder) for download in card.downloads]


def check_room(folder: Path, needed: int) -> None:
    """ResourceError where a folder, which need not be there yet, has no room for so many bytes."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ResourceError(
            f"{folder}: {decimal(needed)} are needed, {decimal(free)} are free; make room, or set [paths] data in "
            "harness.toml, or HARNESS_DATA, to another disk"
        )


def fetch(item: Item, tell: Tell, keep: bool = False) -> None:
    """Bring what a download becomes into its folder; `keep` leaves the archive there too.

    An archive that lies there already is used and left alone. DataError where the bytes are not the card's, StoreError
    where the server cannot be reached or the folder cannot be written, ResourceError where another fetch is at it.
    """
    with _writing(item.folder), _alone(item.folder):
        file = item.whole if item.is_at_hand else _load(item, tell)
        if item.download.members:
            _extract(item, file)
        if file == item.part:
            file.replace(item.whole) if keep or item.download.path else file.unlink()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Make the folder; StoreError where it, or something in it, cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error}); see to its rights and its disk, or set [paths] data in "
            "harness.toml, or HARNESS_DATA, to another folder"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder: two that write one part would spoil it."""
    try:
        held = FileLock(folder / LOCK).acquire(blocking=False)
    except Timeout:
        raise ResourceError(f"another `harness data fetch` is at work in {folder}; wait until it ends") from None
    with held:
        yield


def _load(item: Item, tell: Tell) -> Path:
    """The part, whole and checked, over as many connections as it takes."""
    item.part.parent.mkdir(parents=True, exist_ok=True)
    best, idle = item.loaded, 0
    while item.loaded < item.download.bytes:
        try:
            _go_on(item, tell)
        except _Cut as cut:
            idle = 0 if item.loaded > best else idle + 1
            best = max(best, item.loaded)
            if idle > len(PAUSES):
                rest = f", it goes on from {decimal(item.loaded)}" if item.loaded else ""
                raise StoreError(f"{item.download.url}: {cut}; run the same command again{rest}") from cut
            logging.getLogger(__name__).warning("%s: %s; trying again", item.download.url, cut)
            time.sleep(PAUSES[max(0, idle - 1)])
    _check(item)
    return item.part


def _go_on(item: Item, tell: Tell) -> None:
    """Load from the end of the part; _Cut where it is not whole afterwards."""
    item.part.touch()
    with item.part.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        for place, piece in _pieces(item.download, end):
            file.seek(place)
            file.write(piece)
            tell(place + len(piece))
        file.flush()
        os.fsync(file.fileno())
    if item.loaded < item.download.bytes:
        raise _Cut(f"the connection ended after {item.loaded:,} of {item.download.bytes:,} bytes")


def _pieces(download: Download, start: int) -> Iterator[tuple[int, bytes]]:
    """Pieces of a file, each with its place in it: from `start` on, or from 0 where the server cannot go on."""
    request = Request(download.url, headers={"User-Agent": f"itm-harness/{__version__}"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with urlopen(request, timeout=SILENCE) as answer:
            place = _begin(answer, download, start)
            while place <= download.bytes and (piece := answer.read(PIECE)):
                yield place, piece
                place += len(piece)
    except HTTPError as error:
        raise _refusal(error, download.url) from error
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise _Cut(str(reason) or type(error).__name__) from error


def _begin(answer: HTTPResponse, download: Download, asked: int) -> int:
    """Where in the file an answer begins; DataError where the server's file has not the card's size."""
    span = SPAN.fullmatch(answer.headers.get("Content-Range", ""))
    if answer.status == 206:
        place, total = (int(span[1]), span[2]) if span else (asked, "")
    else:
        place, total = 0, answer.headers.get("Content-Length", "")
    if total.isdecimal() and int(total) != download.bytes:
        raise DataError(
            f"{download.url} has {int(total):,} bytes, the card says {download.bytes:,}; it is another release, or "
            "a page between you and the server: open the address in a browser, or correct the card"
        )
    return place


def _refusal(error: HTTPError, url: str) -> Exception:
    """What an answer that is no file means."""
    says = f"{url}: the server answers {error.code} {error.reason}"
    if error.code == 416:
        return DataError(f"{says}: its file ends before what is here already; it is another release: correct the card")
    if error.code in BUSY or error.code >= 500:
        return _Cut(f"the server answers {error.code} {error.reason}")
    return StoreError(f"{says}; open the address in a browser, and correct the card where the file has moved")


def _check(item: Item) -> None:
    """Delete a part that is not what the card says; DataError with both sizes or both hashes."""
    wanted, size, found = item.download, item.loaded, sha256(item.part)
    if (size, found) == (wanted.bytes, wanted.sha256):
        return
    item.part.unlink()
    differs = (
        f"has {size:,} bytes, the card says {wanted.bytes:,}"
        if size != wanted.bytes
        else f"has sha256 {found}, the card says {wanted.sha256}"
    )
    raise DataError(
        f"what came from {wanted.url} {differs}; it is deleted: run the same command again, and if that does not help, "
        "the file is another release: correct the card"
    )


def _extract(item: Item, archive: Path) -> None:
    """Take the members out of a zip, one at a time, and note them; DataError where it has not all of them."""
    try:
        with zipfile.ZipFile(archive) as file:
            absent = sorted(set(item.download.members) - set(file.namelist()))
            if absent:
                raise DataError(f"{item.download.url} has no {absent[0]!r} in it; correct members in the card")
            check_room(item.folder, sum(file.getinfo(member).file_size for member in item.download.members))
            for member, target in item.download.members.items():
                _unpack(file, member, item.folder / target)
    except zipfile.BadZipFile as error:
        raise DataError(f"{item.download.url} is no zip ({error}); give path instead of members in the card") from error
    entries = {target: _entry(item, member) for member, target in item.download.members.items()}
    write_atomic(item.folder / RECEIPT, json.dumps({**_receipt(item.folder), **entries}, indent=2, sort_keys=True))


def _unpack(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    """One member, put in place whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with archive.open(member) as source, part.open("wb") as file:
        shutil.copyfileobj(source, file, PIECE)
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)


def _entry(item: Item, member: str) -> dict[str, str]:
    """What is noted of a member that was taken out."""
    content = sha256(item.folder / item.download.members[member])
    return {"archive": item.download.sha256, "member": member, "sha256": content}


def _receipt(folder: Path) -> dict[str, Any]:
    """What was taken out of archives here; nothing where that is absent or damaged, and they are loaded again."""
    try:
        content = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
