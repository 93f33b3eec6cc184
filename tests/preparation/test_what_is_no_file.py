"""Pipes, folders, sizes and headers in place of the files of a dataset: refused at once, never waited for."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_files import saved
from tiny_project import Call

from harness.config.project import find, load
from harness.data.arrays import open_array
from harness.data.pictures import read_picture
from harness.data.region_store import open_store
from harness.data.text_encoder import encoder_files
from harness.data.word_vectors import read_vectors
from harness.errors import ConfigError, DataError, HarnessError
from harness.evaluation.positive_files import read_captions, read_ids, read_lists
from harness.evaluation.score_files import open_scores
from harness.files import has_file, has_folder, lfs_hint, listing

Make = Callable[[Path], Any]


def a_socket(path: Path) -> None:
    socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))


KINDS: dict[str, Make] = {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)

FILES = {
    "precomp": ["test_ims.npy", "test_caps.txt", "test_ids.txt", "test_boxes.npy", "test_img_sizes.npy"],
    "coco": ["captions.json", "instances.json", "split.json"],
    "folder": [
        "captions.jsonl",
        "split.json",
        *(f"regions/{name}" for name in ("regions.npy", "ids.txt", "store.json")),
    ],
    "karpathy": ["dataset_tiny.json", "regions/offsets.npy"],
    "entities": ["test.txt", "Sentences/test-1.txt", "Annotations/test-1.xml"],
}
CASES = [(layout, name) for layout, names in FILES.items() for name in names]


@kinds
@pytest.mark.parametrize(("layout", "name"), CASES, ids=["/".join(case) for case in CASES])
def test_no_command_waits_for_what_is_no_file(
    call: Call, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest, layout: str, name: str, make: Make
) -> None:
    file = request.getfixturevalue(layout) / name
    file.unlink(missing_ok=True)
    make(file)
    for words in (["validate", "--dataset", layout], ["run", "--here", "--datasets", layout, "--methods", "chance"]):
        assert call(*words) == 3
        said = "".join(capsys.readouterr())
        assert "must be a file" in " ".join(said.split()) and "Traceback" not in said


READERS: dict[str, Callable[[Path], Any]] = {
    "array": lambda path: open_array(path, ("rows", "width")),
    "picture": read_picture,
    "vectors": lambda path: read_vectors(path, {}),
    "lists": read_lists,
    "ids": read_ids,
    "captions": read_captions,
    "scores": open_scores,
    "hint": lfs_hint,
    "optional": has_file,
}


@pytest.mark.parametrize("make", [*KINDS.values(), a_socket], ids=[*KINDS, "socket"])
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_no_reader_waits_for_what_is_no_file(
    tmp_path: Path, reader: Callable[[Path], Any], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make(tmp_path / "file")
    with pytest.raises(HarnessError, match="must be a file"):
        reader(tmp_path / "file")


@kinds
def test_a_file_of_a_text_encoder_that_is_none_is_refused(tmp_path: Path, make: Make) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "vocab.txt").write_text("a")
    make(tmp_path / "model.safetensors")
    with pytest.raises(DataError):
        encoder_files(tmp_path)


@kinds
def test_a_harness_toml_that_is_none_is_refused_and_not_taken_for_absent(tmp_path: Path, make: Make) -> None:
    make(tmp_path / "harness.toml")
    with pytest.raises(ConfigError, match="must be a file"):
        find(tmp_path)


def without_rights(monkeypatch: pytest.MonkeyPatch, forbidden: Path) -> None:
    """Refuse to look at a path and below it, as the system does for all users but root."""
    whole = os.stat

    def stat(path: Any, *args: Any, **named: Any) -> os.stat_result:
        if isinstance(path, str | Path) and Path(path).is_relative_to(forbidden):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, *args, **named)

    monkeypatch.setattr(os, "stat", stat)


@pytest.mark.parametrize("ask", [has_file, has_folder])
def test_what_may_not_be_looked_at_is_told_and_not_taken_for_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Path], bool]
) -> None:
    assert not ask(tmp_path / "absent") and not ask(tmp_path / ("x" * 300))
    without_rights(monkeypatch, tmp_path / "closed")
    with pytest.raises(DataError, match="Permission denied"):
        ask(tmp_path / "closed" / "file")


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        listing(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Not a directory"):
        listing(tmp_path / "file")


# --- headers and sizes


@pytest.mark.slow
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_an_npy_of_every_version_is_read(tmp_path: Path, version: tuple[int, int], precomp: Path, call: Call) -> None:
    array = np.load(precomp / "test_ims.npy", allow_pickle=False)
    with (precomp / "test_ims.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version=version, allow_pickle=False)
    np.testing.assert_array_equal(open_array(precomp / "test_ims.npy", ("rows", "regions", "width")), array)
    assert call("run", "--here", "--datasets", "precomp", "--methods", "chance") == 0


@pytest.mark.parametrize(
    "shape",
    ["(-4, -3, 4)", "(4, -3, -4)", "(-1, 3, 4)", "(2**70, 3, 4)", f"({10**30}, 3, 4)", "(True, 3, 4)", "(4.0, 3, 4)"],
)
def test_a_shape_that_no_array_has_is_refused(precomp: Path, call: Call, shape: str) -> None:
    content = (precomp / "test_ims.npy").read_bytes()
    old = b"(4, 3, 4), }"
    new = f"{shape}, }}".encode()
    spare = len(new) - len(old)
    assert old in content
    content = content.replace(old + b" " * spare, new) if spare > 0 else content.replace(old, new + b" " * -spare)
    (precomp / "test_ims.npy").write_bytes(content)
    assert call("validate", "--dataset", "precomp") == 3
    assert call("run", "--here", "--datasets", "precomp", "--methods", "chance") == 3


@pytest.mark.parametrize("size", [1e16, -1e25, 3e38])
def test_numbers_whose_squares_overflow_are_a_fault_of_the_data(
    precomp: Path, call: Call, capsys: pytest.CaptureFixture[str], size: float
) -> None:
    def grown(array: np.ndarray) -> np.ndarray:
        array[1, 0, 2] = size
        return array

    saved("train_ims.npy", grown)(precomp)
    assert call("run", "--here", "--datasets", "precomp") == 3
    assert "train_ims.npy, row 1: holds a number of size" in capsys.readouterr().err


def png(width: int, height: int) -> bytes:
    """A picture of one colour: very few bytes for any number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(13300, 13300), (60_000, 1500), (40_000, 40_000)])
