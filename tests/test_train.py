"""Training: batches, matches, schedule, resume to the bit, and what a recipe switches on."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.blocks import hinge
from harness.captions import UNKNOWN
from harness.config import Training
from harness.errors import NonFiniteError
from harness.method import Batch
from harness.train import Ahead, Trainer, batches_per_epoch, hide_regions, learning_rate, make_batch, matches, shuffled


class Line(torch.nn.Module):
    """A model of one weight and dropout, so that a replayed epoch must replay the random numbers too."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.dropout = torch.nn.Dropout(0.5)

    def loss(self, batch: Batch) -> torch.Tensor:
        return (self.dropout(batch.regions).sum(1) @ self.weight - 1).square().sum()


class Sets:
    """Sets of rows of an array, all real."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.array[rows], np.ones(self.array[rows].shape[:2], dtype=bool)


def split(images: int = 9, captions_each: int = 3) -> SimpleNamespace:
    rng = np.random.default_rng(0)
    pairs = np.stack([np.arange(images).repeat(captions_each), np.arange(images * captions_each)], 1)
    return SimpleNamespace(
        images=Sets(rng.random((images, 4, 3), dtype=np.float32)),
        tokens=Sets(rng.integers(UNKNOWN + 1, 40, (len(pairs), 5))),
        captions=tuple("a caption" for _ in pairs),
        pairs=pairs,
    )


def trainer(training: Training, model: torch.nn.Module | None = None) -> Trainer:
    return Trainer(model or Line(), split(), training, seed=3, device=torch.device("cpu"))


def test_a_resumed_run_ends_with_the_same_bits_as_an_uninterrupted_one() -> None:
    training = Training(epochs=4, batch_size=8, schedule="cosine", drop_regions=0.3)
    whole = trainer(training)
    for _ in range(4):
        whole.run_epoch()
    first = trainer(training)
    for _ in range(2):
        first.run_epoch()
    torch.manual_seed(999)  # whatever the process did in between must not matter
    second = trainer(training)
    second.load(first.state())
    for _ in range(2):
        second.run_epoch()
    assert torch.equal(whole.method.weight, second.method.weight)


def test_epochs_differ_in_order_and_cover_every_pair_once() -> None:
    rows = [np.concatenate(list(shuffled(26, 8, np.random.default_rng([0, epoch])))) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(26)) for order in rows)
    assert not np.array_equal(*rows)


@given(st.integers(2, 60), st.integers(2, 20))
def test_the_number_of_batches_is_what_shuffled_gives_and_none_has_a_single_pair(pairs: int, size: int) -> None:
    batches = list(shuffled(pairs, size, np.random.default_rng(0)))
    assert len(batches) == batches_per_epoch(pairs, size)
    assert all(len(batch) >= 2 for batch in batches)


def test_two_captions_of_one_image_in_a_batch_are_no_negatives() -> None:
    pairs = split().pairs
    found = matches(split(), pairs[[0, 1, 5]])
    assert found.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_a_caption_that_matches_two_images_is_no_negative_for_the_other() -> None:
    shared = SimpleNamespace(pairs=np.array([[1, 1], [0, 0], [0, 1]]), captions=("a", "b"))  # in any order
    assert matches(shared, shared.pairs[[1, 0]]).tolist() == [[True, True], [False, True]]


def test_the_hinge_takes_the_hardest_negative_or_all_of_them() -> None:
    scores = torch.tensor([[0.5, 0.6, 0.1], [0.4, 0.9, 0.2], [0.3, 0.0, 0.7]])
    batch = Batch(*(torch.empty(0) for _ in range(4)), positives=torch.eye(3, dtype=torch.bool))
    by_image, by_caption = [0.3, 0.0, 0.0], [0.1, 0.0, 0.0]
    assert hinge(scores, batch, 0.2).item() == pytest.approx(sum(by_image) + sum(by_caption))
    assert hinge(scores, batch._replace(hardest=False), 0.2).item() == pytest.approx(0.3 + 0.1)
    assert hinge(scores, batch._replace(hardest=False), 0.5).item() == pytest.approx(
        sum(max(0, 0.5 + scores[i, j] - scores[i, i]) for i in range(3) for j in range(3) if i != j)
        + sum(max(0, 0.5 + scores[i, j] - scores[j, j]) for i in range(3) for j in range(3) if i != j)
    )


def test_the_hinge_ignores_a_true_match_off_the_diagonal() -> None:
    scores = torch.tensor([[0.5, 0.9], [0.9, 0.5]])
    batch = Batch(*(torch.empty(0) for _ in range(4)), positives=torch.ones(2, 2, dtype=torch.bool))
    assert hinge(scores, batch, 0.2).item() == 0.0


def test_the_first_epochs_sum_over_all_negatives() -> None:
    seen = []
    model = Line()
    model.loss = lambda batch: seen.append(batch.hardest) or (model.weight**2).sum()  # type: ignore[method-assign]
    run = trainer(Training(epochs=3, batch_size=27, all_negatives_epochs=1), model)
    for _ in range(3):
        run.run_epoch()
    assert seen == [False, True, True]


def test_the_step_schedule_drops_after_the_named_epochs() -> None:
    training = Training(epochs=4, lr=1.0, schedule="step", drop_after=(1, 3), drop_factor=0.1, warmup_steps=4)
    rates = [learning_rate(training, step, 10) for step in (0, 3, 9, 10, 29, 30)]
    assert rates == pytest.approx([0.25, 1.0, 1.0, 0.1, 0.1, 0.01])


def test_the_cosine_schedule_falls_from_the_peak_to_zero() -> None:
    training = Training(epochs=2, lr=1.0, schedule="cosine")
    rates = [learning_rate(training, step, 10) for step in range(20)]
    assert rates[0] == 1.0 and rates[10] == pytest.approx(0.5) and rates[-1] < 0.01
    assert all(a > b for a, b in itertools.pairwise(rates))


def test_a_loss_that_is_not_finite_stops_the_trial() -> None:
    model = Line()
    model.loss = lambda batch: model.weight.sum() * math.nan  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match="epoch 1"):
        trainer(Training(epochs=1, batch_size=8), model).run_epoch()


@settings(max_examples=30)
@given(st.floats(0.05, 0.95), st.integers(0, 10))
def test_hidden_regions_leave_at_least_one_and_only_real_ones(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.arange(6) < np.array([1, 4, 6])[:, None]
    regions = np.where(mask[..., None], rng.random((3, 6, 2)) + 1, 0).astype(np.float32)
    kept, real = hide_regions(regions, mask, share, rng)
    assert real.sum(1).min() >= 1 and (real.sum(1) <= mask.sum(1)).all()
    assert (kept[real] > 0).all()
    assert (np.diff(real.astype(int), axis=1) <= 0).all()  # the real ones come first


def test_hidden_words_become_unknown_and_specials_stay() -> None:
    data = split()
    data.tokens.array[:, 0] = 1
    batch = make_batch(data, np.arange(9), Training(drop_words=0.5), np.random.default_rng(0))
    hidden = batch.tokens == UNKNOWN
    assert (batch.tokens[:, 0] == 1).all()
    assert 0.2 < hidden[:, 1:].float().mean() < 0.8


def test_batches_are_made_ahead_in_order_and_only_one_of_them() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    ahead = Ahead(items())  # type: ignore[arg-type]
    taken = []
    for item in ahead:
        deadline = time.monotonic() + 5
        while len(made) < min(item + 2, 5) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert made == list(range(min(item + 2, 5))), "one batch is ready while a step runs"
        taken.append(item)
    assert taken == list(range(5)) and ahead.waited >= 0


def test_a_batch_that_cannot_be_made_fails_the_step_that_needs_it() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise OSError("the disk is gone")

    taken = []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in Ahead(items()):  # type: ignore[arg-type]
            taken.append(item)
    assert taken == [0]
