"""Picture files: found by id, nothing left out in silence, and read as people see them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.pictures import find_pictures, read_picture
from harness.errors import DataError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(file: Path, colour: object = RED, size: tuple[int, int] = (4, 3), mode: str = "RGB") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(file)
    return file


def test_pictures_are_found_in_all_folders_and_sorted_by_id(tmp_path: Path) -> None:
    files = [picture(tmp_path / name) for name in ("val/2 b.JPG", "10.png", "val/deep/1.webp", "a.v2.jpeg")]
    for other in ("notes.txt", "val/list.csv", ".hidden.jpg", ".cache/3.jpg"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text("no picture")
    pictures = find_pictures(tmp_path)
    assert list(pictures.files) == ["1", "10", "2 b", "a.v2"]
    assert sorted(pictures.files.values()) == sorted(files)
    assert pictures.others == 2


def test_a_linked_folder_is_read_as_if_it_lay_there(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "1.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "train").symlink_to(tmp_path / "elsewhere")
    assert list(find_pictures(tmp_path / "images").files) == ["1"]


def twice(folder: Path) -> None:
    picture(folder / "a" / "7.jpg"), picture(folder / "b" / "7.png")


def looped(folder: Path) -> None:
    picture(folder / "a" / "7.jpg")
    (folder / "a" / "again").symlink_to(folder)


def without_pictures(folder: Path) -> None:
    (folder / "7.gif").write_text("")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder.rmdir(), ": no folder; name the one that holds the pictures"),
        (lambda folder: None, "holds no picture (.jpg, .jpeg, .png, .webp) among 0 files"),
        (without_pictures, "among 1 files"),
        (twice, "b/7.png: image '7' has two files, this one and {folder}/a/7.jpg; remove or rename one"),
        (looped, "a/again: leads to {folder}, which is read already; take that link out"),
        (
            lambda folder: picture(folder / " 7.jpg"),
            "that name does not fit on one line of a UTF-8 text file; rename it",
        ),
        (lambda folder: picture(folder / "7\n8.jpg"), "that name does not fit on one line"),
        (lambda folder: picture(folder / "\ufeff7.jpg"), r"\ufeff7.jpg': that name begins with a byte order mark"),
        (lambda folder: picture(folder / os.fsdecode(b"caf\xe9.jpg")), r"caf\udce9.jpg': that name does not fit"),
    ],
)
def test_a_folder_that_gives_no_ids_is_refused(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    make(folder)
    with pytest.raises(DataError) as error:
        find_pictures(folder)
    assert said.format(folder=folder) in str(error.value)


@pytest.mark.parametrize(
    ("name", "mode", "colour", "seen"),
    [
        ("a.png", "L", 90, (90, 90, 90)),
        ("a.png", "1", 1, (255, 255, 255)),
        ("a.png", "I;16", 128 * 256, (128, 128, 128)),
        ("a.png", "RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("a.webp", "RGBA", (0, 0, 0, 255), (0, 0, 0)),
        ("a.png", "LA", (0, 127), (128, 128, 128)),
        ("a.jpg", "CMYK", (0, 255, 255, 0), RED),
    ],
)
def test_every_mode_is_read_as_rgb(
    tmp_path: Path, name: str, mode: str, colour: object, seen: tuple[int, int, int]
) -> None:
    read = read_picture(picture(tmp_path / name, colour, mode=mode))
    assert (read.mode, read.size) == ("RGB", (4, 3))
    np.testing.assert_allclose(np.asarray(read)[1, 1], seen, atol=2)


def test_a_palette_with_a_transparent_colour_lies_on_white(tmp_path: Path) -> None:
    drawn = Image.new("P", (2, 1), 0)
    drawn.putpalette([255, 0, 0, 0, 0, 255])
    drawn.putpixel((1, 0), 1)
    drawn.save(tmp_path / "a.png", transparency=0)
    assert np.asarray(read_picture(tmp_path / "a.png")).tolist() == [[[255, 255, 255], [*BLUE]]]


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    drawn = Image.new("RGB", (40, 20), RED)
    drawn.paste(BLUE, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stood on its right side
    drawn.save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    read = read_picture(tmp_path / "a.jpg")
    assert read.size == (20, 40)
    np.testing.assert_allclose(read.getpixel((10, 5)), BLUE, atol=9)
    np.testing.assert_allclose(read.getpixel((10, 35)), RED, atol=9)


def cut(file: Path) -> None:
    picture(file, size=(64, 64))
    os.truncate(file, file.stat().st_size - 40)


@pytest.mark.parametrize(
    "make",
    [
        cut,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("<html>not found</html>"),
        lambda file: Image.new("P", (4, 4)).save(file, "GIF"),
        lambda file: file.symlink_to(file),
    ],
)
def test_a_file_that_is_no_whole_picture_is_named(tmp_path: Path, make: Callable[[Path], object]) -> None:
    file = tmp_path / "17.jpg"
    make(file)
    with pytest.raises(DataError, match=r"17\.jpg: (no readable picture|cannot be read) \(.*\); (get it again|see to)"):
        read_picture(file)
