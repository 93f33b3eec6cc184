"""Make a region store of features in other forms: as a stream, in constant memory, resumed where it stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.conversion.opening import AS_FOUND, ArrayOptions, RegionSource, open_source
from harness.conversion.source import ImageRegions
from harness.conversion.tsv import ButdTsv
from harness.data.arrays import open_array
from harness.data.region_store import (
    BOXES,
    FACTS,
    IDS,
    OFFSETS,
    REGIONS,
    SIZES,
    StoreFacts,
    Watch,
    WrittenStore,
    read_facts,
    read_ids,
    read_offsets,
    unwatched,
)
from harness.data.region_writer import Dtype, RegionWriter, discard
from harness.errors import DataError, Location, UsageError


def convert(
    sources: Sequence[Path],
    folder: Path,
    dtype: Dtype | Literal["keep"] = "keep",
    force: bool = False,
    watch: Watch = unwatched,
    options: ArrayOptions = AS_FOUND,
) -> WrittenStore:
    """A region store of features in another form; what an earlier call has written is not written again.

    A finished store is compared with its source where a file of that is newer.

    UsageError where sources are not there or of several kinds or the folder holds something else, DataError with file
    and line where a source is wrong, StoreError where the folder cannot be written. `force` begins again.
    """
    began = time.monotonic()
    source = open_source(sources, options)
    if folder.resolve() in {path.resolve() for path in sources}:
        raise UsageError(f"{folder} is a source; give --to another folder")
    stored = source.dtype if dtype == "keep" else dtype
    if force:
        discard(folder)
    elif facts := _finished(source, folder, stored):
        if _is_newer(source, folder):
            check_equal(source, folder, facts, watch)
        return WrittenStore(folder, facts, facts.images, time.monotonic() - began, left_out=tuple(source.left_out))
    with RegionWriter(folder, stored, source.origin) as writer:
        before = len(writer.done)
        if before:
            _check_goes_on(source, writer)
        empty = _write(source, writer, watch)
        facts = writer.finish(**source.extent)
    remarks = (*source.remarks, *_remarks(source, facts, dtype), *_on_empty_regions(empty))
    seconds = time.monotonic() - began
    return WrittenStore(folder, facts, before, seconds, source.skipped, tuple(source.left_out), remarks)


def _finished(source: RegionSource, folder: Path, dtype: Dtype) -> StoreFacts | None:
    """The store of a folder, if it is whole and made of this very source."""
    with suppress(DataError):
        facts = read_facts(folder)
        is_same = (facts.origin, facts.dtype) == ({**source.origin, **source.extent}, dtype)
        if is_same and _holds_first(source, folder, facts):
            return facts
    return None


class _Stored:
    """The images of a store by their ids, as its arrays hold them."""

    def __init__(self, folder: Path, facts: StoreFacts) -> None:
        self.rows = {image: row for row, image in enumerate(read_ids(folder / IDS, facts))}
        self._begins = read_offsets(folder / OFFSETS, facts)
        self._regions = open_array(folder / REGIONS, ("regions", "width"))
        self._boxes = open_array(folder / BOXES, ("regions", "corners")) if facts.boxes else None
        self._sizes = open_array(folder / SIZES, ("images", "sides"), kinds="i") if facts.sizes else None

    def holds(self, item: ImageRegions) -> bool:
        """Whether the store has an image of a source, with these very numbers."""
        if item.image not in self.rows:
            return False
        row = self.rows[item.image]
        begin, end = self._begins[row : row + 2]
        boxes = None if self._boxes is None else self._boxes[begin:end]
        size = None if self._sizes is None else tuple(self._sizes[row].tolist())
        return size == item.size and _equal(boxes, item.boxes) and _equal(self._regions[begin:end], item.regions)


def _holds_first(source: RegionSource, folder: Path, facts: StoreFacts) -> bool:
    """Whether a store has the first image of a source as it is now: another model's array may have the same size."""
    return _Stored(folder, facts).holds(next(source.images({}, 0)))


def _is_newer(source: RegionSource, folder: Path) -> bool:
    """Whether a file of a source was written, or put there, since the store was finished."""
    stats = [path.stat() for path in (*source.files.paths, *source.files.beside)]
    finished = (folder / FACTS).stat().st_mtime_ns
    return any(max(stat.st_mtime_ns, stat.st_ctime_ns) >= finished for stat in stats)


def check_equal(source: RegionSource, folder: Path, facts: StoreFacts, watch: Watch) -> None:
    """UsageError that names the first image of a source that is another one in the store, read one by one."""
    stored, places = _Stored(folder, facts), dict[str, int]()
    with watch(source.files.total, 0) as tell:
        for item in source.images(places, 0):
            if not stored.holds(item):
                raise _changed(folder, item.image, source.location(item.at))
            places[item.image] = item.at
            tell(item.at)
        tell(source.files.total)
    gone = next((image for image in stored.rows if image not in places), None)
    if gone is not None:
        raise _changed(folder, gone, Location(source.files.paths[0]))


def _changed(folder: Path, image: str, location: Location) -> UsageError:
    return UsageError(
        f"{location}: the source has changed since {folder} was made of it, image {image!r} first; --force converts "
        "again, or take another folder"
    )


def _equal(stored: NDArray[Any] | None, array: NDArray[Any] | None) -> bool:
    if stored is None or array is None:
        return stored is array
    with np.errstate(over="ignore"):
        return np.array_equal(stored, array.astype(stored.dtype))


def _remarks(source: RegionSource, facts: StoreFacts, dtype: str) -> Iterator[str]:
    """What whoever has the numbers may want to know of how they are stored."""
    others = sorted(source.types - {facts.dtype})
    if dtype == "keep" and others:
        yield f"stored as {facts.dtype}; in the sources are {', '.join(sorted(source.types))}"
    if dtype == "keep" and facts.dtype == "float32":
        yield "--dtype float16 --force makes it half as large"
    each = facts.regions / facts.images
    if each > facts.width and not isinstance(source, ButdTsv):
        yield (
            f"an image has more regions ({each:,.0f}) than a region has numbers ({facts.width:,}); where the numbers "
            "of a region stand first in the array, say --channels first"
        )


def _check_goes_on(source: RegionSource, writer: RegionWriter) -> None:
    with suppress(DataError):
        last = source.again(next(reversed(writer.places)), writer.at)
        if writer.ends_with(last.image, last.regions):
            return
    raise DataError(
        f"this is not the image that {writer.folder} ends with so far: the source has changed; give the files that the "
        "work began with, or --force to begin again",
        source.location(writer.at),
    )


def _on_empty_regions(number: int) -> Iterator[str]:
    if number:
        yield (
            f"{number:,} regions of those converted now are 0 throughout; where they fill images up to one number of "
            "regions, say how many are real in counts.npy beside an array, or save the images without them: else each "
            "is a region like others"
        )


def _write(source: RegionSource, writer: RegionWriter, watch: Watch) -> int:
    """Write the images that are not written yet; how many of their regions are zeros. DataError with a place."""
    empty = 0
    with watch(source.files.total, writer.at) as tell:
        for item in source.images(writer.places, writer.at):
            try:
                writer.add(*item)
            except DataError as error:
                raise DataError(error.message, source.location(item.at)) from None
            empty += len(item.regions) - int(item.regions.any(axis=1).sum())
            tell(item.at)
        tell(source.files.total)
    return empty
