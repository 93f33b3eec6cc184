"""Captions of scenes: claims that are true of a scene, said in words that vary.

A claim is a fact that can be checked against any scene; a caption carries its claims beside its text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.layouts.scene_pictures import SIDE, Thing

if TYPE_CHECKING:
    from numpy.random import Generator  # imported in a tenth of a second

Scene = tuple[Thing, ...]
SHAPE_WORDS = {
    "circle": (("circle", "circles"), ("disc", "discs"), ("round shape", "round shapes")),
    "square": (("square", "squares"), ("box", "boxes")),
    "triangle": (("triangle", "triangles"), ("pyramid", "pyramids")),
    "star": (("star", "stars"),),
    "cross": (("cross", "crosses"), ("plus sign", "plus signs")),
    "diamond": (("diamond", "diamonds"), ("rhombus", "rhombuses")),
    "heart": (("heart", "hearts"),),
    "arrow": (("arrow", "arrows"), ("pointer", "pointers")),
    "": (("shape", "shapes"), ("object", "objects"), ("thing", "things"), ("figure", "figures")),
}
COLOUR_WORDS = {
    "red": ("red", "crimson", "scarlet"),
    "orange": ("orange", "amber"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "cyan": ("cyan", "turquoise"),
    "blue": ("blue", "navy"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rose"),
}
FILL_WORDS = {
    "solid": ("solid", "filled", "plain"),
    "outline": ("hollow", "empty", "outlined"),
    "striped": ("striped", "stripy", "banded"),
}
SIZE_WORDS = {"small": ("small", "tiny", "little"), "large": ("large", "big", "huge")}
NUMBER_WORDS = {
    1: ("one", "a single"),
    2: ("two", "a pair of", "a couple of"),
    3: ("three",),
    4: ("four",),
    5: ("five",),
    6: ("six",),
    7: ("seven",),
}
RELATION_WORDS = {
    "left": ("to the left of", "on the left of", "left of"),
    "right": ("to the right of", "on the right of", "right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "beneath"),
}
PLACE_WORDS = {
    "left": ("on the left", "at the left side"),
    "right": ("on the right", "at the right side"),
    "top": ("at the top", "in the upper part"),
    "bottom": ("at the bottom", "in the lower part"),
    "middle": ("in the middle", "in the centre"),
}
OPENINGS = ("", "", "", "one can see ", "we see ", "a picture with ", "an image of ")
NEAR, FAR = 0.36 * SIDE, 0.64 * SIDE
APART = 0.14 * SIDE


class Phrase(NamedTuple):
    """What is said of a thing; an empty part is left unsaid."""

    shape: str = ""
    colour: str = ""
    fill: str = ""
    size: str = ""

    def fits(self, thing: Thing) -> bool:
        shape, colour, fill, size = self  # written out: a million of these are asked for
        return (
            shape in ("", thing.shape)
            and colour in ("", thing.colour)
            and fill in ("", thing.fill)
            and size in ("", thing.size)
        )


class Count(NamedTuple):
    """So many things fit the phrase, not one more or less."""

    phrase: Phrase
    number: int

    def holds(self, scene: Scene) -> bool:
        return sum(map(self.phrase.fits, scene)) == self.number


class Related(NamedTuple):
    """A thing that fits the first phrase stands so to another that fits the second."""

    first: Phrase
    relation: str
    second: Phrase

    def holds(self, scene: Scene) -> bool:
        others = [thing for thing in scene if self.second.fits(thing)]
        return any(
            one is not other and related(one, other) == self.relation
            for one in scene
            if others and self.first.fits(one)
            for other in others
        )


class Placed(NamedTuple):
    """A thing that fits the phrase is in that part of the picture."""

    phrase: Phrase
    place: str

    def holds(self, scene: Scene) -> bool:
        return any(self.place in places(thing) for thing in scene if self.phrase.fits(thing))


Claim = Count | Related | Placed


class Caption(NamedTuple):
    text: str
    claims: tuple[Claim, ...]

    def holds(self, scene: Scene) -> bool:
        return all(claim.holds(scene) for claim in self.claims)


def related(one: Thing, other: Thing) -> str:
    """How one thing stands to another: left, right, above, below, or empty where it is none of them clearly."""
    dx, dy = (a - b for a, b in zip(one.centre, other.centre, strict=True))
    if max(abs(dx), abs(dy)) < APART or abs(abs(dx) - abs(dy)) < APART / 2:
        return ""
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"


def places(thing: Thing) -> tuple[str, ...]:
    x, y = thing.centre
    across = "left" if x < NEAR else "right" if x > FAR else ""
    down = "top" if y < NEAR else "bottom" if y > FAR else ""
    return tuple(filter(None, (across, down))) or ("middle",)


def captions(scene: Scene, siblings: Sequence[Scene], number: int, rng: Generator) -> list[Caption]:
    """So many different captions of a scene; most of them are false of every sibling."""
    by_text: dict[str, Caption] = {}
    while len(by_text) < number:
        telling = rng.random() < 0.75
        for _ in range(8):
            caption = _caption(scene, rng)
            if not telling or not any(map(caption.holds, siblings)):
                break
        by_text.setdefault(caption.text, caption)
    return list(by_text.values())


def _caption(scene: Scene, rng: Generator) -> Caption:
    kind = KINDS[int(np.searchsorted(SHARES, rng.random(), side="right"))]
    clauses = kind(scene, rng)
    text = _pick(OPENINGS, rng) + _joined([clause for clause, _ in clauses])
    return Caption(text, tuple(claim for _, claims in clauses for claim in claims))


Clause = tuple[str, tuple[Claim, ...]]


def _relation(scene: Scene, rng: Generator) -> list[Clause]:
    order = rng.permutation(len(scene))
    for first in order:
        for second in order[::-1]:
            relation = related(scene[first], scene[second])
            if relation:
                return _relation_of(scene, (int(first), int(second)), relation, rng)
    return _placing(scene, rng)


def _relation_of(scene: Scene, pair: tuple[int, int], relation: str, rng: Generator) -> list[Clause]:
    one, other = (_phrase(scene[index], rng) for index in pair)
    text = f"{_article(_named(one, 0, rng))} {_pick(RELATION_WORDS[relation], rng)} {_article(_named(other, 0, rng))}"
    clauses: list[Clause] = [(text, (Related(one, relation, other),))]
    rest = [index for index in rng.permutation(len(scene)) if index not in pair]
    if rng.random() < 0.45:
        clauses.append(_placed(scene[rest[0]], rng))
    return clauses


def _placing(scene: Scene, rng: Generator) -> list[Clause]:
    return [_placed(scene[index], rng) for index in rng.permutation(len(scene))[:2]]


def _placed(thing: Thing, rng: Generator) -> Clause:
    phrase, place = _phrase(thing, rng), _pick(places(thing), rng)
    return f"{_article(_named(phrase, 0, rng))} {_pick(PLACE_WORDS[place], rng)}", (Placed(phrase, place),)


def _listing(scene: Scene, rng: Generator) -> list[Clause]:
    kinds = list(Counter((thing.shape, thing.colour) for thing in scene))
    sample = [kinds[index] for index in rng.permutation(len(kinds))[: int(rng.integers(2, 4))]]
    return [_counted(scene, Phrase(shape, colour), rng) for shape, colour in sample]


def _counting(scene: Scene, rng: Generator) -> list[Clause]:
    one, other = (scene[index] for index in rng.integers(len(scene), size=2))
    phrase = Phrase(colour=one.colour) if rng.random() < 0.5 else Phrase(shape=one.shape)
    total = [_counted(scene, Phrase(), rng)] if rng.random() < 0.4 else []
    return [*total, _counted(scene, phrase, rng), _placed(other, rng)]


KINDS: tuple[Callable[[Scene, Generator], list[Clause]], ...] = (_relation, _placing, _listing, _counting)
SHARES = np.cumsum([0.4, 0.2, 0.25])


def _counted(scene: Scene, phrase: Phrase, rng: Generator) -> Clause:
    number = sum(map(phrase.fits, scene))
    text = f"{_pick(NUMBER_WORDS[number], rng)} {_named(phrase, int(number > 1), rng)}"
    return text, (Count(phrase, number),)


def _phrase(thing: Thing, rng: Generator) -> Phrase:
    """Some of what is true of a thing: always its shape or its colour, mostly both."""
    silent = rng.random()
    return Phrase(
        shape=thing.shape if silent > 0.12 else "",
        colour=thing.colour if silent < 0.85 else "",
        fill=thing.fill if rng.random() < (0.1 if thing.fill == "solid" else 0.35) else "",
        size=thing.size if thing.size in SIZE_WORDS and rng.random() < 0.35 else "",
    )


def _named(phrase: Phrase, plural: int, rng: Generator) -> str:
    words = [
        _pick(table[said], rng)
        for table, said in ((SIZE_WORDS, phrase.size), (FILL_WORDS, phrase.fill), (COLOUR_WORDS, phrase.colour))
        if said
    ]
    nouns = SHAPE_WORDS[phrase.shape]
    return " ".join([*words, nouns[rng.integers(len(nouns))][plural]])


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _joined(clauses: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(clauses[:-1]), clauses[-1]]))


def _pick(words: Sequence[str], rng: Generator) -> str:
    """One of the words; the first ones are the more common."""
    return words[int(len(words) * rng.random() ** 1.4)]
