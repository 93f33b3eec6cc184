"""Features in other people's forms become a region store: streamed, resumed byte for byte, refused by file and line."""

from __future__ import annotations

import base64
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from harness.cli.datasets import data
from harness.cli.main import cli, main
from harness.conversion.array_folder import read_npz
from harness.conversion.convert import convert
from harness.conversion.source import ImageRegions
from harness.conversion.tsv import parse
from harness.data.region_store import RegionStore, open_store
from harness.data.region_writer import RegionWriter, discard
from harness.errors import DataError, ResourceError, StoreError, UsageError
from harness.terminal.dataset_page import convert_json

REAL = Path(__file__).parents[3] / "shared" / "data" / "butd_demo" / "train2014_obj36.tsv"
WIDTH = 5
SIZE = (64, 48)
Captured = pytest.CaptureFixture[str]
cli.add_command(data)
HARNESS = """
from harness.cli.main import cli, main
from harness.cli.datasets import data
cli.add_command(data)
main()
"""


def image(number: int, count: int | None = None, width: int = WIDTH) -> ImageRegions:
    """An image as the store holds it."""
    rng, count = np.random.default_rng(number), count or 1 + number % 3
    low = rng.uniform(0, np.array(SIZE) / 2, (count, 2))
    boxes = np.concatenate([low, rng.uniform(2, np.array(SIZE) / 2, (count, 2))], axis=1)
    return ImageRegions(str(number), rng.random((count, width), np.float32), boxes.astype(np.float32), SIZE, 0)


def row(given: ImageRegions, columns: int = 6, **other: bytes) -> bytes:
    """Its line in a TSV, without the end; a cell may be another one."""
    assert given.boxes is not None and given.size is not None
    corners = np.concatenate([given.boxes[:, :2], given.boxes[:, :2] + given.boxes[:, 2:]], axis=1)
    cells = {
        "id": given.image.encode(),
        "w": str(given.size[0]).encode(),
        "h": str(given.size[1]).encode(),
        "n": str(len(given.regions)).encode(),
        "boxes": base64.b64encode(corners.astype("<f4").tobytes()),
        "features": base64.b64encode(given.regions.astype("<f4").tobytes()),
        **other,
    }
    order = {6: "id w h n boxes features", 10: "id h w objects conf attrs conf n boxes features"}[columns]
    return b"\t".join(cells.get(name, b"AAAA") for name in order.split())


def tsv(path: Path, numbers: Sequence[int] = range(6), columns: int = 6, end: bytes = b"\n") -> Path:
    path.write_bytes(b"".join(row(image(number), columns) + end for number in numbers))
    return path


def opened(folder: Path) -> RegionStore:
    return open_store(folder, folder.parent / "cache")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_holds(folder: Path, images: Sequence[ImageRegions], dtype: Any = np.float32) -> None:
    store = opened(folder)
    assert store.ids == tuple(one.image for one in images)
    for number, one in enumerate(images):
        np.testing.assert_array_equal(store.images[number], one.regions.astype(dtype))
        np.testing.assert_allclose(store.boxes[number], one.boxes, atol=1e-5)
        assert tuple(store.sizes[number]) == one.size


# --- TSV


@pytest.mark.parametrize(
    ("columns", "end", "dtype"),
    [(6, b"\n", "float32"), (6, b"\r\n", "float16"), (10, b"\r\n", "float32"), (10, b"\n\r\n", "float32")],
    ids=["6 LF", "6 CRLF", "10 CRLF", "10 empty lines between"],
)
def test_both_forms_are_read_with_either_end_of_line(tmp_path: Path, columns: int, end: bytes, dtype: Any) -> None:
    made = convert([tsv(tmp_path / "a.tsv", columns=columns, end=end)], tmp_path / "store", dtype)
    assert (made.facts.images, made.facts.width, made.facts.dtype) == (6, WIDTH, dtype)
    assert_holds(tmp_path / "store", [image(number) for number in range(6)], dtype)


def test_a_last_line_without_its_end_is_a_row_and_a_mark_of_utf_8_is_no_part_of_the_first_id(tmp_path: Path) -> None:
    path = tsv(tmp_path / "a.tsv", range(3))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().removesuffix(b"\n"))
    convert([path], tmp_path / "store")
    assert opened(tmp_path / "store").ids == ("0", "1", "2")


def test_parts_of_a_release_are_one_store_and_tell_what_it_was_made_of(tmp_path: Path) -> None:
    parts = [tsv(tmp_path / "a.tsv.0", range(3)), tsv(tmp_path / "a.tsv.1", range(3, 6), 10)]
    made = convert(parts, tmp_path / "store")
    assert_holds(tmp_path / "store", [image(number) for number in range(6)])
    sizes = [part.stat().st_size for part in parts]
    kind = "bottom-up-attention TSV"
    assert made.facts.origin == {"kind": kind, "files": ["a.tsv.0", "a.tsv.1"], "bytes": sizes}


