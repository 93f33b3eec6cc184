"""Which layout a folder of files has, what its card must say of it, and what is still missing."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, NamedTuple

from harness.config.cards import DatasetCard
from harness.config.sections import Scalar
from harness.data.arrays import open_array
from harness.data.content import Place
from harness.data.pictures import picture_paths
from harness.errors import DataError, Location
from harness.files import has_file, has_folder, listing, read_lines
from harness.layouts.karpathy import matching_key, read_images
from harness.layouts.own_folder import CAPTIONS, SPLIT, read_captions, read_split
from harness.layouts.precomp import AXES
from harness.layouts.previews import FOLDER
from harness.layouts.stored_regions import StoredRegions

SPLITS = ("train", "val", "test")
STEMS = {"train": ("train",), "val": ("dev", "val"), "test": ("testall", "test")}  # the first that is there
REGIONS = "regions"
MANY = 100  # captions per image; nobody repeats an image more often
SPLIT_LINE = '{"train": [image ids], "val": [image ids], "test": [image ids]}'
CAPTION_LINE = '{"id": 1, "image": "an image id", "text": "a caption"}'
WANTED = f"""It can be one of three:
  your own      {CAPTIONS}, one per line: {CAPTION_LINE}
                {SPLIT}: {SPLIT_LINE}
                {REGIONS}/, a region store
  Karpathy's    dataset_NAME.json and {REGIONS}/
  precomputed   train_ims.npy and train_caps.txt, the same for dev or val, the same for test"""


class FolderKind(NamedTuple):
    layout: str
    options: dict[str, Scalar]
    remarks: tuple[str, ...] = ()


def kind_of(folder: Path, cache: Path) -> FolderKind:
    """The layout of a folder; DataError says what is missing, and which command makes it."""
    if not has_folder(folder):
        raise DataError("does not exist; put the files there, or name their folder with --folder", Location(folder))
    for layout in (_own, _karpathy, _precomp):
        kind = layout(folder, cache)
        if kind is not None:
            return kind
    there = ", ".join([path.name for path in listing(folder)[:8]]) or "nothing"
    raise DataError(f"holds no dataset ({there}). {WANTED}\n{_regions(folder)}".rstrip(), Location(folder))


def provisional(name: str, kind: FolderKind, file: Path) -> DatasetCard:
    """A card with which files can be read before they are counted."""
    none: dict[str, Any] = {"images": 0, "captions": 0}
    return DatasetCard.model_validate(
        {
            **dict.fromkeys(("title", "summary", "licence", "origin"), ""),
            **{"name": name, "layout": kind.layout, "options": kind.options, "path": file},
            **{"feature_width": 0, "max_regions": 0, "splits": dict.fromkeys(SPLITS, none)},
            "protocols": [{"name": "full", **none}],
        }
    )


def _own(folder: Path, cache: Path) -> FolderKind | None:
    absent = [name for name in (CAPTIONS, SPLIT) if not has_file(folder / name)]
    if len(absent) == 2:
        return None
    say = {CAPTIONS: f"a line per caption, such as {CAPTION_LINE}", SPLIT: SPLIT_LINE}
    _complain(folder, [f"{name} is missing: write it, {say[name]}" for name in absent])
    used = {image for split, ids in read_split(folder / SPLIT).items() if split in SPLITS for image in ids}
    outside = read_captions(folder / CAPTIONS).keys() - used
    remark = f"images with captions that are in none of {', '.join(SPLITS)}, left out: {len(outside):,}"
    return FolderKind("folder", {REGIONS: REGIONS}, (remark,) * bool(outside))


def _karpathy(folder: Path, cache: Path) -> FolderKind | None:
    files = sorted(folder.glob("dataset_*.json"))
    if not files:
        return None
    if len(files) > 1:
        message = f"holds {', '.join(file.name for file in files)}; a dataset has one, move the others out"
        raise DataError(message, Location(folder))
    _complain(folder, [])
    images = read_images(files[0])
    rest = ["restval"] if any(image["split"] == "restval" for image in images) else []
    options: dict[str, Scalar] = {"annotations": files[0].name, REGIONS: REGIONS, "train": ",".join(["train", *rest])}
    used = [image for image in images if image["split"] in (*SPLITS, *rest)]
    kind = FolderKind("karpathy", options)
    key = matching_key(used, StoredRegions(Place(provisional("any", kind, files[0]), folder, cache)))
    more = any(isinstance(image.get("sentences"), list) and len(image["sentences"]) > 5 for image in used)
    return kind._replace(
        options={**options, "image_id": key or "stem"},
        remarks=("published numbers on COCO are of the first five captions per image: most_captions = 5",) * more,
    )


def _precomp(folder: Path, cache: Path) -> FolderKind | None:
    there = {path.name.removesuffix("_ims.npy") for path in folder.glob("*_ims.npy")}
    there |= {path.name.removesuffix("_caps.txt") for path in folder.glob("*_caps.txt")}
    if not there:
        return None
    stems = {split: next((stem for stem in stems if stem in there), stems[-1]) for split, stems in STEMS.items()}
    files = [f"{stem}_{kind}" for stem in stems.values() for kind in ("ims.npy", "caps.txt")]
    _complain(folder, [f"{name} is missing" for name in files if not has_file(folder / name)], regions=False)
    each = {stem: _captions_each(folder, stem) for stem in stems.values()}
    if len(set(each.values())) > 1:
        counts = ", ".join(f"{number} in {stem}" for stem, number in each.items())
        message = f"captions per image are {counts}; the layout has one number for all: take one release"
        raise DataError(message, Location(folder))
    left = sorted(there - set(stems.values()))
    return FolderKind(
        "precomp",
        {"captions_each": each[stems["train"]], **stems},
        tuple(f"{stem}_ims.npy and {stem}_caps.txt are left out" for stem in left),
    )


def _captions_each(folder: Path, stem: str) -> int:
    """Captions an image: by the counts, or where there are as many rows as lines, by the rows that repeat."""
    array = open_array(folder / f"{stem}_ims.npy", AXES)
    lines = len(read_lines(folder / f"{stem}_caps.txt", "is one caption of one image"))
    if len(array) != lines:
        if lines % len(array):
            raise DataError(
                f"has {lines:,} lines and {stem}_ims.npy {len(array):,} rows; lines must be a multiple of rows: take "
                "both of one release",
                Location(folder / f"{stem}_caps.txt"),
            )
        return lines // len(array)
    same = (bool((row == array[0]).all()) for row in array[1:MANY])
    return next((number for number, equal in enumerate(same, start=1) if not equal), min(len(array), MANY))


def _complain(folder: Path, missing: list[str], regions: bool = True) -> None:
    lines = [*missing, *filter(None, [_regions(folder) if regions else ""])]
    if lines:
        raise DataError("\n".join(["not complete:", *(f"  {line}" for line in lines)]), Location(folder))


def _regions(folder: Path) -> str:
    if has_folder(folder / REGIONS) and listing(folder / REGIONS):
        return ""
    to, images = (shlex.quote(str(folder / name)) for name in (REGIONS, FOLDER))
    extract = f"harness data extract {images} --to {to} --model MODEL"
    if pictures := len(picture_paths(folder / FOLDER)) if has_folder(folder / FOLDER) else 0:
        return f"{REGIONS}/ is missing; {FOLDER}/ is there ({pictures:,} files): {extract}"
    return (
        f"{REGIONS}/ is missing; of features that you have: harness data convert SOURCE --to {to}; "
        f"of pictures: put them into {FOLDER}/, then {extract}"
    )
