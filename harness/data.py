"""Opens datasets: a card and its files -> splits held to the card, encoded, with a fingerprint.

A layout is one class, a `splits.Reader`, and one line of LAYOUTS.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from harness import captions
from harness.captions import Tokens, Vocabulary
from harness.cards import DatasetCard
from harness.coco import Coco
from harness.errors import DataError, unknown
from harness.files import checked_sha256, keep, load_arrays, npz, require
from harness.precomp import Precomp
from harness.scenes import Scenes
from harness.splits import Content, Place, Reader, Split, hold

__all__ = ["Dataset", "Split", "fingerprint", "open_dataset"]


LAYOUTS: dict[str, type[Reader]] = {"coco": Coco, "scenes": Scenes, "precomp": Precomp}


class Dataset:
    """A dataset whose splits are opened on demand, held to their card, and kept."""

    def __init__(self, place: Place, limit: int | None = None) -> None:
        self.card = place.card
        self.limit = limit
        self.fingerprint = _fingerprint(place)
        self._place = place
        self._reader = LAYOUTS[place.card.layout](place)
        self._whole: dict[str, Content] = {}
        self._splits: dict[str, Split] = {}
        self._vocabulary: Vocabulary | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """Words of the card's vocabulary splits (whole, even under a limit), or the published file's."""
        if self._vocabulary is None:
            self._vocabulary = self._read_vocabulary()
        return self._vocabulary

    def split(self, name: str) -> Split:
        """The split of this name; DataError where it does not match its card."""
        if name not in self._splits:
            content, tokens = self._content(name), self._tokens(name)
            if self.limit is not None and self.limit < len(content.images):
                content, kept = content.first(self.limit), content.pairs[content.pairs[:, 0] < self.limit, 1]
                tokens = tokens.take(np.unique(kept))
            self._splits[name] = Split(**vars(content), name=name, tokens=tokens)
        return self._splits[name]

    @property
    def unknown_only(self) -> dict[str, int]:
        """Of every split opened so far: captions without a single word of the vocabulary. They are kept."""
        return {name: split.tokens.unknown_only for name, split in self._splits.items()}

    def _content(self, name: str) -> Content:
        """A whole split, held to its card."""
        if name not in self.card.splits:
            raise DataError(f"{self.card.name}: {unknown('split', name, self.card.splits)}")
        if name not in self._whole:
            content = self._reader.read(name)
            hold(self.card, name, content)
            self._whole[name] = content
        return self._whole[name]

    def _read_vocabulary(self) -> Vocabulary:
        text = self.card.text
        if text.vocabulary:
            return Vocabulary.read(self._place.folder / text.vocabulary)
        path = self._kept("vocabulary.json")
        if not path.is_file():
            seen = [caption for name in text.vocabulary_splits for caption in self._content(name).captions]
            keep(path, Vocabulary.build(seen, text.min_count).json())
        return Vocabulary.read(path)

    def _tokens(self, name: str) -> Tokens:
        """Ids of a whole split's captions, worked out once."""
        path = self._kept(f"{name}.npz")
        if not path.is_file():
            tokens = Tokens.encode(self._content(name).captions, self.vocabulary)
            keep(path, npz(ids=tokens.ids, starts=tokens.starts))
        arrays = load_arrays(path)
        return Tokens(arrays["ids"], arrays["starts"])

    def _kept(self, name: str) -> Path:
        """Where words worked out once are kept: by the data and by the tokenizer."""
        return self._place.cache / "words" / f"{self.fingerprint[:16]}-nltk{version('nltk')}-{name}"


def open_dataset(card: DatasetCard, data: Path, cache: Path, limit: int | None = None) -> Dataset:
    """The dataset of a card below the data root; DataError where a file is absent or not the card's.

    `limit` keeps the first images of every split and their captions.
    """
    return Dataset(_place(card, data, cache), limit)


def fingerprint(card: DatasetCard, data: Path, cache: Path) -> str:
    """Hex sha256 of what decides results: the card's deciding fields and the content of its files.

    Files are hashed once and remembered by size and time of change. DataError where one is absent or another.
    """
    return _fingerprint(_place(card, data, cache))


def _place(card: DatasetCard, data: Path, cache: Path) -> Place:
    return Place(card, (data / card.folder).resolve(), cache)


def _fingerprint(place: Place) -> str:
    layout = LAYOUTS[place.card.layout]
    names = list(dict.fromkeys([*layout.files(place), *filter(None, [place.card.text.vocabulary])]))
    require(place, names)
    deciding = {
        "card": place.card.model_dump(
            mode="json", include={"layout", "feature_width", "max_regions", "splits", "text", "options"}
        ),
        "files": {name: checked_sha256(place, name) for name in names},
        "reader": layout.version,
        "tokenizer": captions.VERSION,
    }
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
