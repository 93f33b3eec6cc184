"""Pictures that EXIF turns: the pixels that Pillow's own turning gives, whatever else the file's EXIF says."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from harness.data.pictures import as_rgb, read_head, read_picture
from harness.errors import DataError

TURN, RESOLUTION_UNIT, SOFTWARE, DATE = 0x0112, 0x0128, 0x0131, 0x0132
SHORT, ASCII, FLOAT = 3, 2, 11
FORMS = (
    ("JPEG", "RGB"),
    ("JPEG", "L"),
    ("JPEG", "CMYK"),
    ("PNG", "RGB"),
    ("PNG", "RGBA"),
    ("PNG", "P"),
    ("PNG", "1"),
    ("PNG", "I;16"),
    ("WEBP", "RGB"),
    ("WEBP", "RGBA"),
)


def drawn(mode: str) -> Image.Image:
    generator = np.random.default_rng(0)
    if mode == "I;16":
        return Image.fromarray(generator.integers(0, 1 << 16, (10, 14), dtype=np.uint16))
    return Image.fromarray(generator.integers(0, 256, (10, 14, 4), dtype=np.uint8)).convert("RGB").convert(mode)


def with_tag(file: Path, tag: int, kind: int, count: int, value: bytes) -> Path:
    """A JPEG that is turned by 6, and has one tag more in its EXIF."""
    entries = sorted([(TURN, SHORT, 1, b"\0\6"), (tag, kind, count, value)])
    rows = b"".join(struct.pack(">HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(entries)) + rows + bytes(4)
    drawn("RGB").save(file, "JPEG", exif=exif)
    return file


@pytest.mark.parametrize(("form", "mode"), FORMS)
@pytest.mark.parametrize("orientation", range(10))
def test_a_picture_is_turned_to_the_pixels_of_pillow(tmp_path: Path, form: str, mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[TURN] = orientation
    drawn(mode).save(tmp_path / "a", form, exif=exif)
    with Image.open(tmp_path / "a") as picture:
        expected = np.asarray(as_rgb(ImageOps.exif_transpose(picture)))
    np.testing.assert_array_equal(np.asarray(read_picture(tmp_path / "a")), expected)


def test_a_turn_that_a_png_says_behind_its_pixels_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[TURN] = 6
    data = io.BytesIO()
    drawn("RGB").save(data, "PNG", exif=exif)
    whole = data.getvalue()
    begin = whole.index(b"eXIf") - 4
    end = begin + 12 + struct.unpack(">I", whole[begin : begin + 4])[0]
    (tmp_path / "a.png").write_bytes(whole[:begin] + whole[end:-12] + whole[begin:end] + whole[-12:])
    assert read_picture(tmp_path / "a.png").size == (10, 14)


@pytest.mark.parametrize(
    ("tag", "kind", "count", "value"),
    [(RESOLUTION_UNIT, ASCII, 2, b"2\0"), (SOFTWARE, FLOAT, 1, b"abcd"), (DATE, SHORT, 2, b"\0\1\0\2")],
)
@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_a_picture_with_an_odd_tag_in_its_exif_is_turned(
    tmp_path: Path, tag: int, kind: int, count: int, value: bytes
) -> None:
    file = with_tag(tmp_path / "a.jpg", tag, kind, count, value)
    upright = np.asarray(Image.open(file).convert("RGB").transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(np.asarray(read_picture(file)), upright)


@pytest.mark.parametrize("error", [struct.error, TypeError, AttributeError, KeyError, IndexError, EOFError])
def test_whatever_pillow_raises_for_a_head_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def damaged(*_: object) -> None:
        raise error

    with_tag(tmp_path / "a.jpg", SOFTWARE, ASCII, 2, b"x\0")
    monkeypatch.setattr(Image.Image, "getexif", damaged)
    for read in (read_picture, lambda file: read_head(file, turned=True)):
        with pytest.raises(DataError, match=r"a\.jpg: no readable picture \(.+\); get it again"):
            read(tmp_path / "a.jpg")


READING = """
import sys, warnings
from contextlib import suppress
from pathlib import Path
from harness.cli.boundary import prepare_streams
from harness.data.pictures import read_picture
from harness.errors import DataError
prepare_streams()
with suppress(DataError):
    read_picture(Path(sys.argv[1]))
warnings.warn("of our own")
"""


def test_the_command_line_hides_pillows_warnings_and_no_others(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_999)).save(tmp_path / "large.png")  # Pillow warns of it
    command = [sys.executable, "-c", READING, str(tmp_path / "large.png")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "DecompressionBombWarning" not in done.stderr and "of our own" in done.stderr
