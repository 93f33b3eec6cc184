"""The gallery of a trained method, encoded once: kept on disk by trial, weights and data, and mapped from there.

    <cache>/galleries/<trial>/<stamp>/<split>-items.npz      ids, captions, pairs
                                      <split>-images.npy     the numbers of all vectors, tile after tile
                                      <split>-images.npz     shapes, masks and places of the tiles; written last
                                      <split>-captions.…     likewise

The stamp is a hash of the data's fingerprint and of the weights: what other ones have left is removed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from harness.data.cache import parsed_arrays, save_cached, text_array, text_of, writing
from harness.data.regions import Ints
from harness.data.split import Split
from harness.errors import StoreError
from harness.explain.encoding import EncodedItems, TrialEncoder, Watch, unwatched
from harness.files import read_own
from harness.trial.folder import gallery_folder

VERSION = 1  # of the files
STAMP = 16  # digits
IMAGES, CAPTIONS = "images", "captions"
Arrays = dict[str, NDArray[Any]]


class GalleryItems(NamedTuple):
    """What a split holds, without regions and tokens."""

    image_ids: tuple[str, ...]
    captions: tuple[str, ...]
    pairs: Ints  # (P, 2) rows (image, caption)
    galleries: dict[str, list[int]]  # of a protocol with a gallery of its own: its images

    @classmethod
    def of(cls, split: Split) -> GalleryItems:
        galleries = {name: images.tolist() for name, images in split.galleries.items()}
        return cls(tuple(split.image_ids), tuple(split.captions), split.pairs, galleries)


class Gallery:
    """The images and captions of a split as a trained method encodes them, read from the cache where they are there."""

    def __init__(
        self,
        encoder: TrialEncoder,
        split: str,
        cache: Path,
        tell: Callable[[str], object] = lambda _: None,
        watch: Watch = unwatched,
    ) -> None:
        """tell: is called with a line before anything is encoded; watch: with what is, and how many."""
        self.encoder = encoder
        self.split = split
        self._cache = cache
        self._tell = tell
        self.watch = watch
        self._folder = gallery_folder(cache, encoder.spec.key) / stamp(encoder)

    @cached_property
    def items(self) -> GalleryItems:
        """Ids, captions and pairs; opens the split only where they are not in the cache."""
        path = self._folder / f"{self.split}-items.npz"
        items = read_own(path, lambda data: _items_of(parsed_arrays(path, data)))
        if items is None:
            items = GalleryItems.of(self._content)
            self._keep(lambda: save_cached(path, _items_arrays(items)))
        return items

    @cached_property
    def images(self) -> EncodedItems:
        """All images of the split."""
        return self._known(IMAGES, self.items.image_ids)

    @cached_property
    def captions(self) -> EncodedItems:
        """All captions of the split."""
        return self._known(CAPTIONS, self.items.captions)

    def image(self, row: int) -> EncodedItems:
        """One image of the split, as it is encoded among the others."""
        from harness.explain.tile_files import one_of

        return EncodedItems((self.items.image_ids[row],), [one_of(self.images.tiles, row)])

    @cached_property
    def _content(self) -> Split:
        return self.encoder.dataset.split(self.split)

    def _known(self, kind: str, ids: tuple[str, ...]) -> EncodedItems:
        from harness.explain.tile_files import moved, read_tiles, write_tiles

        place, device = self._folder / f"{self.split}-{kind}", self.encoder.device
        tiles = read_tiles(place, self._cache, len(ids))
        if tiles is not None:
            return EncodedItems(ids, [moved(tile, device) for tile in tiles])
        of = f"{self.encoder.spec.dataset}, {self.split}"
        self._tell(f"encoding {len(ids):,} {kind} of {of}, for this and later queries")
        split = self._content
        encoder = self.encoder
        if kind == IMAGES:
            encoded = encoder.images(ids, split.images, self.watch)
        else:
            encoded = encoder.captions(ids, split.tokens, self.watch)
        self._keep(lambda: write_tiles(place, self._cache, encoded.tiles))
        return encoded

    def _keep(self, write: Callable[[], None]) -> None:
        """Write a part of the cache, and remove what other weights or data have left; an answer needs neither."""
        try:
            with writing(self._folder):
                write()
                for other in self._folder.parent.iterdir():
                    if other != self._folder:
                        shutil.rmtree(other, ignore_errors=True)
        except StoreError as error:
            logging.getLogger(__name__).warning("the gallery is not kept for later queries: %s", error)


def stamp(encoder: TrialEncoder) -> str:
    """What decides the encodings beside the trial's key: the data, and the weights, which another training changes."""
    from harness.trial.models import weights_of

    deciding = [VERSION, encoder.dataset.fingerprint, weights_of(encoder.trial.folder)]
    return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()[:STAMP]


def _items_arrays(items: GalleryItems) -> Arrays:
    texts = [items.image_ids, items.captions, items.galleries]
    return {"texts": text_array(json.dumps(texts)), "matches": items.pairs}


def _items_of(arrays: Arrays) -> GalleryItems:
    ids, captions, galleries = json.loads(text_of(arrays["texts"]))
    return GalleryItems(tuple(ids), tuple(captions), arrays["matches"], galleries)
