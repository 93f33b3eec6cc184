"""The journal of a region store that is being written: what of its files is whole, a line per image.

Of its lines the store's tables are made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.data.region_store import IDS, OFFSETS, SIZES, SOURCES
from harness.data.regions import offsets
from harness.files import npy, write_atomic


class JournalLine(NamedTuple):
    id: str
    regions: int
    width: int
    size: tuple[int, int] | None  # width and height in pixels
    at: int  # where it stands in its source, as whoever writes counts
    digest: str = ""  # of the bytes that it was made of, where whoever writes has them; earlier journals have none


def as_line(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True).encode() + b"\n"


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a journal but a last one that was cut; none where there is no journal."""
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [line for line in lines if line.endswith(b"\n")]


def write_tables(folder: Path, lines: Sequence[JournalLine]) -> None:
    """The tables of a store, one row per image; sizes and sources only where all images have them."""
    write_atomic(folder / OFFSETS, npy(offsets([line.regions for line in lines])))
    write_atomic(folder / IDS, _text([line.id for line in lines]))
    if lines[0].size is not None:
        write_atomic(folder / SIZES, npy(np.array([line.size for line in lines], dtype=np.int32)))
    if all(line.digest for line in lines):
        write_atomic(folder / SOURCES, _text([line.digest for line in lines]))


def _text(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
