"""A gallery of a protocol's own: a json list of image ids, in numbers of the split.

["391895", "522418", 184613]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.config.cards import ProtocolCard
from harness.data.content import Place, first_twice, same_as, whole_id
from harness.data.regions import Ints
from harness.errors import DataError, Location
from harness.files import has_file, read_json, sha256


def read_galleries(place: Place, split: str, image_ids: Sequence[str]) -> dict[str, Ints]:
    """The numbers of every gallery's images in its order, by the name of its protocol; DataError names a wrong file."""
    protocols = [one for one in place.card.protocols if one.gallery and one.split == split]
    rows = {image: number for number, image in enumerate(image_ids)} if protocols else {}
    for one in protocols:
        if not has_file(place.folder / one.gallery):
            problem = f"the gallery of protocol {one.name!r} is absent; put it there, or take the protocol out of"
            raise DataError(f"{problem} {place.card.path}", Location(place.folder / one.gallery))
    return {one.name: gallery_rows(place.folder / one.gallery, one, rows) for one in protocols}


def gallery_rows(path: Path, protocol: ProtocolCard, rows: dict[str, int]) -> Ints:
    ids = read_gallery(path, protocol.gallery_sha256)
    for entry, image in enumerate(ids):
        if image not in rows:
            some = ", ".join(list(rows)[:3])
            remedy = same_as(image, rows) or f"correct the file or the split of protocol {protocol.name!r}"
            raise DataError(
                f"image {image!r} is not in split {protocol.split!r}, whose ids are {some}, …; {remedy}",
                Location(path, f"entry {entry}"),
            )
    return np.array([rows[image] for image in ids], dtype=np.int64)


def read_gallery(path: Path, expected: str) -> list[str]:
    """The image ids of a gallery's file with this sha256; DataError where it is not a list of distinct ids."""
    ids, digest = read_json(path), sha256(path)
    if digest != expected:
        raise DataError(
            f"its sha256 is {digest}, the card says {expected}; take the file the card names, or give the "
            "protocol a new version and this gallery_sha256",
            Location(path),
        )
    return ids_of(path, ids)


def ids_of(path: Path, values: object) -> list[str]:
    if not isinstance(values, list) or not values:
        raise DataError(f"a JSON list of image ids is expected, found {values!r:.60}; correct it", Location(path))
    ids = []
    for entry, value in enumerate(values):
        image = value if isinstance(value, str) else whole_id(value)
        if image is None:
            raise DataError(f"{value!r:.60} is no image id; correct it", Location(path, f"entry {entry}"))
        ids.append(str(image))
    second = first_twice(ids)
    if second is not None:
        message = f"image {ids[second]!r} stands in entry {ids.index(ids[second])} too; take one of the two out"
        raise DataError(message, Location(path, f"entry {second}"))
    return ids
