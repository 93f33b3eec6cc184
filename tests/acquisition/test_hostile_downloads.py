"""`harness data fetch` with cards, servers and archives that mean ill: what is outside the folder stays as it is."""

from __future__ import annotations

import gzip
import io
import struct
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from file_server import CARD, CONTENT, Site, Table, card_of, download, fetched, item_of, names, served
from tiny_project import Call

from harness.acquisition import archive
from harness.acquisition import download as fetch
from harness.acquisition.pace import Pace
from harness.config.cards import DatasetCard
from harness.config.toml import literal
from harness.errors import DataError, StoreError, UsageError

Captured = pytest.CaptureFixture[str]
OUTSIDE = b"not the dataset's"
SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def straight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, straight to this machine, without pauses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)


@pytest.fixture
def site() -> Iterator[Site]:
    with served(Site(CONTENT)) as one:
        yield one


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    file = tmp_path / "outside" / "file"
    file.parent.mkdir()
    file.write_bytes(OUTSIDE)
    return file


# Cards

CARDS: dict[str, Table] = {
    "an absolute folder": {"folder": "/tmp/elsewhere"},
    "a folder above": {"folder": "../elsewhere"},
    "a folder above, later": {"folder": "a/../../elsewhere"},
    "a folder with an escape": {"folder": "a\x1b[31m"},
    "a folder of a long name": {"folder": "a" * 256},
}
PATHS = (
    *(
        "/etc/passwd",
        "../b",
        "a/../../b",
        "..\\b",
        ".",
        "..",
        ".ssh/authorized_keys",
        "a/.git/config",
        ".fetch.lock",
    ),
    *(".fetched.json", ".fetching/x", "a\n", "a\x1b[2J", "\u202egnp.exe", "é" * 128, "~/../../b"),
)


@pytest.mark.parametrize("kind", CARDS)
def test_a_card_with_downloads_names_a_folder_below_the_data_root(site: Site, kind: str) -> None:
    card = {**tomllib.loads(CARD), "downloads": [download(site)], "path": "card.toml"}
    DatasetCard.model_validate(card)
    with pytest.raises(ValueError, match="folder"):
        DatasetCard.model_validate({**card, **CARDS[kind]})


@pytest.mark.parametrize("path", PATHS)
def test_no_download_goes_where_its_card_may_not_write(site: Site, path: str) -> None:
    for changes in ({"path": path}, {"path": "", "members": {"a": path}}):
        with pytest.raises(ValueError, match=r"no path inside|no name of a file|hidden"):
            card_of(download(site, **changes))


@pytest.mark.parametrize("url", ["http://h/.ssh", "http://h/a/.bashrc?x=1", "http://h/%2e%2e", "http://h/..%2f..%2fx"])
def test_no_archive_that_is_kept_becomes_a_hidden_file_or_one_outside(site: Site, url: str) -> None:
    try:
        item = item_of(download(site, url=url, path="", members={"a": "b"}), Path("data").absolute())
    except ValueError:
        return
    assert item.whole.parent == item.folder and not item.whole.name.startswith(".") and "/" not in item.download.file


# Links


def link_folder(item: fetch.Item, outside: Path) -> None:
    item.folder.parent.mkdir(parents=True, exist_ok=True)
    item.folder.symlink_to(outside.parent)


def link_below(item: fetch.Item, outside: Path) -> None:
    item.folder.mkdir(parents=True)
    (item.folder / "below").symlink_to(outside.parent)


def link(name: str) -> Callable[[fetch.Item, Path], None]:
    def make(item: fetch.Item, outside: Path) -> None:
        (item.folder / name).parent.mkdir(parents=True)
        (item.folder / name).symlink_to(outside if name.endswith(("file", "json", "lock")) else outside.parent)

    return make


@pytest.mark.parametrize("make", [link_folder, link_below])
def test_nothing_is_loaded_through_a_link(site: Site, tmp_path: Path, outside: Path, make: Any) -> None:
    item = item_of(download(site, path="below/file"), tmp_path / "data")
    make(item, outside)
    with pytest.raises(UsageError, match=r"is a link to .*outside, and nothing is loaded through a link"):
        fetched(item)
    assert [*outside.parent.iterdir()] == [outside] and outside.read_bytes() == OUTSIDE and not site.requests


@pytest.mark.parametrize("name", ["below/file", fetch.LOCK, fetch.WORK, fetch.RECEIPT])
def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path, outside: Path, name: str) -> None:
    with served(Site(zipped({"in": CONTENT}))) as site:
        item = item_of(download(site, path="", members={"in": "below/file"}), tmp_path / "data")
        link(name)(item, outside)
        fetched(item)
    assert (item.folder / "below" / "file").read_bytes() == CONTENT and item.is_done
    assert [*outside.parent.iterdir()] == [outside] and outside.read_bytes() == OUTSIDE


# Archives


