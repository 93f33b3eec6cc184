"""The embedded dataset: every caption is true of its picture, siblings differ, and a seed says it all."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.cards import DatasetCard, SplitSize, read_card
from harness.data.dataset import Dataset
from harness.errors import ConfigError
from harness.layouts import scene_captions, scene_pictures, scenes
from harness.layouts.opening import fingerprint, open_dataset
from harness.layouts.scene_pictures import PALETTE, Thing
from harness.layouts.scenes import FAMILY, SceneExample, example, family

CARD = Path(__file__).parents[2] / "datasets" / "scenes" / "card.toml"
PLACES = st.tuples(st.integers(0, 3), st.sampled_from(scenes.SPLITS), st.integers(0, 400))


@pytest.fixture(scope="module")
def dataset(scenes_cache: Path) -> Dataset:
    return open_dataset(read_card(DatasetCard, CARD), Path(), scenes_cache)


# An oracle of its own: it reads a caption's words, knowing none of the claims it was made from.
MEANING = {
    words: (part, meaning)
    for part, table in (
        (
            "shape",
            {key: [form for noun in nouns for form in noun] for key, nouns in scene_captions.SHAPE_WORDS.items()},
        ),
        ("colour", scene_captions.COLOUR_WORDS),
        ("fill", scene_captions.FILL_WORDS),
        ("size", scene_captions.SIZE_WORDS),
        ("number", scene_captions.NUMBER_WORDS),
        ("relation", scene_captions.RELATION_WORDS),
        ("place", scene_captions.PLACE_WORDS),
    )
    for meaning, forms in table.items()
    for words in forms
}
LONGEST_FIRST = "|".join(sorted(map(re.escape, MEANING), key=len, reverse=True))
TOKEN = re.compile(rf"\b(?:{LONGEST_FIRST}|an?|and)\b|,")
OPENING = re.compile("^(?:{})".format("|".join(filter(None, scene_captions.OPENINGS))))


def clauses(text: str) -> list[list[tuple[str, object]]]:
    """A caption's clauses as (part, meaning) of its words; every word must be known."""
    text = OPENING.sub("", text)
    assert not TOKEN.sub("", text).strip(), text
    parts: list[list[tuple[str, object]]] = [[]]
    for word in TOKEN.findall(text):
        if word in (",", "and"):
            parts.append([])
        elif word not in ("a", "an"):
            parts[-1].append(MEANING[word])
    return parts


def fits(thing: Thing, said: list[tuple[str, object]]) -> bool:
    return all(value in ("", getattr(thing, part)) for part, value in said if part in Thing._fields)


def stands(one: Thing, other: Thing, relation: str) -> bool:
    """Strictly on that side, and by more than to any other side."""
    dx, dy = one.x + one.side / 2 - other.x - other.side / 2, one.y + one.side / 2 - other.y - other.side / 2
    reach = {"left": -dx, "right": dx, "above": -dy, "below": dy}
    return reach[relation] > 10 and reach[relation] == max(reach.values())


def lies(thing: Thing, place: str) -> bool:
    x, y = (thing.x + thing.side / 2) / scene_pictures.SIDE, (thing.y + thing.side / 2) / scene_pictures.SIDE
    parts = {"left": x < 0.4, "right": x > 0.6, "top": y < 0.4, "bottom": y > 0.6}
    return parts.get(place, abs(x - 0.5) < 0.2 and abs(y - 0.5) < 0.2)


def is_true(clause: list[tuple[str, object]], scene: tuple[Thing, ...]) -> bool:
    parts = [part for part, _ in clause]
    for index, (part, meaning) in enumerate(clause):
        if part == "number":
            return sum(fits(thing, clause) for thing in scene) == meaning
        if part == "relation":
            one, other = clause[:index], clause[index + 1 :]
            return any(
                stands(a, b, str(meaning))
                for a in scene
                for b in scene
                if a is not b and fits(a, one) and fits(b, other)
            )
        if part == "place":
            return any(lies(thing, str(meaning)) for thing in scene if fits(thing, clause))
    raise AssertionError(parts)


@given(PLACES)
@settings(max_examples=150, deadline=None)
def test_every_clause_of_every_caption_is_true_of_the_scene(place: tuple[int, str, int]) -> None:
    one = example(*place)
    for caption in one.captions:
        assert all(is_true(clause, one.scene) for clause in clauses(caption.text)), caption.text
        assert caption.holds(one.scene)


@given(PLACES)
@settings(max_examples=100, deadline=None)
def test_a_picture_shows_the_things_of_its_scene_in_their_colours(place: tuple[int, str, int]) -> None:
    one = example(*place)
    pixels = np.asarray(one.picture).astype(int)
    palette = np.array(list(PALETTE.values()))
    for thing in one.scene:
        mask = np.asarray(scene_pictures.stencil(thing.shape, thing.fill, thing.side)) > 0
        colour = pixels[thing.y : thing.y + thing.side, thing.x : thing.x + thing.side][mask].mean(axis=0)
        nearest = list(PALETTE)[np.abs(palette - colour).sum(axis=1).argmin()]
        assert nearest == thing.colour


