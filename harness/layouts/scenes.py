"""The embedded dataset: scenes of coloured shapes, drawn, cut into regions and captioned. Nothing is downloaded.

Scenes come in families of four, made to be confused: the first; two of its things with their colours exchanged;
its mirror image; one thing more or less. A family stays in one split.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from harness.data.cache import cached, save_cached
from harness.data.content import Content, Place, Preview, pairs_of, whole
from harness.data.regions import Floats, Ragged, offsets
from harness.errors import ConfigError, unknown
from harness.layouts import scene_captions, scene_pictures
from harness.layouts.scene_captions import Caption, Scene
from harness.layouts.scene_pictures import FILLS, PALETTE, SHAPES, SIDE, SIZES, Thing

if TYPE_CHECKING:
    from numpy.random import Generator  # imported in a tenth of a second

VERSION = 4  # of the generator; a change of anything it makes is a new one
SPLITS = ("train", "val", "test")
MOST_IMAGES = 100_000  # per split; more are a slip in a card
FAMILY = 4
LEAST_THINGS, MOST_THINGS = 3, 7


class SceneExample(NamedTuple):
    scene: Scene
    picture: Image.Image
    boxes: Any  # (R, 4) int, x, y, width, height in pixels
    captions: list[Caption]

    @property
    def regions(self) -> Floats:
        return scene_pictures.describe(np.asarray(self.picture), self.boxes)


class Scenes:
    """Reader of the layout: a split is generated once, then read from the cache."""

    version: ClassVar[int] = VERSION

    def __init__(self, place: Place) -> None:
        self.place = place
        self.seed = whole(place, "seed", 0)
        for split, size in place.card.splits.items():
            if split not in SPLITS:
                raise ConfigError(f"{place.card.path}: {unknown('split', split, SPLITS)} of generated scenes")
            if size.images > MOST_IMAGES:
                raise ConfigError(f"{place.card.path}: {split}: {size.images} scenes; give {MOST_IMAGES} at most")

    @staticmethod
    def files(place: Place) -> list[str]:
        return []

    def read(self, split: str) -> Content:
        size, most = self.place.card.splits[split].images, self.place.card.max_regions
        name = hashlib.sha256(json.dumps([VERSION, self.seed, split, size, most]).encode()).hexdigest()[:16]
        path = self.place.cache / "scenes" / f"{split}-{name}.npz"
        return cached(
            path,
            lambda arrays: _content(split, arrays),
            lambda: save_cached(path, generate(self.seed, split, size, most)),
        )

    def preview(self, image: str) -> Preview:
        parts = re.fullmatch(rf"({'|'.join(SPLITS)})-(\d+)([a-d])", image)
        if parts is None:
            return Preview()
        index = FAMILY * int(parts[2]) + "abcd".index(parts[3])
        one = example(self.seed, parts[1], index, self.place.card.max_regions)
        return Preview((SIDE, SIDE), one.picture, boxes=tuple(map(tuple, one.boxes.tolist())))


def _content(split: str, arrays: dict[str, Any]) -> Content:
    captions = tuple(arrays["captions"].tobytes().decode().split("\n"))
    return Content(
        images=Ragged(arrays["regions"], arrays["offsets"]),
        captions=captions,
        pairs=pairs_of(arrays["captions_each"].tolist()),
        image_ids=tuple(image_id(split, index) for index in range(len(arrays["captions_each"]))),
        boxes=Ragged(arrays["boxes"], arrays["offsets"]),
    )


def image_id(split: str, index: int) -> str:
    """The name of a picture: its split, its family, its place in the family."""
    return f"{split}-{index // FAMILY:04d}{'abcd'[index % FAMILY]}"


def generate(seed: int, split: str, size: int, most: int = 12) -> dict[str, Any]:
    """A whole split as arrays: regions and boxes one below the other, captions as one text of lines."""
    examples = [example(seed, split, index, most) for index in range(size)]
    text = "\n".join(caption.text for one in examples for caption in one.captions)
    return {
        "regions": np.concatenate([one.regions for one in examples]),
        "boxes": np.concatenate([one.boxes for one in examples]).astype(np.float32),
        "offsets": offsets([len(one.boxes) for one in examples]),
        "captions": np.frombuffer(text.encode(), dtype=np.uint8),
        "captions_each": np.array([len(one.captions) for one in examples]),
    }


def example(seed: int, split: str, index: int, most: int = 12) -> SceneExample:
    scenes = family(seed, split, index // FAMILY)
    member = index % FAMILY
    scene, siblings = scenes[member], [*scenes[:member], *scenes[member + 1 :]]
    rng = np.random.default_rng([seed, SPLITS.index(split), index // FAMILY, member])
    picture = scene_pictures.draw(scene, rng)
    boxes = scene_pictures.detect(scene, most, rng)
    return SceneExample(scene, picture, boxes, scene_captions.captions(scene, siblings, int(rng.integers(3, 7)), rng))


def picture(seed: int, split: str, index: int) -> Image.Image:
    return example(seed, split, index).picture


@lru_cache(maxsize=8)
def family(seed: int, split: str, number: int) -> tuple[Scene, ...]:
    """The four scenes of a family; each differs from each other by what captions can say."""
    rng = np.random.default_rng([seed, SPLITS.index(split), number])
    first = compose(rng)
    return first, recoloured(first, rng), mirrored(first, rng), recounted(first, rng)


def compose(rng: Generator) -> Scene:
    """A scene of 3 to 7 things that do not touch; some share shape or colour, so that there is something to count."""
    things: list[Thing] = []
    number = int(rng.integers(LEAST_THINGS, MOST_THINGS + 1))
    while len(things) < number or len({thing.colour for thing in things}) < 2:
        model = things[rng.integers(len(things))] if things and rng.random() < 0.45 else None
        placed = _put(_thing(model, rng), things, rng) if len(things) < number else None
        if placed is None:
            things.clear()  # too crowded, or of one colour: begin again
        else:
            things.append(placed)
    return tuple(things)


def _thing(model: Thing | None, rng: Generator) -> Thing:
    """Any thing; with a model it takes over the model's shape, its colour or both."""
    size = list(SIZES)[rng.integers(len(SIZES))]
    low, high = SIZES[size]
    thing = Thing(
        shape=SHAPES[rng.integers(len(SHAPES))],
        colour=list(PALETTE)[rng.integers(len(PALETTE))],
        fill=FILLS[int(3 * rng.random() ** 1.5)],
        size=size,
        side=int(rng.integers(low, high + 1)),
        x=0,
        y=0,
    )
    if model is None:
        return thing
    shared = rng.integers(3)
    return thing._replace(
        shape=model.shape if shared != 1 else thing.shape, colour=model.colour if shared != 0 else thing.colour
    )