def test_an_image_that_stands_twice_is_left_out_and_counted_only_where_both_lines_are_alike(tmp_path: Path) -> None:
    parts = [tsv(tmp_path / "a.tsv.0", range(3)), tsv(tmp_path / "a.tsv.1", [2, 0, 3, 3], end=b"\r\n")]
    assert convert(parts, tmp_path / "store").skipped == 3
    assert_holds(tmp_path / "store", [image(number) for number in range(4)])
    other = image(9)._replace(image="1")
    parts[1].write_bytes(row(image(3)) + b"\n" + row(other) + b"\n")
    with pytest.raises(DataError, match=r"a\.tsv\.1, line 2: image 1 stands in .*a\.tsv\.0, line 2 too, with other"):
        convert(parts, tmp_path / "other")


def floats(*numbers: float) -> bytes:
    return base64.b64encode(np.array(numbers, "<f4").tobytes())


def with_cell(**cells: bytes) -> bytes:
    return row(image(1), **cells)


CORNERS = (1.0, 2.0, 30.0, 40.0)
BROKEN = {
    "cut in the middle": (row(image(4))[:-10], "its features are no base64"),
    "cut behind a number": (
        with_cell(features=floats(*range(9))),
        "36 bytes, no whole number of float32 for each of 2",
    ),
    "cut in its boxes": (row(image(4))[:30], r"columns: 5, bytes: 30; the columns of a row are image_id"),
    "run into the next": (row(image(4)) + row(image(5)), "columns: 11"),
    "no base64": (with_cell(features=b"\xff" * 8), "its features are no base64"),
    "base64 with a blank": (with_cell(boxes=b"AAAA AAAA"), "its boxes are no base64"),
    "nothing in it": (with_cell(features=b""), "its features are 0 bytes"),
    "no width": (with_cell(w=b"wide"), "its image width is 'wide'; a whole number from 1 is needed"),
    "no height": (with_cell(h=b"0"), "its image height is '0'"),
    "a number of boxes below 0": (with_cell(n=b"-2"), "its number of boxes is '-2'"),
    "another number of boxes": (with_cell(n=b"3"), "its boxes are 32 bytes, no whole number of float32 for each of 3"),
    "boxes of two numbers": (with_cell(boxes=floats(1, 2, 3, 4)), "its boxes are of 2 numbers each, 4 are needed"),
    "an id that is no text": (with_cell(id=b"\xff"), "its image id is not UTF-8"),
    "no id": (with_cell(id=b" "), "image '': that id does not fit on one line of a text file"),
    "NaN": (with_cell(features=floats(*range(9), np.nan)), "image '1' holds NaN or inf"),
    "a box that is NaN": (with_cell(boxes=floats(*CORNERS, 1, 2, 3, np.nan)), "its boxes hold NaN"),
    "boxes beyond the image": (with_cell(boxes=floats(*CORNERS, 1, 2, 65.5, 9)), "not within the image of 64 x 48"),
    "boxes before the image": (with_cell(boxes=floats(*CORNERS, -2, 2, 3, 9)), "not within the image of 64 x 48 pix"),
    "width and height exchanged": (with_cell(w=b"48", h=b"64", boxes=floats(*CORNERS, 1, 2, 60, 9)), "exchanged"),
    "a box that ends before it begins": (with_cell(boxes=floats(*CORNERS, 9, 2, 3, 9)), "ends before it begins"),
    "boxes as shares": (with_cell(boxes=floats(0, 0, 1, 1, 0.1, 0.2, 0.3, 0.4)), "shares of the image"),
    "another width": (row(image(1, width=4)), "has 4 numbers per region, those before it have 5"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_row_is_told_by_file_and_line(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=rf"a\.tsv\.1, line 3: .*{BROKEN[kind][1]}"):
        convert(broken(tmp_path, kind), tmp_path / "store")


def broken(tmp_path: Path, kind: str) -> list[Path]:
    """Two parts; the second one has a broken line."""
    parts = [tsv(tmp_path / "a.tsv.0", range(10, 12)), tsv(tmp_path / "a.tsv.1", [2, 3])]
    with parts[1].open("ab") as file:
        file.write(BROKEN[kind][0] + b"\n" + row(image(5)) + b"\n")
    return parts


@pytest.mark.parametrize("kind", ["cut in the middle", "NaN"])
def test_what_stands_before_a_broken_row_stays_and_the_work_goes_on_there_once_it_is_repaired(
    tmp_path: Path, kind: str
) -> None:
    parts = broken(tmp_path, kind)
    with pytest.raises(DataError):
        convert(parts, tmp_path / "store")
    tsv(parts[1], range(2, 6))
    made = convert(parts, tmp_path / "store")
    assert (made.before, made.skipped) == (4, 0)
    convert(parts, tmp_path / "at once")
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


def test_a_box_may_pass_the_edge_by_a_pixel(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(row(image(0), boxes=floats(-1, 0, 65, 49)))
    convert([tmp_path / "a.tsv"], tmp_path / "store")
    assert opened(tmp_path / "store").boxes[0].tolist() == [[-1, 0, 66, 49]]


NO_TSV = {
    "empty": (b"", "a.tsv: an empty"),
    "text": (b"some words\n", "a.tsv, line 1: columns: 1"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "line 1: .*git lfs pull"),
    "tabs": (b"\t" * 1000, "line 1: columns: 1,001"),
    "a header": (b"image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures\n", "names its columns and holds no row"),
}


@pytest.mark.parametrize("kind", NO_TSV)
def test_a_file_that_is_no_tsv_is_refused_before_anything_is_touched(tmp_path: Path, kind: str) -> None:
    content, message = NO_TSV[kind]
    convert([tsv(tmp_path / "good.tsv")], tmp_path / "store")
    before = contents(tmp_path / "store")
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        convert([tmp_path / "a.tsv"], tmp_path / "store", force=True)
    assert contents(tmp_path / "store") == before


@pytest.mark.slow
def test_a_line_without_an_end_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "a.tsv").open("wb") as file:
        file.write(row(image(0)) + b"\n")
        file.truncate(1 << 29)  # which would not fit into the memory below
    tracemalloc.start()
    with pytest.raises(DataError, match=r"line 2: columns: 1, bytes: 67,108,866"):
        convert([tmp_path / "a.tsv"], tmp_path / "store")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e8


@given(st.binary() | st.lists(st.binary(max_size=9), min_size=6, max_size=10).map(b"\t".join))
def test_any_line_is_a_row_or_a_data_error(line: bytes) -> None:
    refused_or_read(line)


@given(st.data())
def test_a_row_that_is_damaged_is_a_row_or_a_data_error(data: st.DataObject) -> None:
    line = row(image(data.draw(st.integers(0, 3))), data.draw(st.sampled_from([6, 10])))
    begin = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(begin, len(line)))
    refused_or_read(line[:begin] + data.draw(st.binary(max_size=12)) + line[end:])


def refused_or_read(line: bytes) -> None:
    try:
        found = parse(line)
    except DataError:
        return
    assert found.regions.ndim == 2 and found.boxes is not None and found.boxes.shape == (len(found.regions), 4)


SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 6))