@given(PLACES)
@settings(max_examples=60, deadline=None)
def test_scenes_have_3_to_7_things_that_do_not_touch_and_boxes_are_within_the_picture(
    place: tuple[int, str, int],
) -> None:
    one = example(*place)
    assert 3 <= len(one.scene) <= 7 and 3 <= len(one.captions) <= 6
    assert len(one.scene) < len(one.boxes) <= 12
    cover = np.zeros((scene_pictures.SIDE, scene_pictures.SIDE), int)
    for thing in one.scene:
        cover[thing.y : thing.y + thing.side, thing.x : thing.x + thing.side] += 1
    assert cover.max() == 1 and cover.sum() == sum(thing.side**2 for thing in one.scene)
    assert (one.boxes >= 0).all() and (one.boxes[:, 2:] > 0).all()
    assert (one.boxes[:, :2] + one.boxes[:, 2:] <= scene_pictures.SIDE).all()


@given(st.integers(0, 3), st.sampled_from(scenes.SPLITS), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_siblings_differ_in_colours_places_or_number_alone(seed: int, split: str, number: int) -> None:
    first, recoloured, mirrored, recounted = family(seed, split, number)
    assert [thing._replace(colour="") for thing in first] == [thing._replace(colour="") for thing in recoloured]
    assert sorted(thing.colour for thing in first) == sorted(thing.colour for thing in recoloured)
    assert first != recoloured
    assert [thing._replace(x=0, y=0) for thing in first] == [thing._replace(x=0, y=0) for thing in mirrored]
    assert abs(len(first) - len(recounted)) == 1
    longer, shorter = sorted((first, recounted), key=len, reverse=True)
    assert longer[: len(shorter)] == shorter or set(shorter) < set(longer)


def test_most_captions_are_false_of_every_sibling() -> None:
    is_telling = []
    for index in range(200):
        one = example(0, "val", index)
        siblings = [scene for scene in family(0, "val", index // FAMILY) if scene != one.scene]
        is_telling += [not any(caption.holds(scene) for scene in siblings) for caption in one.captions]
    assert 0.5 < np.mean(is_telling) < 0.9


def test_a_picture_is_the_same_every_time_and_another_for_another_seed_split_or_number() -> None:
    def content(one: SceneExample) -> bytes:
        return one.picture.tobytes() + one.regions.tobytes() + "\n".join(c.text for c in one.captions).encode()

    before = content(example(0, "test", 7))
    family.cache_clear()
    scene_pictures.stencil.cache_clear()
    assert content(example(0, "test", 7)) == before
    others = [example(1, "test", 7), example(0, "val", 7), example(0, "test", 8), example(0, "test", 11)]
    assert before not in map(content, others)


def test_scenes_of_every_split_have_3_to_7_things_and_families_four_different_scenes() -> None:
    for split, families in (("train", 500), ("val", 75), ("test", 125)):
        for number in range(families):
            members = family(0, split, number)
            assert len(set(members)) == FAMILY
            assert all(3 <= len(scene) <= 7 for scene in members)


def test_no_more_boxes_than_the_card_allows() -> None:
    assert max(len(example(0, "val", index, most=9).boxes) for index in range(60)) == 9


def test_no_two_splits_share_a_scene() -> None:
    families = [{family(0, split, number) for number in range(75)} for split in scenes.SPLITS]
    assert not any(one & other for one, other in pairwise([*families, families[0]]))


def test_labels_decide_no_feature_but_by_their_pixels() -> None:
    """Two scenes that are drawn alike have equal regions, whatever their labels say."""
    one = example(0, "val", 3)
    renamed = tuple(thing._replace(size="medium", shape="square") for thing in one.scene)
    assert renamed != one.scene
    regions = scene_pictures.describe(np.asarray(one.picture), one.boxes)
    np.testing.assert_array_equal(one._replace(scene=renamed).regions, regions)


@pytest.mark.slow
def test_the_card_says_what_is_generated_and_a_second_opening_generates_nothing(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = np.concatenate([dataset.split(name).images.counts for name in ("train", "val", "test")])
    assert len(set(counts.tolist())) > 5 and counts.max() == 12
    split = dataset.split("test")
    texts = set(split.captions)
    assert len(texts) > 0.98 * len(split.captions), "captions that two pictures share are exact ties"
    assert dataset.unknown_only == {"train": 0, "val": 0, "test": 0}
    monkeypatch.delattr("harness.layouts.scenes.generate")
    again = open_dataset(read_card(DatasetCard, CARD), Path(), dataset._place.cache)
    assert again.split("test").captions == split.captions


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train": SplitSize(images=4, captions=16), "dev": SplitSize(images=4, captions=16)}, "unknown split 'dev'"),
        ({"train": SplitSize(images=10**9, captions=16)}, "train: 1000000000 scenes"),
    ],
)
def test_a_card_of_scenes_that_cannot_be_generated_is_refused(
    tmp_path: Path, splits: dict[str, SplitSize], said: str
) -> None:
    card = read_card(DatasetCard, CARD).model_copy(update={"splits": splits})
    with pytest.raises(ConfigError, match=said):
        open_dataset(card, Path(), tmp_path)


def test_what_is_kept_is_what_is_generated(dataset: Dataset) -> None:
    split = dataset.split("val")
    one = example(0, "val", 41)
    np.testing.assert_array_equal(split.images[41], one.regions)
    assert split.boxes is not None
    np.testing.assert_array_equal(split.boxes[41], one.boxes)
    mine = [split.captions[caption] for image, caption in split.pairs if image == 41]
    assert mine == [caption.text for caption in one.captions]
    assert split.image_ids[41] == "val-0010b"


def test_the_fingerprint_stays_for_every_trial_key_has_it(tmp_path: Path) -> None:
    card = read_card(DatasetCard, CARD)
    assert fingerprint(card, tmp_path, tmp_path) == "13aae844a39adac1e7763569780804c51c4287ab000c098c9569f0a404979a1e"
