"""A region store: regions of many images in one folder, memory-mapped, found by image id.

    regions.npy   (S, F) float32 or float16, all regions of all images one below the other
    offsets.npy   (N + 1,) int64, where each image's regions begin, and the end
    ids.txt       N lines, the images' ids in UTF-8
    boxes.npy     (S, 4) float32, of every region x, y, width, height in pixels; absent where none are known
    sizes.npy     (N, 2) int32, width and height of every image in pixels; absent where they are not known
    sources.txt   N lines, a digest of the picture that each image was made of; absent where not all are known
    store.json    what it was made of, and its counts; written last, so that its presence means that all is there

`region_writer` writes one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.data.arrays import check_range, open_array, read_header
from harness.data.cache import file_fact
from harness.data.content import first_twice
from harness.data.regions import Ints, PaddedArray, Ragged, Regions
from harness.errors import DataError, Location
from harness.files import has_file, lfs_hint, read_bytes, read_lines

STORE_FILES = ("regions.npy", "offsets.npy", "ids.txt", "boxes.npy", "sizes.npy", "sources.txt", "store.json")
REGIONS, OFFSETS, IDS, BOXES, SIZES, SOURCES, FACTS = STORE_FILES
JOURNAL = "journal.part"  # of a writer that has not finished
AGAIN = "make the store again with `harness data convert` or `harness data extract`"
# Keys of an origin that do not decide what a region's numbers mean: whose pictures, and which regions of each.
OF_PICTURES = ("files", "folders", "ids", "beside", "bytes", "boxes", "pictures", "channels", "most", "threshold")
MODEL_NAMES = ("model", "transformers", "timm")  # of an origin: what decides no number, or its last bits alone
OF_ONE_KIND = "a method reads only regions that were made as those that it was trained on, by one model in one way"
DRAWN = ("scenes", "coco", "entities")  # layouts whose reader makes the regions, so that they are of one kind


class StoreFacts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    images: int = Field(ge=1)
    regions: int = Field(ge=1)
    width: int = Field(ge=1)
    dtype: Literal["float32", "float16"]
    boxes: bool
    sizes: bool
    origin: dict[str, Any] = Field(description="how it was made: of which files, by which model")


class FeatureFacts(BaseModel):
    """How the regions of a dataset were made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(ge=1, description="numbers per region")
    max_regions: int
    layout: str = Field(description="of the dataset's files")
    origins: list[dict[str, Any]] = Field(description="of its region stores: what store.json says; empty without one")

    @property
    def kinds(self) -> tuple[dict[str, Any], ...]:
        """What decides the meaning of a region's numbers, one for all stores that agree; empty where nothing says."""
        if self.layout in DRAWN and not self.origins:
            return ({"layout": self.layout},)
        each = [kind_of(origin) for origin in self.origins if "model" in origin]
        return tuple(kind for place, kind in enumerate(each) if kind not in each[:place])


def kind_of(origin: Mapping[str, Any]) -> dict[str, Any]:
    """What an origin says of the meaning of its numbers: a model is known by its weights where they are hashed."""
    names = MODEL_NAMES if "weights_sha256" in origin else MODEL_NAMES[1:]
    return {key: value for key, value in origin.items() if key not in (*OF_PICTURES, *names)}


def check_alike(name: str, features: FeatureFacts, trained_on: str, trained: FeatureFacts) -> str:
    """DataError where a method trained on the regions of one dataset cannot read those of another, `name`.

    What is returned is a note where nothing says which model made the one or the other; empty where that is known.
    """
    if features.width != trained.width:
        raise DataError(
            f"{name}: regions have {features.width} numbers, those of {trained_on} {trained.width}; {OF_ONE_KIND}"
        )
    kinds, others = features.kinds, trained.kinds
    strange = [kind for kind in kinds if others and kind not in others]
    if strange:
        (one, *_), (other, *_) = strange, others
        said = differences(one, other, "there")
        raise DataError(f"{name}: regions are of another kind than those of {trained_on} ({said}); {OF_ONE_KIND}")
    if kinds and others:
        return ""
    silent = trained_on if kinds else name
    return f"nothing says which model made the regions of {silent}; see that {name} and {trained_on} are of one model"


def differences(one: Mapping[str, Any], other: Mapping[str, Any], where: str, ignored: Sequence[str] = ()) -> str:
    """What two origins do not say alike, in words, the other's behind `where`; empty where they agree."""
    keys = sorted(key for key in {*one, *other} if key not in ignored and one.get(key) != other.get(key))
    return "; ".join(f"{key} {short(one.get(key))}, {where} {short(other.get(key))}" for key in keys)


def short(value: object) -> str:
    return "none" if value is None else str(value)[:40]


class RegionStore(NamedTuple):
    facts: StoreFacts
    ids: tuple[str, ...]  # N
    images: Regions
    boxes: Ragged | None
    sizes: NDArray[np.int32] | None  # (N, 2)


Tell = Callable[[int], object]  # how far it is
Watch = Callable[[int, int], AbstractContextManager[Tell]]  # how far it has to go, and how far it is already


def unwatched(total: int, done: int) -> AbstractContextManager[Tell]:
    return nullcontext(lambda _: None)


