"""Galleries: folds are diagonal blocks of one score matrix, and sizes are checked against the card."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from folds import card, five_each
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.config.cards import ProtocolCard
from harness.data.galleries import gallery_rows, read_gallery
from harness.errors import DataError, NonFiniteError
from harness.evaluation.measures import list_measures, mean_measures, measures
from harness.evaluation.protocols import block, expected_at_random, folds, gallery, rank_folds, saturated_recalls
from harness.evaluation.ranks import directed, rank
from harness.evaluation.records import RANKS, Records, TrialRanks, of_ranks, of_shortlists
from harness.evaluation.shortlists import shortlists
from harness.evaluation.streaming import Rows, rank_streamed


def evaluate_protocol(
    scores: np.ndarray, card: ProtocolCard, pairs: np.ndarray, limited: bool = False
) -> tuple[dict[str, float], TrialRanks]:
    parts = folds(card, len(scores), pairs, limited)
    ranks = rank_folds(scores, parts)
    return mean_measures(ranks), of_ranks(pairs, parts, ranks)


def save(folder: Path, scores: np.ndarray, card: ProtocolCard, pairs: np.ndarray) -> dict[str, float]:
    """Write what a trial keeps of scores, and return the measures."""
    values, ranks = evaluate_protocol(scores, card, pairs)
    rankings = of_shortlists(shortlists(scores, folds(card, len(scores), pairs)), [""] * 50, [""] * 250)
    Records(card, ranks, [], rankings).save(folder)
    return values


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((50, 250), dtype=np.float32)


def test_folds_are_contiguous_diagonal_blocks_and_their_measures_are_averaged(scores: np.ndarray) -> None:
    pairs = five_each(50)
    values, _ = evaluate_protocol(scores, card(50, 250, folds=5), pairs)
    parts = [rank(scores[10 * k : 10 * k + 10, 50 * k : 50 * k + 50], five_each(10)) for k in range(5)]
    each = [measures(ranks) | list_measures(*directed(ranks)) for ranks in parts]
    assert values == pytest.approx({name: np.mean([one[name] for one in each]) for name in each[0]})
    assert values["rsum"] == pytest.approx(
        sum(value for name, value in values.items() if "_r" in name and name[-1] in "150")
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


def test_the_kept_arrays_give_the_measures_back(scores: np.ndarray, tmp_path: Path) -> None:
    values = save(tmp_path, scores, card(50, 250, folds=5), five_each(50))
    arrays = np.load(tmp_path / RANKS, allow_pickle=False)
    assert arrays["protocol"].item() == "small" and arrays["version"].item() == 2
    assert arrays["i2t_rank"].dtype == arrays["t2i_rank"].dtype == np.int32
    recalls = []
    for fold in range(5):
        inside = arrays["fold"] == fold
        image, ranks = arrays["pairs"][inside, 0], arrays["i2t_rank"][inside]
        recalls.append(np.mean([ranks[image == one].min() <= 5 for one in np.unique(image)]))
    assert 100 * np.mean(recalls) == pytest.approx(values["i2t_r5"])
    assert 100 * np.mean(arrays["t2i_rank"] <= 10) == pytest.approx(values["t2i_r10"])


def test_the_code_of_the_guide_gets_a_recall_back_from_the_kept_arrays(scores: np.ndarray, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "reference" / "protocols.md").read_text()
    code = re.findall(r"^```python\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)[0]
    values = save(tmp_path, scores, card(50, 250, folds=5), five_each(50))
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(i2t_r1)"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == pytest.approx(values["i2t_r1"])


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
    assert gallery(parts) == {"images": 10, "captions": 50, "folds": 5}
    assert len(folds(card(5000, 25000, folds=5), 3, five_each(3), limited=True)) == 3
    assert evaluate_protocol(scores, card(5000, 25000, folds=5), five_each(50), limited=True)[0]["i2t_r1"] >= 0


def test_the_gallery_is_that_of_the_smallest_fold_in_which_any_scores_may_reach_a_recall() -> None:
    pairs = np.array(
        [*((i, 3 * i + j) for i in range(12) for j in range(3)), *((i, 24 + i // 3) for i in range(12, 24))]
    )
    pairs[36:, 1] += 36 - pairs[36, 1]  # 36 captions in the first fold, 4 in the second
    for rows in (pairs, np.stack([23 - pairs[:, 0], 39 - pairs[:, 1]], axis=1)):  # whichever comes first
        parts = folds(card(24, 40, folds=2), 24, rows)
        assert gallery(parts) == {"images": 12, "captions": 4, "folds": 2}
        assert saturated_recalls(gallery(parts)) == ["i2t_r5", "i2t_r10"]
        worst = [measures(ranks) for ranks in rank_folds(np.zeros((24, 40), dtype=np.float32), parts)]
        assert max(one["i2t_r5"] for one in worst) == 100, "equal scores are right in the small one"


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


SHA256 = "0" * 64


def card_of_gallery(images: int, captions: int, folds: int = 1) -> ProtocolCard:
    return ProtocolCard(
        name="mine", folds=folds, images=images, captions=captions, gallery="mine.json", gallery_sha256=SHA256
    )


@st.composite
def galleries(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Scores with ties (N, M), pairs in any order, images of a gallery in any order, and a number of folds."""
    n, m = draw(st.integers(2, 9)), draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pairs = {(image, int(rng.integers(m))) for image in range(n)} | {(int(rng.integers(n)), c) for c in range(m)}
    gallery = rng.permutation(n)[: draw(st.integers(1, n))]
    folds = draw(st.integers(1, len(gallery)))
    gallery = gallery[: len(gallery) - len(gallery) % folds]
    scores = rng.integers(0, draw(st.sampled_from([2, 50])), (n, m)).astype(np.float32)
    return scores, rng.permutation(np.array(sorted(pairs))), gallery, folds


