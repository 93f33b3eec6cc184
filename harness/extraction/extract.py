"""Make a region store of pictures: read ahead, encoded in batches, written one by one, resumed where it stopped."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.pictures import read_picture
from harness.data.region_store import IDS, StoreFacts, Watch, WrittenStore, read_facts, read_ids, unwatched
from harness.data.region_writer import Dtype, RegionWriter, discard
from harness.errors import DataError, Location, StoreError
from harness.processors import cpus_here

if TYPE_CHECKING:
    from harness.extraction.extractors import Extractor, Pixels

READERS = min(8, cpus_here())  # threads that read pictures


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
    what they were computed beside. So a batch that was written in part is seen again, and its rest is added.

    DataError for the first picture that cannot be read, StoreError where the folder cannot be written or holds work of
    another model or on other pictures. What is written stays; the same call goes on behind it, `force` begins again.
    """
    began = time.monotonic()
    if force:
        discard(folder)
    elif facts := finished(files, extractor, folder, dtype):
        return WrittenStore(folder, facts, facts.images, time.monotonic() - began)
    with RegionWriter(folder, dtype, extractor.origin) as writer:
        check_goes_on(files, writer)
        before = len(writer.done)
        with watch(len(files), before) as tell, computing(extractor):
            for images, pictures in read_ahead(files, unfinished(files, writer, batch_size), extractor):
                for image, picture, seen in zip(images, pictures, extractor.see(pictures), strict=True):
                    if image not in writer.done:
                        writer.add(image, seen.regions, seen.boxes, picture.size)
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
        raise StoreError(
            f"{writer.folder} holds unfinished work on {len(gone):,} pictures that are not here, {gone[0]!r} first; "
            "put them back, or begin again with --force"
        )


@contextmanager
def computing(extractor: Extractor) -> Iterator[None]:
    """Let a model on a CPU have as many threads as this process may use: more of them wait for one another."""
    if extractor.ahead:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(before, cpus_here()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def unfinished(files: Mapping[str, Path], writer: RegionWriter, batch_size: int) -> list[Sequence[str]]:
    """Batches of images, always of the same ones, but those that are written in full."""
    images = list(files)
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return [batch for batch in batches if not writer.done >= set(batch)]


def read_ahead(
    files: Mapping[str, Path], batches: Iterable[Sequence[str]], extractor: Extractor
) -> Iterator[tuple[Sequence[str], list[Pixels]]]:
    """Batches of images, each with its pictures as the extractor takes them; others are read in threads meanwhile."""
    waiting: deque[tuple[Sequence[str], list[Future[Pixels]]]] = deque()
    with ThreadPoolExecutor(READERS) as readers:
        try:
            for batch in batches:
                waiting.append((batch, [readers.submit(prepared, image, files[image], extractor) for image in batch]))
                if len(waiting) > extractor.ahead:
                    yield results(waiting.popleft())
            while waiting:
                yield results(waiting.popleft())
        finally:
            readers.shutdown(cancel_futures=True)


def results(batch: tuple[Sequence[str], list[Future[Pixels]]]) -> tuple[Sequence[str], list[Pixels]]:
    return batch[0], [picture.result() for picture in batch[1]]


def prepared(image: str, file: Path, extractor: Extractor) -> Pixels:
    """A picture as the extractor takes it; DataError where its file is none, or of a shape that no model takes."""
    picture = read_picture(file)
    try:
        return extractor.prepare(picture, image)
    except (ValueError, ZeroDivisionError) as error:
        shape = "{} x {} pixels".format(*picture.size)
        message = f"cannot be resized for the model ({shape}; {error}); take it out"
        raise DataError(message, Location(file)) from error
