"""Checks of images: regions that are not finite or constant, images that stand twice, boxes, pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from harness.config.cards import DatasetCard
from harness.data.content import Content, look_alike
from harness.data.regions import Bools, Floats, are_shares
from harness.errors import DataError, Location
from harness.layouts.previews import FOLDER, ORIGINALS, Previews
from harness.preparation.findings import EXAMPLES, Finding, Severity, findings_of
from harness.preparation.region_scan import Copy, Doubles, Likeness, Scan, Twin

FAR = 6.0  # standard errors by which splits of one release never differ by chance
FEW = 20.0  # added to it, over the number of images: the spread of few images is badly known
ENOUGH = 20  # images of a split by which its columns can be judged
CHANCE = 1e-6  # of a column to hold one number in a split, below which it is reported
TENFOLD = 10.0  # the ratio of norms from which on nothing that is learned of one split holds for the other
UNIT, FREE = 1e-3, 0.02  # spread of norms that are one number but for rounding, and of such as are not
BOXES_AT_ONCE = 4096  # images
EDGE = 1.0  # pixels by which a box may pass the edge: detectors scale images and round


def named(content: Content, image: int, text: str = "") -> tuple[Location, str]:
    """Where an image stands, and a text that begins with its id where the place does not end with it."""
    location, own = content.location("image", image), content.image_ids[image]
    is_known = location.entry.split(" ")[-1] == own
    return location, ", ".join(filter(None, ["" if is_known else f"{own!r}", text]))


def of_regions(split: str, content: Content, seen: Scan) -> Iterator[Finding]:
    bad = [named(content, image) for image in seen.bad.tolist()]
    message = "images have regions with NaN or inf; extract or get them again"
    yield from findings_of(Severity.ERROR, "not-finite", message, bad, split)
    dead = [named(content, image, f"region {region}") for image, region in seen.dead[:EXAMPLES].tolist()]
    message = "regions hold one number throughout: they say nothing; extract them again, or leave them out"
    yield from findings_of(Severity.WARNING, "constant-region", message, dead, split, len(seen.dead))


def of_one_id(contents: Mapping[str, Content]) -> Iterator[Finding]:
    home: dict[str, str] = {}
    for split, content in contents.items():
        places = []
        for number, image in enumerate(content.image_ids):
            if home.setdefault(image, split) != split:
                places.append((content.location("image", number), f"{image!r} is in {home[image]} too"))
        message = "images of one id are in two splits; an image belongs to one"
        yield from findings_of(Severity.WARNING, "image-in-two-splits", message, places, split)


def of_ids_that_look_alike(contents: Mapping[str, Content]) -> Iterator[Finding]:
    known: dict[str, tuple[str, str]] = {}
    for split, content in contents.items():
        places = []
        for number, image in enumerate(content.image_ids):
            other, home = known.setdefault(look_alike(image), (image, split))
            if other != image:
                places.append((content.location("image", number), f"{image!a} beside {other!a} of {home}"))
        message = "ids differ from another one only in case, in the form of their letters or in zeros before a number"
        yield from findings_of(Severity.WARNING, "ids-alike", f"{message}: is it one image?", places, split)


def of_copies(contents: Mapping[str, Content], groups: Iterable[list[Copy]]) -> Iterator[Finding]:
    pairs = [(copy, first) for first, *others in groups for copy in others]
    yield from _in_splits(contents, pairs, "the same regions to the last bit", "image-in-two-splits", "images-alike")


def of_twins(contents: Mapping[str, Content], twins: Iterable[Twin]) -> Iterator[Finding]:
    alike: dict[Likeness, list[tuple[Copy, Copy]]] = defaultdict(list)
    for twin in twins:
        alike[twin.likeness].append((twin.image, twin.earlier))
    reordered, near = (alike[kind] for kind in Likeness)
    yield from _in_splits(contents, reordered, Likeness.REORDERED, "image-in-two-splits", "images-alike")
    yield from _in_splits(contents, near, Likeness.NEAR, "image-nearly-in-two-splits", "images-nearly-alike")


def _in_splits(
    contents: Mapping[str, Content], pairs: Iterable[tuple[Copy, Copy]], how: str, apart: str, together: str
) -> Iterator[Finding]:
    """One finding of images with a copy in an earlier split, under the code `apart`; one of those with one beside."""
    across: list[tuple[Location, str]] = []
    within: list[tuple[Location, str]] = []
    for (split, number), (home, other) in pairs:
        earlier, text = named(contents[home], other)
        where = named(contents[split], number, f"as {earlier}{f' ({text})' * bool(text)}, of {home}")
        (within if home == split else across).append(where)
    yield from findings_of(Severity.WARNING, apart, f"images of two splits have {how}; take them out of one", across)
    message = f"images have {how} as another one of their split: exact or nearly exact ties"
    yield from findings_of(Severity.NOTE, together, message, within)


def of_statistics(scans: Mapping[str, Scan]) -> Iterator[Finding]:
    """Splits whose regions cannot come from one extractor; each is compared with the one of the most images."""
    for split, own in scans.items():
        if not own.norms.any():
            message = "all regions are 0: they were never written, or the extractor failed; extract them again"
            yield Finding(Severity.ERROR, "regions-all-zero", message, Location("", f"split {split}"), split=split)
    usable = {split: own for split, own in scans.items() if own.norms.any() and not len(own.bad)}
    first = max(usable, key=lambda split: len(usable[split].norms), default="")
    for split in usable:
        location = Location("", f"split {split}")
        if split != first:
            for severity, message in differences(first, usable[first], split, usable[split]):
                advice = "; make the features of all splits in one way"
                yield Finding(severity, "splits-differ", message + advice, location, split=split)
    yield from _of_constant_columns(usable)


def differences(first: str, one: Scan, split: str, other: Scan) -> Iterator[tuple[Severity, str]]:
    norms = float(one.norms.mean()), float(other.norms.mean())
    said = f"the mean norm of a region is {norms[1]:.4g} in {split} and {norms[0]:.4g} in {first}"
    ratio = max(norms) / min(norms)
    if min(one.spread, other.spread) < UNIT and max(one.spread, other.spread) > FREE:
        normalised = split if other.spread < one.spread else first
        yield Severity.ERROR, f"regions of {normalised} alone are normalised to one length: {said}"
    elif ratio > TENFOLD or (ratio > 1.25 and is_far(one.norms, other.norms)):
        yield Severity.ERROR if ratio > TENFOLD else Severity.WARNING, said
    else:
        yield from _shifted_columns(first, one, split, other)
    zeros = 100 * float(one.zeros.mean()), 100 * float(other.zeros.mean())
    if abs(zeros[0] - zeros[1]) > 5 and is_far(one.zeros, other.zeros):
        yield Severity.WARNING, f"{zeros[1]:.1f} % of the numbers are 0 in {split} and {zeros[0]:.1f} % in {first}"


def is_far(one: Doubles, other: Doubles) -> bool:
    """Whether the means of a number of every image differ by more than chance, also where there are few images."""
    error = float(np.sqrt(one.var() / len(one) + other.var() / len(other)))
    return abs(float(one.mean() - other.mean())) > (FAR + FEW / min(len(one), len(other))) * error


def _shifted_columns(first: str, one: Scan, split: str, other: Scan) -> Iterator[tuple[Severity, str]]:
    """Columns whose means are half a deviation apart: shifted, in another order, of another extractor."""
    images = len(one.norms), len(other.norms)
    if min(images) < ENOUGH:
        return
    apart = np.abs(one.columns.mean - other.columns.mean)
    error = np.sqrt(one.columns.deviation**2 / images[0] + other.columns.deviation**2 / images[1])
    far = (apart > one.columns.deviation / 2) & (apart > FAR * error) & (error > 0)
    if far.sum() > len(far) / 50:
        column = int(np.argmax(np.where(far, apart / np.maximum(error, 1e-300), 0)))
        means = float(other.columns.mean[column]), float(one.columns.mean[column])
        example = f"column {column} has the mean {means[0]:.4g} in {split} and {means[1]:.4g} in {first}"
        yield Severity.WARNING, f"{far.sum():,} of {len(far):,} columns have other means: {example}"


def _of_constant_columns(scans: Mapping[str, Scan]) -> Iterator[Finding]:
    """Columns of one number throughout, where others of the split or this one elsewhere make chance unlikely."""
    constant = {split: own.columns.low == own.columns.high for split, own in scans.items()}
    everywhere = np.logical_and.reduce(list(constant.values())) if constant else np.zeros(0, dtype=np.bool_)
    if everywhere.any():
        message = f"{everywhere.sum():,} of {len(everywhere):,} columns hold one number in all splits, column "
        yield Finding(Severity.NOTE, "constant-column", f"{message}{int(everywhere.argmax())} first")
    for split, own in scans.items():
        others = [one for name, one in scans.items() if name != split]
        zeros = np.min([one.columns.zeros for one in others], axis=0) if others else np.ones(len(everywhere))
        alone = constant[split] & ~everywhere & (zeros ** len(own.norms) < CHANCE)
        if alone.any():
            column = int(alone.argmax())
            message = (
                f"{alone.sum():,} of {len(alone):,} columns hold one number in {split} and others elsewhere, column "
                f"{column} first, which is {own.columns.low[column]:g}; make the features again"
            )
            yield Finding(Severity.WARNING, "constant-column", message, Location("", f"split {split}"), split=split)


def of_boxes(split: str, content: Content) -> Iterator[Finding]:
    """Boxes that are shares or no numbers, end before they begin, or leave their picture, where its size is known."""
    wrong: dict[str, list[tuple[Location, str]]] = defaultdict(list)
    regions = corners = 0
    end, side = -np.inf, np.inf if content.sizes is None else float(content.sizes.max(initial=0))
    for first, boxes, mask, sizes in box_pieces(content):
        regions += int(mask.sum())
        corners += int((mask & could_be_corners(boxes, sizes)).sum())
        end = float(np.fmax.reduce((boxes[..., :2] + boxes[..., 2:])[mask], axis=None, initial=end))
        for what, is_wrong in wrong_boxes(boxes, sizes).items():
            for image, region in np.argwhere(is_wrong & mask).tolist():
                box = ", ".join(f"{number:g}" for number in boxes[image, region])
                wrong[what].append(named(content, first + image, f"region {region}: {box}"))
    for what, places in wrong.items():
        hint = CORNERS if what == BEYOND and corners == regions and len(places) > regions / 10 else ""
        hint = NO_CORNERS if what == INVERTED and len(places) > regions / 10 else hint
        message = f"boxes {what}{hint}; correct them, or make the features again"
        yield from findings_of(Severity.WARNING, "boxes-wrong", message, places, split)
    if regions and are_shares(end, side):
        message = "boxes are shares of their pictures, and pixels are expected; make the features again"
        yield Finding(Severity.WARNING, "boxes-wrong", message, Location("", f"split {split}"), split=split)


def box_pieces(content: Content) -> Iterator[tuple[int, Floats, Bools, Floats | None]]:
    """Boxes (n, R, 4) of some images at a time: number of the first one, boxes, their mask, sizes of the pictures."""
    for start in range(0, len(content.images) if content.boxes else 0, BOXES_AT_ONCE):
        assert content.boxes is not None
        numbers = np.arange(start, min(start + BOXES_AT_ONCE, len(content.images)))
        sizes = None if content.sizes is None else content.sizes[numbers].astype(np.float32)
        yield start, *content.boxes.gather(numbers), sizes


NO_NUMBER, INVERTED, BEYOND = "hold NaN or inf", "end before they begin", "lie beyond their picture"
CORNERS = ", as corners do where x, y, width, height are expected"
NO_CORNERS = ", as x, y, width, height do where corners are expected"


def wrong_boxes(boxes: Floats, sizes: Floats | None) -> dict[str, Bools]:
    """Which boxes (n, R, 4), x y w h, are wrong, by what is; sizes (n, 2) are those of the pictures."""
    low, sides = boxes[..., :2], boxes[..., 2:]
    ends = np.full_like(low, np.inf) if sizes is None else sizes[:, None] + np.float32(EDGE)
    finite = _both(np.isfinite(low) & np.isfinite(sides))
    upright, inside = _both(sides >= 0), _both((low >= -EDGE) & (low + sides <= ends))
    return {NO_NUMBER: ~finite, INVERTED: finite & ~upright, BEYOND: finite & upright & ~inside}


def _both(true: Bools) -> Bools:
    """Whether it is true of both of two numbers (..., 2)."""
    return true[..., 0] & true[..., 1]


def could_be_corners(boxes: Floats, sizes: Floats | None) -> Bools:
    low, high = boxes[..., :2], boxes[..., 2:]
    ends = np.full_like(low, np.inf) if sizes is None else sizes[:, None] + np.float32(EDGE)
    return _both((high >= low) & (high <= ends))


def is_scaled(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes are of one picture, but for its scale and rounding: boxes lie at the same shares of it."""
    (width, height), (wide, tall) = size, other
    return abs(width * tall - height * wide) <= max(width, height, wide, tall)


