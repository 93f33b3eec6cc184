"""Make a region store of features in other forms: as a stream, in constant memory, resumed where it stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.data.content import first_twice
from harness.data.region_store import StoreFacts, Watch, WrittenStore, read_facts, unwatched
from harness.data.region_writer import Dtype, RegionWriter, discard
from harness.errors import DataError, UsageError
from harness.preparation.array_folder import ArrayFolder
from harness.preparation.tsv import ButdTsv

RegionSource = ArrayFolder | ButdTsv  # a place is a number of bytes: where an image stands in the source's files


def convert(
    sources: Sequence[Path], folder: Path, dtype: Dtype = "float32", force: bool = False, watch: Watch = unwatched
) -> WrittenStore:
    """A region store of TSV files or of folders of arrays; what an earlier call has written is not read again.

    UsageError where sources are not there or of several kinds, DataError with file and line where one is wrong,
    StoreError where the folder cannot be written or holds something else. `force` begins again.
    """
    began = time.monotonic()
    source = open_source(sources)
    if folder.resolve() in {path.resolve() for path in sources}:
        raise UsageError(f"{folder} is a source; give --to another folder")
    if force:
        discard(folder)
    elif facts := _finished(source, folder, dtype):
        return WrittenStore(folder, facts, facts.images, time.monotonic() - began, left_out=tuple(source.left_out))
    with RegionWriter(folder, dtype, source.origin) as writer:
        before = len(writer.done)
        if before:
            _check_goes_on(source, writer)
        _write(source, writer, watch)
        facts = writer.finish(**source.extent)
    return WrittenStore(folder, facts, before, time.monotonic() - began, source.skipped, tuple(source.left_out))


def open_source(paths: Sequence[Path]) -> RegionSource:
    """Files as TSV, folders as folders of arrays; UsageError where a path is neither or they are of both kinds."""
    for path in paths:
        if not path.is_file() and not path.is_dir():
            raise UsageError(f"{path} is no file and no folder; give TSV files, or a folder of .npy or .npz files")
    kinds = {path.is_dir() for path in paths}
    if len(kinds) > 1:
        raise UsageError("files and folders together make no store; give TSV files, or folders of .npy or .npz files")
    second = first_twice([str(path.resolve()) for path in paths])
    if second is not None:
        raise UsageError(f"{paths[second].resolve()} is given twice; once is enough")
    try:
        return ArrayFolder(paths) if kinds == {True} else ButdTsv(paths)
    except OSError as error:
        raise DataError(f"a source cannot be read ({error}); see to the file and its rights") from error


def _finished(source: RegionSource, folder: Path, dtype: Dtype) -> StoreFacts | None:
    """The store of a folder, if it is whole and made of this very source."""
    with suppress(DataError):
        facts = read_facts(folder)
        if (facts.origin, facts.dtype) == ({**source.origin, **source.extent}, dtype):
            return facts
    return None


def _check_goes_on(source: RegionSource, writer: RegionWriter) -> None:
    with suppress(DataError):
        last = source.again(next(reversed(writer.places)), writer.at)
        if writer.ends_with(last.image, last.regions):
            return
    raise DataError(
        f"no longer the image with which {writer.folder} ends so far: the source has changed; give the files that the "
        "work began with, or --force to begin again",
        source.location(writer.at),
    )


def _write(source: RegionSource, writer: RegionWriter, watch: Watch) -> None:
    """All images that are not written yet; a DataError tells where the image stands."""
    with watch(source.files.total, writer.at) as tell:
        for item in source.images(writer.places, writer.at):
            try:
                writer.add(*item)
            except DataError as error:
                raise DataError(error.message, source.location(item.at)) from None
            tell(item.at)
        tell(source.files.total)
