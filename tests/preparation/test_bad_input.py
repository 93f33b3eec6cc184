"""Every known kind of broken data ends in exit code 3 with file and line, in `validate` and in `run`."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_files import (
    rewrite,
    saved,
)
from hypothesis import given
from hypothesis import strategies as st
from tiny_project import Call

from harness.config.cards import DatasetCard
from harness.data.arrays import open_array
from harness.data.content import Place
from harness.errors import DataError, Location
from harness.files import read_lines
from harness.layouts.coco import Annotations, Coco

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def edited(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


def exchange(one: str, other: str) -> Callable[[Path], None]:
    def swap(folder: Path) -> None:
        (folder / one).rename(folder / "kept")
        (folder / other).rename(folder / one)
        (folder / "kept").rename(folder / other)

    return swap


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def to_itself(name: str) -> Callable[[Path], None]:
    def link(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(name)

    return link


def whole_to_itself(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.name)


def unreadable(name: str) -> Callable[[Path], None]:
    """A file whose content cannot be read, even by root."""

    def link(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("/proc/self/mem")

    return link


def with_nan(array: np.ndarray) -> np.ndarray:
    array[2, 1, 3] = np.nan
    return array


def without_line(number: int) -> Callable[[bytes], bytes]:
    return lambda text: b"\n".join(line for at, line in enumerate(text.split(b"\n"), 1) if at != number)


def line(number: int, content: bytes) -> Callable[[bytes], bytes]:
    return lambda text: b"\n".join(content if at == number else line for at, line in enumerate(text.split(b"\n"), 1))


Case = tuple[Callable[[Path], Any], str, str, str]  # what breaks it; file, entry and words of the finding

PRECOMP: dict[str, Case] = {
    "swapped splits": (
        both(exchange("dev_ims.npy", "test_ims.npy"), exchange("dev_caps.txt", "test_caps.txt")),
        "dev_caps.txt",
        "line 1",
        "that is caption 1 of test: the files of two splits are exchanged",
    ),
    "captions moved by a line": (
        edited("test_caps.txt", lambda text: b"\n".join([*text.split(b"\n")[7:8], *text.split(b"\n")[:7], b""])),
        "test_caps.txt",
        "line 1",
        "number 2, 1 off",
    ),
    "a caption missing": (
        edited("test_caps.txt", without_line(3)),
        "test_ims.npy",
        "",
        "4 rows and test_caps.txt 7 lines",
    ),
    "an image too many": (
        saved("test_ims.npy", lambda array: array[[0, 1, 2, 3, 3]]),
        "test_ims.npy",
        "",
        "has 5 rows",
    ),
    "an image and its captions too many": (
        both(
            saved("test_ims.npy", lambda array: array[[0, 1, 2, 3, 3]]),
            edited("test_caps.txt", lambda text: text + b"one\nmore\n"),
        ),
        "",
        "split test",
        "the card says 4 images, the files hold 5",
    ),
    "another width": (
        saved("test_ims.npy", lambda array: np.pad(array, ((0, 0), (0, 0), (0, 1)))),
        "",
        "split test",
        "the card says 4 numbers per region, the files hold 5",
    ),
    "more regions": (
        saved("test_ims.npy", lambda array: np.pad(array, ((0, 0), (0, 1), (0, 0)))),
        "test_ims.npy",
        "row 0",
        "more than 3 regions",
    ),
    "NaN": (saved("test_ims.npy", with_nan), "test_ims.npy", "row 2", "holds NaN or inf"),
    "a file cut short": (edited("test_ims.npy", lambda content: content[:-9]), "test_ims.npy", "", "cut short"),
    "float64": (saved("test_ims.npy", lambda array: array.astype(np.float64)), "test_ims.npy", "", "holds <f8 numbers"),
    "the other byte order": (saved("test_ims.npy", lambda array: array.astype(">f4")), "test_ims.npy", "", "holds >f4"),
    "whole numbers": (saved("test_ims.npy", lambda array: array.astype(int)), "test_ims.npy", "", "holds int64"),
    "objects": (saved("test_ims.npy", lambda array: np.array([{}, {}])), "test_ims.npy", "", "pickled objects"),
    "a pickle": (edited("test_ims.npy", lambda _: pickle.dumps([1])), "test_ims.npy", "", "a pickle is never loaded"),
    "an array's LFS pointer": (edited("test_ims.npy", lambda _: LFS), "test_ims.npy", "", "Git LFS pointer"),
    "captions' LFS pointer": (edited("test_caps.txt", lambda _: LFS), "test_caps.txt", "", "Git LFS pointer"),
    "not UTF-8": (edited("test_caps.txt", line(5, b"caf\xe9")), "test_caps.txt", "line 5", "not UTF-8"),
    "an empty caption": (edited("test_caps.txt", line(6, b" \t")), "test_caps.txt", "line 6", "an empty line"),
    "no captions": (edited("test_caps.txt", lambda _: b""), "test_caps.txt", "line 1", "an empty line"),
    "a link to itself": (
        to_itself("test_caps.txt"),
        "test_caps.txt",
        "",
        "there is a link to test_caps.txt, which leads",
    ),
    "a folder that links to itself": (whole_to_itself, "", "", "a link that leads nowhere"),
    "a file that cannot be read": (unreadable("test_caps.txt"), "test_caps.txt", "", "cannot be read"),
    "an absent file": (lambda folder: (folder / "test_ims.npy").unlink(), "test_ims.npy", "", "the moon"),
    "an id twice": (
        lambda folder: (folder / "test_ids.txt").write_text("1\n2\n1\n4\n"),
        "test_ids.txt",
        "line 3",
        "image '1' stands there twice",
    ),
}


def annotation(file: str, key: str, index: int, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda content: content[file][key][index].update(changes))


def in_split(change: Callable[[dict[str, list[int]]], Any]) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda content: change(content["split.json"]))


def exchanged(split: dict[str, list[int]]) -> None:
    split["val"], split["test"] = split["test"], split["val"]


COCO: dict[str, Case] = {
    "swapped splits": (in_split(exchanged), "captions.json", "caption 1 of image 201", "of two splits are exchanged"),
    "a caption missing": (
        lambda folder: rewrite(folder, lambda content: content["captions.json"]["annotations"].pop(-2)),
        "",
        "split test",
        "the card says 8 captions, the files hold 7",
    ),
    "an image too many": (
        in_split(lambda split: split["test"].append(999)),
        "instances.json",
        "image 999",
        "not among the images",
    ),
    "an image in two splits": (
        in_split(lambda split: split["test"].append(1)),
        "split.json",
        "[test], entry 4",
        "[train], entry 0",
    ),
    "a box of NaN": (
        annotation("instances.json", "annotations", 3, bbox=[0, 0, 1, float("nan")]),
        "instances.json",
        "annotations[3]",
        "finite number",
    ),
    "an empty caption": (
        annotation("captions.json", "annotations", 3, caption=" \n"),
        "captions.json",
        "caption 3",
        "an empty caption",
    ),
    "a file cut short": (
        edited("captions.json", lambda content: content[: len(content) // 2]),
        "captions.json",
        "",
        "not readable as JSON",
    ),
    "another kind of json": (edited("split.json", lambda _: b"[1, 2]"), "split.json", "", "a JSON object is expected"),
    "a json nested without end": (
        edited("split.json", lambda _: b'{"a":' * 100_000),
        "split.json",
        "",
        "not readable as JSON",
    ),
    "a Git LFS pointer": (edited("instances.json", lambda _: LFS), "instances.json", "", "it is a Git LFS pointer"),
    "not UTF-8": (
        edited("captions.json", lambda text: text.replace(b"a dog of val", b"caf\xe9 of val")),
        "captions.json",
        "line 1",
        "not UTF-8 ('utf-8' codec",
    ),
    "a link to itself": (
        to_itself("split.json"),
        "split.json",
        "",
        "there is a link to split.json, which leads nowhere",
    ),
    "a file that cannot be read": (unreadable("split.json"), "split.json", "", "cannot be read"),
}


def json_of(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def rewrite_one(folder: Path) -> None:
        content = json.loads((folder / name).read_bytes())
        change(content)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")

    return rewrite_one


def with_nan_in_row(rows: np.ndarray) -> np.ndarray:
    rows[5, 1] = np.nan
    return rows


OWN: dict[str, Case] = {
    "no JSON": (edited("captions.jsonl", line(3, b"{oops")), "captions.jsonl", "line 3", "not readable as JSON"),
    "no text": (edited("captions.jsonl", line(3, b'{"id": 1, "image": 2}')), "captions.jsonl", "line 3", "no 'text'"),
    "an empty caption": (
        edited("captions.jsonl", line(4, b'{"id": "x", "image": "train-0", "text": " "}')),
        "captions.jsonl",
        "line 4",
        "its 'text' is empty",
    ),
    "a caption's id twice": (
        edited("captions.jsonl", line(4, b'{"id": 0, "image": "train-0", "text": "a"}')),
        "captions.jsonl",
        "line 4",
        "is in line 1 already",
    ),
    "not UTF-8": (edited("captions.jsonl", line(5, b"\xff")), "captions.jsonl", "line 5", "not UTF-8"),
    "an image in two splits": (
        json_of("split.json", lambda content: content["test"].append("train-0")),
        "split.json",
        "[test], entry 4",
        "stands in [train], entry 0 already",
    ),
    "an image without a caption": (
        json_of("split.json", lambda content: content["val"].insert(1, "x")),
        "split.json",
        "[val], entry 1",
        "has no caption in captions.jsonl",
    ),
    "an image without regions": (
        edited("regions/ids.txt", line(2, b"another")),
        "split.json",
        "[train]",
        "image 'train-1' is not in the store",
    ),
    "an id twice in the store": (
        edited("regions/ids.txt", line(2, b"train-0")),
        "regions/ids.txt",
        "line 2",
        "image train-0 stands twice",
    ),
    "regions cut short": (
        edited("regions/regions.npy", lambda content: content[:-9]),
        "regions/regions.npy",
        "",
        "cut short",
    ),
    "NaN": (saved("regions/regions.npy", with_nan_in_row), "regions/regions.npy", "row 5", "holds NaN or inf"),
    "another version of the store": (
        json_of("regions/store.json", lambda content: content.update(version=2)),
        "regions/store.json",
        "version",
        "damaged",
    ),
}
KARPATHY: dict[str, Case] = {
    "cut short": (
        edited("dataset_tiny.json", lambda content: content[:-9]),
        "dataset_tiny.json",
        "",
        "not readable as JSON",
    ),
    "no split": (
        json_of("dataset_tiny.json", lambda content: content["images"][3].pop("split")),
        "dataset_tiny.json",
        "images[3]",
        "has no 'split'",
    ),
    "an empty caption": (
        json_of("dataset_tiny.json", lambda content: content["images"][3]["sentences"][1].update(raw=" ")),
        "dataset_tiny.json",
        "images[3], sentences[1]",
        "its 'raw' is empty",
    ),
    "an image twice": (
        json_of("dataset_tiny.json", lambda content: content["images"][3].update(filename="train-1.png")),
        "dataset_tiny.json",
        "images[3]",
        "image 'train-1', as images[1] is",
    ),
    "an image without regions": (
        json_of("dataset_tiny.json", lambda content: content["images"][3].update(filename="x.jpg")),
        "dataset_tiny.json",
        "[train]",
        "image 'x' is not in the store",
    ),
}
ENTITIES: dict[str, Case] = {
    "a phrase that does not close": (
        edited("Sentences/test-1.txt", line(2, b"[/EN#1/people a man sits")),
        "Sentences/test-1.txt",
        "line 2",
        "the phrase of chain 1 does not close",
    ),
    "not UTF-8": (edited("Sentences/val-1.txt", line(2, b"\xff")), "Sentences/val-1.txt", "line 2", "not UTF-8"),
    "a box outside of its image": (
        edited("Annotations/test-2.xml", lambda text: text.replace(b"<xmax>52", b"<xmax>101")),
        "Annotations/test-2.xml",
        "object 1",
        "the box from 1, 1 to 101, 9 is inverted",
    ),
    "XML cut short": (
        edited("Annotations/test-2.xml", lambda text: text[:-9]),
        "Annotations/test-2.xml",
        "",
        "no readable XML",
    ),
    "no captions": (
        lambda folder: (folder / "Sentences" / "test-2.txt").unlink(),
        "test.txt",
        "line 3",
        "image test-2 has no Sentences/test-2.txt",
    ),
    "an image twice": (edited("test.txt", line(4, b"test-0")), "test.txt", "line 4", "stands in line 1 too"),
    "an image in two splits": (edited("test.txt", line(4, b"val-0")), "test.txt", "line 4", "val.txt, line 1 already"),
    "no id": (edited("test.txt", line(4, b"../x")), "test.txt", "line 4", "'../x' is no image id"),
}
BROKEN = {"precomp": PRECOMP, "coco": COCO, "folder": OWN, "karpathy": KARPATHY, "entities": ENTITIES}
CASES = [(layout, kind) for layout, cases in BROKEN.items() for kind in cases]


@pytest.mark.parametrize(("layout", "kind"), CASES, ids=[f"{layout}: {kind}" for layout, kind in CASES])
def test_broken_data_end_with_3_and_the_place_and_nothing_is_scored(
    project: Path,
    call: Call,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    layout: str,
    kind: str,
) -> None:
    breaks, file, entry, said = BROKEN[layout][kind]
    breaks(request.getfixturevalue(layout))
    assert call("validate", "--dataset", layout, "--json") == 3
    (report,) = json.loads(capsys.readouterr().out)["datasets"]
    errors = [one for one in report["findings"] if one["severity"] == "error"]
    assert any((one["file"] or "", one["entry"] or "") == (file, entry) and said in one["message"] for one in errors), (
        errors
    )
    assert call("run", "--here", "--datasets", layout) == 3
    err = capsys.readouterr().err
    assert err.startswith("harness: error: ") and said.split(";")[0] in err and file in err, err
    assert not (project / "runs" / "trials").exists()


@pytest.mark.slow
def test_sound_data_in_a_folder_with_spaces_and_with_windows_line_ends_are_scored(
    project: Path, precomp: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    edited("test_caps.txt", lambda text: text.replace(b"\n", b"\r\n"))(precomp)
    assert call("validate", "--dataset", "precomp", "--json") == 0
    (report,) = json.loads(capsys.readouterr().out)["datasets"]
    found = {one["code"]: one for one in report["findings"]}
    assert found["windows-line-ends"]["count"] == 8 and found["windows-line-ends"]["entry"] == "line 1"
    assert call("run", "--here", "--datasets", "precomp", "--methods", "chance") == 0
    assert len(list((project / "runs" / "trials").glob("*/result.json"))) == 1


@pytest.mark.parametrize("layout", BROKEN)
def test_sound_data_are_found_sound(
    call: Call, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest, layout: str
) -> None:
    request.getfixturevalue(layout)
    assert call("validate", "--dataset", layout, "--json") == 0
    (report,) = json.loads(capsys.readouterr().out)["datasets"]
    codes = [one["code"] for one in report["findings"] if one["severity"] != "note"]
    assert codes == ["recall-saturated"], "its gallery has four images"


def test_every_broken_split_is_told_at_once(precomp: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    saved("train_ims.npy", with_nan)(precomp)
    edited("dev_caps.txt", line(2, b""))(precomp)
    (precomp / "test_ims.npy").unlink()
    assert call("validate", "--dataset", "precomp", "--json") == 3
    (report,) = json.loads(capsys.readouterr().out)["datasets"]
    places = {(one["file"], one["entry"]) for one in report["findings"] if one["severity"] == "error"}
    assert places == {("train_ims.npy", "row 2"), ("dev_caps.txt", "line 2"), ("test_ims.npy", None)}


def test_a_results_folder_that_cannot_be_written_ends_with_6(
    precomp: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("validate", "--dataset", "precomp", "-s", "paths.results=harness.toml") == 6
    assert "harness.toml" in capsys.readouterr().err


def test_an_error_says_its_location_first_and_keeps_it_on_its_way_from_another_process() -> None:
    error = DataError("holds NaN", Location(Path("a") / "b.npy").within("row 3"))
    assert str(error) == "a/b.npy, row 3: holds NaN" and str(DataError("so")) == "so"
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.location) == (str(error), error.location)


FUZZED = st.binary(max_size=200)


@given(FUZZED | st.lists(st.sampled_from([b"a dog", b"", b"\r", b"\xff", b"\xe2\x80", b" x "])).map(b"\n".join))
def test_any_bytes_are_lines_or_refused_by_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "lines.txt"
    file.write_bytes(content)
    with suppress(DataError):
        assert all(text and text == text.strip() for text in read_lines(file, "is a caption"))


@given(st.data())
def test_any_bytes_are_an_array_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.npy"
    np.save(file, np.ones((2, 1, 1), dtype=np.float32))
    content = bytearray(file.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]) + data.draw(st.binary(max_size=3)))
    with suppress(DataError):
        assert open_array(file, ("rows", "regions", "width")).ndim == 3


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**30) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "image_id", "caption"]), inner),
    max_leaves=6,
)


FUZZED_CARD: dict[str, Any] = {
    **dict.fromkeys(("title", "summary", "licence", "origin"), ""),
    **{"name": "x", "layout": "coco", "path": "card.toml", "feature_width": 12, "max_regions": 3, "splits": {}},
    "protocols": [{"name": "all", "images": 1, "captions": 1}],
    "options": {"captions": "captions.json", "instances": "instances.json", "split": "split.json"},
}


@given(st.sampled_from(["split.json", "captions.json", "instances.json"]), st.data())
def test_any_json_is_annotations_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)

    def change(content: dict[str, Any]) -> None:
        table = content[name]
        key = data.draw(st.sampled_from(sorted(table)))
        place = data.draw(st.sampled_from(range(len(table[key]))))
        if isinstance(table[key][place], dict) and data.draw(st.booleans()):
            table[key][place][data.draw(st.sampled_from(sorted(table[key][place])))] = data.draw(ANY_JSON)
        else:
            table[key][place] = data.draw(ANY_JSON)

    rewrite(folder, change)
    if data.draw(st.integers(0, 4)) == 0:
        (folder / name).write_bytes(data.draw(FUZZED))
    reader = Coco(Place(DatasetCard.model_validate(FUZZED_CARD), folder, folder))
    with suppress(DataError):
        assert isinstance(reader.annotations, Annotations)
        reader.read("test")