def zipped(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED, mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as file:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, kind
            file.writestr(info, content)
    return buffer.getvalue()


def unpacked(content: bytes, member: str, tmp_path: Path, **about: Any) -> Path:
    with served(Site(content)) as site:
        item = item_of(download(site, path="", members={member: "thing.bin"}, **about), tmp_path / "data")
        fetched(item)
    assert names(tmp_path) == {"data/tiny set/thing.bin", f"data/tiny set/{fetch.RECEIPT}"}
    return item.folder / "thing.bin"


@pytest.mark.parametrize("member", ["/etc/passwd", "../../b", "a/../../../b", ".ssh/id", "C:\\x", "\x1b[31m"])
def test_the_name_of_a_member_is_no_place(tmp_path: Path, member: str) -> None:
    content = zipped({member: CONTENT, "../other": b"x", "/tmp/other": b"x", ".hidden": b"x"})
    assert unpacked(content, member, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010666, 0o104777])
def test_a_member_that_is_a_link_or_a_device_becomes_a_plain_file(tmp_path: Path, outside: Path, mode: int) -> None:
    file = unpacked_beside(zipped({"in": str(outside).encode()}, mode=mode), tmp_path)
    assert file.is_file() and not file.is_symlink() and file.read_bytes() == str(outside).encode()
    assert not file.stat().st_mode & 0o7111


def unpacked_beside(content: bytes, tmp_path: Path) -> Path:
    with served(Site(content)) as site:
        item = item_of(download(site, path="", members={"in": "thing.bin"}), tmp_path / "data")
        fetched(item)
    return item.folder / "thing.bin"


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_unpacks_out_of_proportion_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    monkeypatch.setattr(archive, "ALWAYS", 1_000_000)
    content = zipped({"in": bytes(3_000_000)}, kind)
    with pytest.raises(DataError, match=r"unpacks to 3 MB from 0\.0 MB, more than the 1 MB that are allowed"):
        unpacked(content, "in", tmp_path)
    assert names(tmp_path) == set()


def test_what_the_card_gives_a_size_of_may_shrink_to_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "ALWAYS", 1_000_000)
    for size, ok in ((3_000_000, True), (3_000_001, False)):
        with served(Site(zipped({"in": bytes(3_000_000)}))) as site:
            table = download(site, path="", members={"in": "thing.bin"})
            sized = {"downloads": [table], "files": [{"path": "thing.bin", "bytes": size}], "path": "card.toml"}
            card = DatasetCard.model_validate({**tomllib.loads(CARD), **sized})
            item = fetch.items(card, tmp_path / f"data {ok}")[0]
            if ok:
                fetched(item)
                assert item.is_done
                continue
            with pytest.raises(DataError, match=r"'in' has 3,000,000 bytes, the card says 3,000,001"):
                fetched(item)


