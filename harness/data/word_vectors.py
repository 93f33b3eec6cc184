"""Word vectors from a text file (GloVe, word2vec, fastText): of the words of a vocabulary, in constant memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from harness.data.regions import Bools, Floats
from harness.errors import DataError, Location
from harness.files import check_regular, unreadable

LONGEST = 1 << 20  # bytes of a line; whatever is longer is no text file of vectors
DIGITS = 16  # of a count in the first line, and fewer
LARGEST = float(np.finfo(np.float32).max)


class WordVectors(NamedTuple):
    numbers: Floats  # (V, E), zeros where a word has none
    known: Bools  # (V,) whether a word has one


class VectorLine(NamedTuple):
    path: Path
    number: int
    text: bytes

    def wrong(self, what: str) -> DataError:
        location = Location(self.path, f"line {self.number}")
        return DataError(f"{what}; get the file again, or correct the line", location)


def read_vectors(path: Path, word2idx: Mapping[str, int]) -> WordVectors:
    """The vectors of the words of a vocabulary, from lines `word n n n`; a first line `count width` may stand before.

    Of a word outside the vocabulary the count of numbers alone is checked. DataError names a wrong line.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            return _collected(path, _lines(path, file), {word.encode(): index for word, index in word2idx.items()})
    except OSError as error:
        raise unreadable(path, error) from error


def _collected(path: Path, lines: Iterator[VectorLine], indices: Mapping[bytes, int]) -> WordVectors:
    first = next(lines, None)
    if first is None:
        raise DataError("an empty file; get it again", Location(path))
    promised, width = _header(first) or (None, first.text.count(b" "))
    vectors: dict[int, tuple[int, Floats]] = {}  # of a word the line and the numbers
    last = first
    for last in lines if promised is not None else chain([first], lines):
        word, values = _parted(last, width)
        index = indices.get(word)
        if index is None and last is not first:  # whose numbers tell whether it is a file of vectors at all
            continue
        numbers = _numbers(last, values)
        if index in vectors:
            raise last.wrong(f"the word {word.decode()!r} stands in line {vectors[index][0]} already")
        if index is not None:
            vectors[index] = last.number, numbers
    if promised is not None and last.number - 1 != promised:
        message = f"its first line says {promised} words, it has {last.number - 1}; get the file again"
        raise DataError(message, Location(path))
    if not vectors:
        message = f"has none of the {len(indices)} words of the vocabulary; take vectors of its language"
        raise DataError(message, Location(path))
    return _stacked(vectors, len(indices))


def _stacked(vectors: Mapping[int, tuple[int, Floats]], words: int) -> WordVectors:
    known = np.isin(np.arange(words), list(vectors))
    numbers = np.zeros((words, len(next(iter(vectors.values()))[1])), dtype=np.float32)
    for index, (_, vector) in vectors.items():
        numbers[index] = vector
    return WordVectors(numbers, known)


def _lines(path: Path, file: BinaryIO) -> Iterator[VectorLine]:
    number = 0
    while text := file.readline(LONGEST):
        number += 1
        plain = text.removeprefix(codecs.BOM_UTF8) if number == 1 else text
        line = VectorLine(path, number, plain.rstrip(b" \r\n"))
        if len(text) == LONGEST:
            raise line.wrong(f"longer than {LONGEST} bytes, so this is no text file of word vectors")
        yield line


def _header(line: VectorLine) -> tuple[int, int] | None:
    """Words and numbers per word, where a line says them as word2vec's text files do."""
    parts = line.text.split(b" ")
    whole = all(part.isdigit() and len(part) < DIGITS for part in parts)
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and whole else None


def _parted(line: VectorLine, width: int) -> tuple[bytes, bytes]:
    """The word and its numbers, still as text; published files have a few words with blanks inside."""
    word, _, values = line.text.partition(b" ")
    count = line.text.count(b" ")
    if count > width:
        word, *rest = line.text.rsplit(b" ", width)
        values = b" ".join(rest)
    more_than_a_word = b" " in word and _number(word.rpartition(b" ")[2]) is not None
    if not width or count < width or more_than_a_word:
        raise line.wrong(f"{count} numbers, where {width or 'some'} belong")
    try:
        word.decode("utf-8")
    except UnicodeDecodeError as error:
        raise line.wrong(f"the word is not UTF-8 ({error.reason})") from error
    return word, values


def _numbers(line: VectorLine, values: bytes) -> Floats:
    parts = values.split(b" ")
    numbers = [_number(part) for part in parts]
    if None in numbers:
        place = numbers.index(None)
        text = parts[place].decode("utf-8", "replace")
        raise line.wrong(f"number {place + 1} is {text!r}, which is no number or none that float32 holds")
    return np.array(numbers, dtype=np.float32)


def _number(text: bytes) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) <= LARGEST else None
