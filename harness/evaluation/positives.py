"""Named sets of positives beside a split's own pairs: who else matches whom, by ids, measured on the same scores.

The files know images and captions by their ids, a split by row numbers; the order of the caption ids ties both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.config.cards import DatasetCard, Positives
from harness.data.content import Content
from harness.data.tokens import words
from harness.errors import DataError
from harness.evaluation.measures import hit_measures, list_measures
from harness.evaluation.positive_files import Lists, read_captions, read_ids, read_lists
from harness.evaluation.ranks import ON_HOST, Counting, DirectedRanks, Ints, rank_direction
from harness.files import has_file, sha256

DIGITS = 12  # of the sha256 that tells releases apart
SHOWN = 60  # characters of a caption in a message


class PositiveSet(NamedTuple):
    """One set in numbers of the split. Each direction has its own pairs, and may leave queries out."""

    name: str
    i2t: Ints  # (P, 2) rows (image, caption): what the images should find
    t2i: Ints  # (Q, 2) rows (image, caption): what the captions should find
    release: str  # the first digits of a sha256 over its files


class SetRanks(NamedTuple):
    positives: PositiveSet
    i2t: DirectedRanks
    t2i: DirectedRanks


class RowsById(NamedTuple):
    images: Mapping[int, int]
    captions: Mapping[int, int]


def open_sets(
    card: DatasetCard, protocol: str, data: Path, content: Content, limit: int | None = None
) -> tuple[list[PositiveSet], str]:
    """The sets of a protocol that lie below the data root, and the note of `present`; raises as `read_sets` does."""
    sets, note = present(card, protocol, data, limit)
    return read_sets(sets, data, content), note


def present(
    card: DatasetCard, protocol: str, data: Path, limit: int | None = None
) -> tuple[tuple[Positives, ...], str]:
    """Those sets of a protocol whose files lie below the data root, and a note where some do not.

    With a limit there are none: their gallery is the whole split.
    """
    sets = [one for one in card.positives if one.protocol == protocol and limit is None]
    missing = [[name for name in one.files if not has_file(data / one.folder / name)] for one in sets]
    whole = tuple(one for one, names in zip(sets, missing, strict=True) if not names)
    absent = [one for one in sets if one not in whole]
    files = dict.fromkeys(f"{one.folder}/{name}" for one, names in zip(sets, missing, strict=True) for name in names)
    note = (
        f"{card.name} {protocol}: no measures of {_listed(one.name for one in absent)}, as these files are not below "
        f"the data root: {_listed(files)}; get them from {_listed(one.origin for one in absent)}"
    )
    return whole, note if absent else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def read_sets(cards: Iterable[Positives], data: Path, content: Content) -> list[PositiveSet]:
    """The sets in numbers of a split; DataError names the file and the entry that is damaged or does not fit."""
    known: dict[tuple[str, ...], RowsById] = {}
    sets = []
    for one in cards:
        folder = data / one.folder
        release = _release(one, folder)
        same = (one.folder, one.caption_ids, one.image_ids, one.captions)
        if same not in known:
            known[same] = _rows(one, folder, content)
        sets.append(PositiveSet(one.name, *_pairs(one, folder, known[same]), release))
    return sets


def rank_sets(scores: Any, sets: Iterable[PositiveSet], by: Counting = ON_HOST) -> list[SetRanks]:
    """The ranks of all positives among the whole gallery; scores (N, M) of the whole split, finite."""
    return [
        SetRanks(one, rank_direction(scores, one.i2t, "i2t", by), rank_direction(scores, one.t2i, "t2i", by))
        for one in sets
    ]


def measures(sets: Iterable[SetRanks]) -> dict[str, float]:
    values: dict[str, float] = {}
    for positives, i2t, t2i in sets:
        values |= hit_measures(i2t, t2i, positives.name) | list_measures(i2t, t2i, positives.name)
    return values


def releases(sets: Iterable[PositiveSet]) -> dict[str, str]:
    return {f"positives.{one.name}": one.release for one in sets}


def _release(one: Positives, folder: Path) -> str:
    digests = {name: sha256(folder / name) for name in one.files}
    for name, expected in one.sha256.items():
        if name in digests and digests[name] != expected:
            raise DataError(
                f"{folder / name}: its sha256 is {digests[name]}, the card says {expected}; it is damaged or another "
                f"release: get it again from {one.origin}"
            )
    return hashlib.sha256("".join(digests.values()).encode()).hexdigest()[:DIGITS]


def _rows(one: Positives, folder: Path, content: Content) -> RowsById:
    """Which row each id is; DataError where the order of the ids cannot be the split's."""
    path = folder / one.caption_ids
    ids = read_ids(path)
    if len(ids) != len(content.captions):
        raise DataError(
            f"{path} has {len(ids)} caption ids, the split has {len(content.captions)} captions; "
            "the set belongs to another split"
        )
    captions: dict[int, int] = {}
    for row, caption in enumerate(ids):
        if captions.setdefault(caption, row) != row:
            raise DataError(f"{path}: caption id {caption} is there twice, as entries {captions[caption]} and {row}")
    official = folder / one.captions
    if one.captions and has_file(official):
        _check_words(official, ids, content.captions)
    return RowsById(_image_rows(folder / one.image_ids, ids, content.pairs), captions)


