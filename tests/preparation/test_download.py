"""`harness data fetch` against a server of our own that cuts, stalls and refuses: what arrives is right or absent."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.datasets import data
from harness.config.cards import DatasetCard
from harness.config.registry import discover
from harness.errors import ConfigError, DataError, HarnessError, ResourceError, StoreError, UsageError
from harness.layouts.opening import open_dataset
from harness.preparation import download as fetch

CONTENT = np.random.default_rng(0).bytes(2 * fetch.PIECE + 1000)
CARD = """
name = "tiny"
title = "A tiny set"
summary = ""
layout = "coco"
folder = "tiny set"
licence = "free"
origin = "the moon"
feature_width = 13
max_regions = 2
splits = {}
options = { captions = "captions.json", instances = "instances.json", split = "split.json" }
[[protocols]]
name = "all"
images = 1
captions = 1
"""
Table = dict[str, Any]


class Site:
    """A server of one file, and how it behaves."""

    def __init__(self, content: bytes, ranges: bool = True) -> None:
        self.content = content
        self.ranges = ranges
        self.cuts: list[int] = []  # of each connection to come: bytes after which it breaks
        self.codes: list[int] = []  # of each connection to come: an answer that is no file
        self.stall: int | None = None  # bytes after which it goes silent
        self.ending = threading.Event()
        self.asked: list[str] = []  # the ranges so far
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range", "")
        self.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        code = self.codes.pop(0) if self.codes else 206 if start else 200
        if start >= len(self.content):
            code = 416
        handler.send_response(code)
        body = self.content[start:] if code in (200, 206) else b"no"
        if code == 206:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cuts.pop(0) if self.cuts else self.stall])
        if self.stall is not None:
            self.ending.wait(60)


@contextmanager
def served(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.answer(self)

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

        def handle(self) -> None:
            with suppress(ConnectionError):  # the reader was killed
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}/files/thing.zip"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            site.ending.set()
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, straight to this machine, without pauses and without a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch, "PAUSES", (0.0,) * 4)
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal, however the tests were started


@pytest.fixture
def site() -> Iterator[Site]:
    with served(Site(CONTENT)) as one:
        yield one


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"in/{name}.json", content)
    return buffer.getvalue()


def download(site: Site, **changes: Any) -> Table:
    """What a card would say of the site."""
    table = {"url": site.url, "bytes": len(site.content), "sha256": hashlib.sha256(site.content).hexdigest()}
    return {**table, "path": "thing.bin", **changes}


def item_of(table: Table, folder: Path) -> fetch.Item:
    return fetch.items(card_of(table), folder)[0]


def card_of(*tables: Table) -> DatasetCard:
    return DatasetCard.model_validate({**tomllib.loads(CARD), "downloads": tables, "path": "card.toml"})


def fetched(item: fetch.Item, keep: bool = False) -> list[int]:
    """Fetch, and how far it said to be."""
    told: list[int] = []
    fetch.fetch(item, told.append, keep)
    return told


def names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.name != fetch.LOCK and file.is_file()}


def test_a_file_arrives_whole_and_is_not_loaded_again(site: Site, tmp_path: Path) -> None:
    item = item_of(download(site, path="below/thing.bin"), tmp_path)
    assert not item.is_done and item.left == len(CONTENT)
    told = fetched(item)
    assert (tmp_path / "tiny set" / "below" / "thing.bin").read_bytes() == CONTENT
    assert told == sorted(told) and told[-1] == len(CONTENT)
    assert item.is_done and item.left == 0 and names(tmp_path) == {"tiny set/below/thing.bin"}
    fetched(item)
    assert site.asked == [""]


def test_a_cut_connection_goes_on_where_it_broke(site: Site, tmp_path: Path) -> None:
    site.cuts = [fetch.PIECE + 5, 7]
    item = item_of(download(site), tmp_path)
    fetched(item)
    assert item.whole.read_bytes() == CONTENT
    assert site.asked == ["", f"bytes={fetch.PIECE + 5}-", f"bytes={fetch.PIECE + 12}-"]


def test_a_connection_that_breaks_again_and_again_is_not_given_up_while_it_brings_something(
    site: Site, tmp_path: Path
) -> None:
    site.cuts = [50_000] * 10
    item = item_of(download(site), tmp_path)
    fetched(item)
    assert item.whole.read_bytes() == CONTENT and len(site.asked) == 11


def test_a_server_that_cannot_go_on_begins_anew(site: Site, tmp_path: Path) -> None:
    site.ranges, site.cuts = False, [fetch.PIECE + 5]
    item = item_of(download(site), tmp_path)
    told = fetched(item)
    assert item.whole.read_bytes() == CONTENT
    assert told[:4] == [fetch.PIECE, fetch.PIECE + 5, fetch.PIECE, 2 * fetch.PIECE]


@given(st.lists(st.integers(0, 3000), max_size=8), st.booleans(), st.integers(0, 3000))
@settings(max_examples=25, deadline=None)
def test_what_arrives_is_the_file_or_nothing_whatever_breaks(cuts: list[int], ranges: bool, before: int) -> None:
    content = CONTENT[:2500]
    folder = Path("any")
    shutil.rmtree(folder, ignore_errors=True)
    with served(Site(content, ranges)) as site:
        site.cuts = list(cuts)
        item = item_of(download(site), folder)
        item.part.parent.mkdir(parents=True)
        item.part.write_bytes(content[:before] + b"?" * (before - len(content)))
        try:
            fetched(item)
        except StoreError:
            assert not item.whole.exists() and item.part.exists() and len(site.asked) >= 5
        except DataError:
            assert before > len(content) and names(folder) == set()
        else:
            assert item.whole.read_bytes() == content and names(folder) == {"tiny set/thing.bin"}
        assert len(site.asked) <= len(cuts) + 1


def test_a_killed_process_leaves_a_part_that_the_next_one_goes_on_from(site: Site, tmp_path: Path) -> None:
    site.stall = 2 * fetch.PIECE + 10
    project(site)
    command = [sys.executable, "-c", "from harness.cli.datasets import data; data(['fetch', 'tiny', '--yes'])"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    part = tmp_path / "data" / "tiny set" / "thing.bin.part"
    end = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size == 2 * fetch.PIECE) and time.monotonic() < end:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    site.stall = None
    assert run("fetch", "tiny", "--yes") == 0
    assert site.asked == ["", f"bytes={2 * fetch.PIECE}-"]
    assert names(part.parent) == {"thing.bin"} and (part.parent / "thing.bin").read_bytes() == CONTENT


def test_ctrl_c_leaves_the_part_and_frees_the_folder(site: Site, tmp_path: Path) -> None:
    def interrupt(_done: int) -> None:
        raise KeyboardInterrupt

    item = item_of(download(site), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(item, interrupt)
    assert item.part.read_bytes() == CONTENT[: fetch.PIECE] and item.left == len(CONTENT) - fetch.PIECE
    fetched(item)
    assert item.is_done


def test_other_bytes_are_deleted_and_the_file_that_was_there_stays(site: Site, tmp_path: Path) -> None:
    right = hashlib.sha256(CONTENT).hexdigest()
    item = item_of(download(site, sha256="0" * 64), tmp_path)
    item.folder.mkdir()
    item.whole.write_bytes(b"old")
    with pytest.raises(DataError, match=rf"sha256 {right}, the card says 0{{64}}; it is deleted"):
        fetched(item)
    assert names(item.folder) == {"thing.bin"} and item.whole.read_bytes() == b"old"


def test_a_file_that_changed_under_way_is_noticed(site: Site, tmp_path: Path) -> None:
    item = item_of(download(site), tmp_path)
    site.codes, site.cuts = [200, 404], [1000]
    with pytest.raises(StoreError):
        fetched(item)
    before, site.content = site.content, bytes(len(CONTENT))
    with pytest.raises(DataError, match=r"sha256 .* it is deleted"):
        fetched(item)
    site.content = before
    fetched(item)
    assert item.is_done and site.asked[-1] == ""


@pytest.mark.parametrize("more", [-1, 1])
def test_a_file_of_another_size_is_refused_before_it_is_loaded(site: Site, tmp_path: Path, more: int) -> None:
    item = item_of(download(site, bytes=len(CONTENT) + more), tmp_path)
    for have in (b"", CONTENT[:9]):
        item.folder.mkdir(exist_ok=True)
        item.part.write_bytes(have)
        with pytest.raises(DataError, match=f"has {len(CONTENT):,} bytes, the card says {len(CONTENT) + more:,}"):
            fetched(item)
        assert item.part.read_bytes() == have


def test_a_part_longer_than_the_servers_file_is_another_release(site: Site, tmp_path: Path) -> None:
    item = item_of(download(site, bytes=len(CONTENT) + 2), tmp_path)
    item.folder.mkdir()
    item.part.write_bytes(CONTENT + b"?")
    with pytest.raises(DataError, match=r"416 .* another release"):
        fetched(item)


def test_a_file_that_is_not_there_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    site.codes = [404]
    with pytest.raises(StoreError, match=r"thing\.zip: the server answers 404 Not Found"):
        fetched(item_of(download(site), tmp_path))
    assert len(site.asked) == 1


def test_a_busy_server_is_asked_again_and_given_up_after_five_answers(site: Site, tmp_path: Path) -> None:
    site.codes = [503, 429]
    item = item_of(download(site), tmp_path)
    fetched(item)
    assert item.is_done
    site.codes, site.asked = [503] * 9, []
    item = item_of(download(site), tmp_path / "other")
    item.folder.mkdir(parents=True)
    item.part.write_bytes(CONTENT[:3000])
    with pytest.raises(StoreError, match=r"answers 503 .*; run the same command again, it goes on from 3\.0 kB"):
        fetched(item)
    assert len(site.asked) == 5 and item.loaded == 3000


def test_a_server_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with served(Site(b"gone")) as site:
        item = item_of(download(site), tmp_path)
    with pytest.raises(StoreError, match=r"zip: \[Errno \d+\] Connection refused; run the same command again$"):
        fetched(item)


def test_files_are_taken_out_of_a_zip_and_known_again(tmp_path: Path) -> None:
    with served(Site(zipped(one=b"1", two=b"22", three=b"333"))) as site:
        wanted = {"in/one.json": "one.json", "in/two.json": "below/2.json"}
        item = item_of(download(site, path="", members=wanted), tmp_path)
        fetched(item)
        assert names(item.folder) == {"one.json", "below/2.json", fetch.RECEIPT} and item.is_done
        assert (item.folder / "below" / "2.json").read_bytes() == b"22"
        (item.folder / "one.json").write_bytes(b"?")
        assert not item.is_done
        fetched(item)
        assert (item.folder / "one.json").read_bytes() == b"1" and len(site.asked) == 2
        site.content = zipped(one=b"new")
        item = item_of(download(site, path="", members={"in/one.json": "one.json"}), tmp_path)
        assert not item.is_done
        fetched(item)
        assert item.is_done and (item.folder / "one.json").read_bytes() == b"new"


def test_a_kept_archive_and_one_put_there_by_hand_are_used_and_left_alone(tmp_path: Path) -> None:
    with served(Site(zipped(one=b"1"))) as site:
        item = item_of(download(site, path="", members={"in/one.json": "one.json"}), tmp_path)
        fetched(item, keep=True)
    assert names(item.folder) == {"one.json", "thing.zip", fetch.RECEIPT}
    (item.folder / "one.json").unlink()
    assert not item.is_done and item.left == 0
    fetched(item)
    assert item.is_done and (item.folder / "thing.zip").is_file() and len(site.asked) == 1


def test_a_zip_without_a_member_and_a_file_that_is_no_zip_are_refused(tmp_path: Path) -> None:
    for content, message in ((zipped(one=b"1"), r"has no 'in/2\.json' in it"), (b"PK no zip", "is no zip")):
        with served(Site(content)) as site:
            item = item_of(download(site, path="", members={"in/2.json": "2.json"}), tmp_path)
            with pytest.raises(DataError, match=message):
                fetched(item)
            item.part.unlink()
            assert names(item.folder) == set()


def test_no_room_is_said_before_anything_is_loaded(site: Site, tmp_path: Path) -> None:
    project(site, bytes=10**18)
    with pytest.raises(ResourceError, match=r"1\.0 EB are needed, .* are free"):
        command("fetch", "tiny", "--yes")
    assert site.asked == [] and not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_written_is_told(site: Site, tmp_path: Path) -> None:
    (tmp_path / "tiny set").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=r"tiny set cannot be written .*HARNESS_DATA"):
        fetched(item_of(download(site), tmp_path))
    item = item_of(download(site), tmp_path / "other")
    item.part.mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be written"):
        fetched(item)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told(site: Site, tmp_path: Path) -> None:
    item = item_of(download(site), tmp_path)
    item.folder.mkdir(mode=0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        fetched(item)


def test_two_at_once_do_not_write_one_part(site: Site, tmp_path: Path) -> None:
    item = item_of(download(site), tmp_path)
    item.folder.mkdir()
    with FileLock(item.folder / fetch.LOCK), pytest.raises(ResourceError, match=r"another .* is at work in .*tiny set"):
        fetched(item)
    assert site.asked == []


# The command


def project(site: Site, **changes: Any) -> None:
    """A card in the working folder."""
    table = download(site, **changes)
    lines = [f"{key} = {toml(value)}" for key, value in table.items()]
    card = Path("datasets") / "tiny" / "card.toml"
    card.parent.mkdir(parents=True)
    card.write_text("\n".join([CARD, "[[downloads]]", *lines]))


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


def command(*words: str) -> int:
    return int(data(list(words), standalone_mode=False))


def run(*words: str) -> int:
    """The exit code, as `harness data` would give it."""
    try:
        return command(*words)
    except HarnessError as error:
        return error.exit_code


def test_the_command_says_what_it_loads_and_what_came(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project(site)
    assert run("fetch", "tiny", "--yes", "--json") == 0
    said = capsys.readouterr()
    file = str(tmp_path / "data" / "tiny set" / "thing.bin")
    assert json.loads(said.out) == {"dataset": "tiny", "files": [file], "loaded": [file]}
    for part in ("A tiny set", "licence: free", site.url, "525.3 kB", f"becomes {file}"):
        assert part in said.err
    assert run("fetch", "tiny") == 0  # without --yes and without a terminal: nothing to ask
    assert "next: harness run --datasets tiny" in capsys.readouterr().out and site.asked == [""]


def test_the_command_never_loads_without_being_told_to(site: Site, tmp_path: Path) -> None:
    project(site)
    with pytest.raises(UsageError, match=r"Load 0\.5 MB into .*tiny set\? .*--yes"):
        command("fetch", "tiny")
    assert site.asked == [] and not (tmp_path / "data").exists()


@pytest.mark.parametrize(("answer", "code", "asked"), [("n", 2, []), ("", 2, []), ("y", 0, [""])])
def test_at_a_terminal_the_command_asks(site: Site, answer: str, code: int, asked: list[str]) -> None:
    project(site)
    script = "from harness.cli import main; main.main(['data', 'fetch', 'tiny'])"
    ours, theirs = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", script], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:  # how a terminal ends
        pass
    os.close(ours)
    assert child.wait() == code and site.asked == asked
    assert re.search(rb"Load 0\.5 MB into [^?]*\? \[y/N\]", b" ".join(said.split()))


def test_a_card_without_downloads_tells_where_its_files_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the card of f30k has nothing to download; its files are from: .*SCAN"):
        command("fetch", "f30k", "--yes")
    with pytest.raises(UsageError, match=r"unknown dataset 'coco-val217'; did you mean coco-val2017"):
        command("fetch", "coco-val217")


def test_where_files_are_absent_the_command_is_named(site: Site, tmp_path: Path) -> None:
    card = card_of(download(site))
    with pytest.raises(DataError, match=r"`harness data fetch tiny` gets those that .* Or get them from the moon"):
        open_dataset(card, tmp_path, tmp_path)


WRONG: dict[str, tuple[Table, str]] = {
    "another scheme": ({"url": "file:///etc/passwd"}, "url"),
    "no file": ({"url": "http://127.0.0.1:9/files/"}, "names no file"),
    "a way up in the address": ({"url": "http://127.0.0.1:9/files/.."}, "names no file"),
    "a short hash": ({"sha256": "abc"}, "sha256"),
    "nothing": ({"bytes": 0}, "bytes"),
    "nowhere to": ({"path": ""}, "give path"),
    "two ways": ({"members": {"a": "b"}}, "give path"),
    "a way up": ({"path": "a/../../b"}, "no path inside"),
    "the root": ({"path": "/b"}, "no path inside"),
    "the folder itself": ({"path": "."}, "no path inside"),
    "a member's way up": ({"path": "", "members": {"a": "../b"}}, "no path inside"),
    "a backslash": ({"path": "..\\b"}, "no path inside"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_table_of_a_card_is_refused(site: Site, tmp_path: Path, kind: str) -> None:
    changes, message = WRONG[kind]
    project(site, **changes)
    with pytest.raises(ConfigError, match=rf"(?s)card\.toml.*downloads.*{message}"):
        command("fetch", "tiny", "--yes")


def test_two_downloads_do_not_become_one_file(site: Site) -> None:
    with pytest.raises(ValueError, match=r"two downloads become 'thing\.bin'"):
        card_of(download(site), download(site))


def test_every_download_of_a_card_here_becomes_a_file_that_its_layout_reads() -> None:
    from harness.config.project import Config
    from harness.data.content import Place
    from harness.layouts.opening import LAYOUTS

    cards = [card for card in discover(Config()).datasets.values() if card.downloads]
    assert "coco-val2017" in {card.name for card in cards}
    for card in cards:
        read = LAYOUTS[card.layout].files(Place(card, Path(), Path()))
        assert {target for one in card.downloads for target in one.targets} <= set(read), card.name
