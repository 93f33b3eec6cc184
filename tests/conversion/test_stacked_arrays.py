"""Arrays of many images with a list of their ids, and maps: read as they are, or refused with file and line."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.datasets import data
from harness.cli.main import cli, main
from harness.conversion.convert import convert
from harness.conversion.image_ids import read_image_ids
from harness.conversion.opening import ArrayOptions
from harness.data.region_store import RegionStore, open_store
from harness.errors import DataError, UsageError

Captured = pytest.CaptureFixture[str]
Array = np.ndarray[Any, Any]
IMAGES, REGIONS, WIDTH = 6, 3, 5
cli.add_command(data)


def numbers(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random(shape, np.float32).astype(dtype)


def names(count: int = IMAGES, begin: int = 0) -> list[str]:
    return [f"photo {number}" for number in range(begin, begin + count)]


def stacked(
    folder: Path, array: Array | None = None, ids: Sequence[str] | None = None, name: str = "grid", **more: Array
) -> Path:
    """An array with ids.txt, or NAME_ids.txt where it is another one than grid.npy, and arrays beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    array = numbers(IMAGES, REGIONS, WIDTH) if array is None else array
    np.save(folder / f"{name}.npy", array)
    lines = names(len(array)) if ids is None else ids
    list_name = "ids.txt" if name == "grid" else f"{name}_ids.txt"
    (folder / list_name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for other, content in more.items():
        np.save(folder / f"{other}.npy", content)
    return folder / f"{name}.npy"


def opened(folder: Path) -> RegionStore:
    return open_store(folder, folder.parent / "cache")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def harness(*words: Any) -> int:
    with pytest.raises(SystemExit) as end:
        main(["data", "convert", *map(str, words)])
    return int(end.value.code or 0)


def cells_of(map_: Array) -> Array:
    """The textbook's regions of a map (C, h, w): row by row, one cell after the other."""
    _, height, width = map_.shape
    return np.stack([map_[:, y, x] for y in range(height) for x in range(width)])


SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=4)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.sampled_from(["<f2", "<f4", ">f4", "<f8"]), st.booleans(), st.booleans(), st.data())
def test_what_is_converted_is_read_back_as_the_array(
    tmp_path_factory: Any, shape: list[int], kind: str, by_folder: bool, last: bool, data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 9))
    array, folder = numbers(*shape, dtype=kind, seed=seed), tmp_path_factory.mktemp("any")
    channels = None if len(shape) < 4 else "last" if last else "first"
    path = stacked(folder / "in", array, name="grid" if by_folder else "other")
    made = convert([path.parent if by_folder else path], folder / "store", options=ArrayOptions(channels=channels))
    store = opened(folder / "store")
    assert store.ids == tuple(names(len(array))) and made.facts.dtype == ("float16" if kind == "<f2" else "float32")
    for number, image in enumerate(array):
        if len(shape) == 4:
            image = cells_of(np.moveaxis(image, -1, 0) if last else image)
        np.testing.assert_array_equal(store.images[number], np.atleast_2d(image).astype(np.float32))


@pytest.mark.parametrize("name", ["grid.ids.txt", "grid_ids.txt", "ids.txt", "image_ids.npy", "filenames.json"])
def test_the_ids_are_found_beside_the_array(tmp_path: Path, name: str) -> None:
    path = stacked(tmp_path / "in")
    (tmp_path / "in" / "ids.txt").unlink()
    write_ids(tmp_path / "in" / name, names())
    convert([path], tmp_path / "store")
    assert opened(tmp_path / "store").ids == tuple(names())


def write_ids(path: Path, ids: Sequence[Any]) -> None:
    if path.suffix == ".npy":
        np.save(path, np.array(ids))
    else:
        text = json.dumps(ids) if path.suffix == ".json" else "".join(f"{one}\n" for one in ids)
        path.write_text(text, encoding="utf-8")


def test_a_list_of_the_arrays_own_name_is_taken_before_one_for_all_and_the_one_that_is_named_before_both(
    tmp_path: Path, capsys: Captured
) -> None:
    path = stacked(tmp_path / "in", ids=names(begin=100))
    write_ids(tmp_path / "in" / "grid_ids.txt", names(begin=200))
    write_ids(tmp_path / "any.lst", names(begin=300))
    convert([path], tmp_path / "own")
    assert opened(tmp_path / "own").ids[0] == "photo 200"
    assert harness(path, "--to", tmp_path / "named", "--ids", tmp_path / "any.lst") == 0
    assert opened(tmp_path / "named").ids[0] == "photo 300" and "with any.lst" in capsys.readouterr().out
    write_ids(tmp_path / "in" / "grid_ids.json", names())
    with pytest.raises(DataError, match=r"grid\.npy: beside it are grid_ids\.txt and grid_ids\.json; say by --ids"):
        convert([path], tmp_path / "store")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", "a\nbé\n3".encode()),
        ("ids.txt", b"a\r\nb\xc3\xa9\r\n3\r\n"),
        ("ids.txt", "a\nbé\n3\n".encode("utf-8-sig")),
        ("ids.txt", "a\nbé\n3\n".encode("utf-16")),
        ("ids.json", '["a", "bé", 3]'.encode()),
        ("ids.npy", ["a", "bé", "3"]),
        ("ids.npy", [b"a", "bé".encode(), b"3"]),
    ],
    ids=["LF", "CRLF", "mark", "UTF-16", "json", "texts", "bytes"],
)
def test_lists_of_ids_are_read_in_their_forms(tmp_path: Path, name: str, content: Any) -> None:
    if isinstance(content, list):
        np.save(tmp_path / name, np.array(content))
    else:
        (tmp_path / name).write_bytes(content)
    assert read_image_ids(tmp_path / name).ids == ("a", "bé", "3")


