"""Files of ids: lists by id, ids in an order, captions by id. What is damaged is named by file and entry."""

from __future__ import annotations

import json
import re
import tokenize
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import DataError, first_line
from harness.files import lfs_hint

Lists = dict[int, list[int]]
ID = re.compile(r"0|[1-9][0-9]*")


def read_lists(path: Path) -> Lists:
    """A json of {id: [ids]}, none of the lists empty, no id twice in one; DataError names the entry that is not so."""
    table = _json(path)
    if not isinstance(table, dict) or not table:
        raise DataError(f"{path} holds {_kind(table)}; {{id: [ids]}} is needed")
    for key, ids in table.items():
        if not ID.fullmatch(key):
            raise DataError(f"{path}: the key {key!r} is no id; whole numbers are needed")
        if not isinstance(ids, list) or not ids:
            raise DataError(f"{path}: the entry of {key} is {_kind(ids)}; a list of ids is needed")
        for one in ids:
            if type(one) is not int:
                raise DataError(f"{path}: the list of {key} holds {_kind(one)}; whole numbers are needed")
        if len(set(ids)) < len(ids):
            twice = next(one for place, one in enumerate(ids) if one in ids[:place])
            raise DataError(f"{path}: the list of {key} holds {twice} twice")
    return {int(key): ids for key, ids in table.items()}


def read_ids(path: Path) -> list[int]:
    """An npy of whole numbers (M,); a pickle is never loaded. DataError where it is another thing."""
    try:
        _check_pointer(path)
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, SyntaxError, tokenize.TokenError) as error:
        raise DataError(f"{path} is no whole .npy file of numbers ({first_line(error)}); get it again") from error
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(f"{path} holds {array.dtype} of shape {array.shape}; whole numbers (captions,) are needed")
    ids: list[int] = array.tolist()
    return ids


def read_captions(path: Path) -> dict[int, str]:
    """The captions of an official COCO json, by id; DataError where it is another thing."""
    table = _json(path)
    try:
        captions = {one["id"]: one["caption"] for one in table["annotations"]}
    except (KeyError, TypeError) as error:
        raise DataError(f'{path}: expected {{"annotations": [{{"id": ..., "caption": ...}}]}}') from error
    for key, text in captions.items():
        if type(key) is not int or not isinstance(text, str):
            raise DataError(f"{path}: the caption of {key!r} is {_kind(text)}; a whole number and a text are needed")
    return captions


def _json(path: Path) -> Any:
    """What a json holds; a key that is there twice is an error, where Python would drop the first."""
    try:
        _check_pointer(path)
        return json.loads(path.read_bytes(), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is no whole json file ({first_line(error)}); get it again") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return table


def _check_pointer(path: Path) -> None:
    if hint := lfs_hint(path):
        raise DataError(f"{path} {hint.removeprefix('it ')}")


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"