class WrittenStore(NamedTuple):
    folder: Path
    facts: StoreFacts
    before: int  # images that were there already
    seconds: float
    skipped: int = 0  # images that stood in the sources once more
    left_out: tuple[Path, ...] = ()  # of folders: what is no array of regions
    remarks: tuple[str, ...] = ()  # on how the sources were understood

    @property
    def bytes(self) -> int:
        return sum((self.folder / name).stat().st_size for name in store_files(self.folder))

    @property
    def knows_sources(self) -> bool:
        """Whether it can be told of each picture that it is the one that the store was made of."""
        return (self.folder / SOURCES).is_file()


def store_files(folder: Path) -> list[str]:
    """Names of the files of a store that decide what it gives; DataError where there is no complete store."""
    facts = read_facts(folder)
    return [REGIONS, OFFSETS, IDS, *[BOXES] * facts.boxes, *[SIZES] * facts.sizes]


def open_store(folder: Path, cache: Path) -> RegionStore:
    """The store in a folder; DataError where it is incomplete or damaged. `cache` remembers that numbers are finite."""
    facts = read_facts(folder)
    rows = _array(folder / REGIONS, (facts.regions, facts.width), facts.dtype)
    offsets = read_offsets(folder / OFFSETS, facts)
    ids = read_ids(folder / IDS, facts)
    file_fact(cache, folder / REGIONS, "in range", partial(check_range, array=rows))
    boxes = _array(folder / BOXES, (facts.regions, 4), "float32") if facts.boxes else None
    return RegionStore(
        facts,
        ids,
        _regions(rows, offsets),
        None if boxes is None else Ragged(boxes, offsets),
        _whole_numbers(folder / SIZES, (facts.images, 2), "int32").astype(np.int32) if facts.sizes else None,
    )


def read_facts(folder: Path) -> StoreFacts:
    """store.json; DataError where it is absent or not of this version."""
    path = folder / FACTS
    if not has_file(path):
        unfinished = "it was not finished: give the command that makes it again, it goes on where it stopped"
        why = unfinished if has_file(folder / JOURNAL) else f"no {FACTS} in it; {AGAIN}"
        raise DataError(f"no region store: {why}", Location(folder))
    try:
        return StoreFacts.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors()[0]
        hint = lfs_hint(path) or AGAIN
        field = ".".join(map(str, first["loc"]))
        message = f"damaged ({field}{': ' * bool(field)}{first['msg']}); {hint}"
        raise DataError(message, Location(path, field)) from None


def read_offsets(path: Path, facts: StoreFacts) -> Ints:
    """Where each image's regions begin; DataError where they do not lie one behind the other."""
    offsets = _whole_numbers(path, (facts.images + 1,), "int64")
    if offsets[0] != 0 or offsets[-1] != facts.regions or (np.diff(offsets) < 1).any():
        message = f"does not cut {facts.regions:,} regions into {facts.images:,} images; {AGAIN}"
        raise DataError(message, Location(path))
    return offsets


def read_ids(path: Path, facts: StoreFacts) -> tuple[str, ...]:
    ids = read_lines(path, "is one image's id")
    if len(ids) != facts.images:
        raise DataError(f"has {len(ids):,} lines, {FACTS} promises {facts.images:,} images; {AGAIN}", Location(path))
    second = first_twice(ids)
    if second is not None:
        raise DataError(f"image {ids[second]} stands twice; {AGAIN}", Location(path, f"line {second + 1}"))
    return tuple(ids)


def read_sources(folder: Path) -> dict[str, str]:
    """The digest of each image's picture by its id; empty where the store does not know them, as earlier ones do not.

    DataError where they are not one for each image.
    """
    path = folder / SOURCES
    if not has_file(path):
        return {}
    ids, digests = read_ids(folder / IDS, read_facts(folder)), read_lines(path, "is a digest of one picture")
    if len(digests) != len(ids):
        raise DataError(f"has {len(digests):,} lines for {len(ids):,} images; {AGAIN}, with --force", Location(path))
    return dict(zip(ids, digests, strict=True))


def _regions(rows: NDArray[Any], offsets: Ints) -> Regions:
    """Whole images where all have as many regions: they are read in one run each."""
    counts = np.diff(offsets)
    if (counts == counts[0]).all():
        return PaddedArray(rows.reshape(len(counts), counts[0], -1), np.arange(len(counts)))
    return Ragged(rows, offsets)


def _array(path: Path, shape: tuple[int, int], dtype: str) -> NDArray[Any]:
    _present(path)
    array = open_array(path, ("regions", "width"))
    if array.shape != shape or array.dtype != dtype:
        message = f"holds {array.dtype} {array.shape}, {FACTS} promises {dtype} {shape}; {AGAIN}"
        raise DataError(message, Location(path))
    return array


def _whole_numbers(path: Path, shape: tuple[int, ...], dtype: str) -> Ints:
    _present(path)
    header = read_header(path)
    if header.shape != shape or header.dtype != dtype:
        raise DataError(f"holds {header.dtype} {header.shape}, {dtype} {shape} is needed; {AGAIN}", Location(path))
    try:
        numbers: Ints = np.load(path, allow_pickle=False).astype(np.int64)
    except (ValueError, EOFError) as error:
        raise DataError(f"damaged ({error}); {AGAIN}", Location(path)) from error
    return numbers


def _present(path: Path) -> None:
    if not has_file(path):
        raise DataError(f"missing, and {FACTS} promises it; {AGAIN}", Location(path))
