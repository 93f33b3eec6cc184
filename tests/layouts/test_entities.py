"""Flickr30k Entities folders: a small one is read, no region knows a caption that is asked, broken ones are refused."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import tiny_card, write_files
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.config.cards import DatasetCard, read_card
from harness.data.cache import folder_sha256, sealed, unsealed
from harness.data.content import Content, Place
from harness.data.dataset import Dataset
from harness.errors import NOWHERE, ConfigError, DataError, Location, StoreError
from harness.layouts import scene_pictures
from harness.layouts.box_features import appearance, geometry
from harness.layouts.entities import Entities
from harness.layouts.entity_files import (
    NOT_VISUAL,
    TYPES,
    EntityPhrase,
    parse_annotation,
    parse_sentence,
    read_sentences,
)
from harness.layouts.opening import fingerprint, open_dataset
from harness.layouts.previews import Previews

Files = dict[str, str | bytes]
ROOT = Path(__file__).parents[2]
CARD = tiny_card(
    "entities",
    folder="tiny entities",  # a path with a space
    feature_width=10,
    max_regions=2,
    splits={"train": {"images": 2, "captions": 5}, "test": {"images": 1, "captions": 2}},
    protocols=[{"name": "all", "images": 1, "captions": 2}],
)
NAMES = {
    "options": {"regions": "names", "held_out": 2, "names": 3},
    "feature_width": 3 + 8 + 10,
    "splits": {"train": {"images": 2, "captions": 3}, "test": {"images": 1, "captions": 1}},
}
PIXELS = {"options": {"regions": "pixels"}, "feature_width": 205}
SENTENCES = {
    "10": [
        "[/EN#1/people Two young guys] with [/EN#2/bodyparts/people shaggy hair] .",
        "[/EN#1/people Men] in [/EN#0/notvisual front] of [/EN#3/scene the yard]",
        "Nobody [/EN#3/scene there]",
    ],
    "20": ["[/EN#7/animals A dog]", "[/EN#7/animals the dog] barks"],
    "30": ["[/EN#9/other A kite]", "[/EN#9/vehicles/other a red men]"],
}
BOXES = {
    "10": [((1,), (1, 1, 10, 10)), ((2, 1), (51, 26, 100, 50)), ((3,), (11, 11, 20, 20))],
    "20": [],
    "30": [((9,), (0, 0, 50, 25))],
}


def annotation(boxes: list[Any], width: int = 100, height: int = 50) -> str:
    def item(chains: tuple[int, ...], corners: tuple[int, ...]) -> str:
        names = "".join(f"<name>{chain}</name>" for chain in chains)
        sides = "".join(f"<{side}>{at}</{side}>" for side, at in zip(SIDES, corners, strict=True))
        return f"<object>{names}<bndbox>{sides}</bndbox></object>\n"

    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    scene = "<object><name>8</name><scene>1</scene><nobndbox>0</nobndbox></object>"
    return f"<annotation><filename>x.jpg</filename>{size}\n{scene}\n{''.join(item(*box) for box in boxes)}</annotation>"


SIDES = ("xmin", "ymin", "xmax", "ymax")


def files() -> Files:
    """Three images of 100 x 50 pixels; the second one has no box."""
    return {
        **{f"Sentences/{image}.txt": "\n".join(lines) + "\n" for image, lines in SENTENCES.items()},
        **{f"Annotations/{image}.xml": annotation(boxes) for image, boxes in BOXES.items()},
        "train.txt": "10\n20\n",
        "test.txt": "30\n",
    }


def write(root: Path, content: Files) -> Path:
    return write_files(root / CARD["folder"], content)


def place(root: Path, **changes: Any) -> Place:
    card = DatasetCard.model_validate({**CARD, **changes})
    return Place(card, root / card.folder, root / "cache")


def opened(root: Path, content: Files | None = None, **changes: Any) -> Dataset:
    write(root, files() if content is None else content)
    return open_dataset(place(root, **changes).card, root, root / "cache")


def read(root: Path, content: Files, split: str = "train", **changes: Any) -> Content:
    """Without the check against the card, and with a cache of its own."""
    write(root, content)
    return Entities(place(root, **changes)).read(split)


def test_a_region_is_the_place_of_a_box_whose_pixels_are_counted_from_one(tmp_path: Path) -> None:
    split = opened(tmp_path).split("train")
    assert split.boxes is not None
    assert split.boxes[0].tolist() == [[50, 25, 50, 25], [0, 0, 10, 10]]
    right_below = [0.5, 0.5, 1, 1, 0.5, 0.5, 0.25, 0.75, 0.75, 2]
    np.testing.assert_allclose(split.images[0], [right_below, [0, 0, 0.1, 0.2, 0.1, 0.2, 0.02, 0.05, 0.1, 2]])
    np.testing.assert_array_equal(split.images[0], geometry(split.boxes[0], 100, 50).astype(np.float32))


def test_the_largest_boxes_come_first_equals_in_the_order_of_the_file(tmp_path: Path) -> None:
    boxes = opened(tmp_path, max_regions=3).split("train").boxes
    assert boxes is not None and boxes[0].tolist() == [[50, 25, 50, 25], [0, 0, 10, 10], [10, 10, 10, 10]]


def test_an_image_without_a_box_is_one_region_the_whole_of_it(tmp_path: Path) -> None:
    split = opened(tmp_path).split("train")
    assert split.boxes is not None and split.boxes[1].tolist() == [[0, 0, 100, 50]]
    assert split.images.counts.tolist() == [2, 1]


def test_a_corner_at_zero_is_read_as_the_first_pixel(tmp_path: Path) -> None:
    boxes = opened(tmp_path).split("test").boxes
    assert boxes is not None and boxes[0].tolist() == [[0, 0, 50, 25]]


def test_wrong_boxes_are_cut_at_the_edges_where_the_card_allows_it(tmp_path: Path) -> None:
    content = files()
    content["Annotations/10.xml"] = annotation(
        [((1,), (91, 41, 120, 60)), ((2,), (30, 20, 20, 30)), ((3,), (101, 1, 120, 9))]
    )
    boxes = opened(tmp_path, content, options={"wrong_boxes": "cut"}).split("train").boxes
    assert boxes is not None
    np.testing.assert_array_equal(boxes[0], [[90, 40, 10, 10]])
    with pytest.raises(ConfigError, match=r"'options.wrong_boxes' is 'drop'"):
        opened(tmp_path, content, options={"wrong_boxes": "drop"})


def test_captions_are_the_words_without_the_marks(tmp_path: Path) -> None:
    split = opened(tmp_path).split("train")
    assert split.captions == (
        "Two young guys with shaggy hair .",
        "Men in front of the yard",
        "Nobody there",
        "A dog",
        "the dog barks",
    )
    assert split.pairs.tolist() == [[0, 0], [0, 1], [0, 2], [1, 3], [1, 4]]
    assert split.image_ids == ("10", "20")


def test_windows_line_ends_a_byte_order_mark_and_empty_last_lines_change_nothing(tmp_path: Path) -> None:
    expected = opened(tmp_path / "a").split("train")
    content = {name: b"\xef\xbb\xbf" * (name != "train.txt") + windows(text) for name, text in files().items()}
    content["Sentences/10.txt"] += b"\r\n \r\n"
    content["train.txt"], content["test.txt"] = b"10\r\n20\r\n", b"30"
    split = opened(tmp_path / "b", content).split("train")
    assert split.captions == expected.captions
    np.testing.assert_array_equal(split.images.rows, expected.images.rows)


def windows(text: str | bytes) -> bytes:
    assert isinstance(text, str)
    return text.replace("\n", "\r\n").encode()


def test_a_limit_keeps_the_first_images(tmp_path: Path) -> None:
    write(tmp_path, files())
    split = open_dataset(place(tmp_path).card, tmp_path, tmp_path / "cache", limit=1).split("train")
    assert (len(split.images), len(split.captions), len(split.boxes or ())) == (1, 3, 1)


def test_names_are_head_words_and_types_of_the_held_out_caption(tmp_path: Path) -> None:
    dataset = opened(tmp_path, **NAMES)
    train, test = dataset.split("train"), dataset.split("test")
    assert train.captions == ("Two young guys with shaggy hair .", "Nobody there", "A dog")
    # columns: dog, men, yard (each seen once: by the alphabet); then the types
    men, types = [0, 1, 0], np.eye(8).tolist()
    np.testing.assert_array_equal(train.images[0][:, :11], [men + types[0]] * 2)
    np.testing.assert_array_equal(train.images[1][:, :11], np.zeros((1, 11)))  # the whole image is of no chain
    both = [0.0] * 4 + [1, 0, 0, 1]
    np.testing.assert_array_equal(test.images[0][:, :11], [men + both])
    np.testing.assert_allclose(train.images[0][:, 11:], opened(tmp_path).split("train").images[0])


def test_a_box_of_which_the_held_out_caption_does_not_speak_has_no_name(tmp_path: Path) -> None:
    options = {"options": {**NAMES["options"], "held_out": 1}}  # speaks of chains 1 and 2, not of 3
    images = opened(tmp_path, **{**NAMES, **options}, max_regions=3).split("train").images[0]
    assert images[:, :11].any(axis=1).tolist() == [True, True, False]


WORDS = st.lists(st.sampled_from(["dog", "Men", "yard", "red", "kite", "zebra", "."]), min_size=1, max_size=6)


def rewritten(line: str, words: list[str]) -> str:
    """A caption with its marks kept and every word another."""
    marks = re.findall(r"\[/EN#[^ ]+", line)
    return " ".join([*(f"{mark} {' '.join(words)}]" for mark in marks), "so", *words])


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(words=WORDS, number=st.sampled_from([1, 2]))
def test_no_region_changes_with_the_words_of_a_caption_that_is_asked(
    words: list[str], number: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("leak")
    changes = {**NAMES, "options": {**NAMES["options"], "held_out": number}}
    content = files()
    for image, lines in SENTENCES.items():
        queries = [line if at == number else rewritten(line, words) for at, line in enumerate(lines, start=1)]
        content[f"Sentences/{image}.txt"] = "\n".join(queries)
    for split in ("train", "test"):
        before = read(root / "a", files(), split, **changes)
        after = read(root / "b", content, split, **changes)
        np.testing.assert_array_equal(after.images.rows, before.images.rows)
        assert after.captions != before.captions


def test_no_name_of_a_box_stands_only_in_captions_that_are_asked(tmp_path: Path) -> None:
    changes = {**NAMES, "options": {**NAMES["options"], "names": 50}}
    write(tmp_path, files())
    reader = Entities(place(tmp_path, **changes))
    assert set(reader.names) == {"men", "yard", "dog"}
    held_out = " ".join(lines[1].lower() for lines in (SENTENCES["10"], SENTENCES["20"]))
    assert all(word in held_out for word in reader.names)
    for split in ("train", "test"):
        content = reader.read(split)
        assert not {"Men in front of the yard", "the dog barks", "a red men"} & set(content.captions)
        assert content.images.rows[:, 3:50].any() == False  # noqa: E712 no column beyond the three names


def test_words_of_the_held_out_caption_do_change_regions(tmp_path: Path) -> None:
    content = files()
    content["Sentences/10.txt"] = str(content["Sentences/10.txt"]).replace("Men]", "Dog]")
    before, after = read(tmp_path / "a", files(), **NAMES), read(tmp_path / "b", content, **NAMES)
    assert (before.images.rows != after.images.rows).any()


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "names of captions that are asked": ({"regions": "phrases"}, "options.regions.* 'phrases'.*gives the answer away"),
    "names without a held-out caption": ({"regions": "names"}, "held_out names no caption.*gives the answer away"),
    "the caption before the first": ({"regions": "names", "held_out": 0}, "held_out names no caption"),
    "all captions": ({"regions": "names", "held_out": "all"}, "options.held_out.*'all'.*whole number"),
    "held out and not used": ({"held_out": 1}, "'geometry', which has no use for held_out"),
    "names without train": ({"regions": "names", "held_out": 1, "names": 2}, "split 'train'; the card has none"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_names_from_captions_that_are_asked_cannot_be_configured(tmp_path: Path, kind: str) -> None:
    options, message = OPTIONS[kind]
    splits = {"splits": {"test": CARD["splits"]["test"]}} if kind == "names without train" else {}
    with pytest.raises(ConfigError, match=message) as caught:
        opened(tmp_path, options=options, **splits)
    assert str(caught.value).startswith("card.toml: ")


@pytest.fixture
def pictured(tmp_path: Path) -> Path:
    """Red where the largest box of image 10 is, white elsewhere; one of each kind of file."""
    folder = write(tmp_path, files()) / "images"
    folder.mkdir()
    picture = Image.new("RGB", (100, 50), (255, 255, 255))
    picture.paste((255, 0, 0), (50, 25, 100, 50))
    picture.save(folder / "10.png")
    picture.save(folder / "20.jpg", quality=95)
    picture.save(folder / "30.jpeg", quality=95)
    return tmp_path


def test_pixels_are_crops_of_the_picture_beside_the_geometry(pictured: Path) -> None:
    split = opened(pictured, **PIXELS).split("train")
    red, white = split.images[0]
    assert split.boxes is not None
    means = slice(144 + 27 + 15, 144 + 27 + 15 + 3)
    assert red[means].tolist() == [1, 0, 0] and white[means].tolist() == [1, 1, 1]
    assert red[:144].tolist() == [1] * 144 and white[:144].tolist() == [0] * 144  # contrast with the background
    np.testing.assert_array_equal(split.images[0][:, 195:], geometry(split.boxes[0], 100, 50).astype(np.float32))
    assert split.images[1][0, 144:171].reshape(3, 3, 3)[2, 2].round(2).tolist() == [1, 0, 0]  # its right lower ninth


def test_appearance_is_all_that_scenes_say_of_a_region_but_its_place() -> None:
    rng = np.random.default_rng(0)
    pixels, boxes = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8), np.array([[3, 5, 40, 20], [0, 0, 128, 128]])
    described = scene_pictures.describe(pixels, boxes)
    np.testing.assert_array_equal(described[:, :195], appearance(pixels, boxes).astype(np.float32))
    np.testing.assert_array_equal(described[:, 195:], scene_pictures.geometry(boxes).astype(np.float32))


def other_size(folder: Path) -> None:
    Image.new("RGB", (50, 100)).save(folder / "20.jpg")


def no_picture(folder: Path) -> None:
    (folder / "20.jpg").write_bytes(b"\xff\xd8\xff")


PICTURES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "of another size": (other_size, r"20\.jpg: has 50 x 100 pixels, its annotation says 100 x 50"),
    "damaged": (no_picture, r"20\.jpg: no readable picture"),
    "absent": (
        lambda folder: (folder / "20.jpg").unlink(),
        r"train\.txt, line 2: image 20 has no images/20\.jpg or",
    ),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_that_does_not_fit_is_refused_and_nothing_is_left_behind(pictured: Path, kind: str) -> None:
    breaks, message = PICTURES[kind]
    breaks(pictured / CARD["folder"] / "images")
    with pytest.raises(DataError, match=message):
        opened(pictured, **PIXELS).split("train")
    assert not list((pictured / "cache").glob("entities/*"))


def test_pictures_decide_the_fingerprint_only_where_regions_are_made_of_them(pictured: Path) -> None:
    def prints() -> list[str]:
        cards = (place(pictured).card, place(pictured, **PIXELS).card)
        return [fingerprint(card, pictured, pictured / "cache") for card in cards]

    before = prints()
    Image.new("RGB", (100, 50)).save(pictured / CARD["folder"] / "images" / "30.jpeg")
    after = prints()
    assert before[0] == after[0] and before[1] != after[1]


def test_what_an_image_looks_like_is_its_boxes_with_phrases_and_its_picture(pictured: Path) -> None:
    looks = Previews(place(pictured).card, pictured, pictured / "cache")
    look = looks.of("10")
    assert look.size == (100, 50) and look.picture is not None and look.picture.size == (100, 50)
    assert look.boxes == ((50, 25, 50, 25), (0, 0, 10, 10))
    assert look.labels == ("shaggy hair / Two young guys", "Two young guys")
    assert looks.of("../train").boxes == () and looks.of("40").size is None


def change(name: str, old: str, new: str) -> Callable[[Files], Any]:
    def edit(content: Files) -> None:
        text = content[name]
        assert isinstance(text, str) and old in text
        content[name] = text.replace(old, new, 1)

    return edit


def put(name: str, text: str | bytes) -> Callable[[Files], Any]:
    return lambda content: content.update({name: text})


BROKEN: dict[str, tuple[Callable[[Files], Any], str]] = {
    "no sentence file": (
        lambda c: c.pop("Sentences/20.txt"),
        r"train\.txt, line 2: image 20 has no Sentences/20\.txt .*1 such",
    ),
    "no annotation file": (
        lambda c: c.pop("Annotations/20.xml"),
        r"train\.txt, line 2: image 20 has no Annotations/20\.xml",
    ),
    "XML cut short": (
        put("Annotations/10.xml", "<annotation><size>"),
        r"10\.xml: no readable XML \(.*line 1, column 18\)",
    ),
    "XML that is empty": (put("Annotations/10.xml", ""), r"10\.xml: no readable XML"),
    "a DOCTYPE": (
        put("Annotations/10.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'),
        r"10\.xml: has a DOCTYPE",
    ),
    "no size": (change("Annotations/20.xml", "<width>100</width>", ""), r"20\.xml: <size/width> holds ''"),
    "a size of nothing": (change("Annotations/20.xml", "<width>100", "<width>0"), r"20\.xml: .* 0 x 50 pixels"),
    "a size in words": (change("Annotations/20.xml", "<width>100", "<width>wide"), r"<size/width> holds 'wide'"),
    "a box outside": (
        change("Annotations/10.xml", "<xmax>100", "<xmax>101"),
        r"10\.xml, object 3: the box from 51, 26 to 101, 50 .* leaves the image of 100 x 50",
    ),
    "a box below 0": (change("Annotations/10.xml", "<ymin>26", "<ymin>-1"), r"object 3: <ymin> holds '-1'"),
    "a box inverted": (change("Annotations/10.xml", "<ymin>26", "<ymin>51"), r"10\.xml, object 3: .*inverted"),
    "a box without size": (
        change("Annotations/10.xml", "<xmin>1</xmin><ymin>1</ymin><xmax>10<", "<xmin>0</xmin><ymin>1</ymin><xmax>0<"),
        r"10\.xml, object 2: the box from 0, 1 to 0, 10 .*no size",
    ),
    "a box of three numbers": (change("Annotations/10.xml", "<ymin>26</ymin>", ""), r"object 3: <ymin> holds ''"),
    "a box of NaN": (change("Annotations/10.xml", "<ymin>26", "<ymin>nan"), r"object 3: <ymin> holds 'nan'"),
    "a box of no chain": (change("Annotations/10.xml", "<name>3</name>", ""), r"10\.xml, object 4: its names are \(\)"),
    "an annotation not UTF-8": (put("Annotations/10.xml", b"<a>\n\xff</a>"), r"10\.xml, line 2: not UTF-8"),
    "a phrase that does not close": (
        change("Sentences/10.txt", "hair]", "hair"),
        r"10\.txt, line 1: the phrase of chain 2 does not close",
    ),
    "a phrase in a phrase": (
        change("Sentences/10.txt", "guys]", "guys"),
        r"10\.txt, line 1: the phrase of chain 1 does not close",
    ),
    "a mark that is none": (change("Sentences/10.txt", "[/EN#1/people", "[EN1"), r"line 1: '\[EN1' is no mark"),
    "a mark glued to a word": (change("Sentences/10.txt", "with [/", "with[/"), r"'with\[/EN#2.*' is no mark"),
    "a type that is none": (change("Sentences/10.txt", "1/people", "1/peeple"), r"line 1: .*1/peeple' is no mark"),
    "an empty caption": (change("Sentences/10.txt", "\n", "\n\n"), r"10\.txt, line 2: an empty caption"),
    "a caption of no words": (
        put("Sentences/20.txt", "a dog\n[/EN#1/people ]"),
        r"20\.txt, line 2: an empty caption",
    ),
    "a file of no captions": (put("Sentences/20.txt", ""), r"20\.txt, line 1: an empty caption"),
    "a caption not UTF-8": (put("Sentences/20.txt", b"a dog\na d\xf6g\n"), r"20\.txt, line 2: not UTF-8"),
    "an image in two splits": (
        put("test.txt", "30\n20\n"),
        r"test\.txt, line 2: image '20' stands in .*/train\.txt, line 2 already",
    ),
    "an id twice": (put("train.txt", "10\n20\n10\n"), r"train\.txt, line 3: image 10 stands in line 1 too"),
    "an id that leads away": (put("train.txt", "10\n../20\n"), r"train\.txt, line 2: '\.\./20' is no image id"),
    "a split of no ids": (put("train.txt", ""), r"train\.txt, line 1: an empty"),
    "one caption too few": (
        put("Sentences/20.txt", "a dog\n"),
        r"tiny train: the card says 5 captions, the files hold 4",
    ),
    "one image too many": (
        lambda c: c.update({"train.txt": "10\n20\n30", "test.txt": "40"}),
        r"tiny train: the card says 2 images, the files hold 3",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_refused_by_file_and_line(tmp_path: Path, kind: str) -> None:
    content = files()
    breaks, message = BROKEN[kind]
    breaks(content)
    with pytest.raises(DataError, match=message):
        opened(tmp_path, content).split("train")


def test_an_image_without_the_held_out_caption_is_refused(tmp_path: Path) -> None:
    changes = {**NAMES, "options": {**NAMES["options"], "held_out": 3}}
    with pytest.raises(DataError, match=r"20\.txt: its captions are 2; the card holds out number 3"):
        opened(tmp_path, **changes).split("train")
    with pytest.raises(DataError, match=r"20\.txt: its captions are 1;.*one must be left"):
        content = {**files(), "Sentences/20.txt": "a dog"}
        opened(tmp_path, content, **{**NAMES, "options": {**NAMES["options"], "held_out": 1}}).split("train")


def test_a_folder_that_is_absent_or_leads_in_a_circle_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, files())
    (folder / "Sentences").rename(folder / "elsewhere")
    message = r"dataset tiny: 1 of its 4 files are not in .*\n  Sentences/.*\n.*the moon"
    with pytest.raises(DataError, match=message):
        open_dataset(place(tmp_path).card, tmp_path, tmp_path / "cache")
    (folder / "Sentences").symlink_to("Sentences")
    with pytest.raises(DataError, match=message):
        open_dataset(place(tmp_path).card, tmp_path, tmp_path / "cache")
    (folder / "Sentences").unlink()
    (folder / "Sentences").write_text("a file")
    with pytest.raises(DataError, match=message):
        open_dataset(place(tmp_path).card, tmp_path, tmp_path / "cache")


def test_a_file_that_leads_in_a_circle_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, files()) / "Annotations"
    (folder / "10.xml").unlink()
    (folder / "10.xml").symlink_to("10.xml")
    with pytest.raises(DataError, match=r"Annotations: cannot be read .*symbolic links"):
        open_dataset(place(tmp_path).card, tmp_path, tmp_path / "cache")


def test_a_folder_within_a_folder_that_leads_back_is_left_alone(tmp_path: Path) -> None:
    folder = write(tmp_path, files())
    (folder / "Sentences" / "again").symlink_to(folder, target_is_directory=True)
    assert len(opened(tmp_path, {}).split("train").captions) == 5


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    write(tmp_path, files())
    (tmp_path / "in the way").touch()
    reader = Entities(place(tmp_path)._replace(cache=tmp_path / "in the way" / "cache"))
    with pytest.raises(StoreError, match=r"in the way/cache/.*cannot be written"):
        reader.read("train")


def test_a_folder_is_hashed_by_names_and_contents_and_only_when_it_changed(tmp_path: Path) -> None:
    folder, cache = tmp_path / "some", tmp_path / "cache"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_text(name)
    first = folder_sha256(cache, folder)
    assert len(unsealed((cache / "fingerprints.json").read_bytes())) == 1  # one fact, however many files
    memory = cache / "fingerprints.json"
    memory.write_text(sealed(dict.fromkeys(unsealed(memory.read_bytes()), "remembered")))
    assert folder_sha256(cache, folder) == "remembered"
    times = (folder / "a").stat()
    (folder / "a").write_text("x")
    os.utime(folder / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = folder_sha256(cache, folder)
    assert changed not in (first, "remembered")
    (folder / "c").rename(folder / "d")
    assert folder_sha256(cache, folder) not in (first, changed)
    (folder / "a").write_text("a")
    (folder / "d").rename(folder / "c")
    assert folder_sha256(tmp_path / "third", folder) == first


@pytest.mark.parametrize("name", ["*.npy", "*.npz"])
@pytest.mark.parametrize("damage", [b"", b"\x00" * 4000, None], ids=["empty", "zeroed", "flipped"])
def test_a_split_whose_cache_is_damaged_is_parsed_again(tmp_path: Path, name: str, damage: bytes | None) -> None:
    before = opened(tmp_path).split("train")
    regions = [image.tolist() for image in before.images]
    (file,) = (tmp_path / "cache" / "entities").glob(name)
    data = file.read_bytes()
    middle = len(data) // 2
    other = tmp_path / "other"
    other.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if damage is None else damage)
    other.replace(file)  # which is mapped
    again = open_dataset(place(tmp_path).card, tmp_path, tmp_path / "cache").split("train")
    assert [image.tolist() for image in again.images] == regions and again.captions == before.captions
    assert file.read_bytes() == data


def test_a_split_is_parsed_once_and_again_when_a_file_changed(tmp_path: Path) -> None:
    before = opened(tmp_path).split("train")
    cache = sorted((tmp_path / "cache" / "entities").iterdir())
    assert [path.suffix for path in cache] == [".npy", ".npz"]
    times = [path.stat().st_mtime_ns for path in cache]
    again = open_dataset(place(tmp_path).card, tmp_path, tmp_path / "cache").split("train")
    assert [path.stat().st_mtime_ns for path in cache] == times
    assert again.captions == before.captions and isinstance(again.images.rows, np.memmap)
    content = {**files(), "Sentences/20.txt": "a dog\nanother dog\n"}
    assert opened(tmp_path, content).split("train").captions[3:] == ("a dog", "another dog")


def test_regions_of_several_cards_do_not_mix_in_one_cache(tmp_path: Path) -> None:
    write(tmp_path, files())
    swapped = {"options": {"train": "test.txt", "test": "train.txt"}}
    assert Entities(place(tmp_path)).read("train").image_ids == ("10", "20")
    assert Entities(place(tmp_path, **swapped)).read("train").image_ids == ("30",)
    assert Entities(place(tmp_path, **NAMES)).read("train").images.width == 21
    assert Entities(place(tmp_path, max_regions=1)).read("train").images.counts.tolist() == [1, 1]


def test_the_card_of_the_release_has_five_captions_for_each_of_its_images() -> None:
    card = read_card(DatasetCard, ROOT / "datasets" / "f30k-entities" / "card.toml")
    assert sum(size.images for size in card.splits.values()) == 31_783
    assert all(size.captions == 5 * size.images for size in card.splits.values())
    assert Entities.files(Place(card, Path(), Path())) == [
        "Sentences/", "Annotations/", "train.txt", "val.txt", "test.txt"
    ]  # fmt: skip
    assert card.feature_width == 10 and [p.name for p in card.protocols] == ["1k"]


PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=5).filter(
    lambda word: not word.startswith("[") and not word.endswith("]") and not word.isspace()
)
CHAIN = st.integers(0, 10**6).map(str)
KINDS = st.lists(st.sampled_from([*TYPES, NOT_VISUAL]), min_size=1, max_size=3).map(tuple)
PHRASES = st.builds(EntityPhrase, st.lists(PLAIN, min_size=1, max_size=4).map(tuple), CHAIN, KINDS)


@settings(deadline=None)
@given(parts=st.lists(PLAIN | PHRASES, min_size=1, max_size=8))
def test_a_caption_marked_as_the_release_does_it_comes_back(parts: list[str | EntityPhrase]) -> None:
    def marked(part: str | EntityPhrase) -> str:
        if isinstance(part, str):
            return part
        return f"[/EN#{part.chain}/{'/'.join(part.types)} {' '.join(part.words)}]"

    sentence = parse_sentence(" ".join(map(marked, parts)), NOWHERE)
    assert list(sentence.phrases) == [part for part in parts if isinstance(part, EntityPhrase)]
    assert sentence.text == " ".join(part if isinstance(part, str) else " ".join(part.words) for part in parts)


PIECES = st.sampled_from(["[/EN#1/people ", "[/EN#0/notvisual", "[", "]", "dog", " ", "\n", "\r", "/", "[/EN#", "é"])


@settings(deadline=None)
@given(text=st.text() | st.lists(PIECES, max_size=12).map("".join))
def test_any_text_is_a_caption_or_refused(text: str) -> None:
    try:
        sentence = parse_sentence(text, Location("here"))
    except DataError as error:
        assert "here" in str(error)
    else:
        assert sentence.text.split() == sentence.text.split(" ") and sentence.text
        assert "[/EN#" not in sentence.text and all(phrase.words for phrase in sentence.phrases)


@settings(deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_captions_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(data)
    try:
        assert all(sentence.text for sentence in read_sentences(path))
    except DataError as error:
        assert "any.txt, line" in str(error) or "gunzip -k" in str(error)


TAGS = ("annotation", "object", "name", "bndbox", "size", "width", "xmin", "xmax", "a:b", "!DOCTYPE a", "?xml", "!--")
XML = st.sampled_from(
    [*(f"<{tag}>" for tag in TAGS), *(f"</{tag}>" for tag in TAGS), "1", "&a;", "\0", "-->", "<![CDATA["]
)


@settings(deadline=None)
@given(text=st.text() | st.lists(XML, max_size=12).map("".join))
def test_any_text_is_an_annotation_or_refused(text: str) -> None:
    try:
        parsed = parse_annotation(text, Location("here"))
    except DataError as error:
        assert "here" in str(error)
    else:
        assert parsed.width and parsed.height


@settings(deadline=None)
@given(text=st.text(max_size=8), old=st.sampled_from(["100", "51", "bndbox", "<name>", "annotation", "50"]))
def test_an_annotation_with_a_damaged_place_is_read_within_its_image_or_refused(text: str, old: str) -> None:
    whole = annotation(BOXES["10"])
    try:
        parsed = parse_annotation(whole.replace(old, text, 1), Location("here"))
    except DataError as error:
        assert "here" in str(error)
    else:
        for box in parsed.boxes:
            assert 0 <= box.x < box.x + box.width <= parsed.width
            assert 0 <= box.y < box.y + box.height <= parsed.height


CORNER = st.integers(1, 200)


@settings(deadline=None)
@given(corners=st.lists(st.tuples(CORNER, CORNER, CORNER, CORNER), max_size=5), chain=st.integers(0, 999))
def test_boxes_written_as_the_release_does_it_come_back(corners: list[tuple[int, ...]], chain: int) -> None:
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    parsed = parse_annotation(annotation([((chain, 7), box) for box in boxes], 200, 200), NOWHERE)
    assert [(x + 1, y + 1, x + w, y + h) for x, y, w, h, _ in parsed.boxes] == boxes
    assert all(box.chains == (str(chain), "7") for box in parsed.boxes)