def test_whole_numbers_are_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.array([7, 12]))
    assert read_image_ids(tmp_path / "ids.npy").ids == ("7", "12")


def test_several_arrays_are_one_store_in_the_order_in_which_they_are_given(tmp_path: Path) -> None:
    first, second = numbers(4, REGIONS, WIDTH), numbers(2, 7, WIDTH, seed=1)
    parts = [
        stacked(tmp_path / "in", second, names(2, begin=50), "val"),
        stacked(tmp_path / "in", first, names(4), "train"),
    ]
    made = convert(parts, tmp_path / "store")
    store = opened(tmp_path / "store")
    assert store.ids == (*names(2, begin=50), *names(4))
    np.testing.assert_array_equal(store.images[1], second[1])
    np.testing.assert_array_equal(store.images[2], first[0])
    assert made.facts.origin["files"] == ["val.npy", "train.npy"] and len(made.remarks) == 3
    folders = [stacked(tmp_path / "a", second, names(2, begin=50)).parent, stacked(tmp_path / "b", first).parent]
    convert(folders, tmp_path / "by folder")
    assert opened(tmp_path / "by folder").ids == store.ids


# --- types


@pytest.mark.parametrize(
    ("kinds", "stored", "remark"),
    [
        (("<f2", "<f2"), "float16", ""),
        (("<f4", "<f4"), "float32", "half as large"),
        (("<f2", "<f4"), "float32", "stored as float32; in the sources are float16, float32"),
        (("<f8", "<f8"), "float32", "stored as float32; in the sources are float64"),
    ],
)
@pytest.mark.parametrize("form", ["stacked", "folder"])
def test_the_type_of_the_source_is_kept_or_the_widest_of_several(
    tmp_path: Path, kinds: tuple[str, str], stored: str, remark: str, form: str
) -> None:
    if form == "stacked":
        sources = [
            stacked(
                tmp_path / "in", numbers(2, REGIONS, WIDTH, dtype=kind), names(2, begin=9 * number), f"part{number}"
            )
            for number, kind in enumerate(kinds)
        ]
    else:
        sources = [tmp_path / "in"]
        sources[0].mkdir()
        np.save(sources[0] / "a.npy", numbers(REGIONS, WIDTH, dtype=kinds[0]))
        np.savez(sources[0] / "b.npz", x=numbers(REGIONS, WIDTH, dtype=kinds[1]))
    made = convert(sources, tmp_path / "store")
    assert made.facts.dtype == stored and remark in " · ".join(made.remarks)
    given = convert(sources, tmp_path / "given", "float16")
    assert given.facts.dtype == "float16" and "stored as" not in " · ".join(given.remarks)


def test_the_answer_says_type_and_size_and_that_float16_is_half(tmp_path: Path, capsys: Captured) -> None:
    path = stacked(tmp_path / "in", numbers(IMAGES, WIDTH))
    assert harness(path, "--to", tmp_path / "store") == 0
    out = capsys.readouterr().out
    assert "store: 6 images, 6 regions of 5 numbers, float32" in out
    assert "grid.npy: one region of 5 numbers per image; with ids.txt" in out
    assert "--dtype float16 --force makes it half as large" in out
    assert harness(path, "--to", tmp_path / "store", "--dtype", "float16", "--force", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["dtype"], answer["remarks"]) == (
        "float16",
        ["grid.npy: one region of 5 numbers per image; with ids.txt"],
    )


# --- boxes, sizes, counts


def corners(images: int, regions: int) -> Array:
    low = np.random.default_rng(3).integers(0, 20, (images, regions, 2))
    return np.concatenate([low, low + 5], axis=2)


SIZES = np.array([[64, 48]] * IMAGES)


@pytest.mark.parametrize("prefix", ["", "grid_"])
def test_boxes_sizes_and_counts_beside_the_array_are_taken(tmp_path: Path, prefix: str) -> None:
    boxes, counts = corners(IMAGES, REGIONS), np.array([3, 1, 2, 3, 1, 1])
    beside = {f"{prefix}boxes": boxes, f"{prefix}sizes": SIZES, f"{prefix}counts": counts}
    made = convert([stacked(tmp_path / "in", **beside)], tmp_path / "store")
    store = opened(tmp_path / "store")
    assert made.facts.regions == counts.sum() and store.boxes is not None and store.sizes is not None
    for number, count in enumerate(counts):
        assert len(store.images[number]) == count
        wanted = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes[number, :count]]
        np.testing.assert_array_equal(store.boxes[number], wanted)
    assert store.sizes.tolist() == SIZES.tolist()
    assert f"with ids.txt, {prefix}boxes.npy, {prefix}sizes.npy, {prefix}counts.npy" in made.remarks[0]