def lying(size: int) -> bytes:
    """A zip whose member says that it has another size than it unpacks to."""
    content = bytearray(zipped({"in": bytes(3_000_000)}))
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = content.index(mark) + place
        content[start : start + 4] = struct.pack("<I", size)
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(zipped({"in": CONTENT}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    return bytes(content)


def of_another_method() -> bytes:
    content = bytearray(zipped({"in": CONTENT}))
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(mark) + place] = 99
    return bytes(content)


ODD: dict[str, tuple[Callable[[], bytes], str]] = {
    "a member of another size than it says": (lambda: lying(1000), "no zip|damaged"),
    "an encrypted member": (encrypted, "is encrypted; take it out by hand"),
    "a method that is not known": (of_another_method, "cannot be unpacked here .*take it out by hand"),
    "a name that is no UTF-8": (
        lambda: zipped({"in": CONTENT, "é": b""}).replace("é".encode(), b"\xff\xff"),
        "is no zip",
    ),
    "a cut archive": (lambda: zipped({"in": CONTENT})[:-10], "is no zip"),
    "bytes cut out of its middle": (lambda: zipped({"in": CONTENT})[:500] + zipped({"in": CONTENT})[600:], "is no zip"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_archive_is_refused_in_words_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    make, message = ODD[kind]
    with pytest.raises(DataError, match=message):
        unpacked(make(), "in", tmp_path)
    assert names(tmp_path) == set()


# Servers


@pytest.mark.parametrize("drip", ["head", "body"])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(site: Site, tmp_path: Path, drip: str) -> None:
    site.drip = drip
    item = item_of(download(site), tmp_path / "data")
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"zip: the server sent [\d,]+ bytes in 1 s; .*--least-rate 0"):
        fetched(item, pace=Pace(rate=1000, window=1))
    assert time.monotonic() - began < 10 and names(tmp_path) == set()


@pytest.mark.slow
def test_a_slow_server_may_do_where_any_rate_may(site: Site, tmp_path: Path) -> None:
    site.drip, site.content = "body", CONTENT[:100]
    item = item_of(download(site), tmp_path / "data")
    site.cuts = [0]  # all of it has come byte by byte
    fetched(item, pace=Pace(rate=0, window=0.5))
    assert item.is_done


@pytest.mark.parametrize("says_length", [True, False])
def test_no_more_is_written_than_the_card_says(site: Site, tmp_path: Path, says_length: bool) -> None:
    table = download(site)
    site.content, site.says_length = CONTENT + b"x" * 50_000_000, says_length
    with pytest.raises(DataError, match=r"gives more than the|has 50,[\d,]+ bytes, the card says"):
        fetched(item_of(table, tmp_path / "data"))
    assert site.requests == 1 and names(tmp_path) == set()


def test_a_packed_answer_does_not_unpack_to_more_than_the_card_says(site: Site, tmp_path: Path) -> None:
    site.content = gzip.compress(bytes(50_000_000))
    site.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(DataError, match="gives more than the"):
        fetched(item_of(download(site), tmp_path / "data"))
    assert names(tmp_path) == set()


LEADING = ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "javascript:x")


@pytest.mark.parametrize("target", LEADING)
def test_a_redirection_to_another_scheme_or_nowhere_is_refused(site: Site, tmp_path: Path, target: str) -> None:
    site.codes, site.headers = [302] * 5, {"Location": target}
    with pytest.raises(StoreError, match=r"thing\.zip"):
        fetched(item_of(download(site), tmp_path / "data"))
    assert site.requests == 1 and names(tmp_path) == set()


@pytest.mark.parametrize("target", ["thing.zip", "http://", "http:///x", "//", "?", "http://[", "\x7f"])
def test_a_circle_of_redirections_ends(site: Site, tmp_path: Path, target: str) -> None:
    site.codes, site.headers = [302] * 100, {"Location": target}
    with pytest.raises(StoreError, match="leads nowhere"):
        fetched(item_of(download(site), tmp_path / "data"))


def test_what_another_host_gives_is_checked_and_given_no_password(site: Site, tmp_path: Path) -> None:
    with served(Site(b"other")) as first:
        first.codes, first.headers = [302], {"Location": site.url.replace("127.0.0.1", "localhost")}
        table = download(site, url=first.url.replace("//", f"//me:{SECRET}@"))
        item = item_of(table, tmp_path / "data")
        fetched(item)
    assert item.is_done and "Authorization" in first.received[0] and "Authorization" not in site.received[0]


# Passwords

ADDRESSES = (
    "http://me:s3cr3t@{}",
    "http://s3cr3t@{}",
    "http://{}?token=s3cr3t",
    "http://{}?s3cr3t",
    "http://{}#token=s3cr3t",
)


def card_file(project: Path, table: Table) -> Path:
    """A card of a dataset with one download."""
    card = project / "cards" / "small" / "card.toml"
    card.parent.mkdir()
    lines = [f"{key} = {literal(one)}" for key, one in table.items()]
    card.write_text("\n".join([CARD.replace('"tiny"', '"small"'), "[[downloads]]", *lines]))
    return card


@pytest.mark.slow
@pytest.mark.parametrize("form", ADDRESSES)
@pytest.mark.parametrize("state", ["there", "gone", "refused", "other bytes", "lost"])
def test_an_address_of_a_card_is_shown_without_its_password(
    project: Path, site: Site, call: Call, capfd: pytest.CaptureFixture[str], form: str, state: str
) -> None:
    table = download(site, url=form.format(site.url.removeprefix("http://")))
    if state == "gone":
        table["url"] = table["url"].replace(site.url.split("/")[2], "127.0.0.1:9")
    site.codes = [403] if state == "refused" else []
    site.headers = {"Location": f"ftp://h/?key={SECRET}"} if state == "lost" else {}
    site.codes = [302] if state == "lost" else site.codes
    if state == "other bytes":
        table["sha256"] = "0" * 64
    card = card_file(project, table)
    code = call("data", "fetch", "small", "--yes")
    assert code == {"there": 0, "gone": 6, "refused": 6, "other bytes": 3, "lost": 6}[state]
    for words in (("data", "fetch", "small", "--yes", "--json"), ("describe", "small"), ("list", "--json"), ("list",)):
        call(*words)
    call("validate", "--dataset", "small")
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err
    holders = [file for file in project.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    assert holders == [card]


@pytest.mark.slow
def test_a_password_of_the_environment_is_not_shown(
    project: Path, site: Site, call: Call, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://me:{SECRET}@127.0.0.1:9")
    for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    card_file(project, download(site, url="http://example.invalid/x.zip"))
    assert call("data", "fetch", "small", "--yes") == 6
    assert call("run", "--here", "--methods", "chance") == 0
    assert call("run", "--here", "-s", "tracking.uri=http://example.invalid:9", "--seeds", "1") == 6
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err
    assert not [file for file in project.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