@given(SHAPES.flatmap(lambda shape: st_numpy.arrays(np.float32, shape)), st.sampled_from([6, 10]), st.data())
def test_a_row_is_read_as_it_was_written(regions: np.ndarray, columns: int, data: st.DataObject) -> None:
    size = data.draw(st.tuples(st.integers(8, 5000), st.integers(8, 5000)))
    low = st_numpy.arrays(np.float32, (len(regions), 2), elements=st.integers(0, 4))
    boxes = np.concatenate([data.draw(low), data.draw(low)], axis=1)
    boxes[0, 2:] = 4
    name = data.draw(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=9)).strip()
    found = parse(row(ImageRegions(name, regions, boxes, size, 0), columns))
    assert (found.image, found.size) == (name.removeprefix("\ufeff").strip(), size)
    np.testing.assert_array_equal(found.regions, regions)
    np.testing.assert_array_equal(found.boxes, boxes)


@pytest.mark.skipif(not REAL.is_file(), reason="the real rows are not here")
def test_real_rows_are_converted_with_their_known_numbers(tmp_path: Path) -> None:
    made = convert([REAL], tmp_path / "full")
    convert([REAL], tmp_path / "half", "float16")
    full, half = opened(tmp_path / "full"), opened(tmp_path / "half")
    assert (made.facts.images, made.facts.regions, made.facts.width) == (10, 360, 2048)
    assert full.ids[0].startswith("COCO_train2014_")
    rows = np.stack([full.images[number] for number in range(10)])
    assert rows.min() == 0 and 33 < rows.max() < 36 and 0.5 < rows.mean() < 0.7
    np.testing.assert_allclose(rows[0].mean(), 0.54, atol=0.01)
    np.testing.assert_allclose(np.stack([half.images[number] for number in range(10)]), rows, rtol=2**-10, atol=1e-7)
    assert full.boxes is not None and full.sizes is not None
    for number in range(10):
        boxes = full.boxes[number]
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] > 15).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= full.sizes[number]).all()


NAMED = b"image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures\n"
TURNED = b"img_id\tfeatures\tboxes\timg_h\tnum_boxes\timg_w\n"


def test_a_first_line_of_names_is_no_row_in_any_part_and_says_where_the_columns_are(tmp_path: Path) -> None:
    parts = [tsv(tmp_path / f"a.tsv.{number}", range(2 * number, 2 * number + 2)) for number in range(3)]
    parts[0].write_bytes(NAMED + parts[0].read_bytes())
    parts[1].write_bytes(b"\xef\xbb\xbf" + NAMED.replace(b"\n", b"\r\n") + parts[1].read_bytes())
    cells = [row(image(number)).split(b"\t") for number in (4, 5)]
    turned = [b"\t".join([one[place] for place in (0, 5, 4, 2, 3, 1)]) for one in cells]
    parts[2].write_bytes(TURNED + b"\n".join(turned))
    convert(parts, tmp_path / "store")
    assert_holds(tmp_path / "store", [image(number) for number in range(6)])


