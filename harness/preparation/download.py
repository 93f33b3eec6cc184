"""Download what a dataset's card allows: loaded and checked by pooch, and put in place whole.

Everything happens in WORK, a folder beside the files that each call empties first, so that a killed one leaves nothing
under the name of a file. A card has the sha256 of an archive, but not of the files in it: RECEIPT has those.
"""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness import __version__
from harness.config.cards import DatasetCard, Download
from harness.errors import DataError, ResourceError, StoreError, UsageError, first_line
from harness.files import sha256, write_atomic

RECEIPT = ".fetched.json"
LOCK = ".fetch.lock"
WORK = ".fetching"
PIECE = 1 << 18  # bytes
SILENCE = 30.0  # seconds that a server may say nothing
RETRIES = 4
BUSY = (408, 425, 429)  # answers, beside 5xx, after which another try may do
HEADERS = {"User-Agent": f"itm-harness/{__version__}", "Accept-Encoding": "identity"}
Tell = Callable[[int], object]  # how many bytes are there


@dataclass(frozen=True)
class Item:
    download: Download
    folder: Path

    @property
    def whole(self) -> Path:
        return self.folder / (self.download.path or self.download.file)

    @property
    def is_at_hand(self) -> bool:
        size, digest = self.download.bytes, self.download.sha256
        return self.whole.is_file() and self.whole.stat().st_size == size and sha256(self.whole) == digest

    @property
    def is_done(self) -> bool:
        if self.download.path:
            return self.is_at_hand
        receipt = _receipt(self.folder)
        return all(
            (self.folder / target).is_file() and receipt.get(target) == _entry(self, member)
            for member, target in self.download.members.items()
        )

    @property
    def left(self) -> int:
        return 0 if self.is_at_hand else self.download.bytes


def items(card: DatasetCard, data: Path) -> list[Item]:
    """The downloads of a card, below the data root; UsageError where it has none."""
    if not card.downloads:
        raise UsageError(f"the card of {card.name} has nothing to download; its files are from: {card.origin}")
    return [Item(download, data / card.folder) for download in card.downloads]


def check_room(folder: Path, size: int) -> None:
    """ResourceError where a folder, which need not be there yet, has no room for so many bytes."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise ResourceError(
            f"{folder}: {size / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free; make room, or set [paths] data "
            "in harness.toml, or HARNESS_DATA, to another disk"
        )


def fetch(item: Item, tell: Tell, keep: bool = False) -> None:
    """Put the files of a download into its folder; `keep` leaves the archive there too.

    An archive that lies there already is used and left alone. DataError where the bytes are not the card's, StoreError
    where the server cannot be reached or the folder cannot be written, ResourceError where another fetch is at it.
    """
    with _work(item.folder) as work:
        file = item.whole if item.is_at_hand else _load(item.download, work, tell)
        if item.download.members:
            _extract(item, file, work)
        if file != item.whole and (keep or item.download.path):
            item.whole.parent.mkdir(parents=True, exist_ok=True)
            file.replace(item.whole)


@contextmanager
def _work(folder: Path) -> Iterator[Path]:
    """An empty folder to load into, deleted afterwards; one command at a time has it."""
    work = folder / WORK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, blocking=False):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except Timeout:
        raise ResourceError(f"another `harness data fetch` is at work in {folder}; wait until it ends") from None
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error}); see to its rights and its disk, or set [paths] data in "
            "harness.toml, or HARNESS_DATA, to another folder"
        ) from error


def _load(download: Download, work: Path, tell: Tell) -> Path:
    """The file or the archive; tried again where the connection breaks or the bytes are not the card's."""
    import pooch
    from requests import RequestException

    pooch.get_logger().setLevel(logging.WARNING)  # it would say what the question has said already
    name, url = download.file, download.url
    store = pooch.create(work, base_url="", registry={name: download.sha256}, urls={name: url}, retry_if_failed=RETRIES)
    try:
        return Path(store.fetch(name, downloader=lambda _url, file, _pooch: _get(download, Path(file), tell)))
    except RequestException as error:
        raise StoreError(f"{url}: {_reason(error)}; run the same command again") from error
    except ValueError as error:
        raise DataError(
            f"{url}: {first_line(error)} Run the same command again, and if that does not help, the file is "
            "another release: correct the card"
        ) from error


def _get(download: Download, file: Path, tell: Tell) -> None:
    """Load once; StoreError or DataError, which pooch does not try again, where another try would be as futile."""
    import requests

    with requests.get(download.url, stream=True, timeout=SILENCE, headers=HEADERS) as answer:
        refusal = f"the server answers {answer.status_code} {answer.reason}"
        if answer.status_code >= 500 or answer.status_code in BUSY:
            raise requests.HTTPError(refusal)
        if not answer.ok:
            hint = "open the address in a browser, and correct the card where the file has moved"
            raise StoreError(f"{download.url}: {refusal}; {hint}")
        size = int(answer.headers.get("Content-Length", download.bytes))
        if size != download.bytes:
            raise DataError(
                f"{download.url} has {size:,} bytes, the card says {download.bytes:,}; it is another release, or a "
                "page between you and the server: open the address in a browser, or correct the card"
            )
        file.unlink()  # pooch made it readable for its owner alone
        with file.open("wb") as part:
            for piece in answer.iter_content(PIECE):
                part.write(piece)
                tell(part.tell())


def _reason(error: BaseException) -> str:
    """What is below the errors of requests and urllib3, whose own messages are long."""
    while error.__context__:
        error = error.__context__
    return first_line(error)


def _extract(item: Item, archive: Path, work: Path) -> None:
    members = item.download.members
    try:
        with zipfile.ZipFile(archive) as file:
            absent = sorted(set(members) - set(file.namelist()))
            if absent:
                raise DataError(f"{item.download.url} has no {absent[0]!r} in it; correct members in the card")
            check_room(item.folder, sum(file.getinfo(member).file_size for member in members))
            for member, target in members.items():
                (item.folder / target).parent.mkdir(parents=True, exist_ok=True)
                Path(file.extract(member, work)).replace(item.folder / target)
    except zipfile.BadZipFile as error:
        raise DataError(f"{item.download.url} is no zip ({error}); give path instead of members in the card") from error
    entries = {target: _entry(item, member) for member, target in members.items()}
    write_atomic(item.folder / RECEIPT, json.dumps({**_receipt(item.folder), **entries}, indent=2, sort_keys=True))


def _entry(item: Item, member: str) -> dict[str, str]:
    content = sha256(item.folder / item.download.members[member])
    return {"archive": item.download.sha256, "member": member, "sha256": content}


def _receipt(folder: Path) -> dict[str, Any]:
    """What was taken out of archives here; nothing where that is absent or damaged, and they are loaded again."""
    try:
        content = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
