"""Files of ids: lists by id, ids in an order, captions by id. What is damaged is named by file and entry."""

from __future__ import annotations

import json
import re
import tokenize
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.content import whole_id
from harness.errors import DataError, first_line
from harness.files import check_regular, lfs_hint, read_text

Lists = dict[int, list[int]]
ID = re.compile(r"(?:0|[1-9][0-9]*)(?:\.0+)?")


def read_lists(path: Path) -> Lists:
    """A json of {id: [ids]}, none of the lists empty, no id twice in one; DataError names the entry that is not so."""
    table = _json(path)
    if not isinstance(table, dict) or not table:
        raise DataError(f"{path} holds {_kind(table)}; {{id: [ids]}} is needed")
    lists: Lists = {}
    for key, entry in table.items():
        query = whole_id(key) if ID.fullmatch(key) else None
        if query is None:
            raise DataError(f"{path}: the key {key[:40]!r} is no id; whole numbers are needed")
        if not isinstance(entry, list) or not entry:
            raise DataError(f"{path}: the entry of {key} is {_kind(entry)}; a list of ids is needed")
        if query in lists:
            raise DataError(f"{path}: the key {query} is there twice, in two forms; keep one")
        lists[query] = _ids(path, key, entry)
    return lists


def _ids(path: Path, key: str, entry: list[Any]) -> list[int]:
    ids: list[int] = []
    for value in entry:
        one = whole_id(value)
        if one is None:
            raise DataError(f"{path}: the list of {key} holds {_kind(value)}; whole numbers are needed")
        ids.append(one)
    if len(set(ids)) < len(ids):
        twice = next(one for place, one in enumerate(ids) if one in ids[:place])
        raise DataError(f"{path}: the list of {key} holds {twice} twice")
    return ids


def read_ids(path: Path) -> list[int]:
    """An npy of whole numbers (M,), also as floats; a pickle is never loaded. DataError where it is another thing."""
    check_regular(path)
    try:
        _check_pointer(path)
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, SyntaxError, OverflowError, tokenize.TokenError) as error:
        raise DataError(f"{path} is no whole .npy file of numbers ({first_line(error)}); get it again") from error
    ids = [whole_id(value) for value in array.tolist()] if array.ndim == 1 and array.dtype.kind in "iuf" else [None]
    known = [one for one in ids if one is not None]
    if len(known) < len(ids):
        raise DataError(f"{path} holds {array.dtype} of shape {array.shape}; whole numbers (captions,) are needed")
    return known


def read_captions(path: Path) -> dict[int, str]:
    """The captions of an official COCO json, by id; DataError where it is another thing."""
    table = _json(path)
    try:
        entries = [(one["id"], one["caption"]) for one in table["annotations"]]
    except (KeyError, TypeError) as error:
        raise DataError(f'{path}: expected {{"annotations": [{{"id": ..., "caption": ...}}]}}') from error
    captions: dict[int, str] = {}
    for key, text in entries:
        one = whole_id(key)
        if one is None or not isinstance(text, str):
            raise DataError(f"{path}: the caption of {key!r} is {_kind(text)}; a whole number and a text are needed")
        captions[one] = text
    return captions


def _json(path: Path) -> Any:
    """What a json holds; a key that is there twice is an error, where Python would drop the first."""
    text = read_text(path)
    try:
        _check_pointer(path)
        return json.loads(text, object_pairs_hook=_once)
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