def test_a_conversion_with_names_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    good = NAMED + tsv(path, range(6)).read_bytes()
    path.write_bytes(good[:-20])
    with pytest.raises(DataError, match="line 7"):
        convert([path], tmp_path / "store")
    path.write_bytes(good)
    assert convert([path], tmp_path / "store").before == 5
    assert_holds(tmp_path / "store", [image(number) for number in range(6)])


def test_names_without_a_column_that_is_needed_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(NAMED.replace(b"boxes\tfeat", b"corners\tfeat") + row(image(0)) + b"\n")
    with pytest.raises(DataError, match=r"a\.tsv, line 1: its first line names no column boxes"):
        convert([tmp_path / "a.tsv"], tmp_path / "store")


def wrapped(line: bytes) -> bytes:
    return b"\t".join(b"b'" + cell + b"'" for cell in line.split(b"\t"))


def as_floats(line: bytes) -> bytes:
    cells = line.split(b"\t")
    return b"\t".join([*(cell + b".0" for cell in cells[:4]), *cells[4:]])


@pytest.mark.parametrize("change", [wrapped, as_floats, lambda line: wrapped(as_floats(line))], ids=["b", ".0", "both"])
def test_cells_as_python_and_pandas_write_them_are_read(tmp_path: Path, change: Any) -> None:
    (tmp_path / "a.tsv").write_bytes(b"".join(change(row(image(number))) + b"\n" for number in range(4)))
    convert([tmp_path / "a.tsv"], tmp_path / "store")
    assert_holds(tmp_path / "store", [image(number) for number in range(4)])


@pytest.mark.parametrize("cell", [b"36.5", b"3e1", b"nan", b"-1.0", b"0.0", b"b''"])
def test_other_numbers_are_no_whole_ones(tmp_path: Path, cell: bytes) -> None:
    (tmp_path / "a.tsv").write_bytes(with_cell(n=cell) + b"\n")
    with pytest.raises(DataError, match="a whole number from 1 is needed"):
        convert([tmp_path / "a.tsv"], tmp_path / "store")


def test_a_compressed_tsv_is_refused_with_the_command_that_unpacks_it(tmp_path: Path) -> None:
    path = tmp_path / "a b.tsv.gz"
    path.write_bytes(gzip.compress(tsv(tmp_path / "a.tsv").read_bytes()))
    with pytest.raises(DataError, match=r"it is compressed: unpack it by `gunzip -k '.*a b\.tsv\.gz'`"):
        convert([path], tmp_path / "store")


@pytest.mark.parametrize("cut", [40, 150, -5])
@pytest.mark.parametrize("place", ["before", "behind", "first"])
def test_a_cut_row_is_left_out_where_the_image_stands_elsewhere_in_whole(tmp_path: Path, cut: int, place: str) -> None:
    first, second = tmp_path / "a.tsv.0", tmp_path / "a.tsv.1"
    rows = [row(image(number)) for number in range(4)]
    damaged = rows[2][:cut]
    order = {
        "before": ([*rows[:2], damaged], rows[2:]),
        "behind": ([*rows[:3]], [damaged, rows[3]]),
        "first": ([damaged, rows[0]], [rows[1], rows[2], rows[3]]),
    }[place]
    for path, lines in zip((first, second), order, strict=True):
        path.write_bytes(b"\n".join(lines) + b"\n")
    made = convert([first, second], tmp_path / "store")
    assert made.facts.images == 4 and set(opened(tmp_path / "store").ids) == {"0", "1", "2", "3"}
    first.write_bytes(b"\n".join([*rows[:2], damaged]) + b"\n")
    second.write_bytes(rows[3] + b"\n")
    with pytest.raises(DataError, match=r"a\.tsv\.0, line 3"):
        convert([first, second], tmp_path / "other")


# --- going on


LARGE = image(0, 36, 2048)


def large(path: Path, numbers: Sequence[int]) -> Path:
    """A TSV of rows of real size, one row under many ids."""
    line = row(LARGE)
    with path.open("wb") as file:
        for number in numbers:
            file.write(str(number).encode() + line[1:] + b"\n")
    return path


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = large(tmp_path / "a.tsv", range(60))
    tracemalloc.start()
    convert([path], tmp_path / "store", "float16")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 2e7 and peak < 6e6


KILLED = """
import os, signal, sys
from contextlib import nullcontext
from pathlib import Path
from harness.conversion import convert
from harness.data import region_writer

def tell(at):
    if at > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

region_writer.COMMIT_SECONDS = float(sys.argv[4])
convert.convert([Path(sys.argv[1])], Path(sys.argv[2]), watch=lambda total, done: nullcontext(tell))
"""


