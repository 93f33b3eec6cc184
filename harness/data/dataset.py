"""A dataset: its splits checked against the card, its vocabulary, its fingerprint. Which reader it has is given."""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from harness.config.cards import DatasetCard
from harness.data import text_encoder
from harness.data import tokens as tokenizer
from harness.data.cache import cached, checked_sha256, require, save_cached, text_array, text_of
from harness.data.content import Content, Place, Reader
from harness.data.galleries import read_galleries
from harness.data.region_store import FACTS, FeatureFacts, StoreFacts, check_alike, read_facts
from harness.data.split import TRAIN, Split, check_split, drawn_pairs, read_noise, too_few
from harness.data.split import VERSION as NOISE_VERSION
from harness.data.text_encoder import (
    PLAIN,
    WEIGHTS,
    PretrainedTokenizer,
    check_importable,
    embedding_width,
    encoder_files,
    how_to_get,
    is_dual,
    load_model,
    load_tower,
    tokenizers_version,
)
from harness.data.tokens import Tokenizer, Tokens, Vocabulary
from harness.data.word_vectors import WordVectors, read_vectors
from harness.errors import ConfigError, DataError, Location, unknown
from harness.files import has_file, has_folder, resolved

# Keys of [text] that many trials are older than: where they are empty, they change no key.
LATER = ("vectors", "encoder")


