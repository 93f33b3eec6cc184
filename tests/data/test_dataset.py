"""Datasets are checked against their cards; a fingerprint changes with what decides results and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_files import CARD, files, opened

from harness.config.cards import DatasetCard, read_card
from harness.data import cache, tokens
from harness.data.tokens import Tokens
from harness.errors import DataError
from harness.files import npz, sha256
from harness.layouts.opening import fingerprint


def found(root: Path, **changes: Any) -> str:
    return fingerprint(DatasetCard.model_validate({**CARD, **changes}), root, root / "cache")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": {"train": {"images": 3, "captions": 5}}}, "3 images, the files hold 2"),
        ({"splits": {"train": {"images": 2, "captions": 6}}}, "6 captions, the files hold 5"),
        ({"feature_width": 90}, "90 numbers per region, the files hold 13"),
    ],
)
def test_counts_that_differ_from_the_card_are_refused_with_both_numbers(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=f"tiny train: the card says {message}"):
        opened(tmp_path, files(), **changes).split("train")


def test_an_unknown_split_names_its_neighbours(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown split 'tset'; did you mean test"):
        opened(tmp_path, files()).split("tset")


def test_absent_files_are_named_with_where_from_and_where_to(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        found(tmp_path)
    for part in ("tiny", "3 of its 3 files", "split.json", str(tmp_path / "tiny"), "the moon", "HARNESS_DATA"):
        assert part in str(error.value)


def test_a_file_of_another_hash_than_the_cards_is_refused_with_both(tmp_path: Path) -> None:
    opened(tmp_path, files())
    true = hashlib.sha256((tmp_path / "tiny" / "split.json").read_bytes()).hexdigest()
    found(tmp_path, files=[{"path": "split.json", "sha256": true}])
    with pytest.raises(DataError, match=rf"split\.json: its sha256 is {true}, the card says {'0' * 64}"):
        found(tmp_path, files=[{"path": "split.json", "sha256": "0" * 64}])


def test_the_fingerprint_follows_files_options_and_splits_and_not_titles_or_places(tmp_path: Path) -> None:
    opened(tmp_path, files())
    before = found(tmp_path)
    assert found(tmp_path, title="other", summary="other", licence="other", origin="other") == before
    other = tmp_path / "elsewhere"
    other.mkdir()
    opened(other, files())
    assert found(other) == before
    assert found(tmp_path, text={"min_count": 2}) != before
    assert found(tmp_path, max_regions=3) != before
    assert found(tmp_path, splits={"test": {"images": 1, "captions": 1}}) != before
    changed = files()
    changed["captions.json"]["annotations"][0]["caption"] = "changed"
    opened(tmp_path, changed)
    assert found(tmp_path) != before


def test_a_file_is_hashed_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path, files())
    before = found(tmp_path)
    path = tmp_path / "tiny" / "split.json"
    hashed: list[Path] = []
    monkeypatch.setattr(cache, "sha256", lambda file: hashed.append(file) or sha256(file))
    assert found(tmp_path) == before and not hashed
    status, text = path.stat(), path.read_text(encoding="utf-8")
    path.write_text(text.replace("ids", "sdi"), encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert found(tmp_path) != before, "of the same size and time"
    assert hashed == [path]


def test_a_damaged_memory_of_hashes_is_worked_out_again(tmp_path: Path) -> None:
    opened(tmp_path, files())
    before = found(tmp_path)
    (tmp_path / "cache" / "fingerprints.json").write_text('{"sha', encoding="utf-8")
    assert found(tmp_path) == before


def test_a_changed_caption_is_never_met_with_the_tokens_kept_of_the_old_one(tmp_path: Path) -> None:
    old = opened(tmp_path, files()).split("train")
    changed = files()
    changed["captions.json"]["annotations"][0]["caption"] = "three cats and one dog"
    new = opened(tmp_path, changed)
    ids = new.split("train").tokens[1].tolist()
    again = opened(tmp_path, files()).split("train")
    assert ids == new.vocabulary.encode("three cats and one dog")
    assert again.tokens.ids.tolist() == old.tokens.ids.tolist()


def test_tokens_kept_from_an_earlier_opening_are_the_same(tmp_path: Path) -> None:
    first, second = (opened(tmp_path, files()).split("train") for _ in range(2))
    assert first.tokens.ids.tolist() == second.tokens.ids.tolist()
    assert list((tmp_path / "cache" / "words").iterdir())


def test_a_first_opening_cuts_each_caption_into_words_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions: list[str] = []
    monkeypatch.setattr(tokens, "words", lambda text, cut=tokens.words: captions.append(text) or cut(text))
    dataset = opened(tmp_path, files(), text={"min_count": 1, "vocabulary_splits": ["train"]})
    splits = [dataset.split(name) for name in ("test", "train")]
    assert sorted(captions) == sorted(caption for split in splits for caption in split.captions)
    expected = Tokens.encode(splits[1].captions, dataset.vocabulary)
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(splits[1].tokens.arrays()[name], array)


def test_a_published_vocabulary_is_read_and_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    word2idx = {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "dog": 4}
    content = {**files(), "vocab.json": {"word2idx": word2idx}}
    dataset = opened(tmp_path, content, text={"vocabulary": "vocab.json"})
    assert len(dataset.vocabulary) == 5
    content["vocab.json"] = {"word2idx": {**word2idx, "cats": 5}}
    assert opened(tmp_path, content, text={"vocabulary": "vocab.json"}).fingerprint != dataset.fingerprint


def test_the_cards_of_the_project_are_complete() -> None:
    for path in sorted(Path(__file__).parents[2].glob("datasets/*/card.toml")):
        card = read_card(DatasetCard, path)
        assert card.name == path.parent.name
        for protocol in card.protocols:
            size = card.splits[protocol.split]
            assert (protocol.images, protocol.captions) == (size.images, size.captions)
        assert {"train", "val", "test"} == set(card.splits)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "garbage": lambda file: file.write_bytes(os.urandom(file.stat().st_size)),
    "flipped": lambda file: file.write_bytes(flipped(file.read_bytes())),
    "other arrays": lambda file: file.write_bytes(npz(a=np.zeros(3))),
    "a pickle": lambda file: np.savez(file, ids=np.array([{}], dtype=object)),
    "json": lambda file: file.write_text("null"),
    "a folder": lambda file: (file.unlink(), file.mkdir(), (file / "inside").touch()),
    "a link to nowhere": lambda file: (file.unlink(), file.symlink_to("nowhere")),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
}


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_of_the_cache_is_made_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    cache = tmp_path / "cache"
    first = opened(tmp_path, files())
    before, vocabulary = first.split("train"), len(first.vocabulary)
    kept = {file: file.read_bytes() for file in cache.rglob("*") if file.is_file()}
    assert len({file.suffix for file in kept}) == 2
    for file in kept:
        damage(file)
        again = opened(tmp_path, files())
        after = again.split("train")
        assert after.captions == before.captions and len(again.vocabulary) == vocabulary and file.is_file()
        assert after.tokens.ids.tolist() == before.tokens.ids.tolist()
        assert all(one.tolist() == other.tolist() for one, other in zip(after.images, before.images, strict=True))
        if damage is not DAMAGES["flipped"]:  # which may be in a field of zip that nobody reads
            assert file.read_bytes() == kept[file] or file.name == "fingerprints.json"


def test_files_of_the_cache_that_were_exchanged_are_made_again(tmp_path: Path) -> None:
    before = {name: opened(tmp_path, files()).split(name).tokens.ids.tolist() for name in ("train", "test")}
    train, test = (next((tmp_path / "cache" / "words").glob(f"*-{name}.npz")) for name in before)
    content = train.read_bytes(), test.read_bytes()
    train.write_bytes(content[1])
    test.write_bytes(content[0])
    assert {name: opened(tmp_path, files()).split(name).tokens.ids.tolist() for name in before} == before
    assert (train.read_bytes(), test.read_bytes()) == content


def test_a_file_in_place_of_a_folder_of_the_cache_makes_way(tmp_path: Path) -> None:
    before = opened(tmp_path, files()).split("train").tokens.ids.tolist()
    words = tmp_path / "cache" / "words"
    shutil.rmtree(words)
    words.touch()
    assert opened(tmp_path, files()).split("train").tokens.ids.tolist() == before


def test_the_memory_is_plain_json(tmp_path: Path) -> None:
    opened(tmp_path, files())
    memory = json.loads((tmp_path / "cache" / "fingerprints.json").read_text(encoding="utf-8"))
    assert len(memory["facts"]) == 3 and all(len(value) == 64 for value in memory["facts"].values())