@given(galleries())
def test_a_gallery_is_ranked_as_its_own_submatrix(case: tuple[np.ndarray, np.ndarray, np.ndarray, int]) -> None:
    scores, pairs, images, n_folds = case
    captions = np.unique(pairs[np.isin(pairs[:, 0], images), 1])
    protocol = card_of_gallery(len(images), len(captions), n_folds)
    parts = folds(protocol, len(scores), pairs, gallery=images)
    ranked = rank_folds(scores, parts)
    values, ranks = mean_measures(ranked), of_ranks(pairs, parts, ranked)
    each = []
    for run in np.split(images, n_folds):
        rows = sorted(run.tolist())
        inside = [(i, c) for i, c in pairs.tolist() if i in rows]
        columns = sorted({c for _, c in inside})
        slow = rank(
            np.array([[scores[i, c] for c in columns] for i in rows]),
            np.array([[rows.index(i), columns.index(c)] for i, c in inside]),
        )
        each.append(measures(slow) | list_measures(*directed(slow)))
        own = np.isin(ranks.pairs[:, 0], rows)
        assert ranks.pairs[own].tolist() == [[i, c] for i, c in inside]
        assert ranks.ranks["i2t"][own].tolist() == slow.i2t.tolist()
        assert ranks.ranks["t2i"][own].tolist() == slow.t2i.tolist()
    assert values == pytest.approx({name: np.mean([one[name] for one in each]) for name in each[0]})
    assert set(ranks.pairs[:, 0].tolist()) == set(images.tolist())


