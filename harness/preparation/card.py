"""The commented card that `harness init dataset` writes, measured from what lies in a folder."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.config.cards import DatasetCard
from harness.config.project import Config
from harness.config.toml import literal, validate
from harness.data.cache import file_fact
from harness.data.content import Content, Place
from harness.data.split import check_split
from harness.errors import ConfigError, StoreError, UsageError
from harness.files import sha256, write_atomic
from harness.layouts.detection import FolderKind, kind_of, provisional
from harness.layouts.opening import LAYOUTS

CARD = "card.toml"
COMMENT_AT = 26  # column
LARGE = 1e9  # bytes that take long to read
NOT_STATED = "not stated"
HEAD = """\
# Written by `harness init dataset {name}`: counts, widths and hashes are those of the files as they lay there, and
# whatever is opened by this card is checked against them. Say what only you know: title, summary, licence, origin.
"""
ABOUT = {
    "title": "as leaderboards call it",
    "summary": "what it is, and what its numbers do not compare with",
    "licence": "the terms under which it may be used",
    "origin": "who made it and where to get it: printed where files are absent",
    "feature_width": "numbers per region",
    "max_regions": "of an image",
}
OPTIONS = {
    "annotations": "Karpathy's file",
    "regions": "the region store's folder",
    "train": "splits, or the stem, of the files",
    "image_id": "what the store calls an image: stem, filename, cocoid or imgid",
    "captions_each": "captions per image",
}
TEXT = {"min_count": "a word seen less often is <unk>", "vocabulary_splits": "whose captions are counted"}
PROTOCOL = {"name": "which queries meet which gallery: here all of test"}


class CardRequest(NamedTuple):
    """The card to write: of which folder, under which name, in which file; facts about files go into the cache."""

    name: str
    folder: Path
    data: Path  # the data root
    file: Path
    cache: Path


class MeasuredCard(NamedTuple):
    card: DatasetCard
    text: str
    size: int
    remarks: tuple[str, ...]


def request_of(
    config: Config, known: Mapping[str, DatasetCard], name: str, folder: Path | None, cache: Path
) -> CardRequest:
    """Where a dataset lies and where its card goes; UsageError where the name is none, or another dataset's."""
    pattern = DatasetCard.model_json_schema()["properties"]["name"]["pattern"]
    if not re.fullmatch(pattern, name):
        raise UsageError(f"{name!r} is no name of a dataset; it must match {pattern}, as my-photos does")
    if not config.paths.datasets:
        raise ConfigError("[paths] datasets is empty; name a folder for cards of datasets in harness.toml")
    file = (config.path(config.paths.datasets[0]) / name / CARD).resolve()
    if name in known and known[name].path != file:
        raise UsageError(f"there is a dataset {name!r} already: {known[name].path}; take another name")
    place = Path(os.path.realpath(folder or config.data / name))  # unlike resolve, it bears a circle of links
    return CardRequest(name, place, config.data, file, cache)


def write_card(request: CardRequest, tell: Callable[[str], None], force: bool = False) -> MeasuredCard:
    """Measure a folder and write its card; UsageError where there is one already, unless `force`.

    `tell` hears what takes long. DataError where the folder cannot be opened by the card.
    """
    if request.file.exists() and not force:
        raise UsageError(f"{request.file} is there already; --force replaces it, and what was written into it")
    card = measured(request, tell)
    try:
        write_atomic(request.file, card.text)
    except OSError as error:
        raise StoreError(f"{request.file} cannot be written ({error}); see to its rights and room") from error
    return card


def measured(request: CardRequest, tell: Callable[[str], None]) -> MeasuredCard:
    """The card of a folder as it lies there; every file is read from end to end when it is first met."""
    kind = kind_of(request.folder, request.cache)
    draft = provisional(request.name, kind, request.file)
    place = Place(draft, request.folder, request.cache)
    layout = LAYOUTS[kind.layout]
    names = layout.files(place)
    size = sum((request.folder / name).stat().st_size for name in names)
    if size > LARGE:
        tell(f"{request.folder}: {size / 1e9:,.1f} GB are read from end to end, once; the hashes are remembered")
    contents = {split: layout(place).read(split) for split in draft.splits}
    text = card_text(request, kind, contents, [_file(request, name) for name in names])
    card = validate(DatasetCard, {**tomllib.loads(text), "path": request.file}, str(request.file))
    for split, content in contents.items():
        check_split(card, split, content)
    return MeasuredCard(card, text, size, kind.remarks)


def card_text(
    request: CardRequest, kind: FolderKind, contents: Mapping[str, Content], files: list[dict[str, Any]]
) -> str:
    sizes = {split: {"images": len(one.images), "captions": len(one.captions)} for split, one in contents.items()}
    about: dict[str, Any] = {
        **{"name": request.name, "title": request.name, "summary": "", "layout": kind.layout},
        **{"folder": _below(request), "licence": NOT_STATED, "origin": f"whoever made it ({NOT_STATED})"},
        "feature_width": contents["train"].images.width,
        "max_regions": max(int(one.images.counts.max(initial=0)) for one in contents.values()),
    }
    away = "absolute, for it is not below [paths] data" if Path(about["folder"]).is_absolute() else "below [paths] data"
    words = {"min_count": 4, "vocabulary_splits": ["train"]}
    protocol = {"name": "full", "split": "test", **sizes["test"]}
    tables = [
        table("", about, {**ABOUT, "folder": away}),
        table("[options]", kind.options, OPTIONS) + "".join(f"# {remark}\n" for remark in kind.remarks),
        table("[splits]", sizes, {}),
        table("[text]", words, TEXT),
        table("[[protocols]]", protocol, PROTOCOL),
        *(table("[[files]]", file, {}) for file in files),
    ]
    return "\n".join([HEAD.format(name=request.name) + tables[0], *tables[1:]])


def table(head: str, values: Mapping[str, Any], meaning: Mapping[str, str]) -> str:
    lines = [head] * bool(head)
    for key, value in values.items():
        line = f"{key} = {_inline(value)}"
        lines.append(f"{line:<{COMMENT_AT - 1}} # {meaning[key]}" if key in meaning else line)
    return "".join(f"{line}\n" for line in lines)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {literal(item)}' for key, item in value.items())} }}"
    return literal(value)


def _below(request: CardRequest) -> str:
    """The dataset's folder as its card names it: below the data root, where it is there."""
    inside = request.folder.is_relative_to(request.data)
    return str(request.folder.relative_to(request.data) if inside else request.folder)


def _file(request: CardRequest, name: str) -> dict[str, Any]:
    path = request.folder / name
    size = path.stat().st_size
    return {"path": name, "sha256": file_fact(request.cache, path, "sha256", sha256), "bytes": size}
