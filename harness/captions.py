"""Captions -> words -> ids: the field's tokenizer, a vocabulary, and padded batches of tokens."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.regions import Bools, Ints, offsets, padded_places

VERSION = 1  # of the tokenizer; part of every fingerprint

SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")
PAD, START, END, UNKNOWN = range(4)

WORD = r"[a-z0-9]+(?:-[a-z0-9]+)*"
PLAIN = re.compile(rf"{WORD}(?:(?: ,|,)? {WORD})*(?: ?\.)?")
CONTRACTIONS = ("cannot", "gimme", "gonna", "gotta", "lemme", "wanna")


def words(text: str) -> list[str]:
    """The words of a caption as NLTK's word tokenizer cuts the lower-cased text.

    No sentences are cut first (a caption is one), so nothing has to be downloaded.
    """
    text = text.strip().lower()
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
    """Words and their ids; the first four are <pad>, <start>, <end> and <unk>."""

    def __init__(self, word2idx: Mapping[str, int]) -> None:
        self.word2idx = dict(word2idx)

    @classmethod
    def build(cls, captions: Iterable[str], min_count: int) -> Vocabulary:
        """Of the words seen at least `min_count` times, the commonest first, equals by the alphabet."""
        counts = Counter(chain.from_iterable(map(words, captions)))
        kept = sorted((-count, word) for word, count in counts.items() if count >= min_count)
        return cls({word: index for index, word in enumerate([*SPECIALS, *(word for _, word in kept)])})

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """From a published json, {"word2idx": {word: id}, …}; DataError where it is not one."""
        try:
            word2idx = json.loads(path.read_text(encoding="utf-8"))["word2idx"]
            ids = sorted(word2idx.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f'{path} is no vocabulary ({error!r}); it must hold {{"word2idx": {{word: id}}}}'
            ) from error
        if ids != list(range(len(ids))) or [word2idx.get(word) for word in SPECIALS] != [PAD, START, END, UNKNOWN]:
            raise DataError(
                f"{path}: ids must count from 0 without a gap, the first four being {' '.join(SPECIALS)}; "
                "take the file as it was published"
            )
        return cls(word2idx)

    def json(self) -> str:
        """The published layout, read back by `read`."""
        return json.dumps({"word2idx": self.word2idx}, ensure_ascii=False)

    def __len__(self) -> int:
        return len(self.word2idx)

    def encode(self, text: str) -> list[int]:
        """Ids of <start>, the words, <end>; a word outside the vocabulary is <unk>."""
        return [START, *(self.word2idx.get(word, UNKNOWN) for word in words(text)), END]


class Tokens:
    """The ids of M captions one behind the other, and where each begins, (M + 1,)."""

    def __init__(self, ids: NDArray[np.integer[Any]], starts: Ints) -> None:
        self.ids = ids
        self.starts = starts

    @classmethod
    def encode(cls, captions: Sequence[str], vocabulary: Vocabulary) -> Tokens:
        """Of captions, in their order."""
        encoded = [vocabulary.encode(caption) for caption in captions]
        flat = np.fromiter(chain.from_iterable(encoded), dtype=np.int32)
        return cls(flat, offsets([len(ids) for ids in encoded]))

    @property
    def lengths(self) -> Ints:
        """Tokens of every caption with <start> and <end>, (M,)."""
        return np.diff(self.starts)

    @property
    def unknown_only(self) -> int:
        """How many captions hold no word of the vocabulary."""
        known = np.concatenate([[0], np.cumsum(self.ids > UNKNOWN)])
        return int((np.diff(known[self.starts]) == 0).sum())

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Ints:
        """One caption's ids, (T,)."""
        return self.ids[self.starts[:-1][index] : self.starts[1:][index]].astype(np.int64)

    def gather(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[Ints, Bools]:
        """A batch: tokens (B, T) int64 padded with <pad>, and mask (B, T), T the batch's longest caption."""
        places, mask = padded_places(self.starts, indices)
        tokens = np.full(mask.shape, PAD, dtype=np.int64)
        tokens[mask] = self.ids[places[mask]]
        return tokens, mask

    def take(self, indices: NDArray[np.integer[Any]]) -> Tokens:
        """The same, of these captions only."""
        places, mask = padded_places(self.starts, indices)
        return Tokens(self.ids[places[mask]], offsets(self.lengths[indices]))