class Dataset:
    """A dataset whose splits are opened on demand, checked against their card, and held in memory."""

    def __init__(self, place: Place, root: Path, reader: type[Reader], limit: int | None = None) -> None:
        self.card = place.card
        self.limit = limit
        self.fingerprint = fingerprint_of(place, root, reader)
        self._place = place
        self._root = root
        self._reader = reader(place)
        self._whole: dict[str, Content] = {}
        self._splits: dict[str, Split] = {}
        self._vocabulary: Tokenizer | None = None
        self._prompt = PLAIN
        self._words: Dataset | None = None  # whose words its captions are read by, where not its own

    def worded_as(self, other: Dataset) -> Dataset:
        """This dataset with its captions read by the vocabulary or the text encoder of another."""
        read = copy.copy(self)
        read._words, read._splits = other, {}
        return read

    def for_settings(self, settings: Mapping[str, Any]) -> Dataset:
        """The dataset as a method with these settings reads it: each caption within its `prompt`, where it has one.

        ConfigError for a prompt without a place for the caption, and for one that no encoder's tokenizer reads.
        """
        prompt = settings.get("prompt", PLAIN)
        if prompt == self._prompt:
            return self
        if not isinstance(prompt, str) or prompt.count(PLAIN) != 1:
            raise ConfigError(f"prompt {prompt!r}: the caption stands in the place of {PLAIN}, once; write it in")
        if not self.encoder:
            raise ConfigError(f"prompt {prompt!r}: {self.card.name} has no [text] encoder to read it; leave it out")
        other = copy.copy(self)
        other._prompt, other._splits, other._vocabulary = prompt, {}, None
        return other

    def check_unchanged(self) -> None:
        """DataError where the files are no longer those of the fingerprint: what was read may be of either."""
        if fingerprint_of(self._place, self._root, type(self._reader)) != self.fingerprint:
            raise DataError(
                f"files of {self.card.name} changed while the trial ran, so its numbers are of no one version of them; "
                "run the command again: changed data are another trial, and with --retry data this one is run again",
                Location(self._place.folder),
            )

    @property
    def vocabulary(self) -> Tokenizer:
        """Words of the card's vocabulary splits (whole, even under a limit), a published file's, or an encoder's."""
        if self._words:
            return self._words.vocabulary
        if self._vocabulary is None:
            own = PretrainedTokenizer(self.encoder, self._prompt) if self.encoder else None
            self._vocabulary = own or self._read_vocabulary()
        return self._vocabulary

    @property
    def encoder(self) -> Path | None:
        name = self.card.text.encoder
        return _home(self._place, self._root, name).folder / name if name else None

    @property
    def has_text_tower(self) -> bool:
        """Whether its text encoder is that of a dual encoder."""
        return self.encoder is not None and is_dual(self.encoder)

    def check_encoder(self) -> None:
        """ConfigError where this Python cannot load the text encoder."""
        if self.encoder is not None:
            check_importable(self.encoder)

    def load_encoder(self) -> Any:
        """The text encoder with its weights, None where the card names none; DataError where it cannot be used."""
        if self.encoder is None:
            return None
        return (load_tower if self.has_text_tower else load_model)(self.encoder, len(self.vocabulary))

    def check_widths(self) -> None:
        """DataError where regions are not as wide as the embeddings of its text tower, whose config says."""
        width = embedding_width(self.encoder) if self.encoder is not None else 0
        if width and width != self.card.feature_width:
            raise DataError(
                f"{self.card.name}: regions have {self.card.feature_width} numbers, embeddings of its [text] encoder "
                f"{self.card.text.encoder} {width}; extract image embeddings with that very model, one per image"
            )

    @property
    def features(self) -> FeatureFacts:
        """How its regions were made."""
        card = self.card
        return FeatureFacts(
            width=card.feature_width, max_regions=card.max_regions, layout=card.layout, origins=self.origins
        )

    def check_alike(self, trained_on: Dataset) -> str:
        """DataError where a method trained on another dataset cannot read these regions; a note, else empty."""
        return check_alike(self.card.name, self.features, trained_on.card.name, trained_on.features)

    @cached_property
    def weights_of_regions(self) -> frozenset[str]:
        """The sha256 of the weights of the vision models that made its regions, where its stores say so."""
        return frozenset(filter(None, (origin.get("weights_sha256") for origin in self.origins)))

    @property
    def feature_width(self) -> int:
        """F, numbers per region."""
        return self.card.feature_width

    @property
    def region_stores(self) -> list[StoreFacts]:
        """What its region stores say of themselves; empty where its regions lie in other files, or in none."""
        stores = {(self._place.folder / name).parent for name in self._reader.files(self._place)}
        return [read_facts(store) for store in sorted(stores) if has_file(store / FACTS)]

    @property
    def origins(self) -> list[dict[str, Any]]:
        """How its region stores were made, as they say it; empty where regions lie in other files."""
        return [facts.origin for facts in self.region_stores]

    @property
    def is_of_two_models(self) -> bool:
        """Whether its store says that other weights than the text encoder's made its regions."""
        own = [sha for name, sha in _text_files(self._place, self._root).items() if name.endswith(WEIGHTS)]
        joint = own[0] if len(own) == 1 else hashlib.sha256("".join(own).encode()).hexdigest()  # as extraction has it
        return any(one != joint for one in self.weights_of_regions)

    @property
    def vectors(self) -> WordVectors | None:
        name = self.card.text.vectors
        if not name:
            return None
        path, file = self._word_file("vectors.npz"), _home(self._place, self._root, name).folder / name

        def make() -> None:
            save_cached(path, read_vectors(file, self._read_vocabulary().word2idx)._asdict())

        return cached(path, lambda arrays: WordVectors(**arrays), make)

    def split(self, name: str) -> Split:
        """The split of this name; DataError where it does not match its card."""
        if name not in self._splits:
            content, tokens = self._content(name), self._tokens(name)
            galleries = {} if self.limit else read_galleries(self._place, name, content.image_ids)
            if self.limit is not None and self.limit < len(content.images):
                content, captions = content.first(self.limit), content.pairs[content.pairs[:, 0] < self.limit, 1]
                tokens = tokens.take(np.unique(captions))
                for problem in too_few(name, content):
                    raise DataError(f"{self.card.name} {name}, --limit {self.limit}: {problem.message}")
            self._splits[name] = Split(**vars(content), name=name, tokens=tokens, galleries=galleries)
        return self._splits[name]

    @property
    def training(self) -> Split:
        """The split to train on, with the wrong pairs of the card's noise; DataError where they cannot be had."""
        split, noise = self.split(TRAIN), self.card.noise
        if not noise.is_on:
            return split
        if noise.file and self.limit is not None:
            raise DataError(f"{self.card.name}: {noise.file} is of all training captions; leave --limit out")
        file = _home(self._place, self._root, noise.file).folder / noise.file
        return replace(split, pairs=read_noise(file, split) if noise.file else drawn_pairs(split, noise))

    @property
    def unknown_only(self) -> dict[str, int]:
        """Of every split opened so far: captions without a single word of the vocabulary, which are not left out."""
        return {name: split.tokens.unknown_only for name, split in self._splits.items()}

    @property
    def cut(self) -> dict[str, int]:
        """Of every split opened so far: captions longer than the text encoder takes, cut to its length."""
        return {name: int(split.tokens.cut.sum()) for name, split in self._splits.items()}

    def _content(self, name: str) -> Content:
        if name not in self.card.splits:
            raise DataError(f"{self.card.name}: {unknown('split', name, self.card.splits)}", Location(self.card.path))
        if name not in self._whole:
            content = self._reader.read(name)
            check_split(self.card, name, content)
            self._whole[name] = content
        return self._whole[name]

    def _read_vocabulary(self) -> Vocabulary:
        text = self.card.text
        if text.vocabulary:
            return Vocabulary.read(self._place.folder / text.vocabulary)
        path = self._word_file("vocabulary.npz")
        return cached(path, lambda arrays: Vocabulary.of(text_of(arrays["json"])), lambda: self._build_vocabulary(path))

    def _build_vocabulary(self, path: Path) -> None:
        captions = {
            name: [[*map(sys.intern, tokenizer.words(caption))] for caption in self._content(name).captions]
            for name in self.card.text.vocabulary_splits
        }
        vocabulary = Vocabulary.of_words(chain.from_iterable(captions.values()), self.card.text.min_count)
        for name, split in captions.items():
            tokens = Tokens.stack([vocabulary.ids(caption) for caption in split])
            save_cached(self._word_file(f"{name}.npz"), tokens.arrays())
        save_cached(path, {"json": text_array(vocabulary.json())})

    def _tokens(self, name: str) -> Tokens:
        path = self._word_file(f"{name}.npz")
        if not path.is_file():
            _ = self.vocabulary  # which, when it is built, writes the tokens of its own splits
        if self.card.text.vectors and not self._word_file("vectors.npz").is_file():
            _ = self.vectors  # now, so that a broken file is an error before anything is trained

        def make() -> None:
            save_cached(path, Tokens.encode(self._content(name).captions, self.vocabulary).arrays())

        return cached(path, Tokens.of, make)

    def _word_file(self, name: str) -> Path:
        words = self._words or self
        by = f"tokenizers{tokenizers_version()}" if words.card.text.encoder else f"nltk{version('nltk')}"
        prompt = "" if words._prompt == PLAIN else f"-{hashlib.sha256(words._prompt.encode()).hexdigest()[:8]}"
        of = f"-{words.fingerprint[:16]}" if self._words else ""
        return self._place.cache / "words" / f"{self.fingerprint[:16]}{of}-{by}{prompt}-{name}"


