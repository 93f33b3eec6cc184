"""Download what a dataset's card allows: loaded and checked by pooch, and put in place whole.

Everything happens in WORK, a folder beside the files that each call empties first, so that a killed one leaves nothing
under the name of a file. A card has the sha256 of an archive, but not of the files in it: RECEIPT has those.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness import __version__
from harness.acquisition.archive import unpack, unpacked_size
from harness.acquisition.pace import Pace, Transfer
from harness.addresses import shown, without_secrets
from harness.config.cards import DatasetCard, Download
from harness.errors import DataError, ResourceError, StoreError, UsageError, first_line
from harness.files import sha256, write_atomic

RECEIPT = ".fetched.json"
LOCK = ".fetch.lock"
WORK = ".fetching"
PIECE = 1 << 18  # bytes written at a time
READ = 1 << 14  # bytes read at a time: a slow server's are counted as they come
SILENCE = 30.0  # seconds that a server may say nothing
RETRIES = 4
BUSY = (408, 425, 429)  # answers, beside 5xx, after which another try may do
HEADERS = {"User-Agent": f"itm-harness/{__version__}", "Accept-Encoding": "identity"}
PACE = Pace()
Tell = Callable[[int], object]  # how many bytes are there


@dataclass(frozen=True)
class Item:
    download: Download
    folder: Path
    root: Path | None = None  # the data root; nothing is written through a link below it
    sizes: Mapping[str, int | None] = field(default_factory=dict)  # of the files in the folder, where the card has them

    @property
    def address(self) -> str:
        """Where it is loaded from, as it may be shown."""
        return shown(self.download.url)

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
        raise UsageError(
            f"the card of {card.name} has nothing to download; its files are from: {card.origin}; "
            f"licence: {card.licence}"
        )
    sizes = {file.path: file.bytes for file in card.files}
    return [Item(download, data / card.folder, data, sizes) for download in card.downloads]


def check_room(folder: Path, size: int) -> None:
    """ResourceError where a folder, which need not be there yet, has no room for so many bytes."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise ResourceError(
            f"{folder}: {size / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free; make room, or set [paths] data "
            "in harness.toml, or HARNESS_DATA, to another disk"
        )


def check_links(item: Item) -> None:
    """UsageError where a file would go through a link below the data root, as that leads to what is no dataset's."""
    root = item.root or item.folder
    for target in (item.whole, *(item.folder / target for target in item.download.targets)):
        for place in (target.parent, *target.parent.parents):
            if place == root or not place.is_relative_to(root):
                break
            if place.is_symlink():
                raise UsageError(
                    f"{place} is a link to {place.readlink()}, and nothing is loaded through a link: set [paths] "
                    "data in harness.toml, or HARNESS_DATA, to a folder on the disk meant, or put a folder there"
                )


def fetch(item: Item, tell: Tell, keep: bool = False, pace: Pace = PACE) -> None:
    """Put the files of a download into its folder; `keep` leaves the archive there too.

    An archive that lies there already is used and left alone. DataError where the bytes are not the card's, StoreError
    where the server cannot be reached or is slower than `pace` or the folder cannot be written, ResourceError where
    another fetch is at it, UsageError where a link is in the way.
    """
    check_links(item)
    with _work(item.folder) as work:
        file = item.whole if item.is_at_hand else _load(item, work, tell, pace)
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
        for own in (folder / LOCK, work):
            if own.is_symlink():
                own.unlink()  # put there by somebody else: what it leads to is left alone
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


def _load(item: Item, work: Path, tell: Tell, pace: Pace) -> Path:
    """The file or the archive; tried again where the connection breaks or the bytes are not the card's."""
    import pooch
    from requests import RequestException

    def get(_url: str, file: str, _pooch: Any) -> None:
        Transfer(item.address, pace).run(lambda done: _get(item, Path(file), done), tell)

    pooch.get_logger().setLevel(logging.WARNING)  # it would say what the question has said already
    name = item.download.file
    known = {"registry": {name: item.download.sha256}, "urls": {name: item.download.url}}
    store = pooch.create(work, base_url="", **known, retry_if_failed=RETRIES)
    try:
        return Path(store.fetch(name, downloader=get))
    except RequestException as error:
        raise StoreError(f"{item.address}: {_reason(error)}; run the same command again") from error
    except ValueError as error:
        raise DataError(
            f"{item.address}: {first_line(error)} Run the same command again, and if that does not help, the file is "
            "another release: correct the card"
        ) from error


def _get(item: Item, file: Path, done: Tell) -> None:
    """Load once; StoreError or DataError, which pooch does not try again, where another try would be as futile."""
    import requests

    try:
        with requests.get(item.download.url, stream=True, timeout=SILENCE, headers=HEADERS) as answer:
            _check(item, answer)
            file.unlink()  # pooch made it readable for its owner alone
            with file.open("xb", PIECE) as part:
                for piece in answer.iter_content(READ):
                    part.write(piece)
                    done(part.tell())
                    if part.tell() > item.download.bytes:
                        raise DataError(f"{item.address} gives more than the {item.download.bytes:,} bytes of the card")
    except (requests.TooManyRedirects, ValueError) as error:  # the second: of addresses
        hint = "open the address in a browser, and correct the card"
        raise StoreError(f"{item.address} leads nowhere ({without_secrets(first_line(error))}); {hint}") from error


def _check(item: Item, answer: Any) -> None:
    import requests

    refusal = f"the server answers {answer.status_code} {answer.reason}"
    if answer.status_code >= 500 or answer.status_code in BUSY:
        raise requests.HTTPError(refusal)
    if not answer.ok:
        hint = "open the address in a browser, and correct the card where the file has moved"
        raise StoreError(f"{item.address}: {refusal}; {hint}")
    text = answer.headers.get("Content-Length", "")
    size = int(text) if text.isdecimal() else item.download.bytes
    if size != item.download.bytes:
        raise DataError(
            f"{item.address} has {size:,} bytes, the card says {item.download.bytes:,}; it is another release, or a "
            "page between you and the server: open the address in a browser, or correct the card"
        )


def _reason(error: BaseException) -> str:
    """What is below the errors of requests and urllib3, whose own messages are long."""
    while error.__context__:
        error = error.__context__
    return first_line(error)


def _extract(item: Item, archive: Path, work: Path) -> None:
    members = item.download.members
    size = unpacked_size(archive, {name: item.sizes.get(target) for name, target in members.items()}, item.address)
    check_room(item.folder, size)
    for number, (member, target) in enumerate(members.items()):
        part = work / f"member-{number}"
        unpack(archive, member, part, item.address)
        (item.folder / target).parent.mkdir(parents=True, exist_ok=True)
        part.replace(item.folder / target)
    entries = {target: _entry(item, member) for member, target in members.items()}
    write_atomic(item.folder / RECEIPT, json.dumps({**_receipt(item.folder), **entries}, indent=2, sort_keys=True))


def _entry(item: Item, member: str) -> dict[str, str]:
    content = sha256(item.folder / item.download.members[member])
    return {"archive": item.download.sha256, "member": member, "sha256": content}


def _receipt(folder: Path) -> dict[str, Any]:
    """What was taken out of archives here; nothing where that is absent or damaged, and they are loaded again."""
    if not (folder / RECEIPT).is_file():
        return {}
    try:
        content = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
