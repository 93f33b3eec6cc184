"""Make a region store of pictures: seen in batches, written one by one, resumed where it stopped.

On a CPU each core reads and sees batches of its own: a model that shares its batch among threads waits at every layer
for the slowest of them, and on a machine that does other things too takes several times the CPU. On a GPU pictures are
read ahead in threads while the model sees the batch before.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from harness.data.pictures import digest_of, read_picture
from harness.data.region_store import (
    IDS,
    StoreFacts,
    Watch,
    WrittenStore,
    read_facts,
    read_ids,
    read_sources,
    unwatched,
)
from harness.data.region_writer import Dtype, RegionWriter, discard
from harness.errors import DataError, Location, UsageError
from harness.processors import cpus_here

if TYPE_CHECKING:
    from harness.extraction.extractors import Extractor, Pixels, Seen

WORKERS = 8  # threads at most, each with a batch of pictures in memory
AHEAD = 2  # batches that are read while a GPU sees one
S = TypeVar("S")
T = TypeVar("T")


def extract(
    files: Mapping[str, Path],
    extractor: Extractor,
    folder: Path,
    dtype: Dtype = "float32",
    batch_size: int = 16,
    force: bool = False,
    watch: Watch = unwatched,
) -> WrittenStore:
    """A region store of pictures by id, in their order; those that an earlier call has written are not written again.

    Batches are the same however often the work was interrupted: a model's numbers may differ in their last bits with
    what they were computed beside. So a batch that was written in part is seen again, and its rest is added. Pictures
    that are written already are compared by digests of their bytes, where the store has them.

    DataError for the first picture that cannot be read, StoreError where the folder cannot be written, UsageError where
    it holds work of another model or on other pictures, also of the same names. What is written stays; the same call
    goes on behind it, `force` begins again.
    """
    began = time.monotonic()
    if force:
        discard(folder)
    elif facts := finished(files, extractor, folder, dtype):
        check_unchanged(files, read_sources(folder), folder, watch)
        return WrittenStore(folder, facts, facts.images, time.monotonic() - began)
    with RegionWriter(folder, dtype, extractor.origin) as writer:
        check_goes_on(files, writer)
        check_unchanged(files, writer.digests, folder, watch)
        before = len(writer.done)
        seen_on = seen_on_cores if extractor.on_cores else seen_on_a_gpu
        with watch(len(files), before) as tell:
            for batch in seen_on(files, unfinished(files, writer, batch_size), extractor):
                for image, digest, picture, seen in zip(*batch, strict=True):
                    if image not in writer.done:
                        writer.add(image, seen.regions, seen.boxes, picture.size, digest=digest)
                tell(len(writer.done))
        return WrittenStore(folder, writer.finish(), before, time.monotonic() - began)


def finished(files: Mapping[str, Path], extractor: Extractor, folder: Path, dtype: Dtype) -> StoreFacts | None:
    """The store of a folder, if it is whole and what this very model makes of pictures of these ids."""
    with suppress(DataError):
        facts = read_facts(folder)
        origin = json.loads(json.dumps(extractor.origin))  # as the store's own was read
        if (facts.origin, facts.dtype) == (origin, dtype) and set(read_ids(folder / IDS, facts)) == set(files):
            return facts
    return None


def check_goes_on(files: Mapping[str, Path], writer: RegionWriter) -> None:
    gone = sorted(set(writer.done) - set(files))
    if gone:
        raise UsageError(
            f"{writer.folder} holds unfinished work on {len(gone):,} pictures that are not here, {gone[0]!r} first; "
            "put them back, or begin again with --force"
        )


def check_unchanged(files: Mapping[str, Path], digests: Mapping[str, str], folder: Path, watch: Watch) -> None:
    """UsageError where pictures have changed since a store was made of them; `digests` are of those that it knows."""
    known = [image for image in files if image in digests]
    if not known:
        return
    changed = []
    pool = ThreadPoolExecutor(min(WORKERS, cpus_here()))
    with watch(len(known), 0) as tell:
        now = in_order(pool, lambda image: digest_of(files[image]), known, AHEAD * WORKERS)
        for done, (image, digest) in enumerate(zip(known, now, strict=True), start=1):
            changed += [image] * (digest != digests[image])
            tell(done)
    if changed:
        raise UsageError(
            f"{len(changed):,} of the {len(known):,} pictures that {folder} was made of have changed since, "
            f"{changed[0]!r} first; put them back, or --force extracts again"
        )


def unfinished(files: Mapping[str, Path], writer: RegionWriter, batch_size: int) -> list[Sequence[str]]:
    """Batches of images, always of the same ones, but those that are written in full."""
    images = list(files)
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return [batch for batch in batches if not writer.done >= set(batch)]


class SeenBatch(NamedTuple):
    images: Sequence[str]
    digests: Sequence[str]  # of their files' bytes
    pictures: Sequence[Pixels]
    seen: list[Seen]


def seen_on_cores(
    files: Mapping[str, Path], batches: Sequence[Sequence[str]], extractor: Extractor
) -> Iterator[SeenBatch]:
    """Batches in their order, read and seen by threads that share nothing; torch has what cores they leave."""
    import torch

    def work(images: Sequence[str]) -> SeenBatch:
        digests, pictures = zip(*(digested(files, image, extractor) for image in images), strict=True)
        return SeenBatch(images, digests, pictures, extractor.see(pictures))

    cores, before = cpus_here(), torch.get_num_threads()
    workers = min(WORKERS, cores)
    torch.set_num_threads(min(before, cores // workers))
    try:
        with ThreadPoolExecutor(workers) as pool:
            yield from in_order(pool, work, batches, workers)
    finally:
        torch.set_num_threads(before)


def seen_on_a_gpu(
    files: Mapping[str, Path], batches: Sequence[Sequence[str]], extractor: Extractor
) -> Iterator[SeenBatch]:
    """Batches in their order, the next ones read in threads while one is seen."""
    with ThreadPoolExecutor(min(WORKERS, cpus_here())) as pool:
        flat = [image for images in batches for image in images]
        size = max(map(len, batches), default=1)
        read = in_order(pool, lambda image: digested(files, image, extractor), flat, AHEAD * size)
        for images in batches:
            digests, pictures = zip(*(next(read) for _ in images), strict=True)
            yield SeenBatch(images, digests, pictures, extractor.see(pictures))


def in_order(pool: ThreadPoolExecutor, work: Callable[[S], T], items: Iterable[S], ahead: int) -> Iterator[T]:
    """What work makes of items, in their order; at most so many more than one are begun before it is taken."""
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def digested(files: Mapping[str, Path], image: str, extractor: Extractor) -> tuple[str, Pixels]:
    """The digest of a picture's file, and what the extractor takes of it."""
    # the digest first: of a picture that is replaced in between, the next call says that it has changed
    return digest_of(files[image]), prepared(image, files[image], extractor)


def prepared(image: str, file: Path, extractor: Extractor) -> Pixels:
    """A picture as the extractor takes it; DataError where its file is none, or of a shape that no model takes."""
    picture = read_picture(file)
    try:
        return extractor.prepare(picture, image)
    except (ValueError, ZeroDivisionError) as error:
        shape = "{} x {} pixels".format(*picture.size)
        message = f"cannot be resized for the model ({shape}; {error}); take it out"
        raise DataError(message, Location(file)) from error
