"""A gallery of a protocol's own: a json list of image ids, in numbers of the split.

["391895", "522418", 184613]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.config.cards import ProtocolCard
from harness.data.content import Place, first_twice
from harness.data.regions import Ints
from harness.errors import DataError
from harness.files import lfs_hint


def read_galleries(place: Place, split: str, image_ids: Sequence[str]) -> dict[str, Ints]:
    """Of every protocol of a split with a gallery, by the protocol's name: the numbers of its images, in its order.

    DataError where a file is absent, damaged, not the card's, or names an image that the split has not.
    """
    asked = [one for one in place.card.protocols if one.gallery and one.split == split]
    rows = {image: number for number, image in enumerate(image_ids)} if asked else {}
    return {one.name: gallery_rows(place.folder / one.gallery, one, rows) for one in asked}


def gallery_rows(path: Path, protocol: ProtocolCard, rows: dict[str, int]) -> Ints:
    """The numbers of a gallery's images, (g,)."""
    ids = read_gallery(path, protocol.gallery_sha256)
    for entry, image in enumerate(ids):
        if image not in rows:
            some = ", ".join(list(rows)[:3])
            raise DataError(
                f"{path}: entry {entry}, image {image!r}, is not in split {protocol.split!r}, whose ids are {some}, …; "
                f"correct the file or the split of protocol {protocol.name!r}"
            )
    return np.array([rows[image] for image in ids], dtype=np.int64)


def read_gallery(path: Path, expected: str) -> list[str]:
    """The image ids of a gallery's file, held to its sha256; DataError where it is not a list of distinct ids."""
    try:
        content = path.read_bytes()
        found = json.loads(content)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); the protocol's gallery belongs there") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not readable JSON ({error}); {lfs_hint(path) or 'correct it'}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != expected:
        raise DataError(
            f"{path}: its sha256 is {sha256}, the card says {expected}; take the file the card names, or give the "
            "protocol a new version and this gallery_sha256"
        )
    return ids_of(path, found)


def ids_of(path: Path, found: object) -> list[str]:
    """Ids as text; DataError names the entry that is none, or stands for the second time."""
    if not isinstance(found, list) or not found:
        raise DataError(f"{path}: a JSON list of image ids is expected, found {found!r:.60}; correct it")
    for entry, image in enumerate(found):
        if isinstance(image, bool) or not isinstance(image, int | str):
            raise DataError(f"{path}: entry {entry} is {image!r:.60}, which is no image id; correct it")
    ids = list(map(str, found))
    twice = first_twice(ids)
    if twice is not None:
        raise DataError(f"{path}: image {twice!r} stands there twice; take one of the two out")
    return ids
