"""`harness validate` compares the splits of a dataset with each other: features, copies of images, boxes, ids."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_files import regions, saved
from hypothesis import given
from hypothesis import strategies as st
from tiny_project import Call

from harness.config.cards import DatasetCard, read_card
from harness.data.content import Content
from harness.data.regions import Ragged
from harness.preparation import image_checks, validation
from harness.preparation.findings import Finding, Severity
from harness.preparation.region_scan import Likeness, Scan, copies, scan, twins

Report = dict[str, Any]
Look = Callable[..., Report]
Array = np.ndarray
ERROR, WARNING, NOTE = "error", "warning", "note"


def of(report: Report, code: str) -> list[Report]:
    return [one for one in report["findings"] if one["code"] == code]


def scans_of(**splits: list[Array]) -> dict[str, Scan]:
    return {name: scan(Ragged.stack(own), lambda _: None) for name, own in splits.items()}


def features(rng: np.random.Generator, images: int, width: int = 24) -> list[Array]:
    """Images as a detector gives them: not negative, a third of the numbers 0, each column with a mean of its own."""
    means = np.random.default_rng(5).gamma(2, 1, width)
    counts = rng.integers(3, 9, images)
    return [np.maximum(rng.normal(means, 2.0, (count, width)), 0).astype(np.float32) for count in counts]


def statistics(change: Callable[[list[Array]], list[Array]], images: int = 60) -> list[Finding]:
    rng = np.random.default_rng(0)
    test = change(features(rng, images))
    return list(image_checks.of_statistics(scans_of(train=features(rng, 300), val=features(rng, images), test=test)))


CHANGES: dict[str, tuple[Callable[[Array], Array], str, str]] = {
    "normalised": (lambda x: x / np.linalg.norm(x, axis=1, keepdims=True), ERROR, "test alone are normalised"),
    "times 1000": (lambda x: x * 1000, ERROR, "mean norm of a region is"),
    "a thousandth": (lambda x: x / 1000, ERROR, "mean norm of a region is"),
    "times 1.5": (lambda x: x * 1.5, WARNING, "mean norm of a region is"),
    "all zeros": (lambda x: x * 0, ERROR, "all regions are 0"),
    "half of the numbers dropped": (lambda x: x * (np.arange(x.size).reshape(x.shape) % 2), WARNING, "numbers are 0"),
    "columns in another order": (lambda x: x[:, ::-1], WARNING, "columns have other means"),
    "standardised": (lambda x: x - x.mean(axis=0), WARNING, ""),
    "a column of one number": (
        lambda x: np.where(np.arange(x.shape[1]) == 3, 7, x),
        WARNING,
        "column 3 first, which is 7",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_features_of_a_split_that_do_not_fit_the_others_are_told_with_both_numbers(kind: str) -> None:
    change, severity, said = CHANGES[kind]
    found = statistics(lambda images: [change(one).astype(np.float32) for one in images])
    assert any(one.severity == severity and said in one.message and one.split == "test" for one in found), found
    assert {one.split for one in found} == {"test"}


@pytest.mark.parametrize("images", [4, 20, 200])
def test_splits_of_one_release_give_no_false_alarm(images: int) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        scans = scans_of(train=features(rng, 300), val=features(rng, images), test=features(rng, images))
        assert not list(image_checks.of_statistics(scans))


def test_one_hot_columns_that_are_rare_give_no_false_alarm() -> None:
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 80) ** 1.5
    drawn = [rng.choice(79, int(rng.integers(1, 8)), p=shares / shares.sum()) for _ in range(500)]
    images = [np.eye(79, dtype=np.float32)[one] for one in drawn]
    found = list(image_checks.of_statistics(scans_of(train=images[:420], val=images[420:460], test=images[460:])))
    assert not [one for one in found if one.severity is not Severity.NOTE], found


def test_test_features_that_do_not_fit_are_told_by_the_command(precomp: Path, look: Look) -> None:
    saved("test_ims.npy", lambda array: array * np.float32(1000))(precomp)
    (one,) = of(look("precomp", 3), "splits-differ")
    assert (one["severity"], one["split"]) == (ERROR, "test") and "in test and" in one["message"]
    saved("test_ims.npy", lambda array: array * 0)(precomp)
    (one,) = of(look("precomp", 3), "regions-all-zero")
    assert one["split"] == "test"


# --- copies


def likenesses(**splits: list[Array]) -> dict[tuple[str, int], tuple[tuple[str, int], Likeness]]:
    images = {name: Ragged.stack(own) for name, own in splits.items()}
    scans = scans_of(**splits)
    exact = copies(images, {name: one.marks for name, one in scans.items()})
    found = twins(images, {name: one.signatures for name, one in scans.items()}, exact)
    return {one.image: (one.earlier, one.likeness) for one in found}


COPIES: dict[str, tuple[Callable[[np.random.Generator, Array], Array], Likeness]] = {
    "reordered": (lambda rng, x: rng.permutation(x), Likeness.REORDERED),
    "noise": (lambda rng, x: x + 1e-4 * rng.standard_normal(x.shape), Likeness.NEAR),
    "noise in another order": (lambda rng, x: rng.permutation(x) * (1 + 1e-3 * rng.random(x.shape)), Likeness.NEAR),
    "float16": (lambda rng, x: x.astype(np.float16), Likeness.NEAR),
    "of another scale by a little": (lambda rng, x: x * 1.002, Likeness.NEAR),
}


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("width", [4, 24, 300])
def test_copies_of_images_are_found_in_whatever_order_and_with_noise(kind: str, width: int) -> None:
    change, likeness = COPIES[kind]
    rng = np.random.default_rng(1)
    train, test = features(rng, 400, width), features(rng, 60, width)
    rows = rng.choice(400, 30, replace=False)
    for place, row in enumerate(rows):
        image = change(rng, train[row]).astype(np.float32)
        test[place] = image if kind != "reordered" or not (image == train[row]).all() else image[::-1]
    found = likenesses(train=train, test=test)
    assert found == {("test", place): (("train", row), likeness) for place, row in enumerate(rows.tolist())}


def test_a_copy_with_one_of_many_regions_exchanged_is_near() -> None:
    rng = np.random.default_rng(2)
    train = [rng.random((36, 200), np.float32) for _ in range(100)]
    test = [train[place].copy() for place in range(20)]
    for one in test:
        one[3] = rng.random(200, np.float32)
    assert len(likenesses(train=train, test=test)) == 20


@given(st.integers(0, 2**32 - 1), st.integers(2, 20))
def test_twins_are_those_that_a_comparison_of_all_pairs_finds(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    stacks = [rng.integers(0, 3, (int(rng.integers(1, 4)), 3)).astype(np.float32) for _ in range(n)]
    cut = int(rng.integers(1, n))
    parts = {"a": stacks[:cut], "b": stacks[cut:]}
    places = [(name, number) for name, own in parts.items() for number in range(len(own))]
    found = {place: like for place, (_, like) in likenesses(**parts).items()}
    for at, place in enumerate(places):
        own = parts[place[0]][place[1]]
        before = [parts[name][number] for name, number in places[:at]]
        is_copy = any(own.tobytes() == other.tobytes() and own.shape == other.shape for other in before)
        as_sets = [sorted(map(bytes, other)) for other in before]
        if found.get(place) is Likeness.REORDERED:
            assert sorted(map(bytes, own)) in as_sets and not is_copy


def test_other_images_are_no_copies_however_many() -> None:
    rng = np.random.default_rng(3)
    assert not likenesses(train=features(rng, 2000), val=features(rng, 200), test=features(rng, 200))


def test_copies_in_another_order_and_near_ones_are_told_by_the_command(precomp: Path, look: Look) -> None:
    train = regions("train")
    near = train[2] + np.float32(1e-4)
    saved("test_ims.npy", lambda array: np.stack([array[0], train[5][::-1], near, array[0][::-1]]))(precomp)
    report = look("precomp")
    (apart,), (nearly,), (beside,) = (
        of(report, code) for code in ("image-in-two-splits", "image-nearly-in-two-splits", "images-alike")
    )
    assert (apart["severity"], apart["entry"]) == (WARNING, "row 1") and "in another order" in apart["message"]
    assert apart["examples"] == ["test_ims.npy, row 1: 'test/1', as train_ims.npy, row 5 ('train/5'), of train"]
    assert (nearly["severity"], nearly["examples"]) == (
        WARNING,
        ["test_ims.npy, row 2: 'test/2', as train_ims.npy, row 2 ('train/2'), of train"],
    )
    assert (beside["severity"], beside["entry"]) == (NOTE, "row 3")


@pytest.mark.slow
def test_thousands_of_copies_are_counted_in_little_memory() -> None:
    rng = np.random.default_rng(4)
    image = rng.random((36, 64), np.float32)
    test = [rng.permutation(image) for _ in range(3000)]
    images = {"train": features(rng, 100, 64), "test": test}
    tracemalloc.start()
    found = likenesses(**images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) > 2900 and peak < 120e6


# --- boxes and ids


@pytest.fixture
def content() -> Callable[..., Any]:
    """A split of as many images as boxes, with their sizes."""

    def content(boxes: Ragged, sizes: Array) -> Content:
        images = Ragged(np.ones((len(boxes.rows), 1), np.float32), boxes.offsets)
        ids = tuple(map(str, range(len(boxes))))
        return Content(images, ids, np.stack([np.arange(len(boxes))] * 2, axis=1), ids, boxes, sizes)

    return content


SIZES = np.array([[100, 50]] * 4)
BOX = [1.0, 2.0, 30.0, 20.0]


def boxes_of(*rows: list[float]) -> Any:
    return Ragged.stack([np.array([row, BOX], dtype=np.float32) for row in rows])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([90.0, 2, 30, 20], "lie beyond their picture"),
        ([1.0, 2, 30, 60], "lie beyond their picture"),
        ([-9.0, 2, 30, 20], "lie beyond their picture"),
        ([1.0, 2, -3, 20], "end before they begin"),
        ([1.0, 2, 3, np.nan], "hold NaN"),
        ([1.0, np.inf, 3, 2], "hold NaN"),
        ([0.0, -1, 101, 52], ""),
    ],
)
def test_wrong_boxes_are_told_by_image_and_region(row: list[float], said: str, content: Callable[..., Any]) -> None:
    found = list(image_checks.of_boxes("test", content(boxes_of(BOX, BOX, row, BOX), SIZES)))
    assert [one.examples[0].split(": ")[0:2] for one in found] == [["image 2", "region 0"]] * bool(said)
    assert all(said in one.message and one.severity is Severity.WARNING for one in found)


def test_boxes_that_are_corners_are_told_as_such(content: Callable[..., Any]) -> None:
    corners = [[60.0, 20, 90, 40], [50.0, 10, 99, 50], [70.0, 30, 80, 45], [60.0, 40, 100, 50]]
    (one,) = image_checks.of_boxes("test", content(boxes_of(*corners), SIZES))
    assert "as corners do where x, y, width, height are expected" in one.message
    (one,) = image_checks.of_boxes("test", content(boxes_of(*[[60.0, 20, -30, 5]] * 4), SIZES))
    assert "as x, y, width, height do where corners are expected" in one.message


def test_boxes_that_are_shares_are_told_as_such(content: Callable[..., Any]) -> None:
    shares = Ragged.stack([np.array([[0.1, 0.2, 0.5, 0.8]], np.float32)] * 4)
    for sizes in (SIZES, None):
        (one,) = image_checks.of_boxes("test", content(shares, sizes))
        assert "boxes are shares of their pictures" in one.message and one.severity is Severity.WARNING
    assert not [*image_checks.of_boxes("test", content(boxes_of([0.1, 0.2, 0.5, 0.8]), SIZES))]


def test_boxes_of_precomputed_regions_are_held_to_their_pictures(precomp: Path, look: Look) -> None:
    corners = np.tile(np.array([1, 2, 30, 40], np.float32), (4, 3, 1))
    corners[2, 1] = [1, 2, 102, 40]
    corners[3, 0] = [9, 2, 3, 40]
    np.save(precomp / "test_boxes.npy", corners)
    np.save(precomp / "test_img_sizes.npy", np.array([[100, 50]] * 4))
    found = {one["entry"]: one["message"] for one in of(look("precomp"), "boxes-wrong")}
    assert found.keys() == {"row 2", "row 3"}
    assert "lie beyond" in found["row 2"] and "end before" in found["row 3"]


def test_ids_that_look_alike_are_told(precomp: Path, look: Look) -> None:
    nfc, nfd = "caf\u00e9", "cafe\u0301"
    for stem, ids in (
        ("train", ["a", "B", nfc, "7", "e", "f", "g", "h"]),
        ("dev", "ijkl"),
        ("test", ["A", "b", nfd, "007"]),
    ):
        (precomp / f"{stem}_ids.txt").write_text("\n".join(ids), encoding="utf-8")
    (one,) = of(look("precomp"), "ids-alike")
    assert (one["severity"], one["count"], one["split"], one["entry"]) == (WARNING, 4, "test", "row 0")
    assert one["examples"][2] == "test_ims.npy, row 2: 'cafe\\u0301' beside 'caf\\xe9' of train"


# --- what a run says


def leak(folder: Path) -> None:
    train = regions("train")
    saved("test_ims.npy", lambda array: np.stack([array[0], train[5][::-1], train[2], array[3]]))(folder)


@pytest.mark.slow
@pytest.mark.parametrize("validated", [False, True])
def test_a_run_says_once_what_makes_numbers_doubtful_validated_or_not(
    precomp: Path, look: Look, call: Call, capsys: pytest.CaptureFixture[str], validated: bool
) -> None:
    leak(precomp)
    if validated:
        look("precomp")
    words = ("run", "--here", "--datasets", "precomp", "--methods", "chance")
    assert call(*words) == 0
    said = capsys.readouterr().out
    (line,) = [one for one in said.splitlines() if "doubtful data" in one]
    assert "in another order" in line and "to the last bit" in line and "harness validate --dataset precomp" in line
    assert call(*words) == 0
    assert "doubtful" not in capsys.readouterr().out, "nothing was to do"


@pytest.mark.slow
def test_a_run_on_sound_data_says_nothing_and_what_is_remembered_is_not_looked_at_again(
    precomp: Path, call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", "--here", "--datasets", "precomp", "--methods", "chance", "--seeds")
    assert call(*words, "0") == 0
    with monkeypatch.context() as patch:
        patch.setattr(validation, "quick_look", None)
        assert call(*words, "1") == 0
    assert "doubtful" not in capsys.readouterr().out
    leak(precomp)  # another fingerprint
    assert call(*words, "1") == 0
    assert "doubtful data" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["", "[1]", "{", "\xff"])
def test_what_is_remembered_and_damaged_is_found_again(precomp: Path, look: Look, call: Call, damage: str) -> None:
    leak(precomp)
    look("precomp")
    card = read_card(DatasetCard, precomp.parents[1] / "cards" / "precomp" / "card.toml")
    cache = precomp.parents[1] / "runs" / "cache"
    expected = validation.warnings_of(card, precomp.parent, cache)
    (memory,) = (cache / "validation").iterdir()
    memory.write_text(damage, encoding="latin-1")
    assert validation.warnings_of(card, precomp.parent, cache) == expected


def test_a_quick_look_at_large_data_reads_few_images(
    monkeypatch: pytest.MonkeyPatch, precomp: Path, look: Look
) -> None:
    monkeypatch.setattr(validation, "QUICK", 0)
    monkeypatch.setattr(validation, "SAMPLE", 2)
    saved("test_ims.npy", lambda array: array * np.float32(1000))(precomp)
    card = read_card(DatasetCard, precomp.parents[1] / "cards" / "precomp" / "card.toml")
    data, cache = precomp.parent, precomp.parents[1] / "cache"
    assert any("mean norm of a region" in line for line in validation.warnings_of(card, data, cache))