@given(galleries(), st.integers(1, 4))
def test_a_gallery_streamed_in_blocks_has_the_ranks_and_shortlists_of_the_matrix(
    case: tuple[np.ndarray, np.ndarray, np.ndarray, int], each: int
) -> None:
    scores, pairs, images, n_folds = case
    captions = np.unique(pairs[np.isin(pairs[:, 0], images), 1])
    parts = folds(card_of_gallery(len(images), len(captions), n_folds), len(scores), pairs, gallery=images)

    def source(_matching: bool) -> Iterator[Rows]:
        for start in range(0, len(scores), each):
            yield Rows(np.arange(start, min(start + each, len(scores))), scores[start : start + each])

    streamed, heads = rank_streamed(source, parts)
    for one, other in zip(streamed, rank_folds(scores, parts), strict=True):
        assert all(np.array_equal(*arrays) for arrays in zip(one, other, strict=True))
    for one, other in zip(heads, shortlists(scores, parts), strict=True):
        assert np.array_equal(one.captions, other.captions) and np.array_equal(one.images, other.images)


def test_a_gallery_of_another_size_than_its_card_is_refused_and_a_limit_leaves_it_out() -> None:
    pairs = five_each(6)
    with pytest.raises(DataError, match=r"expects 3 images in mine\.json of split 'test', found 2"):
        folds(card_of_gallery(3, 15), 6, pairs, gallery=np.array([4, 1]))
    with pytest.raises(DataError, match=r"expects 11 captions in mine\.json of split 'test', found 10"):
        folds(card_of_gallery(2, 11), 6, pairs, gallery=np.array([4, 1]))
    (fold,) = folds(card_of_gallery(3, 15), 4, five_each(4), limited=True, gallery=np.array([4, 1]))
    assert fold.images.tolist() == [0, 1, 2, 3]


def test_another_file_of_a_gallery_is_another_protocol() -> None:
    one = ProtocolCard(name="mine", version=3, images=1, captions=1, gallery="a.json", gallery_sha256="1" * 64)
    other = one.model_copy(update={"gallery_sha256": "2" * 64})
    assert one.identity != other.identity and one.identity // 10**9 == other.identity // 10**9 == 3
    assert card(50, 250).identity == 2
    with pytest.raises(ValidationError, match="gallery and gallery_sha256 belong together"):
        ProtocolCard(name="mine", images=1, captions=1, gallery="a.json")


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_a_gallery_is_a_list_of_ids_as_text_or_numbers(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    sha256 = written(file, b'["b/1", 7]')
    protocol = ProtocolCard(name="mine", images=2, captions=2, gallery="mine.json", gallery_sha256=sha256)
    assert gallery_rows(file, protocol, {"7": 4, "b/1": 2}).tolist() == [2, 4]
    with pytest.raises(DataError, match=r"mine\.json, entry 1: image '7' is not in split 'test', whose ids are b/1"):
        gallery_rows(file, protocol, {"b/1": 2})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}', "a JSON list of image ids is expected, found {'a': 1}"),
        (b"[]", "a JSON list of image ids is expected"),
        (b"[1, 2.5]", "entry 1: 2.5 is no image id"),
        (b"[1, true]", "entry 1: True is no image id"),
        (b'["x", "y", "x"]', "entry 2: image 'x' stands in entry 0 too"),
        (b"[1, 2", "not readable as JSON"),
        (b"\xff\x00", "line 1: not UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "it is a Git LFS pointer"),
    ],
)
def test_a_file_that_is_no_gallery_is_refused_by_entry(tmp_path: Path, content: bytes, said: str) -> None:
    sha256 = written(tmp_path / "mine.json", content)
    with pytest.raises(DataError, match=re.escape(said)):
        read_gallery(tmp_path / "mine.json", sha256)


def test_a_gallery_that_is_absent_or_not_the_cards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mine\.json: no such file"):
        read_gallery(tmp_path / "mine.json", SHA256)
    written(tmp_path / "mine.json", b"[1]")
    with pytest.raises(DataError, match=rf"its sha256 is .*the card says {SHA256}"):
        read_gallery(tmp_path / "mine.json", SHA256)


@given(st.binary(max_size=60) | st.from_regex(rb'\A\[("?[\w,]{0,5}"?,?){0,4}\]?\Z'))
def test_any_bytes_are_a_gallery_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.json"
    with suppress(DataError):
        assert all(isinstance(one, str) for one in read_gallery(file, written(file, content)))
