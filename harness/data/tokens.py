"""Captions -> words -> ids: the field's tokenizer, a vocabulary, and padded batches of tokens.

Another tokenizer is one class, a `Tokenizer`; `text_encoder` has that of a pretrained encoder.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from harness.data.regions import Bools, Ints, offsets, padded_places
from harness.errors import DataError, Location
from harness.files import parse_json, read_json

VERSION = 2  # of the tokenizer and of the normalisation before it; part of every fingerprint
SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")
PAD, START, END, UNKNOWN = range(4)
WORD = r"[a-z0-9]+(?:-[a-z0-9]+)*"
PLAIN = re.compile(rf"{WORD}(?:(?: ,|,)? {WORD})*(?: ?\.)?")
UNSEEN = "\u00ad\u200b\u2060\ufeff\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
SAME = str.maketrans(  # what looks like a plain mark and is typed for it by word processors, beyond NFKC
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\u2043", "-"),
        **dict.fromkeys("\u2014\u2015", " -- "),  # a dash parts words, a hyphen joins them
        **dict.fromkeys(UNSEEN, None),
    }
)
CONTRACTIONS = ("cannot", "gimme", "gonna", "gotta", "lemme", "wanna")


class SpecialIds(NamedTuple):
    """The ids of a tokenizer that are no words: padding, begin, end, unknown and hidden."""

    pad: int
    unknown: int  # -1: it has none
    hidden: int  # what a hidden word becomes in a training batch; -1: no word is hidden
    specials: tuple[int, ...]  # pad, begin, end and the like; nobody's word

    @property
    def no_words(self) -> tuple[int, ...]:
        return (*self.specials, self.unknown, self.hidden)

    def array(self) -> Ints:
        return np.array([self.pad, self.unknown, self.hidden, *self.specials], dtype=np.int64)

    @classmethod
    def of(cls, array: Ints) -> SpecialIds:
        pad, unknown, hidden, *specials = array.tolist()
        return cls(pad, unknown, hidden, tuple(specials))


SPECIAL_IDS = SpecialIds(PAD, UNKNOWN, UNKNOWN, (PAD, START, END))


class Part(NamedTuple):
    text: str
    is_known: bool  # all unknown ones are one word to a method


class Tokenizer(Protocol):
    @property
    def special_ids(self) -> SpecialIds: ...

    def __len__(self) -> int: ...

    def encode_all(self, captions: Sequence[str]) -> tuple[list[list[int]], Bools]:
        """The ids of each caption, with those that begin and end it, and (M,) whether it had to be cut."""

    def parts(self, caption: str) -> list[Part]:
        """What the ids of a caption read as, in their order, without specials."""


def plain(text: str) -> str:
    """A caption with every letter, blank and mark in its one plain form: composed, straight quotes, hyphens as typed.

    Texts that look the same become the same words: NFC or NFD, `man’s` or `man's`, with or without invisible marks.
    """
    return text if text.isascii() else normalize("NFKC", text.translate(SAME)).translate(SAME)


def words(text: str) -> list[str]:
    """The words of a lower-cased caption, cut by NLTK as one sentence: to cut sentences it would need a download."""
    text = plain(text).strip().lower()
    # Nine captions in ten need none of NLTK's rules but those for commas and the last full stop.
    if PLAIN.fullmatch(text) and not any(part in text for part in CONTRACTIONS):
        return text.replace(",", " , ").replace(".", " . ").split()
    tokens: list[str] = _nltk().tokenize(text)
    return tokens


@cache
def _nltk() -> Any:
    """NLTK's tokenizer, imported late: it brings SciPy along."""
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer()


