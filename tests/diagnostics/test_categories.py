"""Category-level mAP against scikit-learn where it is installed, and against a textbook loop everywhere."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from coco_files import files, opened
from folds import card, five_each

from harness.data.content import Labels
from harness.diagnostics import categories
from harness.diagnostics.categories import CategoryTally, average_precisions, caption_labels
from harness.diagnostics.looks import LOOKS, StoredLooks, read_looks, save_looks
from harness.diagnostics.table import Looks, looks_of, mean_looks
from harness.evaluation.protocols import Fold, folds
from harness.evaluation.ranks import DIRECTIONS


def textbook(scores: np.ndarray, relevant: np.ndarray) -> float:
    """AP of one query: at each distinct score the precision of all that score at least as high, by relevant items."""
    total, size = 0.0, int(relevant.sum())
    for value in set(scores.tolist()):
        inside = scores >= value
        total += (relevant & (scores == value)).sum() / size * relevant[inside].mean()
    return total


def case(levels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Labels]:
    """Scores (20, 100) on a grid, so that many are equal; images with none to three of six categories."""
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, levels, (20, 100)) / 8).astype(np.float32)
    table = rng.random((20, 6)) < 0.25
    table[3] = False  # an image without a thing
    return scores, five_each(20), Labels(tuple("abcdef"), table)


def category_measures(
    scores: np.ndarray, pairs: np.ndarray, parts: list[Fold], labels: Labels, rows: int = 1_000_000
) -> dict[str, float]:
    """Taken so many queries at a time, the last ones first."""
    tally = CategoryTally(pairs, parts, labels, scores.shape[1])
    for direction, table in zip(DIRECTIONS, (scores, scores.T), strict=True):
        for start in reversed(range(0, len(table), rows)):
            tally.take(direction, np.arange(start, min(start + rows, len(table))), table[start : start + rows])
    return tally.measures()


@pytest.mark.parametrize("levels", [2, 9, 100_000])
def test_it_is_the_mean_of_the_textbooks_average_precision(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(categories, "BLOCK_SCORES", 700)  # several blocks, the last of them short
    scores, pairs, labels = case(levels)
    own = category_measures(scores, pairs, folds(card(20, 100), 20, pairs), labels)
    texts = np.repeat(labels.of_images, 5, axis=0)
    relevant = (labels.of_images[:, None] & texts[None]).any(axis=2)
    for direction, table, mask in (("i2t", scores, relevant), ("t2i", scores.T, relevant.T)):
        asked = [row for row in range(len(table)) if mask[row].any()]
        each = [textbook(table[row], mask[row]) for row in asked]
        assert own[f"{direction}_map"] == pytest.approx(100 * np.mean(each))
        assert own[f"{direction}_queries"] == len(asked) < len(table)
        assert own[f"{direction}_random"] == pytest.approx(100 * mask[asked].mean())
    assert own["categories"] == 6


@pytest.mark.parametrize("levels", [2, 9, 100_000])
def test_scikit_learn_says_the_same_of_equal_scores_too(levels: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, _, labels = case(levels, seed=1)
    mask = np.repeat(labels.of_images, 5, axis=0)[:, :1].T.repeat(20, axis=0)
    each = [metrics.average_precision_score(mask[row], scores[row]) for row in range(len(scores))]
    assert average_precisions(scores, mask) == pytest.approx(np.array(each))


def test_no_order_breaks_a_tie() -> None:
    scores, _, _ = case(3)
    mask = np.random.default_rng(2).random(scores.shape) < 0.3
    shuffle = np.random.default_rng(3).permutation(scores.shape[1])
    assert average_precisions(scores[:, shuffle], mask[:, shuffle]) == pytest.approx(average_precisions(scores, mask))
    constant = average_precisions(np.zeros((1, 4), dtype=np.float32), np.array([[True, False, False, False]]))
    assert constant == pytest.approx([0.25]), "equal scores for all are no better than a random order"


def test_folds_are_galleries_and_captions_of_several_images_have_the_categories_of_all() -> None:
    scores, pairs, labels = case(100_000, seed=4)
    whole, parts = (category_measures(scores, pairs, folds(card(20, 100, n), 20, pairs), labels) for n in (1, 2))
    half = folds(card(20, 100, 2), 20, pairs)
    each = [
        category_measures(
            scores[np.ix_(one.images, one.captions)],
            one.pairs,
            folds(card(10, 50), 10, one.pairs),
            Labels(labels.names, labels.of_images[one.images]),
        )
        for one in half
    ]
    assert parts["t2i_map"] == pytest.approx(np.mean([one["t2i_map"] for one in each])) != whole["t2i_map"]
    table = np.array([[True, False], [False, True]])
    assert caption_labels(table, np.array([[0, 0], [1, 0], [1, 1]]), 2).tolist() == [[True, True], [False, True]]


def test_the_share_of_relevant_items_is_called_that_and_not_the_map_of_a_random_order() -> None:
    scores, pairs, labels = case(100_000)
    own = category_measures(scores, pairs, folds(card(20, 100), 20, pairs), labels)
    lines = {words: i2t for words, i2t, _ in Looks(category=own).lines}
    assert lines["items that share a category with the query, %"] == f"{own['i2t_random']:.1f}"
    assert not any("random" in words for words in lines)


def test_images_without_any_category_have_no_measures() -> None:
    scores, pairs, labels = case(9)
    none = Labels(labels.names, np.zeros_like(labels.of_images))
    assert category_measures(scores, pairs, folds(card(20, 100), 20, pairs), none) == {}


def test_coco_files_give_the_categories_of_all_boxes_of_an_image(tmp_path: Path) -> None:
    content = files()
    for number, category in enumerate(content["instances.json"]["categories"]):
        category["name"] = ("dog", "cat", "kite")[number]  # of the ids 7, 3, 90
    data = opened(tmp_path, content)
    labels = data.split("train").labels
    assert labels and labels.names == ("cat", "dog", "kite")
    # image 10 has boxes of all three, of which two fit the card's max_regions
    assert labels.of_images[:, 0].tolist() == [True, True]
    assert labels.of_images[1].tolist() == [True, True, False]
    first = opened(tmp_path, content, limit=1).split("train").labels
    assert first and len(first.of_images) == 1


def test_looks_are_kept_in_a_folder_and_a_damaged_file_is_none(tmp_path: Path) -> None:
    save_looks(tmp_path, StoredLooks(category={"i2t_map": 40.0}))
    assert read_looks(tmp_path).category == {"i2t_map": 40.0}
    (tmp_path / LOOKS).write_text("{")
    assert read_looks(tmp_path).is_empty
    save_looks(tmp_path, StoredLooks())
    assert not (tmp_path / LOOKS).exists(), "those of an earlier evaluation are gone"


def test_looks_that_lack_what_is_shown_are_damaged_and_no_fault_of_the_reader(tmp_path: Path) -> None:
    """As in results of another project: what cannot be shown is not read, what can be is shown without the rest."""
    whole = {"accuracy": 50.0, "low": 40.0, "high": 60.0, "tied": 0.0, "choices": 8.0}
    for lost in ("accuracy", "tied", "choices", "low"):
        part = {name: value for name, value in whole.items() if name != lost}
        (tmp_path / LOOKS).write_text(json.dumps({"choices": {"swap": part}}))
        assert read_looks(tmp_path).is_empty, lost
    (tmp_path / LOOKS).write_text('{"category": {"i2t_map": NaN}}')
    assert read_looks(tmp_path).is_empty
    (tmp_path / LOOKS).write_text(json.dumps({"category": {"i2t_map": 40.0}, "choices": {"swap": whole}}))
    one = looks_of(None, read_looks(tmp_path))
    assert one.lines[0] == ("category-level mAP, %", "40.0", "–") and one.lines[-1][1] == "50.0 (40.0 to 60.0)"
    other = looks_of(None, StoredLooks(choices={"swap": {**whole, "more": 1.0}}))
    assert mean_looks([other, one]).choices["swap"] == {"accuracy": 50.0, "tied": 0.0, "choices": 8.0}


def test_a_thousand_images_take_seconds() -> None:
    rng, pairs = np.random.default_rng(5), five_each(1000)
    labels = Labels(tuple(map(str, range(80))), rng.random((1000, 80)) < 0.04)
    scores, start = rng.normal(size=(1000, 5000)).astype(np.float32), time.perf_counter()
    category_measures(scores, pairs, folds(card(1000, 5000), 1000, pairs), labels)
    assert time.perf_counter() - start < 30


def test_strips_of_queries_give_the_same_as_all_scores_together() -> None:
    scores, pairs, labels = case(9, seed=5)
    for number in (1, 2):
        parts = folds(card(20, 100, number), 20, pairs)
        assert category_measures(scores, pairs, parts, labels, rows=3) == category_measures(
            scores, pairs, parts, labels
        )
