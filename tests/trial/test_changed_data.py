"""A trial's numbers are of the files that its fingerprint names, from its first look to its result."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.config.cards import DatasetCard
from harness.config.project import Config
from harness.config.registry import discover, settings_for, training_for
from harness.config.sources import source_hash
from harness.data.dataset import Dataset
from harness.layouts.opening import fingerprint
from harness.trial.results import Assignment, Failure, State, TrialResult, TrialSpec
from harness.trial.steps import steps

SIZES = {"train": 8, "val": 4, "test": 4}


@pytest.fixture
def assignment(tmp_path: Path) -> Assignment:
    """vsepp on files of precomputed regions, three epochs."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name, images in SIZES.items():
        rng = np.random.default_rng(images)
        np.save(folder / f"{name}_ims.npy", rng.random((images, 2, 4), dtype=np.float32))
        (folder / f"{name}_caps.txt").write_text("".join(f"{name} caption {n}\n" for n in range(images)))
    card = DatasetCard.model_validate(
        {
            **dict.fromkeys(("title", "summary", "licence", "origin"), ""),
            **{"name": "tiny", "layout": "precomp", "folder": "tiny", "feature_width": 4, "max_regions": 2},
            "splits": {name: {"images": images, "captions": images} for name, images in SIZES.items()},
            "text": {"min_count": 1},
            "options": {"captions_each": 1},
            "protocols": [{"name": "all", "images": 4, "captions": 4}],
            "path": tmp_path / "card.toml",
        }
    )
    method = discover(Config()).methods["vsepp"]
    config = Config(settings={"vsepp": {"dim": 8, "word_dim": 8}}, training={"epochs": 3, "batch_size": 4})
    spec = TrialSpec(
        **{"method": "vsepp", "dataset": "tiny", "protocol": "all", "seed": 0},
        settings=settings_for(method, config),
        training=training_for(method, config),
        data_fingerprint=fingerprint(card, tmp_path, tmp_path / "cache"),
        protocol_version=1,
        source=source_hash(method),
    )
    places = {"data": tmp_path, "folder": tmp_path / "trial", "cache": tmp_path / "cache"}
    return Assignment(spec=spec, method_card=method, dataset_card=card, **places)


def run(assignment: Assignment, change: Callable[[], object], when: str = "after an epoch") -> TrialResult:
    """A trial to its end, with something done to its files once on the way."""
    life = steps(assignment)
    try:
        report = next(life)
        while True:
            if (report.phase == "test") == (when == "before test") and report.epoch >= 1:
                change()
                change = int  # once
            report = life.send(True)
    except StopIteration as end:
        return end.value


def reordered(file: Path) -> None:
    np.save(file, np.load(file)[::-1])


def zeroed(file: Path) -> None:
    array = np.load(file, mmap_mode="r+")
    array[:] = 0
    array.flush()


def replaced_with_its_time(file: Path) -> None:
    status, other = file.stat(), file.with_name("other.npy")
    np.save(other, np.load(file)[::-1])
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize("change", [reordered, zeroed, replaced_with_its_time])
@pytest.mark.parametrize("name", ["train_ims.npy", "test_ims.npy"])
@pytest.mark.parametrize("when", ["after an epoch", "before test"])
def test_features_that_change_while_a_trial_runs_give_no_result(
    assignment: Assignment, change: Callable[[Path], None], name: str, when: str
) -> None:
    result = run(assignment, lambda: change(assignment.data / "tiny" / name), when)
    assert (result.state, result.failure, result.measures) == (State.FAILED, Failure.DATA, {})
    assert "changed while the trial ran" in result.message


def test_captions_that_change_while_test_is_scored_give_no_result(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = Dataset.split

    def changing(self: Dataset, name: str) -> object:
        opened = split(self, name)
        if name == "test":
            file = assignment.data / "tiny" / "test_caps.txt"
            file.write_text(file.read_text().replace("caption", "sentence"))
        return opened

    monkeypatch.setattr(Dataset, "split", changing)
    result = run(assignment, int)
    assert (result.state, result.failure) == (State.FAILED, Failure.DATA)


def test_a_file_that_is_only_touched_or_copied_changes_nothing(assignment: Assignment) -> None:
    file = assignment.data / "tiny" / "test_ims.npy"

    def copied() -> None:
        shutil.copy(file, file.with_name("copy.npy"))
        file.with_name("copy.npy").replace(file)

    assert run(assignment, copied).state is State.DONE
