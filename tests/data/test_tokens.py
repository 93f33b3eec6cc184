"""Words as NLTK cuts them, and vocabularies built or read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nltk.tokenize.destructive import NLTKWordTokenizer

from harness.data.tokens import END, SPECIALS, START, UNKNOWN, Tokens, Vocabulary, plain, words
from harness.errors import DataError

ORACLE = NLTKWordTokenizer()
PIECES = st.sampled_from(
    ["a", "dog", "t-shirt", "2", "1,000", "cannot", "wanna", "gonna-be", "man's", "don't", "mr.", '"', "'", ",", ".",
     ";", "-", "--", "...", "(", ")", "!", "?", ":", "&", "é", "$5", "  ", " ", " ", " ", "\t"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map("".join))
@example("a dog , a cat and t-shirt .")
@example("a dog, a cat.")
@example("wanna-be. a man")
@example("a man wanna go")
@example("they cannot .")
@settings(max_examples=400, deadline=None)
def test_words_are_those_of_nltks_tokenizer(text: str) -> None:
    assert words(text) == ORACLE.tokenize(text.strip().lower())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cafe\u0301 nai\u0308ve", "caf\u00e9 na\u00efve"),
        ("a man\u2019s t\u2011shirt", "a man's t-shirt"),
        ("\u201chi\u201d, he said\u2026", '"hi", he said...'),
        ("a dog\u2014and a cat", "a dog -- and a cat"),
        ("a\u00a0dog\u2009and\u3000a cat", "a dog and a cat"),
        ("\ufeffa d\u00adog\u200b", "a dog"),
        ("\u202ea dog\u202c", "a dog"),
        ("\ufb01sh \uff24\uff2f\uff27", "fish dog"),
    ],
)
def test_captions_that_look_the_same_are_the_same_words(one: str, other: str) -> None:
    assert words(one) == words(other)


@given(st.text(max_size=30))
def test_a_plain_caption_stays_as_it_is(text: str) -> None:
    assert plain(plain(text)) == plain(text)
    assert words(plain(text)) == words(text)


def test_a_word_is_known_from_its_least_count_on() -> None:
    vocabulary = Vocabulary.build(["red red blue", "blue red green", "red blue"], min_count=3)
    assert list(vocabulary.word2idx) == [*SPECIALS, "red", "blue"]
    assert vocabulary.encode("A RED sun") == [START, UNKNOWN, 4, UNKNOWN, END]


def test_equally_common_words_stand_in_the_order_of_the_alphabet_whatever_the_order_of_captions() -> None:
    one, other = (Vocabulary.build(captions, 1) for captions in (["b a", "c"], ["c", "a b"]))
    assert one.word2idx == other.word2idx == {**dict(zip(SPECIALS, range(4), strict=True)), "a": 4, "b": 5, "c": 6}


def test_a_vocabulary_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    built = Vocabulary.build(["zwei drei", "äpfel"], 1)
    (tmp_path / "vocab.json").write_text(built.json(), encoding="utf-8")
    assert Vocabulary.read(tmp_path / "vocab.json").word2idx == built.word2idx


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"word2idx": []}',
        json.dumps({"word2idx": {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "a": 5}}),
        json.dumps({"word2idx": {"<pad>": 0, "<start>": 2, "<end>": 1, "<unk>": 3}}),
        json.dumps({"word2idx": {"a": "b"}}),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "vocab.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"vocab\.json"):
        Vocabulary.read(tmp_path / "vocab.json")


def test_captions_of_unknown_words_only_are_counted() -> None:
    vocabulary = Vocabulary.build(["red"], 1)
    assert Tokens.encode(["red", "blue sky", "a red", "?"], vocabulary).unknown_only == 2
