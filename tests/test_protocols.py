"""Galleries: folds are diagonal blocks of one score matrix, and sizes are held to the card."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.cards import ProtocolCard
from harness.errors import DataError, NonFiniteError
from harness.protocols import block, evaluation, expected_at_random, folds, gallery, rank_folds
from harness.ranking import list_measures, measures, rank, ways


def five_each(images: int) -> np.ndarray:
    return np.stack([np.repeat(np.arange(images), 5), np.arange(5 * images)], axis=1)


def card(images: int, captions: int, folds: int = 1) -> ProtocolCard:
    return ProtocolCard(name="small", version=2, folds=folds, images=images, captions=captions)


def evaluate_protocol(
    scores: np.ndarray, card: ProtocolCard, pairs: np.ndarray, limited: bool = False
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    parts = folds(card, len(scores), pairs, limited)
    return evaluation(card, pairs, parts, rank_folds(scores, parts))


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((50, 250), dtype=np.float32)


def test_folds_are_contiguous_diagonal_blocks_and_their_measures_are_averaged(scores: np.ndarray) -> None:
    pairs = five_each(50)
    found, _ = evaluate_protocol(scores, card(50, 250, folds=5), pairs)
    parts = [rank(scores[10 * k : 10 * k + 10, 50 * k : 50 * k + 50], five_each(10)) for k in range(5)]
    each = [measures(ranks) | list_measures(*ways(ranks)) for ranks in parts]
    assert found == pytest.approx({name: np.mean([one[name] for one in each]) for name in each[0]})
    assert found["rsum"] == pytest.approx(
        sum(value for name, value in found.items() if "_r" in name and name[-1] in "150")
    )


def test_a_block_is_a_view_of_the_one_score_matrix(scores: np.ndarray) -> None:
    for fold in folds(card(50, 250, folds=5), 50, five_each(50)):
        assert np.shares_memory(block(scores, fold), scores)


def test_folds_follow_the_pairs_whatever_the_order_of_captions_and_pairs(scores: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    pairs, moved = five_each(50), rng.permutation(250)
    shuffled = rng.permutation(np.stack([pairs[:, 0], np.argsort(moved)[pairs[:, 1]]], axis=1))
    straight, _ = evaluate_protocol(scores, card(50, 250, folds=5), pairs)
    again, _ = evaluate_protocol(scores[:, moved], card(50, 250, folds=5), shuffled)
    assert straight == pytest.approx(again)


def test_a_caption_of_images_in_two_folds_is_a_query_in_both() -> None:
    pairs = np.array([[0, 0], [1, 1], [2, 2], [3, 3], [3, 0]])
    first, second = folds(card(4, 4, folds=2), 4, pairs)
    assert first.captions.tolist() == [0, 1] and second.captions.tolist() == [0, 2, 3]
    assert second.pairs.tolist() == [[0, 1], [1, 2], [1, 0]]
    scores = np.eye(4)
    scores[3, 0] = 1
    assert np.array_equal(block(scores, second), scores[2:][:, [0, 2, 3]])
    assert evaluate_protocol(scores, card(4, 4, folds=2), pairs)[0]["rsum"] == 600


def test_the_kept_arrays_give_the_measures_back(scores: np.ndarray) -> None:
    found, kept = evaluate_protocol(scores, card(50, 250, folds=5), five_each(50))
    file = io.BytesIO()
    np.savez_compressed(file, **kept)
    file.seek(0)
    arrays = np.load(file, allow_pickle=False)
    assert arrays["protocol"].item() == "small" and arrays["version"].item() == 2
    assert arrays["i2t_rank"].dtype == arrays["t2i_rank"].dtype == np.int32
    recalls = []
    for fold in range(5):
        inside = arrays["fold"] == fold
        image, ranks = arrays["pairs"][inside, 0], arrays["i2t_rank"][inside]
        recalls.append(np.mean([ranks[image == one].min() <= 5 for one in np.unique(image)]))
    assert 100 * np.mean(recalls) == pytest.approx(found["i2t_r5"])
    assert 100 * np.mean(arrays["t2i_rank"] <= 10) == pytest.approx(found["t2i_r10"])


def test_the_code_of_the_guide_gets_a_recall_back_from_the_kept_arrays(scores: np.ndarray, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "protocols.md").read_text()
    code = re.findall(r"^```python\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)[0]
    found, kept = evaluate_protocol(scores, card(50, 250, folds=5), five_each(50))
    np.savez_compressed(tmp_path / "ranks.npz", **kept)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(i2t_r1)"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == pytest.approx(found["i2t_r1"])


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (card(51, 250), "expects 51 images in split 'test', found 50"),
        (card(50, 249), "expects 249 captions in split 'test', found 250"),
        (card(50, 250, folds=3), "50 images do not make 3 folds of one size"),
    ],
)
def test_a_split_of_another_size_than_the_protocol_is_refused_with_both_numbers(
    scores: np.ndarray, expected: ProtocolCard, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_protocol(scores, expected, five_each(50))


def test_a_limited_split_may_have_any_size(scores: np.ndarray) -> None:
    parts = folds(card(5000, 25000, folds=5), 52, five_each(52), limited=True)
    assert [len(fold.images) for fold in parts] == [11, 11, 10, 10, 10]
    assert gallery(parts) == {"images": 11, "captions": 55, "folds": 5}
    assert len(folds(card(5000, 25000, folds=5), 3, five_each(3), limited=True)) == 3
    assert evaluate_protocol(scores, card(5000, 25000, folds=5), five_each(50), limited=True)[0]["i2t_r1"] >= 0


def test_a_score_outside_every_fold_must_be_finite_too(scores: np.ndarray) -> None:
    scores[0, 249] = np.nan
    with pytest.raises(NonFiniteError, match="image 0 and caption 249 "):
        evaluate_protocol(scores, card(50, 250, folds=5), five_each(50))


def test_the_expected_recalls_are_what_random_scores_reach_on_average() -> None:
    pairs = np.array([[0, 0], [0, 1], [0, 2], [1, 3], [2, 4], [3, 4], [3, 5], *([i, i + 2] for i in range(4, 20))])
    protocol, rng = card(20, 22), np.random.default_rng(0)
    expected = expected_at_random(folds(protocol, 20, pairs))
    runs = [evaluate_protocol(rng.random((20, 22)), protocol, pairs)[0] for _ in range(400)]
    for name, value in expected.items():
        assert np.mean([run[name] for run in runs]) == pytest.approx(
            value, abs=4 * np.std([run[name] for run in runs]) / 20
        )