@pytest.mark.slow
def test_a_conversion_that_is_killed_twice_ends_byte_equal_and_reads_nothing_again(tmp_path: Path) -> None:
    path, store, told = large(tmp_path / "a.tsv", range(30)), tmp_path / "store", []
    for at, commit in ((8e6, "0.0"), (9e6, "1e9")):
        words = [str(path), str(store), str(int(at)), commit]
        killed = subprocess.run([sys.executable, "-c", KILLED, *words], check=False)
        assert killed.returncode == -signal.SIGKILL

    class Told:
        def __init__(self, total: int, done: int) -> None:
            told.append(done)

        def __enter__(self) -> Any:
            return told.append

        def __exit__(self, *_: object) -> None:
            pass

    convert([path], tmp_path / "at once")
    with path.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"what is not read again")
    made = convert([path], store, watch=Told)
    assert made.before == 22, "what the second one wrote was not told"
    assert told == sorted(told) and told[0] > 8e6 and told[-1] == path.stat().st_size
    assert contents(store) == contents(tmp_path / "at once")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_says_that_it_goes_on_and_does(tmp_path: Path, number: int, code: int) -> None:
    path, store = large(tmp_path / "a.tsv", range(120)), tmp_path / "store"
    part = store / "regions.npy.part"
    words = [sys.executable, "-c", HARNESS, "data", "convert", str(path), "--to", str(store)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (part.is_file() and part.stat().st_size > 1e6):
            time.sleep(0.002)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, ""), err
    assert err.strip() == "harness: interrupted: state saved; the same command continues"
    made = convert([path], store)
    assert 2 < made.before < 120 and (made.facts.images, made.facts.regions) == (120, 4320)


@pytest.mark.parametrize(
    ("rows", "images", "room", "kept"), [(large, 8, 1_000_000, 3), (tsv, 800, 9000, 0)], ids=["large", "buffered"]
)
def test_a_full_disk_is_told_and_the_same_command_goes_on_later(
    tmp_path: Path, rows: Any, images: int, room: int, kept: int
) -> None:
    path = rows(tmp_path / "a.tsv", range(images))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))
    try:
        with pytest.raises(StoreError, match=r"store cannot be written \(.*File too large\).*it goes on"):
            convert([path], tmp_path / "store")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert convert([path], tmp_path / "store").before == kept
    convert([path], tmp_path / "at once")
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


def test_unfinished_work_goes_on_only_on_what_it_was_begun_with(tmp_path: Path) -> None:
    path = tsv(tmp_path / "a.tsv")
    good = path.read_bytes()
    path.write_bytes(good + b"cut")
    with pytest.raises(DataError, match="line 7"):
        convert([path], tmp_path / "store")
    path.write_bytes(good.replace(row(image(5)), row(image(8)._replace(image="5"))))
    with pytest.raises(DataError, match=r"a\.tsv, line 6: this is not the image .* --force"):
        convert([path], tmp_path / "store")
    path.write_bytes(good[len(row(image(0))) + 1 :])
    with pytest.raises(DataError, match="not the image"):
        convert([path], tmp_path / "store")
    with pytest.raises(UsageError, match="unfinished work on something else"):
        convert([tsv(tmp_path / "b.tsv")], tmp_path / "store")
    with pytest.raises(UsageError, match="unfinished work on something else"):
        convert([tsv(path)], tmp_path / "store", "float16")
    assert convert([path], tmp_path / "store", "float16", force=True).before == 0
    assert opened(tmp_path / "store").facts.dtype == "float16"


def test_a_finished_store_is_not_made_again_and_another_is_not_lost_unasked(tmp_path: Path) -> None:
    path, store = tsv(tmp_path / "a.tsv"), tmp_path / "store"
    convert([path], store)
    before = contents(store)
    again = convert([path], store)
    assert (again.before, contents(store)) == (6, before)
    for sources, dtype in (([path], "float16"), ([tsv(tmp_path / "b.tsv")], "float32")):
        with pytest.raises(UsageError, match="holds a finished store; --force"):
            convert(sources, store, dtype)
    with path.open("ab") as file:
        file.write(row(image(7)))
    with pytest.raises(UsageError, match="holds a finished store"):
        convert([path], store)
    assert contents(store) == before
    assert convert([path], store, force=True).facts.images == 7


def test_a_folder_of_the_users_own_files_is_left_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "boxes.npy", np.ones(3))
    before = (tmp_path / "boxes.npy").read_bytes()
    for force in (False, True):
        with pytest.raises(UsageError, match=r"holds boxes\.npy and is no store"):
            convert([tsv(tmp_path / "a.tsv")], tmp_path, force=force)
    assert (tmp_path / "boxes.npy").read_bytes() == before


def test_force_takes_no_store_from_under_its_writer(tmp_path: Path) -> None:
    with RegionWriter(tmp_path / "store", "float32", {}) as writer:
        writer.add("a", image(1).regions)
        with pytest.raises(ResourceError, match="another process writes"):
            discard(tmp_path / "store")
        assert writer.finish().images == 1


