"""`harness init dataset`: a card is measured from each kind of folder and opens it; what is missing is said."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import write_precomp
from karpathy_files import entry, write_store
from tiny_project import Call

from harness.config.cards import DatasetCard, read_card
from harness.config.project import CACHE, load
from harness.config.registry import discover
from harness.files import sha256
from harness.layouts.opening import open_dataset

Capture = pytest.CaptureFixture[str]
SIZES = {"train": 12, "val": 4, "test": 4}
NAMES = {split: [f"{split} {number}" for number in range(size)] for split, size in SIZES.items()}


def own_folder(folder: Path) -> None:
    """Images with one caption, two or three."""
    names = [name for split in NAMES.values() for name in split]
    write_store(folder / "regions", names)
    lines = [
        {"id": f"{name}/{number}", "image": name, "text": f"caption {number} of {name}"}
        for place, name in enumerate(names)
        for number in range(1 + place % 3)
    ]
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "split.json").write_text(json.dumps(NAMES))


def karpathy_folder(folder: Path) -> None:
    """COCO's kind: four splits, a store of numbers, one image with six captions."""
    write_store(folder / "regions", [str(10 * number) for number in range(8)])
    splits = ("train", "restval", "train", "val", "test", "train", "val", "test")
    images = [entry(number, split, *["a dog"] * (5 + (number == 2))) for number, split in enumerate(splits)]
    (folder / "dataset_tiny.json").write_text(json.dumps({"images": images}))


def precomp_folder(folder: Path) -> None:
    """Three captions per image; the images of dev are repeated once a caption; there is a testall beside test."""
    for stem, images, times in (("train", 6, 1), ("dev", 2, 3), ("test", 2, 1), ("testall", 4, 1)):
        array = np.random.default_rng(images).random((images, 5, 7), dtype=np.float32).repeat(times, axis=0)
        write_precomp(folder, stem, array, "a dog\n" * images * 3)


FOLDERS = {"own": own_folder, "karpathy": karpathy_folder, "precomp": precomp_folder}


def filled(project: Path, kind: str, name: str = "mine") -> Path:
    folder = project / "data" / name
    folder.mkdir(parents=True)
    FOLDERS[kind](folder)
    return folder


def written(project: Path) -> DatasetCard:
    return read_card(DatasetCard, project / "cards" / "mine" / "card.toml")


