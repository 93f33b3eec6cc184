"""The journal of a region store that is being written: what of its files is whole, a line per image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple


class JournalLine(NamedTuple):
    id: str
    regions: int
    width: int
    size: tuple[int, int] | None  # width and height in pixels
    at: int  # where it stands in its source, as whoever writes counts


def as_line(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True).encode() + b"\n"


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a journal but a last one that was cut; none where there is no journal."""
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [line for line in lines if line.endswith(b"\n")]
