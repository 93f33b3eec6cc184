"""Pictures that were replaced under their names: an extraction keeps no stale features and mixes none in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_project import Call
from tiny_vision import images, models

from harness.cli.datasets import data
from harness.cli.main import cli
from harness.data.pictures import digest_of, find_pictures
from harness.data.region_store import open_store
from harness.data.region_writer import discard
from harness.errors import DataError, UsageError
from harness.extraction.extract import extract
from harness.extraction.extractors import Extractor
from harness.extraction.vision_models import ModelChoice, load

pytest.importorskip("transformers")

__all__ = ["images", "models"]
Captured = pytest.CaptureFixture[str]
cli.add_command(data)


@pytest.fixture
def vit(models: Path) -> Extractor:
    return load(ModelChoice(str(models / "vit")), torch.device("cpu"))


@pytest.fixture
def files(images: Path, tmp_path: Path) -> dict[str, Path]:
    shutil.copytree(images, tmp_path / "images")
    return find_pictures(tmp_path / "images").files


def replaced(file: Path) -> None:
    with Image.open(file) as picture:
        picture.transpose(Image.Transpose.ROTATE_180).save(file)


@contextmanager
def interrupted(total: int, done: int) -> Iterator[Any]:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    yield stop


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def begun(files: dict[str, Path], vit: Extractor, store: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract(files, vit, store, batch_size=2, watch=interrupted)


def as_of_an_earlier_version(store: Path) -> None:
    """The journal without its digests."""
    head, *lines = (store / "journal.part").read_text().splitlines()
    (store / "journal.part").write_text("\n".join([head, *(json.dumps(json.loads(line)[:-1]) for line in lines), ""]))


def test_a_store_has_a_digest_of_each_picture(files: dict[str, Path], vit: Extractor, tmp_path: Path) -> None:
    extract(files, vit, tmp_path / "store")
    lines = (tmp_path / "store" / "sources.txt").read_text().splitlines()
    assert lines == [digest_of(file) for file in files.values()] and {len(line) for line in lines} == {16}


def test_a_finished_store_of_other_pictures_is_not_taken_for_this_one(
    files: dict[str, Path], vit: Extractor, tmp_path: Path
) -> None:
    extract(files, vit, tmp_path / "store")
    assert extract(files, vit, tmp_path / "store").before == 9
    replaced(files["7"]), replaced(files["3"])
    said = r"2 of the 9 pictures that .*store was made of have changed since, '3' first; .*--force extracts again"
    with pytest.raises(UsageError, match=said):
        extract(files, vit, tmp_path / "store")
    assert extract(files, vit, tmp_path / "store", force=True).before == 0
    extract(files, vit, tmp_path / "at once")
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


def test_unfinished_work_on_other_pictures_does_not_go_on(
    files: dict[str, Path], vit: Extractor, tmp_path: Path
) -> None:
    begun(files, vit, tmp_path / "store")
    original = files["1"].read_bytes()
    replaced(files["1"]), replaced(files["8"])  # the second was not seen yet
    with pytest.raises(UsageError, match=r"1 of the 2 pictures that .* have changed since, '1' first"):
        extract(files, vit, tmp_path / "store", batch_size=2)
    files["1"].write_bytes(original)
    assert extract(files, vit, tmp_path / "store", batch_size=2).before == 2
    extract(files, vit, tmp_path / "at once", batch_size=2)
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


def test_work_of_an_earlier_version_goes_on_and_promises_nothing_of_its_pictures(
    files: dict[str, Path], vit: Extractor, tmp_path: Path
) -> None:
    begun(files, vit, tmp_path / "store")
    as_of_an_earlier_version(tmp_path / "store")
    made = extract(files, vit, tmp_path / "store", batch_size=2)
    assert made.before == 2 and not made.knows_sources
    extract(files, vit, tmp_path / "at once", batch_size=2)
    once = contents(tmp_path / "at once")
    assert contents(tmp_path / "store") == {name: once[name] for name in once if name != "sources.txt"}


def test_a_store_of_an_earlier_version_is_taken_and_not_said_to_be_of_these_pictures(
    models: Path, files: dict[str, Path], tmp_path: Path, call: Call, capsys: Captured
) -> None:
    words = ("data", "extract", str(tmp_path / "images"), "--to", str(tmp_path / "store"))
    words += ("--model", str(models / "vit"))
    assert call(*words) == call(*words) == 0
    assert "all of it was there already, of the same model and pictures; --force" in capsys.readouterr().out
    (tmp_path / "store" / "sources.txt").unlink()
    replaced(files["3"])
    assert call(*words) == 0
    assert "pictures of the same names; it does not say whether they have changed" in capsys.readouterr().out
    assert open_store(tmp_path / "store", tmp_path / "cache").facts.images == 9


def test_digests_that_are_not_one_for_each_image_are_refused(
    files: dict[str, Path], vit: Extractor, tmp_path: Path
) -> None:
    extract(files, vit, tmp_path / "store")
    (tmp_path / "store" / "sources.txt").write_text("0123456789abcdef\n")
    with pytest.raises(DataError, match=r"sources\.txt: has 1 lines for 9 images; .*--force"):
        extract(files, vit, tmp_path / "store")


def test_force_leaves_no_digest_of_an_earlier_store(files: dict[str, Path], vit: Extractor, tmp_path: Path) -> None:
    extract(files, vit, tmp_path / "store")
    discard(tmp_path / "store")
    assert not list((tmp_path / "store").iterdir())
