"""A project that trains in a second: its own harness.toml, a handful of scenes, and methods with faults."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.config.cards import DatasetCard, read_card
from harness.data.content import Place
from harness.layouts.scenes import Scenes

CONFIG = """
[campaign]
methods = ["vsepp"]
datasets = ["tiny"]
seeds = [0]

[paths]
methods = ["cards"]
datasets = ["cards"]

[training]
epochs = 2
batch_size = 8

[settings."*"]
dim = 8
word_dim = 8
"""
DATASET = """
name = "tiny"
title = "A handful of scenes"
summary = "For tests."
layout = "scenes"
licence = "generated"
origin = "generated on first use"
feature_width = {width}
max_regions = {regions}
[splits]
{splits}
[text]
min_count = 1
[[protocols]]
name = "all"
images = {images}
captions = {captions}
"""
WATCHED = ("torch", "ray", "mlflow", "optuna", "matplotlib", "pandas", "pydantic")
Call = Callable[..., int]
SIZES = {"train": 16, "val": 8, "test": 8}
METHOD = '''
import os
import time
from dataclasses import dataclass

import torch
from torch import nn

from harness.method import Encoded, Method


class Faulty(Method):
    """Means of regions and words; what goes wrong in training is said by a setting."""

    @dataclass(frozen=True)
    class Settings:
        dim: int = 8
        fault: str = ""
        after: int = 0  # steps

    def __init__(self, settings, inputs):
        super().__init__(settings, inputs)
        self.images = nn.Linear(inputs.feature_width, settings.dim)
        self.words = nn.Embedding(inputs.vocabulary_size, settings.dim)
        self.steps = 0

    def encode_images(self, regions, mask):
        vectors = self.images(regions) * mask[..., None]
        return Encoded(vectors.sum(1, keepdim=True), mask.any(1, keepdim=True))

    def encode_captions(self, tokens, mask):
        vectors = self.words(tokens) * mask[..., None]
        return Encoded(vectors.sum(1, keepdim=True), mask.any(1, keepdim=True))

    def score(self, images, captions):
        return images.vectors[:, 0] @ captions.vectors[:, 0].T

    def loss(self, batch):
        self.steps += 1
        scores = self.score(
            self.encode_images(batch.regions, batch.region_mask), self.encode_captions(batch.tokens, batch.token_mask)
        )
        if self.steps > self.settings.after and self.settings.fault == "nan":
            return scores.sum() * float("nan")
        if self.steps > self.settings.after and self.settings.fault == "slow":
            time.sleep(60)
        if self.settings.fault == "bug":
            return scores / (1 // 0)
        if self.steps == self.settings.after and "TEST_SIGNAL" in os.environ:
            os.kill(os.getpid(), int(os.environ["TEST_SIGNAL"]))
        return torch.relu(scores - scores.diagonal()[:, None] + 1).mean()
'''
CARD = """
name = "{name}"
title = "A method with a fault"
class = "faulty:Faulty"
summary = "For tests."
scoring = "embedding"
fidelity = "baseline"
choices = []
[defaults]
dim = 8
fault = "{fault}"
after = {after}
"""


def make_project(folder: Path, store: Path) -> Path:
    """A project in a folder, with a copy of a migrated tracking store."""
    cards = folder / "cards"
    (cards / "tiny").mkdir(parents=True)
    (folder / "runs").mkdir()
    shutil.copy(store, folder / "runs" / "mlflow.db")
    (folder / "harness.toml").write_text(CONFIG)
    (cards / "faulty.py").write_text(METHOD)
    (cards / "nan.toml").write_text(CARD.format(name="nan", fault="nan", after=0))
    (cards / "buggy.toml").write_text(CARD.format(name="buggy", fault="bug", after=0))
    (cards / "slow.toml").write_text(CARD.format(name="slow", fault="slow", after=12))
    (cards / "signalled.toml").write_text(CARD.format(name="signalled", fault="", after=12))
    write_dataset(cards / "tiny" / "card.toml", folder / "runs" / "cache")
    return folder


def write_dataset(file: Path, cache: Path, name: str = "tiny", seed: int = 0) -> None:
    """The dataset's card, with the counts that its generator gives."""
    card = DATASET.replace('"tiny"', f'"{name}"').replace("[splits]", f"[options]\nseed = {seed}\n[splits]")
    card = card if seed else DATASET
    shape = read_card(DatasetCard, Path(__file__).parents[2] / "datasets" / "scenes" / "card.toml")
    sizes = {"width": shape.feature_width, "regions": shape.max_regions}
    guess = "\n".join(f"{name} = {{ images = {size}, captions = 0 }}" for name, size in SIZES.items())
    file.write_text(card.format(splits=guess, images=SIZES["test"], captions=0, **sizes))
    reader = Scenes(Place(read_card(DatasetCard, file), file.parent, cache))
    counts = {name: len(reader.read(name).captions) for name in SIZES}
    true = "\n".join(f"{name} = {{ images = {SIZES[name]}, captions = {counts[name]} }}" for name in SIZES)
    file.write_text(card.format(splits=true, images=SIZES["test"], captions=counts["test"], **sizes))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, migrated_store: Path) -> Path:
    """A tiny project to copy."""
    return make_project(tmp_path_factory.mktemp("template"), migrated_store)


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny project, which is the working folder."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


@pytest.fixture
def call() -> Call:
    """Run a command line in this process; its exit code."""

    def call(*words: str) -> int:
        with pytest.raises(SystemExit) as end:
            main(words)
        return int(end.value.code or 0)

    return call


def in_a_new_process(*words: str) -> tuple[str, set[str]]:
    """stdout of a command in a fresh Python, and the heavy libraries that it imported."""
    script = f"""
import sys
from harness.cli.main import main
try:
    main({words!r})
except SystemExit as end:
    print(*({{*{WATCHED!r}}} & set(sys.modules)), file=sys.stderr)
    sys.exit(end.code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout, set(done.stderr.split())