def place_of(card: DatasetCard, data: Path, cache: Path) -> Place:
    """Where a dataset lies; DataError where its folder is a link that leads nowhere."""
    try:
        return Place(card, resolved(data / card.folder), cache)
    except OSError as error:
        message = f"a link that leads nowhere ({error}); put the folder there"
        raise DataError(message, Location(data / card.folder)) from error


def _home(place: Place, root: Path, name: str) -> Place:
    """Where a file or folder that [text] names lies: in the dataset's own folder, else below the data root."""
    return place if (place.folder / name).exists() else place._replace(folder=root)


def side_files(place: Place, root: Path) -> dict[str, Place]:
    """Where those files of word vectors, of a text encoder and of wrong pairs lie that are there, by name."""
    text, noise = place.card.text, place.card.noise
    homes = {name: _home(place, root, name) for name in (text.vectors, noise.file) if name}
    files = {name: home for name, home in homes.items() if has_file(home.folder / name)}
    home = _home(place, root, text.encoder)
    if text.encoder and has_folder(home.folder / text.encoder):
        files |= {f"{text.encoder}/{name}": home for name in encoder_files(home.folder / text.encoder)}
    return files


def _text_files(place: Place, root: Path) -> dict[str, str]:
    """The sha256 of the files of word vectors or of a text encoder, by name; DataError where they are absent."""
    vectors, encoder = place.card.text.vectors, place.card.text.encoder
    if vectors:
        home = _home(place, root, vectors)
        if not has_file(home.folder / vectors):
            raise _absent(place, root, "vectors", "get them, GloVe's from https://nlp.stanford.edu/projects/glove/")
        return {vectors: checked_sha256(home, vectors)}
    if encoder:
        home = _home(place, root, encoder)
        if not has_folder(home.folder / encoder):
            raise _absent(place, root, "encoder", how_to_get(root / encoder))
        names = [f"{encoder}/{name}" for name in encoder_files(home.folder / encoder)]
        return {name: checked_sha256(home, name) for name in names}
    return {}


def _absent(place: Place, root: Path, key: str, what_to_do: str) -> DataError:
    name = getattr(place.card.text, key)
    places = " or in ".join(dict.fromkeys([str(place.folder), str(root)]))
    return DataError(f"[text] {key} = {name!r}: it is not in {places}; {what_to_do}", Location(place.card.path))


def fingerprint_of(place: Place, root: Path, reader: type[Reader]) -> str:
    """Hex sha256 of what decides results: the card's deciding fields, its files, the reader's version."""
    names = list(dict.fromkeys([*reader.files(place), *filter(None, [place.card.text.vocabulary])]))
    require(place, names)
    text = place.card.text
    deciding = {
        "card": place.card.model_dump(
            mode="json",
            include={"layout", "feature_width", "max_regions", "splits", "text", "options"},
            exclude={"text": {key for key in LATER if not getattr(text, key)}},
        ),
        "files": {name: checked_sha256(place, name) for name in names} | _text_files(place, root),
        "reader": reader.version,
        "tokenizer": f"pretrained {text_encoder.VERSION}" if text.encoder else tokenizer.VERSION,
    }
    if place.card.noise.is_on:
        deciding["noise"] = _noise_facts(place, root)
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _noise_facts(place: Place, root: Path) -> dict[str, Any]:
    """What decides the wrong pairs beside the dataset; DataError where their file is absent."""
    noise = place.card.noise
    if not noise.file:
        return {"share": noise.share, "seed": noise.seed, "version": NOISE_VERSION}
    home = _home(place, root, noise.file)
    if not has_file(home.folder / noise.file):
        places = " or ".join(dict.fromkeys([str(place.folder), str(root)]))
        raise DataError(f"noise file = {noise.file!r}: it is not in {places}; put it there", Location(place.card.path))
    return {"file": checked_sha256(home, noise.file)}
