"""Word vectors from a text file: read as they are published, refused by line, and what methods make of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coco_files import CARD, files, opened
from hypothesis import given
from hypothesis import strategies as st

from harness.config.cards import DatasetCard, MethodCard, read_card
from harness.contract import samples
from harness.contract.scores import HELD_BY_ALL
from harness.data.dataset import Dataset
from harness.data.tokens import VERSION
from harness.data.word_vectors import read_vectors
from harness.errors import DataError
from harness.files import sha256
from harness.layouts.coco import Coco
from harness.layouts.opening import open_dataset
from harness.method import Inputs, Words
from harness.trial.models import build_method

METHODS = Path(__file__).parents[2] / "methods"
WORD2IDX = {"dog": 0, "cat": 1, "café": 2}
GOOD = "the 1 2 3\ncat 0.5 -1e-3 2\ndog 4 5 6\n"


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "vectors.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def with_vectors(root: Path, content: str = GOOD, name: str = "vectors.txt", **text: Any) -> Dataset:
    """The tiny dataset, with vectors below the data root."""
    written(root, content)
    return opened(root, files(), text={"min_count": 1, "vectors": name, **text})


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        f"3 3\n{GOOD}",  # word2vec's text files
        GOOD.replace("\n", " \r\n"),  # fastText's blank at the end, Windows' line ends
        GOOD.removesuffix("\n"),
        f"{GOOD}. . . 1 2 3\nat name@domain.com 1 2 3\n\xa0 1 2 3\n",  # as in GloVe's file of 840 billion words
        f"{GOOD}the 7 8 9\nzebra x y z\n",  # what is in no caption decides nothing
    ],
)
def test_the_words_of_the_vocabulary_are_read_and_no_others(tmp_path: Path, content: str) -> None:
    numbers, known = read_vectors(written(tmp_path, content), WORD2IDX)
    assert known.tolist() == [True, True, False]
    assert numbers.dtype == np.float32
    np.testing.assert_array_equal(numbers, np.array([[4, 5, 6], [0.5, -1e-3, 2], [0, 0, 0]], dtype=np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 1 2 3\ndog 1 2\n", "line 2: 2 numbers, where 3 belong"),
        ("the 1 2 3\ncow 1 2\ndog 1 2 3\n", "line 2: 2 numbers, where 3 belong"),
        ("the 1 2 3\ndog 1 2 3 4\n", "line 2: 4 numbers, where 3 belong"),
        ("the 1 2 3\n\ndog 1 2 3\n", "line 2: 0 numbers, where 3 belong"),
        ("dog\n", "line 1: 0 numbers, where some belong"),
        ("the 1 2 3\ndog 1 x 3\n", "line 2: number 2 is 'x', which is no number"),
        ("the 1 2 3\ndog 1 2 nan\n", "line 2: number 3 is 'nan'"),
        ("the 1 2 3\ndog 1 -inf 3\n", "line 2: number 2 is '-inf'"),
        ("the 1 2 3\ndog 1e39 2 3\n", "line 2: number 1 is '1e39', which is no number or none that float32 holds"),
        ("dog 1 2 3\nthe 1 2 3\ndog 1 2 3\n", "line 3: the word 'dog' stands in line 1 already"),
        (b"the 1 2 3\ncaf\xe9 1 2 3\n", "line 2: the word is not UTF-8"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "line 1: number 1 is 'https://git-lfs"),
        (b"dog " + b"1 " * (1 << 20), "line 1: longer than 1048576 bytes, so this is no text file"),
        ("4 3\n" + GOOD, "its first line says 4 words, it has 3; get the file again"),
        ("3 2\n" + GOOD, "line 2: 3 numbers, where 2 belong"),
        ("", "an empty file"),
        ("Hund 1 2 3\n", "has none of the 3 words of the vocabulary"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_vectors(written(tmp_path, content), WORD2IDX)
    assert message in str(error.value) and str(tmp_path / "vectors.txt") in str(error.value)


@given(st.binary(max_size=60))
def test_no_bytes_do_anything_but_being_read_or_refused(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    path = written(tmp_path_factory.getbasetemp(), b"dog 1 2\n" + tail)
    try:
        numbers, known = read_vectors(path, WORD2IDX)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert known[0] and np.isfinite(numbers).all()


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters=" \r\n"), min_size=1), st.floats(width=32))
)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, column: dict[str, float]) -> None:
    column = {word: number for word, number in column.items() if np.isfinite(number)} | {"a": 1.0}
    lines = "".join(f"{word} {number!r} 2.5\n" for word, number in column.items())
    word2idx = {word: index for index, word in enumerate(column)}
    numbers, known = read_vectors(written(tmp_path_factory.getbasetemp(), f"{len(column)} 2\n{lines}"), word2idx)
    assert known.all() and numbers.tolist() == [[number, 2.5] for number in column.values()]


def test_a_dataset_has_the_vectors_of_its_vocabulary_and_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = with_vectors(tmp_path, "dog 1 2\ncats 3 4\n")
    first, word2idx = dataset.vectors, dataset.vocabulary.word2idx
    assert first and set(np.flatnonzero(first.known)) == {word2idx["dog"], word2idx["cats"]}
    assert first.numbers[word2idx["cats"]].tolist() == [3, 4]
    monkeypatch.setattr("harness.data.word_vectors.read_vectors", lambda *_: pytest.fail("read again"))
    again = open_dataset(dataset.card, tmp_path, tmp_path / "cache").vectors
    assert again and np.array_equal(first.numbers, again.numbers) and np.array_equal(first.known, again.known)
    assert opened(tmp_path, files()).vectors is None


def test_the_file_in_the_datasets_folder_comes_before_that_below_the_data_root(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    written(tmp_path / "tiny", "dog 1 2 3 4 5\n")
    vectors = with_vectors(tmp_path).vectors
    assert vectors and vectors.numbers.shape[1] == 5


def test_the_vectors_are_part_of_the_fingerprint_and_without_them_it_is_what_it_was(tmp_path: Path) -> None:
    dataset = opened(tmp_path, files())
    one, other = (with_vectors(tmp_path, content).fingerprint for content in (GOOD, GOOD.replace("4", "7")))
    assert len({dataset.fingerprint, one, other}) == 3
    old = dataset.card.model_dump(mode="json", include={"layout", "feature_width", "max_regions", "splits", "options"})
    deciding = {
        "card": old | {"text": {"min_count": 1, "vocabulary": "", "vocabulary_splits": ["train"]}},
        "files": {name: sha256(tmp_path / "tiny" / name) for name in files()},
        "reader": Coco.version,
        "tokenizer": VERSION,
    }
    text = json.dumps(deciding, sort_keys=True)
    assert dataset.fingerprint == hashlib.sha256(text.encode()).hexdigest(), "it is in the keys of many trials"


def test_a_file_of_another_hash_than_the_cards_is_refused(tmp_path: Path) -> None:
    with_vectors(tmp_path)
    true = "0" * 64
    with pytest.raises(DataError, match=rf"vectors\.txt: its sha256 is \w+, the card says {true}"):
        opened(tmp_path, files(), text={"vectors": "vectors.txt"}, files=[{"path": "vectors.txt", "sha256": true}])


def test_a_broken_file_is_told_when_a_split_is_opened(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(DataError, match="line 3: 2 numbers, where 3 belong"):
            with_vectors(tmp_path, GOOD.replace(" 6", "")).split("train")


def test_an_absent_file_is_named_with_both_places_and_where_from(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        with_vectors(tmp_path, name="glove.6B.300d.txt")
    for part in ("'glove.6B.300d.txt'", str(tmp_path / "tiny"), f"or in {tmp_path};", "nlp.stanford.edu"):
        assert part in str(error.value)


def method_card(name: str) -> MethodCard:
    return read_card(MethodCard, METHODS / f"{name}.toml")


@pytest.mark.parametrize("name", ["caan", "vsepp", "bssan", "scan_t2i"])
def test_known_words_start_from_their_vectors_and_the_others_as_they_would_without(tmp_path: Path, name: str) -> None:
    card = method_card(name)
    settings = {**card.defaults, "dim": 8, "word_dim": 3}
    dataset = with_vectors(tmp_path)
    method, plain = (build_method(card, settings, one, seed=4) for one in (dataset, opened(tmp_path, files())))
    at = dataset.vocabulary.word2idx["dog"]
    assert method.words.layers.embedding.weight[at].tolist() == [4, 5, 6]
    for (key, ours), theirs in zip(method.state_dict().items(), plain.state_dict().values(), strict=True):
        if key.endswith("embedding.weight"):
            ours, theirs = (torch.cat([part[:at], part[at + 1 :]]) for part in (ours, theirs))
        assert torch.equal(ours, theirs), key


def test_vectors_of_another_width_than_the_methods_are_refused_with_both(tmp_path: Path) -> None:
    card, dataset = method_card("vsepp"), with_vectors(tmp_path)
    with pytest.raises(DataError, match=r"have 3 numbers, the method's word_dim is 300; .*'settings\.\*\.word_dim=3'"):
        build_method(card, card.defaults, dataset, seed=0)


def test_a_card_cannot_have_an_encoder_and_words_of_its_own() -> None:
    for key, value in (("vectors", "v.txt"), ("vocabulary", "v.json"), ("min_count", 2)):
        with pytest.raises(ValueError, match=f"an encoder brings its own words; leave {key} out"):
            DatasetCard.model_validate({**CARD, "text": {"encoder": "bert", key: value}})
    DatasetCard.model_validate({**CARD, "text": {"encoder": "bert", "min_count": 4}})


@pytest.mark.parametrize("check", HELD_BY_ALL)
@pytest.mark.parametrize("name", ["caan", "vsepp"])
def test_a_method_with_vectors_holds_the_contract(
    name: str, check: Callable[[MethodCard], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = torch.arange(50) % 3 == 0
    words = Words(torch.randn(50, 12, generator=torch.Generator().manual_seed(0)), known)
    monkeypatch.setattr(samples, "INPUTS", Inputs(feature_width=20, vocabulary_size=50, words=words))
    check(method_card(name))