def test_a_small_file_of_very_many_pixels_is_refused_before_it_is_unpacked(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "1.png").write_bytes(png(*size))
    with pytest.raises(DataError, match=r"1\.png: .*(pixels, more than 80 million; scale it down|decompression bomb)"):
        read_picture(tmp_path / "1.png")


@pytest.mark.parametrize("name", ["dev_caps.txt", "dev_ims.npy"])
def test_a_compressed_file_is_told_with_the_command_that_unpacks_it(
    precomp: Path, call: Call, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    import gzip

    (precomp / name).write_bytes(gzip.compress((precomp / name).read_bytes()))
    assert call("run", "--here", "--datasets", "precomp") == 3
    assert "gunzip -k '" in capsys.readouterr().err


@pytest.mark.parametrize("limit", [[], ["--limit", "1"]])
def test_one_pair_to_train_on_is_refused_in_words(
    precomp: Path, call: Call, project: Path, capsys: pytest.CaptureFixture[str], limit: list[str]
) -> None:
    card = project / "cards" / "precomp" / "card.toml"
    images = 1 if not limit else 8
    text = card.read_text().replace("captions_each = 2", "captions_each = 1").replace("[[order]]", "[[other]]")
    text = text[: text.index("[[other]]")] + text[text.index("[[protocols]]") :]
    for split, stem, size in (("train", "train", images), ("val", "dev", 4), ("test", "test", 4)):
        both = 8 if split == "train" else 4
        text = text.replace(
            f"{split} = {{ images = {both}, captions = {2 * both} }}",
            f"{split} = {{ images = {size}, captions = {size} }}",
        )
        saved(f"{stem}_ims.npy", lambda array, size=size: array[:size])(precomp)
        lines = (precomp / f"{stem}_caps.txt").read_text().splitlines()[::2][:size]
        (precomp / f"{stem}_caps.txt").write_text("\n".join(lines) + "\n")
    card.write_text(text.replace("images = 4\ncaptions = 8", "images = 4\ncaptions = 4"))
    assert call("run", "--here", "--datasets", "precomp", *limit) == 3
    err = capsys.readouterr().err
    assert "pairs to train on: 1, and 2 are needed at least" in err
    assert call("validate", "--dataset", "precomp") == (0 if limit else 3)


# --- HARNESS_DATA


@pytest.mark.parametrize("form", ["{}\n", " {} ", "{}\r\n", "~/below"])
def test_harness_data_is_read_as_people_write_it(project: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("HOME", str(project))
    monkeypatch.setenv("HARNESS_DATA", form.format(project / "below"))
    assert load().data == project / "below"


def test_harness_data_that_is_empty_or_of_nobody_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", " ")
    assert load().data == project / "data"
    monkeypatch.setenv("HARNESS_DATA", "~nobody-of-that-name/data")
    with pytest.raises(HarnessError, match="leads nowhere"):
        _ = load().data


@pytest.mark.parametrize("place", ["circle", "circle/below/it"])
def test_a_folder_of_the_configuration_that_leads_back_to_itself_is_told(project: Path, place: str) -> None:
    (project / "circle").symlink_to("circle")
    for key in ("data", "results", "reports"):
        with pytest.raises(HarnessError, match=f"{place} leads nowhere"):
            getattr(load(None, [f"paths.{key}={place}"]), key)


def test_a_store_that_is_a_pipe_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "regions" / "regions.npy").unlink()
    os.mkfifo(folder / "regions" / "regions.npy")
    with pytest.raises(DataError, match="must be a file"):
        open_store(folder / "regions", tmp_path / "cache")
