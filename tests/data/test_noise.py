"""Wrong pairs to train on: drawn, read from a file of the field, named, refused; val and test stay clean."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_projects import Finish
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_project import Call

import harness
from harness.config.noise import Noise, base_name, noise_of
from harness.config.project import load
from harness.config.registry import discover
from harness.data.content import pairs_of
from harness.data.regions import Ragged
from harness.data.split import KnownPairs, Split, drawn_pairs, read_noise, wrong_pairs
from harness.data.tokens import Tokens
from harness.errors import DataError
from harness.layouts.opening import open_dataset
from harness.trial.folder import NOISE_INDEX, WRONG_PAIRS

Captured = pytest.CaptureFixture[str]
Array = np.ndarray[Any, Any]
NOISY = ("-s", "noise.share=0.2", "-s", "noise.seed=1")


def split_of(counts: list[int], pairs: Array | None = None) -> Split:
    """A training split of images with so many captions each."""
    own = pairs_of(counts) if pairs is None else pairs
    captions = tuple(f"caption {number}" for number in range(int(own[:, 1].max()) + 1))
    return Split(
        images=Ragged.stack([np.zeros((1, 2), np.float32)] * len(counts)),
        captions=captions,
        pairs=own,
        image_ids=tuple(f"image {number}" for number in range(len(counts))),
        name="train",
        tokens=Tokens.stack([[1, 4, 2]] * len(captions)),
    )


counts_of_captions = st.lists(st.integers(1, 6), min_size=2, max_size=12)


@given(counts_of_captions, st.floats(0.01, 1), st.integers(0, 2**32 - 1))
@example([5, 5], 1.0, 0)
@example([1, 1], 1.0, 3)
def test_a_draw_is_exact_wrong_throughout_and_the_same_again(counts: list[int], share: float, seed: int) -> None:
    split, noise = split_of(counts), Noise(share=share, seed=seed)
    chosen = round(share * len(split.pairs))
    try:
        pairs = drawn_pairs(split, noise)
    except DataError:  # an image has most of what was chosen, so that some of it would get it back
        assert chosen < 2 * max(counts)
        return
    assert np.array_equal(pairs, drawn_pairs(split, noise))
    assert np.array_equal(pairs[:, 1], split.pairs[:, 1])
    assert Counter(pairs[:, 0].tolist()) == Counter(split.pairs[:, 0].tolist())
    changed = pairs[:, 0] != split.pairs[:, 0]
    assert changed.sum() == chosen
    assert not KnownPairs(split).holds(pairs[changed, 0], pairs[changed, 1]).any()
    assert len(wrong_pairs(split, with_pairs(split, pairs))) == chosen


def with_pairs(split: Split, pairs: Array) -> Split:
    return Split(**{**vars(split), "pairs": pairs})


def test_seeds_draw_differently_and_captions_of_several_images_stay_wrong_for_all_of_them() -> None:
    split = split_of([5] * 40)
    drawn = [drawn_pairs(split, Noise(share=0.4, seed=seed)) for seed in (0, 1)]
    assert not np.array_equal(*drawn)
    both = np.concatenate([pairs_of([2] * 10), [[(image + 1) % 10, 2 * image] for image in range(10)]])
    shared = split_of([2] * 10, both)
    pairs = drawn_pairs(shared, Noise(share=0.5))
    changed = pairs[:, 0] != both[:, 0]
    assert changed.sum() == 15 and not KnownPairs(shared).holds(pairs[changed, 0], pairs[changed, 1]).any()


def test_the_draw_of_a_seed_never_changes() -> None:
    pairs = drawn_pairs(split_of([2] * 5), Noise(share=0.6, seed=7))
    assert pairs[:, 0].tolist() == [1, 0, 2, 0, 3, 2, 4, 3, 4, 1]


def test_a_file_of_the_field_is_read_as_npy_and_json(tmp_path: Path) -> None:
    split = split_of([5] * 4)
    index = np.arange(20) // 5
    index[[0, 7]] = index[[7, 0]]
    np.save(tmp_path / "0.2.npy", index)
    (tmp_path / "0.2.json").write_text(json.dumps(index.tolist()))
    for name in ("0.2.npy", "0.2.json"):
        pairs = read_noise(tmp_path / name, split)
        assert pairs[:, 0].tolist() == index.tolist() and pairs[:, 1].tolist() == list(range(20))
    found = wrong_pairs(split, with_pairs(split, pairs))
    assert found[0] == {"caption": 0, "image": "image 1", "own_image": "image 0"} and len(found) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.arange(19) // 5, "has 19 numbers, split train 20 captions"),
        (np.arange(20) // 5, "all its pairs are right"),
        (np.arange(20), "entry 4: 4 is no number of an image, which count from 0 to 3"),
        (np.arange(20) // 5 - 1, "entry 0: -1 is no number"),
        (np.arange(20.0) // 5, "whole numbers of shape"),
        (np.zeros((20, 1), np.int64), "whole numbers of shape"),
        (np.array([None] * 20), "pickled objects"),
        ([0.5] * 20, "entry 0: a JSON list of whole numbers"),
        ({"0": 1}, "a JSON list of whole numbers"),
        ([], "a JSON list of whole numbers"),
    ],
)
def test_a_file_that_is_no_index_of_the_split_is_named(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / ("noise.npy" if isinstance(content, np.ndarray) else "noise.json")
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_noise(path, split_of([5] * 4))


def test_the_name_of_a_dataset_says_its_noise_and_nothing_else_is_one() -> None:
    for noise in (Noise(share=0.2, seed=1), Noise(share=1), Noise(share=1e-05), Noise(file="noise_index/f30k_0.2.npy")):
        assert noise_of(f"f30k{noise.suffix}") == noise and base_name(f"f30k{noise.suffix}") == "f30k"
    for name in ("f30k", "f30k.noise", "f30k.noise.2-s1", "f30k.noise0.20-s1", "f30k.noise2.0-s1", "f30k.noise-../x"):
        assert noise_of(name) is None and base_name(name) == name


def test_wrong_pairs_are_in_training_alone_and_in_the_identity(project: Path) -> None:
    cards = discover(load()).datasets
    clean, noisy, other = (
        open_dataset(cards[name], Path("data"), Path("runs/cache"))
        for name in ("tiny", "tiny.noise0.2-s1", "tiny.noise0.2-s2")
    )
    assert len({clean.fingerprint, noisy.fingerprint, other.fingerprint}) == 3
    for name in ("train", "val", "test"):
        assert np.array_equal(clean.split(name).pairs, noisy.split(name).pairs)
    assert clean.training is clean.split("train")
    assert (noisy.training.pairs != clean.training.pairs).any(axis=1).sum() == round(0.2 * len(clean.training.pairs))


@pytest.mark.slow
def test_noisy_rows_have_a_board_of_their_own_that_says_so(finish: Finish, call: Call) -> None:
    finish(("run", "--here"), ("run", "--here", *NOISY))
    opened = harness.open(".")
    clean, noisy = opened.trial("vsepp/tiny/s0"), opened.trial("vsepp/tiny.noise0.2-s1/s0")
    assert clean.key != noisy.key and clean.run.spec.noise == ""
    assert "20 % wrong training pairs, drawn with seed 1" in Path("reports/tiny.noise0.2-s1-all.md").read_text()
    assert "wrong training pairs" not in Path("reports/tiny-all.md").read_text()
    assert len(opened.board("tiny")) == len(opened.board("tiny.noise0.2-s1")) == 1
    assert call("report", "--check") == 0 and call("compare", clean.name, noisy.name) == 2
    assert opened.load(noisy).retrieve("a red square", k=1)["rank"][0] == 1
    assert noisy.settings == clean.settings and noisy.training == clean.training


@pytest.mark.slow
def test_the_pairs_of_a_trial_are_exported_and_give_the_same_trial_when_they_are_read(
    finish: Finish, call: Call, capsys: Captured
) -> None:
    finish(("run", "--here", *NOISY))
    (folder,) = Path("runs/trials").iterdir()
    exported = json.loads((folder / WRONG_PAIRS).read_text())
    dataset = open_dataset(discover(load()).datasets["tiny.noise0.2-s1"], Path("data"), Path("runs/cache"))
    assert exported["pairs"] == wrong_pairs(dataset.split("train"), dataset.training)
    Path("data").mkdir(exist_ok=True)
    Path("data/index.npy").write_bytes((folder / NOISE_INDEX).read_bytes())
    assert call("run", "--here", "-s", "noise.file=index.npy") == 0
    opened = harness.open(".")
    drawn, read = (opened.trial(f"vsepp/tiny.noise{end}/s0") for end in ("0.2-s1", "-index.npy"))
    assert drawn.measures == read.measures and drawn.key != read.key
    capsys.readouterr()
    assert call("run", "--here", "-s", "noise.file=index.npy", "--limit", "8") == 3
    assert "leave --limit out" in capsys.readouterr().err


@pytest.mark.slow
def test_a_card_may_have_noise_and_its_rows_say_so(project: Path, call: Call) -> None:
    card = Path("cards/tiny/card.toml").read_text().replace('name = "tiny"', 'name = "noisy"')
    Path("cards/noisy").mkdir()
    Path("cards/noisy/card.toml").write_text("noise = { share = 0.5, seed = 2 }\n" + card)
    assert call("run", "--here", "--datasets", "noisy") == 0
    assert "50 % wrong training pairs, drawn with seed 2" in Path("reports/noisy-all.md").read_text()


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("share=1.5", 2, "less than or equal to 1"),
        ("share=-0.1", 2, "greater than or equal to 0"),
        ("share=nan", 2, "finite number"),
        ("seed=-1", 2, "noise.seed"),
        ("file=../x.npy", 2, "no path inside"),
        ("file=absent.npy", 3, "noise file = 'absent.npy': it is not in"),
        ("share=0.001", 3, "0 of 69 training pairs cannot exchange their images"),
    ],
)
def test_wrong_noise_is_named_before_anything_runs(
    project: Path, call: Call, capsys: Captured, override: str, code: int, message: str
) -> None:
    assert call("run", "--here", "-s", f"noise.{override}") == code
    assert message in capsys.readouterr().err and not Path("runs/trials").exists()
