"""Training: schedule, resume to the bit, and what a recipe switches on."""

from __future__ import annotations

import itertools
import math
import time

import pytest
import torch
from padded_split import split
from sums import CPU

from harness.blocks.losses import hinge
from harness.config.sections import Training
from harness.errors import NonFiniteError
from harness.method import Batch
from harness.trial.training import LATE, Trainer, learning_rate


class Line(torch.nn.Module):
    """A model of one weight and dropout, so that a replayed epoch must replay the random numbers too."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.dropout = torch.nn.Dropout(0.5)

    def loss(self, batch: Batch) -> torch.Tensor:
        return (self.dropout(batch.regions).sum(1) @ self.weight - 1).square().sum()


def trainer(training: Training, model: torch.nn.Module | None = None) -> Trainer:
    return Trainer(model or Line(), split(), training, seed=3, device=CPU)  # type: ignore[arg-type]


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


def test_an_epoch_in_parts_is_the_same_epoch_whatever_is_drawn_in_between() -> None:
    training = Training(epochs=1, batch_size=2, drop_regions=0.3)
    whole, told = trainer(training), trainer(training)
    whole.run_epoch()
    shares, pairs = [], []
    for part in told.epoch_parts(0.0):
        torch.rand(7)
        shares.append(part.share)
        pairs.append(part.pairs)
    steps = len(told.batches)
    assert shares == [step / steps for step in range(steps + 1)]
    assert pairs[0] == 0 and pairs[-1] == told.cost.pairs == whole.cost.pairs
    assert torch.equal(whole.method.weight, told.method.weight) and told.cost.loss == whole.cost.loss


def test_the_seconds_of_an_epoch_leave_out_those_of_whoever_is_told() -> None:
    run = trainer(Training(epochs=1, batch_size=2))
    for _ in run.epoch_parts(0.0):
        time.sleep(0.05)
    assert run.cost.seconds < 0.05 * len(run.batches)


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


def test_float32_is_float32_in_recurrent_layers_too() -> None:
    class Asking(Line):
        def loss(self, batch: Batch) -> torch.Tensor:
            allowed.add(torch.backends.cudnn.allow_tf32)
            return super().loss(batch)

    allowed: set[bool] = set()
    trainer(Training(epochs=1, batch_size=8), Asking()).run_epoch()
    assert allowed == {False} and torch.backends.cudnn.allow_tf32


STEPS = 4  # of an epoch: 27 pairs in batches of 8


@pytest.mark.parametrize("bad", range(2 * STEPS))
def test_a_loss_that_is_not_finite_stops_the_trial_and_names_its_step(bad: int) -> None:
    model, steps = Line(), []

    def loss(batch: Batch) -> torch.Tensor:
        steps.append(len(batch.positives))
        return model.weight.sum() * (math.nan if len(steps) == bad + 1 else 1.0)

    model.loss = loss  # type: ignore[method-assign]
    run = trainer(Training(epochs=2, batch_size=8), model)
    epoch, step = divmod(bad, STEPS)
    with pytest.raises(NonFiniteError, match=f"nan in step {step + 1} of epoch {epoch + 1}; lower"):
        for _ in range(2):
            run.run_epoch()
    assert len(steps) <= min((epoch + 1) * STEPS, bad + 1 + LATE)


def test_the_loss_of_an_epoch_is_the_sum_over_its_steps_per_pair() -> None:
    model = Line()
    model.loss = lambda batch: model.weight.sum() * 0.0 + float(len(batch.positives))  # type: ignore[method-assign]
    cost = trainer(Training(epochs=1, batch_size=8), model).run_epoch()
    assert (cost.loss, cost.pairs) == (1.0, 27)
