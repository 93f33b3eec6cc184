"""The cards of COCO and Flickr30K at full size, checked against the real caption files with generated features."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from harness.config.cards import DatasetCard, read_card
from harness.data.content import Content
from harness.data.dataset import place_of
from harness.data.split import check_split
from harness.data.tokens import Vocabulary
from harness.errors import DataError
from harness.evaluation.protocols import folds
from harness.layouts.precomp import Precomp

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "scan_format"
STEMS = {"f30k": {"val": "dev", "test": "test"}, "coco": {"val": "dev", "test": "testall"}}
real = pytest.mark.skipif(not REAL.is_dir(), reason="the released caption files are not here")


def card_of(name: str) -> DatasetCard:
    return read_card(DatasetCard, ROOT / "datasets" / name / "card.toml")


def narrow(name: str) -> DatasetCard:
    """The card as it is, for features of one number."""
    return card_of(name).model_copy(update={"feature_width": 1})


def released(root: Path, name: str, stems: dict[str, str], repeated: bool = False) -> Path:
    """The real captions under the names of some stems, with generated features."""
    folder = root / f"{name}_precomp"
    folder.mkdir(exist_ok=True)
    for stem, source in stems.items():
        text = (REAL / f"{name}_precomp" / f"{source}_caps.txt").read_bytes()
        (folder / f"{stem}_caps.txt").write_bytes(text)
        images = len(text.removesuffix(b"\n").split(b"\n")) // 5
        features = np.arange(images, dtype=np.float32).reshape(-1, 1, 1)
        np.save(folder / f"{stem}_ims.npy", features.repeat(5, axis=0) if repeated else features)
    return folder


def read(root: Path, card: DatasetCard, split: str) -> Content:
    content = Precomp(place_of(card, root, root / "cache")).read(split)
    check_split(card, split, content)
    return content


def lines(name: str, stem: str) -> list[str]:
    text = (REAL / f"{name}_precomp" / f"{stem}_caps.txt").read_text(encoding="utf-8")
    return [line.strip() for line in text.removesuffix("\n").split("\n")]


def test_the_cards_have_the_published_numbers() -> None:
    sizes = {name: {split: tuple(size) for split, size in sizes_of(card_of(name)).items()} for name in ("f30k", "coco")}
    assert sizes["f30k"] == {"train": (29000, 145000), "val": (1014, 5070), "test": (1000, 5000)}
    assert sizes["coco"] == {"train": (113287, 566435), "val": (1000, 5000), "test": (5000, 25000)}
    for name in ("f30k", "coco"):
        card = card_of(name)
        assert (card.feature_width, card.max_regions, card.options["captions_each"]) == (2048, 36, 5)
        assert all(captions == 5 * images for images, captions in sizes[name].values())
        for protocol in card.protocols:
            assert (protocol.images, protocol.captions) == sizes[name][protocol.split]
    assert {protocol.name: protocol.folds for protocol in card_of("coco").protocols} == {"1k-fold5": 5, "5k": 1}


def sizes_of(card: DatasetCard) -> dict[str, tuple[int, int]]:
    return {split: (size.images, size.captions) for split, size in card.splits.items()}


@real
@pytest.mark.parametrize("repeated", [False, True], ids=["stored once", "repeated"])
@pytest.mark.parametrize("name", STEMS)
def test_the_released_captions_are_what_the_card_says(tmp_path: Path, name: str, repeated: bool) -> None:
    released(tmp_path, name, {stem: stem for stem in STEMS[name].values()}, repeated)
    card = narrow(name)
    for split in ("val", "test"):
        content = read(tmp_path, card, split)
        assert (len(content.images), len(content.captions)) == sizes_of(card)[split]
        assert content.images[7].tolist() == [[7.0]]
        assert content.pairs[-1].tolist() == [len(content.images) - 1, len(content.captions) - 1]


@real
def test_the_five_folds_are_runs_of_a_thousand_images(tmp_path: Path) -> None:
    released(tmp_path, "coco", {"testall": "testall"})
    card = narrow("coco")
    content = read(tmp_path, card, "test")
    protocol = card.protocol("1k-fold5")
    parts = folds(protocol, len(content.images), content.pairs)
    assert [(fold.images[0], fold.images[-1], len(fold.images), len(fold.captions)) for fold in parts] == [
        (1000 * k, 1000 * k + 999, 1000, 5000) for k in range(5)
    ]
    assert [int(fold.captions[0]) for fold in parts] == [0, 5000, 10000, 15000, 20000]


@real
@pytest.mark.parametrize(
    ("name", "stems", "split", "said"),
    [
        ("coco", {"testall": "testall", "dev": "test"}, "val", "A man with a red helmet"),
        ("f30k", {"test": "test", "dev": "test"}, "val", "1014 images, the files hold 1000"),
        ("f30k", {"test": "dev", "dev": "dev"}, "test", "1000 images, the files hold 1014"),
    ],
)
def test_captions_of_another_split_are_refused(
    tmp_path: Path, name: str, stems: dict[str, str], split: str, said: str
) -> None:
    released(tmp_path, name, stems)
    with pytest.raises(DataError, match=said):
        read(tmp_path, narrow(name), split)


@real
def test_exchanged_captions_of_one_size_are_named_as_what_they_are(tmp_path: Path) -> None:
    folder = released(tmp_path, "coco", {"testall": "testall", "dev": "dev"})
    captions = lines("coco", "dev")
    (folder / "testall_caps.txt").write_text("\n".join(captions * 5), encoding="utf-8")
    with pytest.raises(DataError, match=r"testall_caps\.txt, line 1: .*'A child holding .*caption 1 of val.*exchanged"):
        read(tmp_path, narrow("coco"), "test")


@real
def test_captions_shifted_by_a_line_are_named_with_their_shift(tmp_path: Path) -> None:
    folder = released(tmp_path, "f30k", {"test": "test"})
    captions = lines("f30k", "test")
    (folder / "test_caps.txt").write_text("\n".join([captions[-1], *captions[:-1]]), encoding="utf-8")
    with pytest.raises(DataError, match=r"test_caps\.txt, line 1: .*caption 1 of the card is number 2, 1 off"):
        read(tmp_path, narrow("f30k"), "test")
    (folder / "test_caps.txt").write_text("\n".join([*captions[1:], "a caption more"]), encoding="utf-8")
    with pytest.raises(DataError, match=r"test_caps\.txt, line 1: .*caption 2500 of the card is number 2499, 1 off"):
        read(tmp_path, narrow("f30k"), "test")


@real
def test_a_coco_folder_without_testall_says_what_its_test_is(tmp_path: Path) -> None:
    released(tmp_path, "coco", {"test": "test", "dev": "dev"})
    with pytest.raises(DataError, match=r"no testall_caps\.txt, but test_caps\.txt with 5,000 lines.*first fold"):
        Precomp.files(place_of(narrow("coco"), tmp_path, tmp_path / "cache"))


@real
def test_a_whole_validation_split_says_what_to_write_into_a_card(tmp_path: Path) -> None:
    folder = released(tmp_path, "coco", {"dev": "testall"})
    assert folder.is_dir()
    with pytest.raises(DataError, match=r"1000 images.* 5000;.*val = \{ images = 5000, captions = 25000 \}"):
        read(tmp_path, narrow("coco"), "val")


@real
@pytest.mark.parametrize(("name", "size"), [("f30k", 8481), ("coco", 11353)])
def test_the_published_vocabularies_are_read(name: str, size: int) -> None:
    path = REAL / "vocab" / f"sgraf_{name}_precomp_vocab.json"
    assert len(Vocabulary.read(path)) == size == len(json.loads(path.read_text(encoding="utf-8"))["word2idx"])


@real
@pytest.mark.parametrize(
    ("name", "stem", "shared"),
    [("f30k", "test", 1), ("f30k", "dev", 2), ("coco", "test", 6), ("coco", "dev", 7), ("coco", "testall", 120)],
)
def test_texts_that_images_share_are_as_many_as_is_known(name: str, stem: str, shared: int) -> None:
    images: dict[str, set[int]] = defaultdict(set)
    for number, caption in enumerate(lines(name, stem)):
        images[caption].add(number // 5)
    assert sum(len(own) > 1 for own in images.values()) == shared


@real
def test_the_small_test_of_coco_is_the_first_fold_but_for_its_last_caption() -> None:
    small, whole = lines("coco", "test"), lines("coco", "testall")
    assert [number for number in range(5000) if small[number] != whole[number]] == [4999]