def _put(thing: Thing, things: list[Thing], rng: Generator) -> Thing | None:
    for x, y in rng.integers(1, SIDE - thing.side, (40, 2)).tolist():
        if not any(_touch(x, y, thing.side, other) for other in things):
            return thing._replace(x=x, y=y)
    return None


def _touch(x: int, y: int, side: int, other: Thing, gap: int = 2) -> bool:
    reach = (side + gap, other.side + gap)
    return -reach[0] < x - other.x < reach[1] and -reach[0] < y - other.y < reach[1]


def recoloured(scene: Scene, rng: Generator) -> Scene:
    order = rng.permutation(len(scene))
    first, second = next((a, b) for a in order for b in order if scene[a].colour != scene[b].colour)
    things = list(scene)
    things[first] = scene[first]._replace(colour=scene[second].colour)
    things[second] = scene[second]._replace(colour=scene[first].colour)
    return tuple(things)


def mirrored(scene: Scene, rng: Generator) -> Scene:
    if rng.random() < 0.5:
        return tuple(thing._replace(x=SIDE - thing.side - thing.x) for thing in scene)
    return tuple(thing._replace(y=SIDE - thing.side - thing.y) for thing in scene)


def recounted(scene: Scene, rng: Generator) -> Scene:
    """One thing less, or a second one of its kind (a small one where there is no room for its like)."""
    index = int(rng.integers(len(scene)))
    less = (*scene[:index], *scene[index + 1 :])
    if len(scene) == MOST_THINGS or (len(scene) > LEAST_THINGS and rng.random() < 0.5):
        return less
    small = scene[index]._replace(size="small", side=SIZES["small"][0])
    more = _put(scene[index], list(scene), rng) or _put(small, list(scene), rng)
    return (*scene, more) if more else less