def test_an_image_of_one_region_has_one_box_and_sizes_may_be_alone(tmp_path: Path) -> None:
    boxes = corners(IMAGES, 1)[:, 0]
    convert([stacked(tmp_path / "in", numbers(IMAGES, WIDTH), boxes=boxes)], tmp_path / "boxed")
    store = opened(tmp_path / "boxed")
    assert store.boxes is not None and store.sizes is None
    np.testing.assert_array_equal(store.boxes[2][0, :2], boxes[2, :2])
    convert([stacked(tmp_path / "other", sizes=SIZES)], tmp_path / "sized")
    store = opened(tmp_path / "sized")
    assert store.boxes is None and store.sizes is not None


BESIDE: dict[str, tuple[dict[str, Array], str]] = {
    "boxes of other regions": (
        {"boxes": corners(IMAGES, 4)},
        r"boxes\.npy: is of shape \(6, 4, 4\); for grid\.npy \(6, 3",
    ),
    "boxes of other images": ({"boxes": corners(4, REGIONS)}, r"boxes\.npy: is of shape \(4, 3, 4\)"),
    "boxes as texts": ({"boxes": np.full((6, 3, 4), "a")}, r"boxes\.npy: holds <U1 of shape .*; numbers of shape"),
    "boxes as shares": ({"boxes": corners(6, 3) / 50}, r"boxes\.npy, row 0: image 'photo 0': its boxes are shares"),
    "boxes beyond": (
        {"boxes": corners(6, 3) + 60, "sizes": SIZES},
        r"boxes\.npy, row 0: image 'photo 0': its boxes are not within the image of 64 x 48",
    ),
    "sizes of shares": ({"sizes": SIZES / 2}, r"sizes\.npy: holds float64 of shape \(6, 2\); whole numbers of shape"),
    "a size of 0": (
        {"sizes": np.array([[64, 48]] * 4 + [[64, 0], [64, 48]])},
        r"sizes\.npy, row 4: holds \[64, 0\]; whole numbers from 1",
    ),
    "sizes less": (
        {"sizes": SIZES[:3]},
        r"sizes\.npy: is of shape \(3, 2\); for grid\.npy \(6, 2\) is needed; take it",
    ),
    "a count too large": ({"counts": np.array([3, 3, 3, 4, 3, 3])}, r"counts\.npy, row 3: holds 4; .* from 1 to 3"),
    "a count of 0": ({"counts": np.array([3, 0, 3, 3, 3, 3])}, r"counts\.npy, row 1: holds 0; whole numbers from 1"),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_what_lies_beside_an_array_and_does_not_fit_is_told_by_file_and_row(tmp_path: Path, kind: str) -> None:
    beside, message = BESIDE[kind]
    with pytest.raises(DataError, match=message):
        convert([stacked(tmp_path / "in", **beside)], tmp_path / "store")


# --- maps

MAP = (7, 2, 3)  # channels, rows, columns


def test_the_cells_of_maps_get_their_share_of_the_picture_as_boxes(tmp_path: Path) -> None:
    array = numbers(IMAGES, *MAP)
    made = convert([stacked(tmp_path / "in", array, sizes=SIZES)], tmp_path / "store")
    store = opened(tmp_path / "store")
    np.testing.assert_array_equal(store.images[5], cells_of(array[5]))
    assert store.boxes is not None and made.facts.sizes
    width, height = 64 / 3, 24
    wanted = [[x * width, y * height, width, height] for y in range(2) for x in range(3)]
    np.testing.assert_allclose(store.boxes[0], wanted, rtol=1e-6)
    assert "maps of 7 channels, 2 x 3 cells, each a region, with its share of the picture as box" in made.remarks[0]


def test_maps_of_a_file_each_are_read_also_as_columns_and_with_the_channels_last(tmp_path: Path) -> None:
    folder, array = tmp_path / "in", numbers(4, *MAP)
    folder.mkdir()
    np.save(folder / "a.npy", array[0])
    np.save(folder / "b.npy", np.asfortranarray(array[1]))
    np.save(folder / "c.npy", array[2].reshape(7, 6).T)  # Fortran's order
    convert([folder], tmp_path / "store")
    for number in range(3):
        np.testing.assert_array_equal(opened(tmp_path / "store").images[number], cells_of(array[number]))
    (folder / "c.npy").unlink()
    for name, one in (("a", array[0]), ("b", array[1])):
        np.save(folder / f"{name}.npy", np.moveaxis(one, 0, -1))
    with pytest.raises(
        DataError, match=r"a\.npy: a map is of shape \(2, 3, 7\).* --channels last, or --channels first"
    ):
        convert([folder], tmp_path / "last")
    assert harness(folder, "--to", tmp_path / "last", "--channels", "last") == 0
    np.testing.assert_array_equal(opened(tmp_path / "last").images[1], cells_of(array[1]))


def test_maps_in_npz_have_boxes_by_the_size_of_their_image(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "ab":
        np.savez(tmp_path / "in" / f"{name}.npz", x=numbers(*MAP), image_w=30, image_h=20)
    convert([tmp_path / "in"], tmp_path / "store")
    store = opened(tmp_path / "store")
    assert store.boxes is not None and store.boxes[0][-1].tolist() == [20, 10, 10, 10]
    np.testing.assert_array_equal(store.images[0], cells_of(numbers(*MAP)))


def test_regions_whose_numbers_stand_first_are_turned_where_that_is_said_and_hinted_at_where_not(
    tmp_path: Path,
) -> None:
    array = numbers(IMAGES, 4, 9)
    path = stacked(tmp_path / "in", array)
    convert([path], tmp_path / "first", options=ArrayOptions(channels="first"))
    np.testing.assert_array_equal(opened(tmp_path / "first").images[3], array[3].T)
    assert "--channels" not in " · ".join(convert([path], tmp_path / "last").remarks)
    path = stacked(tmp_path / "in", numbers(IMAGES, 9, 4))
    assert "more regions (9) than a region has numbers (4)" in convert([path], tmp_path / "odd").remarks[-1]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 7), r"a map is of shape \(2, 3, 7\), so its channels seem to stand last: say --channels last, or"),
        ((4, 4, 4), r"of shape \(4, 4, 4\), .* where it is of 4 channels"),
        ((1, 4, 5), r"an image is of shape \(1, 4, 5\): where the 1 counts images, save x\[0\]"),
    ],
)
def test_a_map_that_does_not_say_where_its_channels_are_is_refused(tmp_path: Path, shape: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert([stacked(tmp_path / "in", numbers(IMAGES, *shape))], tmp_path / "store")
    assert not (tmp_path / "store").exists()


# --- what is wrong


def lines(*ids: str, encoding: str = "utf-8") -> Callable[[Path], Any]:
    return lambda folder: (folder / "ids.txt").write_text("\n".join(ids), encoding=encoding)


def array(content: Any) -> Callable[[Path], Any]:
    return lambda folder: np.save(folder / "grid.npy", content)


def with_number(number: float) -> Array:
    content = numbers(IMAGES, REGIONS, WIDTH)
    content[4, 1, 2] = number
    return content


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "an id less": (lines(*names(5)), "ids.txt: has 5 ids, grid.npy 6 rows (its shape is (6, 3, 5))"),
    "a heading": (lines("image_id", *names()), "ids.txt: has 7 ids, grid.npy 6 rows"),
    "an id twice": (lines(*names(5), "photo 2"), "ids.txt, line 6: image 'photo 2' stands in line 3 already"),
    "an empty id": (lines("a", "b", "", "d", "e", "f"), "ids.txt, line 3: an empty line"),
    "an empty list": (lines(), "ids.txt, line 1: an empty line"),
    "another encoding": (lines(*names(5), "é", encoding="latin-1"), "ids.txt, line 6: not UTF-8"),
    "NaN": (array(with_number(np.nan)), "grid.npy, row 4: image 'photo 4' holds NaN or inf"),
    "inf": (array(with_number(-np.inf)), "grid.npy, row 4: image 'photo 4' holds NaN or inf"),
    "a huge number": (array(with_number(1e16)), "row 4: image 'photo 4' holds a number beyond 1e+15"),
    "objects": (array(np.array([{}] * 6)), "grid.npy: holds pickled objects, which are never loaded"),
    "one dimension": (array(np.zeros(6, np.float32)), "grid.npy: holds float32 of shape (6,); floats of shape (images"),
    "five dimensions": (array(np.zeros((6, 1, 1, 1, 1))), "grid.npy: holds float64 of shape (6, 1, 1, 1, 1)"),
    "no rows": (array(np.zeros((0, 3, 5))), "grid.npy: holds no numbers, its shape is (0, 3, 5)"),
    "no numbers": (array(np.zeros((6, 0, 5))), "grid.npy: holds no numbers"),
    "whole numbers": (array(np.zeros((6, 3, 5), int)), "grid.npy: holds int64 of shape"),
    "bfloat16": (
        array(np.zeros((6, 3, 5), "V2")),
        "no numbers that NumPy knows; of a bfloat16 tensor save tensor.float",
    ),
    "Fortran's order": (array(np.asfortranarray(numbers(6, 3, 5))), "grid.npy: in Fortran order"),
    "cut": (lambda folder: os.truncate(folder / "grid.npy", 300), "grid.npy: its header promises float32"),
    "cut in its head": (lambda folder: os.truncate(folder / "grid.npy", 20), "grid.npy: no .npy file of numbers"),
    "empty": (lambda folder: os.truncate(folder / "grid.npy", 0), "grid.npy: no .npy file of numbers"),
    "text": (lambda folder: (folder / "grid.npy").write_text("1\t2\n"), "grid.npy: no .npy file of numbers"),
    "Git LFS": (
        lambda folder: (folder / "grid.npy").write_text("version https://git-lfs.github.com/spec/v1\n"),
        "git lfs pull",
    ),
}