def _image_rows(path: Path, ids: Sequence[int], pairs: Ints) -> dict[int, int]:
    owners, of_row, rows = read_lists(path), dict[int, int](), dict[int, int]()
    for image, caption in pairs.tolist():
        own = owners.get(ids[caption], [])
        if len(own) != 1:
            raise DataError(f"{path}: caption {ids[caption]} (row {caption}) has {len(own)} images there; it needs one")
        if of_row.setdefault(image, own[0]) != own[0]:
            raise DataError(
                f"{path}: captions of the split's image {image} belong to the images {of_row[image]} and {own[0]} "
                f"there (caption {ids[caption]}, row {caption}); the captions are in another order than the ids"
            )
        if rows.setdefault(own[0], image) != image:
            raise DataError(
                f"{path}: image {own[0]} is both image {rows[own[0]]} and image {image} of the split "
                f"(caption {ids[caption]}, row {caption}); the captions are in another order than the ids"
            )
    return rows


def _check_words(path: Path, ids: Sequence[int], captions: Sequence[str]) -> None:
    official = read_captions(path)
    rows = [row for row, caption in enumerate(ids) if caption in official]
    if not rows:
        raise DataError(f"{path} has none of the split's captions; take the file that they are from, or remove it")
    for row in rows:
        ours, theirs = captions[row], official[ids[row]]
        if _spoken(ours) != _spoken(theirs):
            raise DataError(
                f"{path}: caption {ids[row]} reads {theirs[:SHOWN]!r}, but row {row} of the split {ours[:SHOWN]!r}; "
                "the captions are in another order than the ids"
            )


def _spoken(caption: str) -> list[str]:
    """Its words without punctuation, which releases write differently."""
    return [word for word in words(caption) if any(letter.isalnum() for letter in word)]


def _pairs(one: Positives, folder: Path, rows: RowsById) -> tuple[Ints, Ints]:
    files = folder / one.image_to_caption, folder / one.caption_to_image
    of_images, of_captions = (read_lists(file) for file in files)
    _check_outside(one, files, rows, of_images, of_captions)
    i2t = [(rows.images[q], rows.captions[c]) for q, ids in of_images.items() for c in ids if c in rows.captions]
    t2i = [(rows.images[c], rows.captions[q]) for q, ids in of_captions.items() for c in ids if c in rows.images]
    return np.array(i2t, dtype=np.int64), np.array(t2i, dtype=np.int64)


def _check_outside(one: Positives, files: tuple[Path, Path], rows: RowsById, *lists: Lists) -> None:
    """DataError unless all queries are of the split, and all positives but for those that the card knows of."""
    outside = [
        *_outside(files[0], lists[0], "image", rows.images, "caption", rows.captions),
        *_outside(files[1], lists[1], "caption", rows.captions, "image", rows.images),
    ]
    if len(outside) != one.outside:
        none = f"{files[0]} and {files[1].name}: all entries are of the split"
        first = f"{outside[0]} is not of the split" if outside else none
        raise DataError(
            f"{first}; found {len(outside)} outside of it, the card says {one.outside}: "
            f"take another release from {one.origin}, or correct 'outside' in the card"
        )


def _outside(
    file: Path, lists: Lists, query: str, queries: Mapping[int, int], kind: str, candidates: Mapping[int, int]
) -> Iterator[str]:
    for one, ids in lists.items():
        if one not in queries:
            raise DataError(f"{file}: {query} {one} is not of the split; the set belongs to another one")
        unknown = [candidate for candidate in ids if candidate not in candidates]
        if len(unknown) == len(ids):
            raise DataError(f"{file}: {query} {one} has no {kind} of the split; the set belongs to another one")
        yield from (f"{file}: {kind} {candidate} of {query} {one}" for candidate in unknown)
