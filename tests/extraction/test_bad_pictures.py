"""Pictures that are not as they should be, through the command: named and refused, or read as docs/guide says."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_project import Call
from tiny_vision import images, models

from harness.cli.datasets import data
from harness.cli.main import cli
from harness.data.pictures import read_head, read_picture
from harness.data.region_store import open_store

pytest.importorskip("transformers")

__all__ = ["images", "models"]
Captured = pytest.CaptureFixture[str]
cli.add_command(data)


def photo(path: Path, size: tuple[int, int] = (64, 48)) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def truncated(folder: Path) -> None:
    photo(folder / "x.jpg", (400, 300))
    whole = (folder / "x.jpg").read_bytes()
    (folder / "x.jpg").write_bytes(whole[: len(whole) // 2])


def of_text(folder: Path) -> None:
    (folder / "x.jpg").write_text("a caption")


def empty(folder: Path) -> None:
    (folder / "x.jpg").touch()


def a_gif(folder: Path) -> None:
    Image.new("RGB", (9, 9)).save(folder / "x.gif")
    (folder / "x.gif").rename(folder / "x.jpg")


def of_one_id(folder: Path) -> None:
    (folder / "more").mkdir()
    photo(folder / "x.jpg")
    photo(folder / "more" / "x.png")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (truncated, "x.jpg: no readable picture (image file is truncated"),
        (of_text, "x.jpg: no readable picture (cannot identify image file"),
        (empty, "x.jpg: no readable picture (cannot identify image file"),
        (a_gif, "x.jpg: no readable picture (cannot identify image file"),
        (of_one_id, "image 'x' has two files"),
    ],
)
def test_a_file_that_is_no_picture_is_named(
    models: Path, tmp_path: Path, call: Call, capsys: Captured, make: Callable[[Path], None], said: str
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    make(folder)
    words = ("data", "extract", str(folder), "--to", str(tmp_path / "store"), "--model", str(models / "vit"))
    assert call(*words) == 3
    assert said in capsys.readouterr().err
    assert not (tmp_path / "store" / "store.json").exists()
    assert not list((tmp_path / "store").glob("regions*"))


def test_a_folder_without_a_picture_is_told(models: Path, tmp_path: Path, call: Call, capsys: Captured) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "readme.txt").touch()
    words = ("data", "extract", str(tmp_path / "images"), "--to", str(tmp_path / "store"))
    assert call(*words, "--model", str(models / "vit")) == 3
    assert "holds no picture (.jpg, .jpeg, .png, .webp) among 1 files" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_a_text_among_pictures_is_named_before_the_first_is_seen(
    models: Path, images: Path, tmp_path: Path, call: Call, capsys: Captured
) -> None:
    shutil.copytree(images, tmp_path / "images")
    (tmp_path / "images" / "zzz.jpg").write_text("no picture")
    words = ("data", "extract", str(tmp_path / "images"), "--to", str(tmp_path / "store"))
    assert call(*words, "--model", str(models / "vit"), "--batch-size", "1") == 3
    assert "zzz.jpg" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_unusual_pictures_are_read_as_they_are_meant(
    models: Path, tmp_path: Path, call: Call, capsys: Captured
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    red, blue = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    red.convert("CMYK").save(folder / "cmyk.jpg", quality=100)
    red.save(folder / "frames.png", save_all=True, append_images=[blue])
    red.save(folder / "frames2.webp", save_all=True, append_images=[blue], lossless=True)
    Image.fromarray(np.full((32, 32), 0x80FF, dtype=np.uint16)).save(folder / "grey16.png")
    palette = red.quantize(4)
    palette.info["transparency"] = 0
    palette.save(folder / "palette.png", transparency=palette.getpixel((0, 0)))
    colours = {path.stem: np.asarray(read_picture(path)).mean((0, 1)).round() for path in sorted(folder.iterdir())}
    np.testing.assert_allclose(colours["cmyk"], [255, 0, 0], atol=2)
    np.testing.assert_array_equal(colours["frames"], [255, 0, 0])
    np.testing.assert_array_equal(colours["frames2"], [255, 0, 0])
    np.testing.assert_array_equal(colours["grey16"], [0x80] * 3)
    np.testing.assert_array_equal(colours["palette"], [255, 255, 255])  # what is transparent is white
    words = ("data", "extract", str(folder), "--to", str(tmp_path / "store"), "--model", str(models / "vit"))
    assert call(*words) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "cmyk.jpg (CMYK), frames.png (animated), frames2.webp (animated), grey16.png (16-bit)" in said
    assert "palette.png" not in said and "give --unusual convert" in said and not (tmp_path / "store").exists()
    words += ("--unusual", "convert")
    assert call(*words) == 0
    assert "of animations the first frame: 4 pictures, 'cmyk' first" in capsys.readouterr().out
    store = open_store(tmp_path / "store", tmp_path / "cache")
    np.testing.assert_array_equal(store.images[1], store.images[2])  # the same red picture
    assert call(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["converted"] == 4


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L"])
def test_16_bits_are_seen_in_every_mode_of_a_png(tmp_path: Path, mode: str) -> None:
    channels = len(mode)
    rows = np.full((4, 4 * channels), 0x80FF, dtype=">u2")
    kind = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}[mode]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))), (b"IEND", b"")]
    sums = (struct.pack(">I", zlib.crc32(name + data)) for name, data in parts)
    chunks = (struct.pack(">I", len(data)) + name + data + crc for (name, data), crc in zip(parts, sums, strict=True))
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert read_head(tmp_path / "deep.png").unusual == "16-bit"
    Image.new(mode, (4, 4)).save(tmp_path / "flat.png")
    assert read_head(tmp_path / "flat.png").unusual == ""


def test_a_head_is_what_the_file_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "turned.jpg", exif=exif)
    head = read_head(tmp_path / "turned.jpg", turned=True)
    assert (head.size, head.orientation, head.frames) == ((20, 10), 6, 1)
    exif[0x0112] = 99
    Image.new("RGB", (20, 10)).save(tmp_path / "odd.jpg", exif=exif)
    assert read_head(tmp_path / "odd.jpg", turned=True).orientation == 1