@pytest.mark.parametrize("by_folder", [False, True], ids=["file", "folder"])
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_told_by_file_and_line_with_exit_code_3(
    tmp_path: Path, capsys: Captured, kind: str, by_folder: bool
) -> None:
    damage, message = WRONG[kind]
    path = stacked(tmp_path / "in")
    damage(path.parent)
    assert harness(path.parent if by_folder else path, "--to", tmp_path / "store") == 3
    said = capsys.readouterr()
    assert message in said.err and said.out == ""
    assert not (tmp_path / "store" / "store.json").exists()
    if kind not in ("NaN", "inf", "a huge number"):
        assert not (tmp_path / "store").exists()


def ids_json(content: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / "ids.json").write_text(content)


def ids_npy(content: Any) -> Callable[[Path], Any]:
    return lambda folder: np.save(folder / "ids.npy", content)


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (ids_json('{"a": 0}'), "ids.json", r"ids\.json: holds no list; a list of ids in the order of the rows"),
        (ids_json('["a", 1.5]'), "ids.json", r"ids\.json, entry 2: 1\.5 is no id"),
        (ids_json('["a", true]'), "ids.json", r"ids\.json, entry 2: True is no id"),
        (ids_json('["a", " b"]'), "ids.json", r"ids\.json, entry 2: ' b' cannot be an image's id"),
        (ids_json('["a", "b\\nc"]'), "ids.json", r"ids\.json, entry 2: 'b\\nc' cannot be"),
        (ids_json('["a", "\\ud800"]'), "ids.json", r"ids\.json, entry 2: .* cannot be"),
        (ids_json('["a", "b", "a"]'), "ids.json", r"ids\.json, entry 3: image 'a' stands in entry 1 already"),
        (ids_json("[1"), "ids.json", r"ids\.json: not readable as JSON"),
        (ids_npy(np.array(["a", {}], dtype=object)), "ids.npy", r"ids\.npy: holds pickled objects"),
        (ids_npy(np.array([[1, 2]])), "ids.npy", r"ids\.npy: .*texts or whole numbers of shape \(images,\)"),
        (ids_npy(np.array([1.5])), "ids.npy", r"ids\.npy: holds float64"),
        (ids_npy(np.array([b"a", b"\xff"])), "ids.npy", r"ids\.npy, entry 2: not UTF-8"),
        (ids_npy(np.array(["", "a"])), "ids.npy", r"ids\.npy, entry 1: '' cannot be"),
    ],
)
def test_a_list_that_is_none_is_told_by_entry(tmp_path: Path, write: Any, name: str, message: str) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=message):
        read_image_ids(tmp_path / name)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_of_an_array_is_a_store_or_an_error_with_its_place(
    tmp_path_factory: Any, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = stacked(folder / "in")
    file = data.draw(st.sampled_from([path, path.with_name("ids.txt")]))
    content = bytearray(file.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    try:
        convert([path], folder / "store")
    except DataError as error:
        assert str(error.location)
    else:
        assert len(opened(folder / "store").ids) == IMAGES


def test_arrays_that_make_no_one_store_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    first = stacked(tmp_path / "a")
    for folder, other, message in (
        (
            "b",
            stacked(tmp_path / "b", numbers(2, 3, 4), names(2, 50)),
            r"b/grid\.npy: has 4 numbers per region, grid.npy 5",
        ),
        (
            "c",
            stacked(tmp_path / "c", None, names(6, 50), sizes=SIZES),
            r"c/grid\.npy: and grid\.npy: one has boxes or",
        ),
        (
            "d",
            stacked(tmp_path / "d", None, names(6, 5)),
            r"d/ids\.txt, line 1: image 'photo 5' stands in .*line 6 too",
        ),
    ):
        with pytest.raises(DataError, match=message):
            convert([first, other], tmp_path / "store")
        assert not (tmp_path / "store").exists(), folder


def test_an_array_without_ids_says_where_they_are_looked_for(tmp_path: Path) -> None:
    path = stacked(tmp_path / "in")
    (tmp_path / "in" / "ids.txt").unlink()
    with pytest.raises(
        DataError, match=r"grid\.npy: holds float32 of shape .*ids\.txt or grid_ids\.txt there, or .*--ids"
    ):
        convert([path], tmp_path / "store")
    other = stacked(tmp_path / "in", name="other")
    write_ids(tmp_path / "in" / "ids.txt", names())
    with pytest.raises(DataError, match=r"grid\.npy: .*into grid_ids\.txt there"):
        convert([path, other], tmp_path / "store")


FILES = ["x.pt", "x.pth", "x.pkl", "x.pickle", "x.h5", "x.hdf5", "x.safetensors", "x.mat", "x.parquet"]


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_kinds_are_refused_with_a_command_that_saves_them(
    tmp_path: Path, capsys: Captured, name: str
) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04anything")
    assert harness(tmp_path / name, "--to", tmp_path / "store") == 3
    err = capsys.readouterr().err
    assert f"{name}: a .{name.partition('.')[2]} file" in err and "python -c" in err and 'numpy.save("x.npy", x)' in err
    assert ("never loaded" in err) == (name in ("x.pkl", "x.pickle"))


def test_an_array_of_any_name_is_never_read_as_text(tmp_path: Path) -> None:
    path = stacked(tmp_path / "in")
    path.rename(tmp_path / "in" / "grid.tsv")
    convert([tmp_path / "in" / "grid.tsv"], tmp_path / "store")
    assert opened(tmp_path / "store").ids == tuple(names())


# --- folders


def test_a_folder_of_one_array_without_ids_is_never_taken_for_one_image(tmp_path: Path) -> None:
    folder = stacked(tmp_path / "in", numbers(IMAGES, WIDTH)).parent
    (folder / "ids.txt").unlink()
    with pytest.raises(
        DataError, match=r"in: holds one array, grid\.npy of shape \(6, 5\), and no list of ids\. If it is"
    ):
        convert([folder], tmp_path / "store")
    np.savez(folder / "grid.npz", x=numbers(IMAGES, WIDTH))
    (folder / "grid.npy").unlink()
    with pytest.raises(
        DataError, match=r"in: holds one \.npz alone\. If it is of many images: .*python -m zipfile -e grid\.npz grid;"
    ):
        convert([folder], tmp_path / "store")
    write_ids(folder / "ids.txt", ["grid"])
    assert convert([folder], tmp_path / "npz").facts.images == 1
    np.save(folder / "grid.npy", numbers(IMAGES, WIDTH))
    (folder / "grid.npz").unlink()
    assert convert([folder], tmp_path / "npy").facts.regions == IMAGES
    assert opened(tmp_path / "npy").ids == ("grid",)


def test_a_folder_of_arrays_and_a_list_is_one_of_images_only_where_the_list_names_them(tmp_path: Path) -> None:
    folder = stacked(tmp_path / "in").parent
    np.save(folder / "mean.npy", numbers(IMAGES, WIDTH))
    with pytest.raises(DataError, match=r"in: holds 2 arrays, and ids\.txt, which names none of them"):
        convert([folder], tmp_path / "store")
    convert([folder / "mean.npy"], tmp_path / "mean")
    assert opened(tmp_path / "mean").ids == tuple(names())
    np.save(folder / "grid.npy", numbers(2, WIDTH))
    for ids in (["grid", "mean", "more"], ["mean.jpg"]):
        write_ids(folder / "ids.txt", ids)
        made = convert([folder], tmp_path / f"of {len(ids)}")
        assert made.facts.images == 2 and [path.name for path in made.left_out] == ["ids.txt"]


def test_arrays_beside_the_one_of_the_images_are_no_images(tmp_path: Path) -> None:
    folder = stacked(tmp_path / "in", boxes=corners(IMAGES, REGIONS), sizes=SIZES, counts=np.full(IMAGES, 2)).parent
    (folder / "ids.txt").unlink()
    np.save(folder / "ids.npy", np.array(names()))
    made = convert([folder], tmp_path / "store")
    assert made.facts.regions == 2 * IMAGES and made.facts.boxes


def refused(tmp_path: Path) -> dict[str, tuple[list[Path], ArrayOptions, str]]:
    path, ids = stacked(tmp_path / "in"), tmp_path / "in" / "ids.txt"
    tsv, each = tmp_path / "a.tsv", tmp_path / "each"
    tsv.write_text("some words\n")
    each.mkdir()
    for name in "ab":
        np.save(each / f"{name}.npy", numbers(REGIONS, WIDTH))
    convert([path], tmp_path / "made")
    return {
        "an array and a TSV": ([path, tsv], ArrayOptions(), r"a\.tsv is no \.npy, .* ids, give it with --ids"),
        "an array and a folder": ([path, each], ArrayOptions(), "files and folders together"),
        "folders of both forms": (
            [path.parent, each],
            ArrayOptions(),
            r"each has a file|has a file for each; make two",
        ),
        "ids of a TSV": ([tsv], ArrayOptions((ids,)), "--ids is for an .npy of many images"),
        "ids of a folder of images": ([each], ArrayOptions((ids,)), "each holds 2 arrays; name the one whose"),
        "a list less": ([path, stacked(tmp_path / "b")], ArrayOptions((ids,)), "--ids is given 1 times for 2 arrays"),
        "a list that is not there": ([path], ArrayOptions((tmp_path / "no",)), "--ids .*no is no file"),
        "channels of a TSV": ([tsv], ArrayOptions(channels="first"), "--channels is for arrays"),
        "the array of a store": ([tmp_path / "made" / "regions.npy"], ArrayOptions(), "made is a region store already"),
    }


def test_a_folder_of_several_arrays_with_their_lists_is_refused_with_what_to_give(tmp_path: Path) -> None:
    for name in ("train", "val"):
        stacked(tmp_path / "in" / name, numbers(IMAGES, WIDTH), names(), name)
    with pytest.raises(
        DataError, match=r"in: holds 2 arrays.* name it, with train_ids\.txt .* convert .*train\.npy --to"
    ):
        convert([tmp_path / "in"], tmp_path / "store")
    stacked(tmp_path / "alone", None, names(), "train", train_boxes=corners(IMAGES, REGIONS))
    assert convert([tmp_path / "alone"], tmp_path / "store").facts.boxes


def test_what_lies_beside_several_arrays_and_could_be_of_any_is_said_to_be_unread(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number, name in enumerate(("train", "val")):
        stacked(folder, numbers(IMAGES, REGIONS, WIDTH), names(begin=number * IMAGES), name, boxes=corners(IMAGES, 3))
    made = convert([folder / "train.npy", folder / "val.npy"], tmp_path / "store")
    unread = [line for line in made.remarks if "boxes.npy is not read" in line]
    assert not made.facts.boxes and len(unread) == 1 and "grid_boxes.npy beside grid.npy" in unread[0]
    stacked(tmp_path / "alone", boxes=corners(IMAGES, 3), grid_boxes=corners(IMAGES, 3))
    alone = convert([tmp_path / "alone" / "grid.npy"], tmp_path / "other")
    assert alone.facts.boxes and any("boxes.npy is not read" in line for line in alone.remarks)


@pytest.mark.parametrize("shape", [(1200, WIDTH), (1200, REGIONS, 4 * WIDTH)])
def test_a_few_arrays_of_very_many_rows_are_not_taken_for_an_image_each(tmp_path: Path, shape: Any) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "val.npy", numbers(*shape))
    np.save(tmp_path / "in" / "test.npy", numbers(3, *shape[1:]))
    with pytest.raises(DataError, match=r"in: holds 2 arrays, and val\.npy has 1,200 rows\. If .* with val_ids\.txt"):
        convert([tmp_path / "in"], tmp_path / "store")
    write_ids(tmp_path / "in" / "ids.txt", ["val", "test"])
    if len(shape) == 2:
        assert convert([tmp_path / "in"], tmp_path / "store").facts.images == 2


def test_maps_of_many_channels_are_an_image_each(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "ab":
        np.save(tmp_path / "in" / f"{name}.npy", numbers(1200, 2, 3))
    assert convert([tmp_path / "in"], tmp_path / "store").facts.width == 1200


def test_an_array_whose_name_is_among_its_ids_is_of_many_images(tmp_path: Path) -> None:
    folder = stacked(tmp_path / "in", None, ["grid", *names(5)]).parent
    assert convert([folder], tmp_path / "store").facts.images == IMAGES


@pytest.mark.parametrize("keyed", [True, False], ids=["an array an image", "features and ids"])
def test_an_npz_of_many_images_is_refused_with_a_command_that_makes_it_a_source(
    tmp_path: Path, capsys: Captured, keyed: bool
) -> None:
    array, path = numbers(IMAGES, REGIONS, WIDTH), tmp_path / "x.npz"
    content = dict(zip(names(), array, strict=True)) if keyed else {"features": array, "ids": np.array(names())}
    np.savez(path, **content)
    assert harness(path, "--to", tmp_path / "store") == 3
    assert "python -m zipfile -e x.npz x; then convert the folder x" in capsys.readouterr().err
    subprocess.run([sys.executable, "-m", "zipfile", "-e", path, tmp_path / "x"], check=True)
    convert([tmp_path / "x"], tmp_path / "store")
    assert opened(tmp_path / "store").ids == tuple(names())


def test_a_folder_of_files_that_are_not_read_says_how_to_save_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.pt").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"in: has no \.npy or \.npz .*a \.pt file is not read; save the array of each"):
        convert([tmp_path / "in"], tmp_path / "store")


@pytest.mark.parametrize("kind", [
    "an array and a TSV", "an array and a folder", "folders of both forms", "ids of a TSV", "ids of a folder of images",
    "a list less", "a list that is not there", "channels of a TSV", "the array of a store",
])  # fmt: skip
def test_what_cannot_be_asked_for_is_refused_as_usage(tmp_path: Path, kind: str) -> None:
    sources, options, message = refused(tmp_path)[kind]
    with pytest.raises(UsageError, match=message):
        convert(sources, tmp_path / "store", options=options)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("what", ["array", "list", "TSV", "folder"])
def test_a_source_whose_name_is_no_utf_8_is_told(tmp_path: Path, capsys: Captured, what: str) -> None:
    path, odd = stacked(tmp_path / "in"), tmp_path / os.fsdecode(b"\xff")
    place = {"array": path, "list": path.with_name("ids.txt"), "TSV": tmp_path / "a.tsv", "folder": path.parent}[what]
    (tmp_path / "a.tsv").write_text("some words")
    place.rename(odd.with_suffix(place.suffix))
    odd = odd.with_suffix(place.suffix)
    words = (path, "--ids", odd) if what == "list" else (odd,)
    assert harness(*words, "--to", tmp_path / "store") == 3
    assert "udcff" in capsys.readouterr().err and not (tmp_path / "store").exists()


# --- going on, and stores that are there

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
convert.convert([Path(part) for part in sys.argv[5:]], Path(sys.argv[1]), sys.argv[2],
                watch=lambda total, done: nullcontext(tell))
"""


@pytest.mark.slow
def test_a_conversion_that_is_killed_twice_ends_byte_equal(tmp_path: Path) -> None:
    parts = [
        stacked(tmp_path / "in", numbers(40, 256, 2, dtype=np.float16), None, "a"),
        stacked(tmp_path / "in", numbers(30, 256, 2, dtype=np.float16), names(30, 90), "b"),
    ]
    total = sum(part.stat().st_size for part in parts)
    for at, commit in ((total // 3, "0.0"), (total // 2, "1e9"), (total * 3 // 4, "0.0")):
        words = [str(tmp_path / "store"), "keep", str(at), commit, *map(str, parts)]
        killed = subprocess.run([sys.executable, "-c", KILLED, *words], check=False)
        assert killed.returncode == -signal.SIGKILL
    made = convert(parts, tmp_path / "store")
    convert(parts, tmp_path / "at once")
    assert 40 < made.before < 70 and made.facts.dtype == "float16"
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


def test_what_stands_before_a_wrong_row_stays_and_the_work_goes_on_there(tmp_path: Path) -> None:
    path = stacked(tmp_path / "in", with_number(np.nan))
    with pytest.raises(DataError, match="row 4"):
        convert([path], tmp_path / "store")
    stacked(tmp_path / "in", with_number(0.5))
    assert convert([path], tmp_path / "store").before == 4
    convert([path], tmp_path / "at once")
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


def test_where_not_one_image_could_be_written_nothing_is_left(tmp_path: Path) -> None:
    path = stacked(tmp_path / "in", np.full((IMAGES, REGIONS, WIDTH), np.inf, np.float32))
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "store", tmp_path / "empty"):
        with pytest.raises(DataError, match="row 0: image 'photo 0' holds NaN or inf"):
            convert([path], folder)
    assert not (tmp_path / "store").exists() and not [*(tmp_path / "empty").iterdir()]


def test_unfinished_work_does_not_go_on_with_other_numbers_or_other_ids(tmp_path: Path) -> None:
    path = stacked(tmp_path / "in", with_number(np.nan))
    with pytest.raises(DataError):
        convert([path], tmp_path / "store")
    stacked(tmp_path / "in", numbers(IMAGES, REGIONS, WIDTH, seed=5))
    with pytest.raises(DataError, match=r"grid\.npy, row 3: this is not the image .* --force"):
        convert([path], tmp_path / "store")
    stacked(tmp_path / "in", None, [*names(5), "another"])
    with pytest.raises(UsageError, match="unfinished work on something else"):
        convert([path], tmp_path / "store")


def test_a_store_of_other_numbers_or_ids_is_not_taken_for_this_one(tmp_path: Path) -> None:
    path = stacked(tmp_path / "in")
    convert([path], tmp_path / "store")
    assert convert([path], tmp_path / "store").before == IMAGES
    for array, ids in ((numbers(IMAGES, REGIONS, WIDTH, seed=5), None), (None, [*names(5), "another"])):
        stacked(tmp_path / "in", array, ids)
        with pytest.raises(UsageError, match="holds a finished store; --force"):
            convert([path], tmp_path / "store")


def test_a_folder_that_holds_something_else_is_refused_with_exit_code_2(tmp_path: Path, capsys: Captured) -> None:
    path, store = stacked(tmp_path / "in"), tmp_path / "store"
    convert([path], store)
    assert harness(path, "--to", store, "--dtype", "float16") == 2
    assert "holds a finished store; --force replaces it" in capsys.readouterr().err
    assert harness(path, "--to", path.parent) == 2
    assert "holds ids.txt and is no store; take another folder" in capsys.readouterr().err
    stacked(tmp_path / "nan", with_number(np.nan))
    assert harness(tmp_path / "nan", "--to", tmp_path / "cut") == 3
    assert harness(path, "--to", tmp_path / "cut", "--dtype", "float16") == 2
    assert "unfinished work on something else" in capsys.readouterr().err


PEAK = """
import resource, sys
from pathlib import Path
from harness.conversion.convert import convert
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert([Path(sys.argv[1])], Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_array(tmp_path: Path) -> None:
    """Of the process and its mapped files, in kB; the array has 128 MB."""
    path = stacked(tmp_path / "in", np.zeros((64, 1024, 1024), np.float16))
    peak = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(tmp_path / "store")], check=True, capture_output=True, text=True
    )
    assert int(peak.stdout) < 48_000


def test_an_array_larger_than_what_may_be_written_goes_on_later(tmp_path: Path) -> None:
    path = stacked(tmp_path / "in", numbers(60, 36, 256))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit[1]))
    try:
        assert harness(path, "--to", tmp_path / "store") == 6
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    convert([path], tmp_path / "store")
    convert([path], tmp_path / "at once")
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")