EXPECTED: dict[str, tuple[dict[str, Any], dict[str, tuple[int, int]], int, int]] = {
    "own": ({"regions": "regions"}, {"train": (12, 24), "val": (4, 7), "test": (4, 8)}, 3, 4),
    "karpathy": (
        {"annotations": "dataset_tiny.json", "regions": "regions", "train": "train,restval", "image_id": "cocoid"},
        {"train": (4, 21), "val": (2, 10), "test": (2, 10)},
        3,
        4,
    ),
    "precomp": (
        {"captions_each": 3, "train": "train", "val": "dev", "test": "testall"},
        {"train": (6, 18), "val": (2, 6), "test": (4, 12)},
        7,
        5,
    ),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_card_is_measured_and_opens_what_it_was_measured_from(project: Path, call: Call, kind: str) -> None:
    folder = filled(project, kind)
    assert call("init", "dataset", "mine") == 0
    card = written(project)
    options, sizes, width, most = EXPECTED[kind]
    assert card.options == options and (card.feature_width, card.max_regions) == (width, most)
    assert {split: (size.images, size.captions) for split, size in card.splits.items()} == sizes
    assert [(p.name, p.split, p.images, p.captions) for p in card.protocols] == [("full", "test", *sizes["test"])]
    assert card.folder == "mine" and card.files
    for file in card.files:
        path = folder / file.path
        assert (file.sha256, file.bytes) == (sha256(path), path.stat().st_size)
    dataset = open_dataset(card, project / "data", project / "runs" / CACHE)
    assert {split: len(dataset.split(split).captions) for split in sizes} == {s: c for s, (_, c) in sizes.items()}


@pytest.mark.slow
def test_run_works_at_once_and_changed_files_are_refused(project: Path, call: Call, capsys: Capture) -> None:
    folder = filled(project, "own")
    assert call("init", "dataset", "mine") == 0
    assert "harness run --datasets mine" in capsys.readouterr().out
    assert call("run", "--datasets", "mine", "--here", "-s", "training.epochs=1") == 0
    assert "vsepp" in (project / "reports" / "mine-full.md").read_text()
    path = folder / "captions.jsonl"
    path.write_text(path.read_text().replace("caption 0", "another 0"))
    capsys.readouterr()
    assert call("run", "--datasets", "mine", "--here", "-s", "training.epochs=1") == 3
    err = capsys.readouterr().err
    assert "captions.jsonl: its sha256 is" in err and "`harness init dataset mine --force` measures it" in err
    assert call("init", "dataset", "mine", "--force") == 0
    assert call("run", "--datasets", "mine", "--here", "-s", "training.epochs=1", "-n") == 0


def test_the_card_is_commented_and_asks_for_what_only_people_know(project: Path, call: Call) -> None:
    filled(project, "own")
    call("init", "dataset", "mine")
    text = (project / "cards" / "mine" / "card.toml").read_text()
    for key in ("title", "summary", "licence", "origin"):
        assert any(line.startswith(f"{key} = ") and "# " in line for line in text.splitlines()), key
    assert text.startswith("# Written by `harness init dataset mine`")
    assert tomllib.loads(text)["licence"] == "not stated"


def test_what_a_reader_of_the_card_should_know_is_said(project: Path, call: Call, capsys: Capture) -> None:
    folder = filled(project, "own")
    with (folder / "captions.jsonl").open("a") as file:
        file.write('{"id": "x", "image": "nobody\'s", "text": "x"}\n')
    filled(project, "precomp", "other")
    call("init", "dataset", "mine")
    call("init", "dataset", "other")
    out = capsys.readouterr().out
    assert "in none of train, val, test, left out: 1" in out and "test_ims.npy and test_caps.txt are left out" in out
    assert "left out: 1" in (project / "cards" / "mine" / "card.toml").read_text()


def test_json_alone_is_on_stdout(project: Path, call: Call, capsys: Capture) -> None:
    filled(project, "karpathy")
    assert call("init", "dataset", "mine", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["layout"] == "karpathy" and answer["splits"]["train"] == {"images": 4, "captions": 21}
    assert answer["written"] == str(project / "cards" / "mine" / "card.toml")


def test_a_card_is_replaced_only_by_force_and_gives_the_same_bytes(project: Path, call: Call, capsys: Capture) -> None:
    filled(project, "own")
    call("init", "dataset", "mine")
    file = project / "cards" / "mine" / "card.toml"
    before = file.read_text()
    file.write_text(before.replace("not stated", "stated"))
    assert call("init", "dataset", "mine") == 2
    assert "--force" in capsys.readouterr().err and "stated" in file.read_text()
    assert call("init", "dataset", "mine", "--force") == 0
    assert file.read_text() == before


def test_a_folder_elsewhere_is_named_whole_and_its_numbers_are_the_same_dataset(
    project: Path, call: Call, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("a place") / "of mine"
    folder.mkdir()
    own_folder(folder)
    assert call("init", "dataset", "mine", "--folder", str(folder)) == 0
    card = written(project)
    assert card.folder == str(folder)
    elsewhere = open_dataset(card, project / "data", project / "runs" / CACHE)
    shutil.copytree(folder, project / "data" / "mine")
    moved = card.model_copy(update={"folder": "mine"})
    assert open_dataset(moved, project / "data", project / "runs" / CACHE).fingerprint == elsewhere.fingerprint
    assert "mine" in discover(load()).datasets


@pytest.mark.parametrize("name", ["Mine", "1st", "../mine", "my photos", "mine\n"])
def test_a_name_that_is_none_is_refused(project: Path, call: Call, capsys: Capture, name: str) -> None:
    assert call("init", "dataset", name) == 2
    assert "no name of a dataset" in capsys.readouterr().err


def test_an_empty_name_is_refused(project: Path, call: Call, capsys: Capture) -> None:
    assert call("init", "dataset", "") == 2
    assert "'NAME': it is empty; give a value" in capsys.readouterr().err


def test_the_name_of_another_dataset_is_refused(project: Path, call: Call, capsys: Capture) -> None:
    assert call("init", "dataset", "coco", "--force") == 2
    assert "there is a dataset 'coco' already" in capsys.readouterr().err


def remove(*names: str) -> Any:
    def change(folder: Path) -> None:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def pictures_alone(folder: Path) -> None:
    remove("captions.jsonl", "split.json", "regions")(folder)
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").touch()


def pictures_in_folders(folder: Path) -> None:
    remove("regions")(folder)
    for name in ("2018/0.JPG", "2019/1.png", "2019/notes.txt"):
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / name).touch()


def no_regions_but_pictures(folder: Path) -> None:
    remove("regions")(folder)
    (folder / "images").mkdir()
    for name in ("a.jpg", "b.PNG", "notes.txt"):
        (folder / "images" / name).touch()


def other_widths(folder: Path) -> None:
    np.save(folder / "dev_ims.npy", np.ones((2, 5, 8), np.float32))


def two_files(folder: Path) -> None:
    shutil.copy(folder / "dataset_tiny.json", folder / "dataset_more.json")


MISSING: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "the folder": ("own", shutil.rmtree, ("data/mine: does not exist", "--folder")),
    "all": (
        "own",
        remove("captions.jsonl", "split.json", "regions"),
        ("(nothing)", "captions.jsonl", "dataset_NAME.json"),
    ),
    "all but pictures": (
        "own",
        pictures_alone,
        ("captions.jsonl", "harness data extract", "images/ is there (1 files)"),
    ),
    "captions": ("own", remove("captions.jsonl"), ("captions.jsonl is missing", '"text"')),
    "splits": ("own", remove("split.json"), ("split.json is missing", '{"train": [image ids]')),
    "regions": ("own", remove("regions"), ("regions/ is missing", "harness data convert SOURCE --to")),
    "regions of pictures": (
        "own",
        no_regions_but_pictures,
        ("images/ is there (2 files): harness data extract", "data/mine/images --to", "data/mine/regions --model"),
    ),
    "regions of pictures in folders": (
        "own",
        pictures_in_folders,
        ("images/ is there (2 files): harness data extract",),
    ),
    "both": ("own", remove("regions", "split.json"), ("split.json is missing", "regions/ is missing")),
    "Karpathy's regions": ("karpathy", remove("regions"), ("regions/ is missing",)),
    "one of Karpathy's files too many": ("karpathy", two_files, ("dataset_more.json, dataset_tiny.json",)),
    "arrays": ("precomp", remove("dev_ims.npy"), ("dev_ims.npy is missing",)),
    "test": (
        "precomp",
        remove("test_ims.npy", "test_caps.txt", "testall_ims.npy", "testall_caps.txt"),
        ("test_ims.npy is missing", "test_caps.txt is missing"),
    ),
    "one width": ("precomp", other_widths, ("says 7 numbers per region, the files hold 8",)),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_is_missing_is_said_with_the_command_that_makes_it(
    project: Path, call: Call, capsys: Capture, what: str
) -> None:
    kind, change, said = MISSING[what]
    change(filled(project, kind))
    assert call("init", "dataset", "mine") == 3
    err = capsys.readouterr().err
    assert all(part in err for part in said), err
    assert not (project / "cards" / "mine").exists()


def test_captions_an_image_must_be_one_number(project: Path, call: Call, capsys: Capture) -> None:
    folder = filled(project, "precomp")
    (folder / "train_caps.txt").write_text("a dog\n" * 12)
    assert call("init", "dataset", "mine") == 3
    assert "2 in train, 3 in dev" in capsys.readouterr().err
    (folder / "train_caps.txt").write_text("a dog\n" * 13)
    assert call("init", "dataset", "mine") == 3
    assert "13 lines and train_ims.npy 6 rows" in capsys.readouterr().err


def test_a_split_of_one_image_that_is_repeated_is_understood(project: Path, call: Call) -> None:
    folder = filled(project, "precomp")
    np.save(folder / "dev_ims.npy", np.ones((3, 5, 7), np.float32))
    (folder / "dev_caps.txt").write_text("a dog\n" * 3)
    assert call("init", "dataset", "mine") == 0
    assert written(project).splits["val"].images == 1


def test_a_circle_of_links_is_no_folder(project: Path, call: Call, capsys: Capture) -> None:
    (project / "data").mkdir()
    (project / "data" / "mine").symlink_to(project / "data" / "mine")
    assert call("init", "dataset", "mine") == 3
    assert "does not exist" in capsys.readouterr().err


def test_a_card_that_cannot_be_written_ends_with_6(project: Path, call: Call, capsys: Capture) -> None:
    filled(project, "own")
    (project / "cards" / "mine").write_text("a file where the folder should be")
    assert call("init", "dataset", "mine") == 6
    assert "cannot be written" in capsys.readouterr().err


def test_flags_before_the_word_dataset_are_refused_and_not_dropped(project: Path, call: Call, capsys: Capture) -> None:
    assert call("init", "--force", "dataset", "mine") == 2
    assert "harness init dataset NAME --force" in capsys.readouterr().err