def of_pictures(
    card: DatasetCard, data: Path, cache: Path, contents: Mapping[str, Content], advance: Callable[[int], object]
) -> Iterator[Finding]:
    try:
        looks = Previews(card, data, cache)
    except DataError as error:
        message = "the sizes that pictures had cannot be read, and nobody can be shown a picture"
        yield from findings_of(Severity.WARNING, "original-sizes", message, [(Location(ORIGINALS), str(error))])
        return
    for split, content in contents.items():
        broken: list[tuple[Location, str]] = []
        resized: list[tuple[Location, str]] = []
        absent: list[tuple[Location, str]] = []
        for image in content.image_ids:
            location = Location(FOLDER, image)
            try:
                look = looks.of(image)
            except DataError as error:
                broken.append((location, str(error)))
            else:
                if look.picture is None:
                    absent.append((location, ""))
                elif look.size and not is_scaled(look.size, look.picture.size):
                    resized.append((location, f"{look.picture.size} pixels, the dataset says {look.size}"))
            advance(1)
        message = "pictures cannot be read; get them again or take them out"
        yield from findings_of(Severity.WARNING, "picture-unreadable", message, broken, split)
        message = (
            "pictures have other proportions than the dataset says: boxes are drawn in the wrong places of one that "
            "was cropped, and not squeezed"
        )
        yield from findings_of(Severity.WARNING, "picture-size", message, resized, split)
        message = "images have no picture; examples show them by number"
        yield from findings_of(Severity.NOTE, "picture-absent", message, absent, split)
