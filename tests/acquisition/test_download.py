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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from file_server import CARD, CONTENT, Site, Table, card_of, download, fetched, item_of, names, served, zipped
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.acquisition import download as fetch
from harness.cli.datasets import data
from harness.config.registry import discover
from harness.errors import ConfigError, DataError, HarnessError, ResourceError, StoreError, UsageError
from harness.layouts.opening import open_dataset


@pytest.fixture(autouse=True)
def pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Work in an empty folder, straight to this machine, without pauses and without a terminal."""
    pauses: list[float] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(time, "sleep", lambda seconds: pauses.append(seconds))
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal, however the tests were started
    return pauses


@pytest.fixture
def site() -> Iterator[Site]:
    with served(Site(CONTENT)) as one:
        yield one


def test_a_file_arrives_whole_and_is_not_loaded_again(site: Site, tmp_path: Path) -> None:
    item = item_of(download(site, path="below/thing.bin"), tmp_path)
    assert not item.is_done and item.left == len(CONTENT)
    told = fetched(item)
    assert (tmp_path / "tiny set" / "below" / "thing.bin").read_bytes() == CONTENT
    assert told == sorted(told) and told[-1] == len(CONTENT)
    assert item.is_done and item.left == 0 and names(tmp_path) == {"tiny set/below/thing.bin"}
    fetched(item)
    assert site.requests == 1


def test_a_file_is_readable_for_those_who_may_read_other_files(site: Site, tmp_path: Path) -> None:
    item = item_of(download(site), tmp_path)
    fetched(item)
    (tmp_path / "other").touch()
    assert item.whole.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_cut_connection_is_tried_again_after_a_pause(site: Site, tmp_path: Path, pauses: list[float]) -> None:
    site.cuts = [fetch.PIECE + 5, 7]
    item = item_of(download(site), tmp_path)
    fetched(item)
    assert item.whole.read_bytes() == CONTENT
    assert site.requests == 3 and len(pauses) == 2 and min(pauses) >= 1


def test_a_server_that_does_not_say_the_size_may_do(site: Site, tmp_path: Path) -> None:
    site.says_length = False
    item = item_of(download(site), tmp_path)
    assert fetched(item)[-1] == len(CONTENT) and item.is_done


@given(st.lists(st.integers(0, 3000), max_size=8), st.booleans())
@settings(max_examples=25, deadline=None)
def test_what_arrives_is_the_file_or_nothing_whatever_breaks(cuts: list[int], says_length: bool) -> None:
    content = CONTENT[:2500]
    folder = Path("any")
    shutil.rmtree(folder, ignore_errors=True)
    with served(Site(content)) as site:
        site.cuts, site.says_length = list(cuts), says_length
        item = item_of(download(site), folder)
        try:
            fetched(item)
        except (StoreError, DataError):  # without a size, a cut file is one of other bytes
            assert names(folder) == set() and site.requests == 1 + fetch.RETRIES
        else:
            assert item.whole.read_bytes() == content and names(folder) == {"tiny set/thing.bin"}
        assert site.requests <= min(len(cuts), fetch.RETRIES) + 1


def loaded(folder: Path) -> int:
    """Bytes below a folder in which another process works."""
    with suppress(FileNotFoundError):
        return sum(file.stat().st_size for file in folder.rglob("*"))
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_process_leaves_no_file_and_the_next_one_nothing_else(
    site: Site, tmp_path: Path, number: signal.Signals
) -> None:
    site.stall = 2 * fetch.PIECE + 10
    project(site)
    command = [sys.executable, "-c", "from harness.cli.datasets import data; data(['fetch', 'tiny', '--yes'])"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder, end = tmp_path / "data" / "tiny set", time.monotonic() + 60
    while loaded(folder) < fetch.PIECE and time.monotonic() < end:
        threading.Event().wait(0.01)
    child.send_signal(number)
    assert child.wait() != 0
    left = names(folder)
    assert not {name for name in left if not name.startswith(fetch.WORK)}
    assert left == set() or number == signal.SIGKILL
    site.stall = None
    assert run("fetch", "tiny", "--yes") == 0
    assert names(folder) == {"thing.bin"} and (folder / "thing.bin").read_bytes() == CONTENT
    assert not (folder / fetch.WORK).exists()


def test_ctrl_c_leaves_nothing_and_frees_the_folder(site: Site, tmp_path: Path) -> None:
    def interrupt(_done: int) -> None:
        raise KeyboardInterrupt

    item = item_of(download(site), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(item, interrupt)
    assert names(item.folder) == set() and not (item.folder / fetch.WORK).exists()
    fetched(item)
    assert item.is_done


def test_other_bytes_are_deleted_and_the_file_that_was_there_stays(site: Site, tmp_path: Path) -> None:
    right = hashlib.sha256(CONTENT).hexdigest()
    item = item_of(download(site, sha256="0" * 64), tmp_path)
    item.folder.mkdir()
    item.whole.write_bytes(b"old")
    with pytest.raises(DataError, match=rf"zip: .*expected 0{{64}} but got {right}.*correct the card"):
        fetched(item)
    assert names(item.folder) == {"thing.bin"} and item.whole.read_bytes() == b"old"


@pytest.mark.parametrize("more", [-1, 1])
def test_a_file_of_another_size_is_refused_before_it_is_loaded(site: Site, tmp_path: Path, more: int) -> None:
    item = item_of(download(site, bytes=len(CONTENT) + more), tmp_path)
    told: list[int] = []
    with pytest.raises(DataError, match=f"has {len(CONTENT):,} bytes, the card says {len(CONTENT) + more:,}"):
        fetch.fetch(item, told.append)
    assert told == [] and site.requests == 1 and names(item.folder) == set()


def test_a_file_that_is_not_there_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    site.codes = [404]
    with pytest.raises(StoreError, match=r"thing\.zip: the server answers 404 Not Found"):
        fetched(item_of(download(site), tmp_path))
    assert site.requests == 1


def test_a_busy_server_is_asked_again_and_given_up_after_five_answers(site: Site, tmp_path: Path) -> None:
    site.codes = [503, 429]
    item = item_of(download(site), tmp_path)
    fetched(item)
    assert item.is_done
    site.codes, site.requests = [503] * 9, 0
    item = item_of(download(site), tmp_path / "other")
    with pytest.raises(StoreError, match=r"zip: the server answers 503 .*; run the same command again$"):
        fetched(item)
    assert site.requests == 5


def test_a_server_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with served(Site(b"gone")) as site:
        item = item_of(download(site), tmp_path)
    with pytest.raises(StoreError, match=r"zip: \[Errno \d+\] Connection refused; run the same command again$"):
        fetched(item)


def test_a_server_that_falls_silent_is_given_up(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SILENCE", 0.05)
    site.stall = 10
    item = item_of(download(site), tmp_path)
    with pytest.raises(StoreError, match=r"zip: .*timed out.*; run the same command again$"):
        fetched(item)
    assert names(tmp_path) == set() and site.requests == 5


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
        assert (item.folder / "one.json").read_bytes() == b"1" and site.requests == 2
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
    assert item.is_done and (item.folder / "thing.zip").is_file() and site.requests == 1


def test_a_zip_without_a_member_and_a_file_that_is_no_zip_are_refused(tmp_path: Path) -> None:
    for content, message in ((zipped(one=b"1"), r"has no 'in/2\.json' in it"), (b"PK no zip", "is no zip")):
        with served(Site(content)) as site:
            item = item_of(download(site, path="", members={"in/2.json": "2.json"}), tmp_path)
            with pytest.raises(DataError, match=message):
                fetched(item)
            assert names(item.folder) == set()


def test_no_room_is_said_before_anything_is_loaded(site: Site, tmp_path: Path) -> None:
    project(site, bytes=10**18)
    with pytest.raises(ResourceError, match=r"1,000,000,000,000\.0 MB are needed, .* MB are free"):
        command("fetch", "tiny", "--yes")
    assert site.requests == 0 and not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_written_is_told(site: Site, tmp_path: Path) -> None:
    (tmp_path / "tiny set").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=r"tiny set cannot be written .*HARNESS_DATA"):
        fetched(item_of(download(site), tmp_path))
    item = item_of(download(site), tmp_path / "other")
    item.whole.mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be written"):
        fetched(item)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told(site: Site, tmp_path: Path) -> None:
    item = item_of(download(site), tmp_path)
    item.folder.mkdir(mode=0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        fetched(item)


def test_two_at_once_do_not_load_into_one_folder(site: Site, tmp_path: Path) -> None:
    item = item_of(download(site), tmp_path)
    item.folder.mkdir()
    with FileLock(item.folder / fetch.LOCK), pytest.raises(ResourceError, match=r"another .* is at work in .*tiny set"):
        fetched(item)
    assert site.requests == 0


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
    assert "next: harness run --datasets tiny" in capsys.readouterr().out and site.requests == 1


def test_the_command_never_loads_without_being_told_to(site: Site, tmp_path: Path) -> None:
    project(site)
    with pytest.raises(UsageError, match=r"Load 0\.5 MB into .*tiny set\? .*--yes"):
        command("fetch", "tiny")
    assert site.requests == 0 and not (tmp_path / "data").exists()


def test_the_command_never_replaces_a_file_by_one_of_a_kept_archive_without_being_told_to(tmp_path: Path) -> None:
    with served(Site(zipped(one=b"1"))) as site:
        project(site, path="", members={"in/one.json": "one.json"})
        assert run("fetch", "tiny", "--yes", "--keep") == 0
        file = tmp_path / "data" / "tiny set" / "one.json"
        file.write_bytes(b"corrected by hand")
        with pytest.raises(UsageError, match=r"Replace 1 file in .*tiny set\? .*--yes"):
            command("fetch", "tiny")
        assert file.read_bytes() == b"corrected by hand"
        file.unlink()
        assert run("fetch", "tiny") == 0 and file.read_bytes() == b"1" and site.requests == 1


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code", "requests"), [("n", 2, 0), ("", 2, 0), ("y", 0, 1)])
def test_at_a_terminal_the_command_asks(site: Site, answer: str, code: int, requests: int) -> None:
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
    assert child.wait() == code and site.requests == requests
    assert re.search(rb"Load 0\.5 MB into [^?]*\? \[y/N\]", b" ".join(said.split()))


def test_a_card_without_downloads_tells_where_its_files_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"f30k has nothing to download; its files are from: .*SCAN.*; licence: "):
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
