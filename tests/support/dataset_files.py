"""What small datasets of all layouts share: the beginning of their cards, and how their files are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def tiny_card(layout: str, **fields: Any) -> dict[str, Any]:
    """The fields of a card of a dataset called tiny, without any that its files decide."""
    blank = {"title": "", "summary": "", "licence": "", "origin": "the moon", "path": "card.toml"}
    return {"name": "tiny", "layout": layout, "folder": "tiny", "text": {"min_count": 1}, **blank, **fields}


def write_files(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write files by name: bytes and text as they are, anything else as JSON."""
    for name, value in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = value if isinstance(value, str | bytes) else json.dumps(value)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def write_precomp(folder: Path, stem: str, regions: np.ndarray, captions: str) -> None:
    """Write one split in the field's layout."""
    np.save(folder / f"{stem}_ims.npy", regions)
    write_files(folder, {f"{stem}_caps.txt": captions})
