"""A score matrix that somebody else has saved: opened without unpickling, checked against the split that it is of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.cards import DatasetCard, ProtocolCard
from harness.data.arrays import BROKEN, Header, parse_header
from harness.data.split import Split
from harness.errors import DataError, UsageError, first_line
from harness.evaluation.ranks import Floats, blocks
from harness.files import has_file, sha256

Array = NDArray[Any]
MAGIC, ZIP, PICKLE = b"\x93NUMPY", b"PK", b"\x80"  # how files begin
MOST = float(np.finfo(np.float32).max)  # that a score can be: the first of every ranking are kept as float32
EXACT = 2**53  # the largest size up to which float64 holds every whole number
AS_SAVED = "save the matrix alone with np.save(file, scores)"


def open_scores(file: Path) -> Array:
    """The array of an .npy file, memory-mapped: two axes of real numbers.

    UsageError where there is no such file; DataError where it is not such an array or is cut short.
    """
    try:
        is_there = has_file(file)
    except DataError as error:
        raise UsageError(f"{error}; give the .npy file of a score matrix, images by captions") from error
    if not is_there:
        raise UsageError(f"{file}: no such file; give the .npy file of a score matrix, images by captions")
    header = header_of(file)
    if header.dtype.hasobject:
        raise DataError(f"{file} holds Python objects, which are never unpickled; {AS_SAVED}, of float32 numbers")
    check_kind(file, header.dtype, header.shape)
    size = file.stat().st_size
    if size != header.size:
        raise DataError(
            f"{file} has {size:,} bytes, its header says {header.size:,}: it is "
            f"{'cut short' if size < header.size else 'more than one array'}; copy it again, or {AS_SAVED}"
        )
    scores: Array = np.load(file, mmap_mode="r", allow_pickle=False)
    return scores


def check_kind(source: Path | str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """DataError unless an array is of real numbers on two axes."""
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise DataError(f"{source} holds {dtype} numbers; scores are float16, float32, float64 or integers")
    if len(shape) != 2 or min(shape) < 1:
        raise DataError(f"{source} has the shape {shape}; a score matrix has two axes, images by captions")


def header_of(file: Path) -> Header:
    try:
        with file.open("rb") as opened:
            start = opened.read(len(MAGIC))
            if start != MAGIC:
                raise DataError(f"{file} is {what_begins(start)}; {AS_SAVED}")
            opened.seek(0)
            return parse_header(opened)
    except BROKEN as error:
        raise DataError(f"{file}: its .npy header is damaged ({error}); copy it again, or {AS_SAVED}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}") from error


def what_begins(start: bytes) -> str:
    if start.startswith(ZIP):
        return "an .npz archive or another zip file"
    if start.startswith(PICKLE):
        return "a pickle, which is never loaded"
    return "no .npy file" if start else "empty"


def as_floats(source: Path | str, scores: Array) -> Floats:
    """Scores (N, M) as floats of the machine's own byte order, rows one after another; exact, or DataError.

    What is so already stays where it lies in the file.
    """
    if scores.dtype.kind in "iu":
        largest = max(abs(int(scores.min())), abs(int(scores.max())))
        if largest > EXACT:
            raise DataError(f"{source} holds the whole number {largest}, which float64 cannot represent; save floats")
        return np.ascontiguousarray(scores, dtype=np.float64)
    kind = np.float32 if scores.dtype.itemsize == 2 else scores.dtype.newbyteorder("=")
    return np.ascontiguousarray(scores, dtype=kind)


def mean_scores(files: Sequence[Path], card: DatasetCard, protocol: ProtocolCard, split: Split) -> Floats:
    """The mean of files of scores (N, M), one read at a time; of one file its scores. DataError names a wrong file.

    The order of the files decides nothing, not even the last bit.
    """
    total: Floats | None = None
    for file in sorted(files, key=sha256) if len(files) > 2 else files:  # two have one sum in either order
        array = open_scores(file)
        hold_scores(file, array, card, protocol, split, len(files))
        scores = as_floats(file, array)
        total = scores if total is None else total + scores
    if total is None:
        raise UsageError("give at least one .npy file of scores")
    return total if len(files) == 1 else total / len(files)


def array_scores(scores: Any, card: DatasetCard, protocol: ProtocolCard, split: Split) -> Floats:
    """An array (N, M) in memory as scores of a split; DataError where it is none."""
    source = "the array"
    try:
        array = np.asarray(scores)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of several lengths; a tensor of a GPU or a graph
        advice = "give a NumPy array (N, M), of a tensor its .detach().cpu(), of one of bfloat16 its .float() before"
        raise DataError(f"{source}: {first_line(error)}; {advice}") from error
    if np.ma.is_masked(scores):
        raise DataError(
            f"{source} has masked scores, which have no rank; fill them with numbers, as .filled(-1e9) does"
        )
    check_kind(source, array.dtype, array.shape)
    hold_scores(source, array, card, protocol, split)
    return as_floats(source, array)


def hold_scores(
    source: Path | str, scores: Array, card: DatasetCard, protocol: ProtocolCard, split: Split, files: int = 1
) -> None:
    """DataError unless scores (N, M) are one number for every image and caption of a split, each of which can be kept.

    They are one of so many files whose scores are added.
    """
    expected = (len(split.images), len(split.captions))
    if scores.shape != expected:
        hints = [*hints_of((scores.shape[0], scores.shape[1]), expected, card, protocol)]
        raise DataError(
            f"{source} is {scores.shape[0]} x {scores.shape[1]}; protocol {protocol.name!r} of {card.name} needs "
            f"{expected[0]} images x {expected[1]} captions, all of split {protocol.split!r}"
            + "".join(f"; {hint}" for hint in hints)
        )
    for start, block in blocks(scores):
        wrong = ~np.isfinite(block) | (np.abs(block) > np.float64(MOST / files))
        if wrong.any():
            row, caption = np.argwhere(wrong)[0]
            raise DataError(
                f"{source}: the score of image {start + row} ({split.image_ids[start + row]}) and caption {caption} "
                f"is {block[row, caption]}, {why_refused(float(block[row, caption]), files)}; nothing was ranked"
            )


def why_refused(score: float, files: int) -> str:
    if not np.isfinite(score):
        return "which has no rank"
    share = f", and of {files} files that are averaged {MOST / files:.2g}" if files > 1 else ""
    return f"beyond what is stored, which is float32 up to {MOST:.2g}{share}: divide all scores by one number"


def hints_of(
    shape: tuple[int, int], expected: tuple[int, int], card: DatasetCard, protocol: ProtocolCard
) -> Iterator[str]:
    rows, columns = shape
    n, m = expected
    if (rows, columns) == (m, n):
        yield "it has captions by images: save scores.T"
    elif columns == m and rows > n and rows % n == 0:
        each = rows // n
        yield f"if every image stands there {each} times in a row, once a caption, save scores[::{each}]"
    elif rows < n and columns < m:
        yield from parts_of(rows, card, protocol)
    for name, size in card.splits.items():
        if (size.images, size.captions) == shape and name != protocol.split:
            yield f"split {name!r} has this size"


def parts_of(rows: int, card: DatasetCard, protocol: ProtocolCard) -> Iterator[str]:
    folded = [one for one in card.protocols if one.split == protocol.split and one.images == rows * one.folds]
    names = [f"one fold of {one.name!r}" for one in folded if one.folds > 1]
    if names or protocol.images == 5 * rows:
        which = " or ".join([*names, "a set of its own, as the field's 1K test files are fold 0 of the 5K"])
        yield f"{rows} images are {which}: score all {protocol.images}, folds are cut from them"