class Vocabulary:
    """Words and their ids; the first four are <pad>, <start>, <end> and <unk>. A `Tokenizer`."""

    special_ids = SPECIAL_IDS

    def __init__(self, word2idx: Mapping[str, int]) -> None:
        self.word2idx = dict(word2idx)

    @classmethod
    def build(cls, captions: Iterable[str], min_count: int) -> Vocabulary:
        """Of the words seen at least `min_count` times, the commonest first, equals by the alphabet."""
        return cls.of_words(map(words, captions), min_count)

    @classmethod
    def of_words(cls, captions: Iterable[Sequence[str]], min_count: int) -> Vocabulary:
        counts = Counter(chain.from_iterable(captions))
        frequent = sorted((-count, word) for word, count in counts.items() if count >= min_count)
        return cls({word: index for index, word in enumerate([*SPECIALS, *(word for _, word in frequent)])})

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """From a published json, {"word2idx": {word: id}, …}; DataError where it is not one."""
        return cls._checked(read_json(path), Location(path))

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        """From what `json` gave; DataError where it is damaged."""
        return cls._checked(parse_json(text, Location("the cache")), Location("the cache"))

    @classmethod
    def _checked(cls, content: Any, location: Location) -> Vocabulary:
        try:
            word2idx = content["word2idx"]
            ids = sorted(word2idx.values())
        except (KeyError, TypeError, AttributeError) as error:
            message = f'no vocabulary ({error!r}); it must hold {{"word2idx": {{word: id}}}}'
            raise DataError(message, location) from error
        if ids != list(range(len(ids))) or [word2idx.get(word) for word in SPECIALS] != [PAD, START, END, UNKNOWN]:
            raise DataError(
                f"ids must count from 0 without a gap, the first four being {' '.join(SPECIALS)}; "
                "take the file as it was published",
                location,
            )
        return cls(word2idx)

    def json(self) -> str:
        return json.dumps({"word2idx": self.word2idx}, ensure_ascii=False)

    def __len__(self) -> int:
        return len(self.word2idx)

    def encode(self, text: str) -> list[int]:
        """Ids of <start>, the words, <end>; a word outside the vocabulary is <unk>."""
        return self.ids(words(text))

    def ids(self, caption: Sequence[str]) -> list[int]:
        return [START, *(self.word2idx.get(word, UNKNOWN) for word in caption), END]

    def encode_all(self, captions: Sequence[str]) -> tuple[list[list[int]], Bools]:
        return [self.encode(caption) for caption in captions], np.zeros(len(captions), dtype=np.bool_)

    def parts(self, caption: str) -> list[Part]:
        return [Part(word, word in self.word2idx) for word in words(caption)]


class Tokens:
    """The ids of M captions one behind the other, where each begins, (M + 1,), and whether it was cut, (M,)."""

    def __init__(
        self,
        ids: NDArray[np.integer[Any]],
        starts: Ints,
        special_ids: SpecialIds = SPECIAL_IDS,
        cut: Bools | None = None,
    ) -> None:
        self.ids = ids
        self.starts = starts
        self.special_ids = special_ids
        self.cut = np.zeros(len(starts) - 1, dtype=np.bool_) if cut is None else cut

    @classmethod
    def encode(cls, captions: Sequence[str], vocabulary: Tokenizer) -> Tokens:
        encoded, cut = vocabulary.encode_all(captions)
        return cls.stack(encoded, vocabulary.special_ids, cut)

    @classmethod
    def stack(
        cls, encoded: Sequence[Sequence[int]], special_ids: SpecialIds = SPECIAL_IDS, cut: Bools | None = None
    ) -> Tokens:
        flat = np.fromiter(chain.from_iterable(encoded), dtype=np.int32)
        return cls(flat, offsets([len(ids) for ids in encoded]), special_ids, cut)

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Tokens:
        """From what `arrays` gave; older files have neither special_ids nor what was cut."""
        special_ids = SpecialIds.of(arrays["marks"]) if "marks" in arrays else SPECIAL_IDS
        return cls(arrays["ids"], arrays["starts"], special_ids, arrays.get("cut"))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"ids": self.ids, "starts": self.starts, "marks": self.special_ids.array(), "cut": self.cut}

    @property
    def lengths(self) -> Ints:
        """Tokens of every caption with those that begin and end it, (M,)."""
        return np.diff(self.starts)

    @property
    def unknown_only(self) -> int:
        known = np.concatenate([[0], np.cumsum(~np.isin(self.ids, self.special_ids.no_words))])
        return int((np.diff(known[self.starts]) == 0).sum())

    @property
    def unknown_words(self) -> tuple[int, int]:
        """How many words are outside the vocabulary, and how many there are."""
        ids = self.ids[~np.isin(self.ids, self.special_ids.specials)]
        return int((ids == self.special_ids.unknown).sum()), len(ids)

    def unknown_to(self, trained_on: str) -> str:
        """How many of the words a vocabulary of another dataset lacks, in words; empty where it has them all."""
        unknown, words = self.unknown_words
        if not unknown:
            return ""
        only = f"; {self.unknown_only:,} captions have no word that is known" if self.unknown_only else ""
        share = 100 * unknown / words
        words_unknown = f"{unknown:,} of {words:,} words ({share:.1f} %)"
        return f"{words_unknown} are unknown to methods trained on {trained_on}{only}"

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Ints:
        return self.ids[self.starts[:-1][index] : self.starts[1:][index]].astype(np.int64)

    def gather(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[Ints, Bools]:
        """A batch: tokens (B, T) int64 padded with the mark for it, and mask (B, T), T the batch's longest caption."""
        places, mask = padded_places(self.starts, indices)
        tokens = np.full(mask.shape, self.special_ids.pad, dtype=np.int64)
        tokens[mask] = self.ids[places[mask]]
        return tokens, mask

    def take(self, indices: NDArray[np.integer[Any]]) -> Tokens:
        places, mask = padded_places(self.starts, indices)
        return Tokens(self.ids[places[mask]], offsets(self.lengths[indices]), self.special_ids, self.cut[indices])