def test_images_that_the_journal_tells_twice_are_there_once(tmp_path: Path) -> None:
    """Ctrl-C between the telling and its being noted makes the writer tell them once more."""
    path, store = tsv(tmp_path / "a.tsv"), tmp_path / "store"
    path.write_bytes(path.read_bytes() + b"cut")
    with pytest.raises(DataError):
        convert([path], store)
    journal = store / "journal.part"
    head, *lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([head, *lines, *lines]))
    with (store / "regions.npy.part").open("ab") as file:  # of an image that was being written
        file.write(bytes(10_000))
    with (store / "boxes.npy.part").open("ab") as file:
        file.write(bytes(10_000))
    assert convert([tsv(path)], store).before == 6
    convert([path], tmp_path / "at once")
    assert contents(store) == contents(tmp_path / "at once")


# --- folders of arrays


def arrays(folder: Path, **files: Any) -> Path:
    """A folder of .npy for arrays and .npz for dicts of arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, dict):
            np.savez(folder / f"{name}.npz", **content)
        else:
            np.save(folder / f"{name}.npy", content)
    return folder


def boxed(number: int, features: str = "x", boxes: str = "bbox", transposed: bool = False, **more: Any) -> Any:
    given = image(number, 3)
    corners = np.concatenate([given.boxes[:, :2], given.boxes[:, :2] + given.boxes[:, 2:]], axis=1)
    size = {"image_w": SIZE[0], "image_h": SIZE[1]}
    return {features: given.regions.T if transposed else given.regions, boxes: corners, **size, **more}


def test_a_folder_of_npy_is_a_store_in_the_order_of_its_names(tmp_path: Path) -> None:
    folder = arrays(tmp_path / "in", b=image(1).regions, a=image(2).regions.astype(np.float64), c=image(3).regions)
    np.save(folder / "b_info.npy", np.array({"bbox": 1}, dtype=object))
    (folder / "notes.txt").write_text("of no account")
    made = convert([folder], tmp_path / "store")
    store = opened(tmp_path / "store")
    assert store.ids == ("a", "b", "c") and store.boxes is None and store.sizes is None
    np.testing.assert_array_equal(store.images[1], image(1).regions)
    size = sum((folder / f"{name}.npy").stat().st_size for name in "abc")
    assert made.facts.origin == {"kind": "folder of arrays", "folders": ["in"], "files": 3, "bytes": size}


@pytest.mark.parametrize(
    ("features", "boxes", "transposed"), [("x", "bbox", False), ("x", "bbox", True), ("features", "boxes", False)]
)
def test_npz_files_have_boxes_and_sizes_and_may_have_regions_as_columns(
    tmp_path: Path, features: str, boxes: str, transposed: bool
) -> None:
    info = np.array({"pickled": "never read"}, dtype=object)
    files = {str(number): boxed(number, features, boxes, transposed, info=info) for number in range(3)}
    convert([arrays(tmp_path / "in", **files)], tmp_path / "store")
    assert_holds(tmp_path / "store", [image(number, 3) for number in range(3)])


def test_regions_alone_in_npz_and_several_folders_are_one_store(tmp_path: Path) -> None:
    folders = [
        arrays(tmp_path / "z", **{"1": {"feat": image(1).regions}, "2": image(2).regions}),
        arrays(tmp_path / "a", **{"0": image(0).regions, "3": image(3).regions}),
    ]
    convert(folders, tmp_path / "store")
    assert opened(tmp_path / "store").ids == ("1", "2", "0", "3")


NO_ARRAYS: dict[str, tuple[Any, str]] = {
    "one dimension": (np.zeros(5, np.float32), r"1\.npy: is of one dimension; .* one region x as x\[None\]"),
    "four dimensions": (np.zeros((1, 2, 2, 5), np.float32), r"1\.npy: holds float32 of shape \(1, 2, 2, 5\)"),
    "a map": (np.zeros((2, 2, 5), np.float32), r"1\.npy: a map is of shape \(2, 2, 5\), .* say --channels last"),
    "a map of npz": ({"x": np.zeros((2, 2, 5))}, r"1\.npz: a map is of shape \(2, 2, 5\), .* say --channels last"),
    "objects": (np.array([{}], dtype=object), r"1\.npy: holds pickled objects, which are never loaded"),
    "NaN": (np.full((1, 5), np.nan, np.float32), r"1\.npy: image '1' holds NaN"),
    "another width": (np.zeros((1, 4), np.float32), r"1\.npy: image '1' has 4 numbers per region"),
    "no known name": ({"y": np.zeros((1, 5))}, r"1\.npz: no array in it is called x, features"),
    "two names": ({"x": np.zeros((1, 5)), "feat": np.zeros((1, 5))}, r"1\.npz: it has arrays x and feat"),
    "pickled": ({"x": np.array([{}], dtype=object)}, r"1\.npz: damaged or no \.npz of plain arrays \(Object arrays"),
    "whole numbers": ({"x": np.zeros((1, 5), int)}, r"1\.npz: x is int64 of shape \(1, 5\); floats"),
    "a box less": ({"x": np.zeros((3, 5)), "bbox": np.zeros((2, 4))}, r"1\.npz: its regions are of shape \(3, 5\)"),
    "boxes of five": ({"x": np.zeros((3, 5)), "bbox": np.zeros((3, 5))}, r"1\.npz: its boxes are of shape \(3, 5\)"),
    "boxes as shares": ({"x": np.zeros((1, 5)), "bbox": np.array([[0, 0, 1.0, 1]])}, r"1\.npz: .*shares of the image"),
    "boxes before the edge": ({"x": np.zeros((1, 5)), "bbox": np.array([[-9.0, 0, 5, 1]])}, r"1\.npz: .*not within"),
    "a size of 0": ({"x": np.zeros((1, 5)), "image_w": 0, "image_h": 4}, r"1\.npz: image_w and image_h are 0 and 4"),
    "boxes, and those before have none": (boxed(1), r"1\.npz: image '1' differs from those before it"),
}


@pytest.mark.parametrize("kind", NO_ARRAYS)
def test_an_array_that_is_no_image_is_told_by_file(tmp_path: Path, kind: str) -> None:
    content, message = NO_ARRAYS[kind]
    folder = arrays(tmp_path / "in", **{"0": image(0).regions, "1": content})
    with pytest.raises(DataError, match=message):
        convert([folder], tmp_path / "store")


def test_what_stands_before_a_wrong_array_stays_and_the_work_goes_on_there(tmp_path: Path) -> None:
    folder = arrays(tmp_path / "in", **{"0": image(0).regions, "1": np.zeros((1, 4)), "2": image(2).regions})
    with pytest.raises(DataError):
        convert([folder], tmp_path / "store")
    arrays(folder, **{"1": image(1).regions})
    assert convert([folder], tmp_path / "store").before == 1
    convert([folder], tmp_path / "at once")
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


@pytest.mark.parametrize("cut", [0, 10, 200, 400])
def test_a_damaged_npz_is_told(tmp_path: Path, cut: int) -> None:
    folder = arrays(tmp_path / "in", **{"0": boxed(0), "1": boxed(1)})
    os.truncate(folder / "0.npz", cut)
    with pytest.raises(DataError, match=r"0\.npz: damaged"):
        convert([folder], tmp_path / "store")


def test_a_folder_that_changed_is_gone_on_with_if_its_last_image_is_the_same(tmp_path: Path) -> None:
    folder = arrays(tmp_path / "in", b=image(1).regions, c=np.zeros((1, 4), np.float32))
    with pytest.raises(DataError):
        convert([folder], tmp_path / "store")
    arrays(folder, a=image(3).regions, b=image(2).regions, c=image(4).regions)
    with pytest.raises(DataError, match=r"not the image"):
        convert([folder], tmp_path / "store")
    arrays(folder, b=image(1).regions)
    convert([folder], tmp_path / "store")
    assert opened(tmp_path / "store").ids == ("b", "a", "c")


def test_files_with_capitals_and_below_are_read_and_what_is_left_out_is_said(tmp_path: Path, capsys: Captured) -> None:
    folder = arrays(tmp_path / "in", a=image(0).regions)
    (folder / "a.npy").rename(folder / "a.NPY")
    arrays(folder / "below" / "deeper", b=image(1).regions, c=image(2).regions)
    (folder / "below" / "._b.npy").write_bytes(b"\0\5\x16\7")  # as a Mac leaves it
    (folder / "README.txt").write_text("features")
    np.save(folder / "below" / "deeper" / "c_info.npy", np.zeros(3))
    (folder / "again").symlink_to("below")
    assert harness(folder, "--to", folder / "store") == 0
    out = capsys.readouterr().out
    assert "left out, as they are no arrays of regions: 4 files or folders, again, README.txt, ._b.npy first" in out
    assert opened(folder / "store").ids == ("a", "b", "c")
    again = convert([folder], folder / "store")
    assert again.before == 3 and folder / "store" in again.left_out, "the store itself is no source"


def test_one_image_in_two_folders_below_is_refused(tmp_path: Path) -> None:
    arrays(tmp_path / "in" / "train", a=image(0).regions)
    arrays(tmp_path / "in" / "val", a=image(1).regions)
    with pytest.raises(DataError, match=r"val/a\.npy: image 'a' has two files, this one and .*train/a\.npy"):
        convert([tmp_path / "in"], tmp_path / "store")


def test_a_file_name_that_is_no_utf_8_is_told(tmp_path: Path, capsys: Captured) -> None:
    folder = arrays(tmp_path / "in", a=image(0).regions, b=image(1).regions)
    (folder / "a.npy").rename(folder / os.fsdecode(b"\xff.npy"))
    assert harness(folder, "--to", tmp_path / "store") == 3
    assert "udcff.npy': that name is no UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("nowhere")], ids=["pipe", "broken link"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_array_that_is_no_file_is_refused(tmp_path: Path, make: Any, suffix: str) -> None:
    folder = arrays(tmp_path / "in", a=image(0).regions)
    make(folder / f"b{suffix}")
    with pytest.raises(DataError, match=r"b\.np[yz]: |cannot be read"):
        convert([folder], tmp_path / "store")


@pytest.mark.slow
@pytest.mark.parametrize("compressed", [True, False])
def test_an_npz_that_unpacks_to_gigabytes_is_refused_before_it_is_read(tmp_path: Path, compressed: bool) -> None:
    folder = arrays(tmp_path / "in", b=image(1).regions)
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        shape = (1 << 17, 1024) if compressed else (1 << 40, 1024)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(512 if compressed else 1):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"a\.npz: (x unpacks to 536,871,040 bytes, more than 256 MB|damaged)"):
        convert([folder], tmp_path / "store")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e7


def test_an_npz_that_is_encrypted_or_packed_in_an_unknown_way_is_told(tmp_path: Path) -> None:
    for place, value in ((6, 1), (8, 99)):  # of a local header: its flags, its method
        folder = arrays(tmp_path / f"in{place}", a={"x": image(0).regions}, b=image(1).regions)
        content = bytearray((folder / "a.npz").read_bytes())
        central = content.index(b"PK\1\2")
        content[place], content[central + place + 2] = value, value
        (folder / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz: damaged"):
            convert([folder], tmp_path / f"store{place}")


@given(st.data())
def test_any_damage_of_an_npz_is_an_image_or_a_data_error(tmp_path_factory: Any, data: st.DataObject) -> None:
    folder = arrays(tmp_path_factory.getbasetemp() / "damaged", a=boxed(0))
    content = bytearray((folder / "a.npz").read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    (folder / "a.npz").write_bytes(content)
    with suppress(DataError):
        assert read_npz(folder / "a.npz").regions.ndim == 2


def wrong_sources(tmp_path: Path) -> dict[str, tuple[list[Path], str]]:
    folder, file = arrays(tmp_path / "in", a=image(1).regions), tsv(tmp_path / "a.tsv")
    convert([file], tmp_path / "made")
    return {
        "nothing there": ([tmp_path / "nowhere"], "nowhere is no file and no folder"),
        "both kinds": ([folder, file], "files and folders together"),
        "one twice": ([file, tmp_path / "in" / ".." / "a.tsv"], "is given twice"),
        "a store": ([tmp_path / "made"], "is a region store already"),
    }


@pytest.mark.parametrize("kind", ["nothing there", "both kinds", "one twice", "a store"])
def test_sources_that_make_no_store_are_refused(tmp_path: Path, kind: str) -> None:
    sources, message = wrong_sources(tmp_path)[kind]
    with pytest.raises(UsageError, match=message):
        convert(sources, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_store_is_not_written_among_its_source(tmp_path: Path) -> None:
    folder = arrays(tmp_path / "in", a=image(1).regions, b=image(2).regions)
    with pytest.raises(UsageError, match="in is a source; give --to another folder"):
        convert([folder], tmp_path / "x" / ".." / "in", force=True)
    assert [path.name for path in folder.iterdir()] == ["a.npy", "b.npy"]


def test_folders_that_hold_no_image_or_one_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no \.npy or \.npz in it"):
        convert([tmp_path / "empty"], tmp_path / "store")
    folder = arrays(tmp_path / "in", a=image(1).regions)
    np.savez(folder / "a.npz", x=image(1).regions)
    with pytest.raises(DataError, match=r"a\.npz: image 'a' has two files, this one and .*a\.npy"):
        convert([folder], tmp_path / "store")


# --- the command


def harness(*words: Any) -> int:
    with pytest.raises(SystemExit) as end:
        main(["data", "convert", *map(str, words)])
    return int(end.value.code or 0)


def test_the_command_answers_in_words_and_as_json(tmp_path: Path, capsys: Captured) -> None:
    words = (tsv(tmp_path / "a.tsv"), "--to", tmp_path / "store", "--dtype", "float16")
    assert harness(*words) == 0
    said = capsys.readouterr()
    assert "store: 6 images, 12 regions of 5 numbers, float16" in said.out and said.err == ""
    assert harness(*words, "--json") == 0
    said = capsys.readouterr()
    answer, made = json.loads(said.out), convert([tmp_path / "a.tsv"], tmp_path / "store", "float16")
    assert {**answer, "seconds": 0} == {**convert_json(made), "seconds": 0} and answer["before"] == 6
    assert said.err == ""


def test_the_command_leaves_with_the_code_of_what_is_wrong(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "file").write_text("")
    cut = tmp_path / "cut.tsv"
    cut.write_bytes(row(image(1)) + b"\n" + row(image(2))[:-5])
    for sources, folder, code, message in (
        ([tmp_path / "nowhere"], tmp_path / "store", 2, "nowhere is no file"),
        ([cut], tmp_path / "store", 3, "cut.tsv, line 2: its features are no base64"),
        ([tsv(tmp_path / "a.tsv")], tmp_path / "file" / "store", 6, "cannot be written"),
    ):
        assert harness(*sources, "--to", folder) == code
        said = capsys.readouterr()
        assert said.out == "" and said.err.startswith("harness: error: ") and message in said.err
