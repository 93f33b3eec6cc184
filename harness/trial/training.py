"""Epochs: schedule, step, and a state that resumes to the bit."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.blocks.encoders import TextEncoder
from harness.config.sections import Training
from harness.data.split import Split
from harness.errors import NonFiniteError
from harness.method import Batch, Method
from harness.trial.batches import Batches, ReadAhead, free_bytes, source
from harness.trial.device import half_precision

LATE = 4  # steps; a GPU has about as many in its queue


class EpochCost(NamedTuple):
    loss: float  # per pair
    lr: float  # of the last step
    seconds: float
    pairs: int
    waited: float  # seconds that steps waited for their batch
    lowest: float  # loss of a step, per pair
    highest: float  # likewise


class EpochPart(NamedTuple):
    """What is trained of an epoch under way."""

    share: float  # of its steps
    seconds: float
    pairs: int


class Losses:
    """The losses of an epoch, looked at LATE steps after they were handed over: no step waits for its own."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.lowest, self.highest = math.inf, -math.inf  # of a step, per pair
        self._sum, self._steps = 0.0, 0
        self._coming: deque[tuple[Tensor, int, torch.cuda.Event | None]] = deque()

    def add(self, loss: Tensor, pairs: int) -> None:
        """Take the loss of the next step; NonFiniteError where one of the steps before it was not finite."""
        event = torch.cuda.Event() if loss.is_cuda else None
        self._coming.append((loss.to("cpu", non_blocking=True), pairs, event))
        if event is not None:
            event.record()
        if len(self._coming) > LATE:
            self._look()

    def total(self) -> float:
        """The sum over all steps."""
        while self._coming:
            self._look()
        return self._sum

    def _look(self) -> None:
        loss, pairs, event = self._coming.popleft()
        if event is not None:
            event.synchronize()
        self._steps += 1
        if not math.isfinite(loss.item()):
            raise NonFiniteError(
                f"the loss is {loss.item()} in step {self._steps} of epoch {self.epoch + 1}; "
                "lower training.lr or raise warmup_steps"
            )
        self._sum += loss.item()
        self.lowest, self.highest = min(self.lowest, loss.item() / pairs), max(self.highest, loss.item() / pairs)


class Stopwatch:
    """Seconds of the monotonic clock since it was made, pauses left out."""

    def __init__(self) -> None:
        self._began = self._went_on = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def since_pause(self) -> float:
        return time.perf_counter() - self._went_on

    @contextmanager
    def paused(self) -> Iterator[None]:
        stopped = time.perf_counter()
        yield
        self._went_on = time.perf_counter()
        self._began += self._went_on - stopped


class Trainer:
    """Trains one method on one split; everything random follows from (seed, epoch), so an epoch can be replayed."""

    def __init__(self, method: Method, split: Split, training: Training, seed: int, device: torch.device) -> None:
        self.method = method
        self.batches = Batches(split, training, source(split.images, device, free_bytes(device)), device)
        self.training = training
        self.seed = seed
        self.device = device
        self.epoch = 0
        self.cost: EpochCost  # of the last epoch
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[training.optimizer]
        self.frozen = [] if training.encoder_lr else encoders(method)
        for encoder in self.frozen:
            encoder.requires_grad_(False)
        groups = parameter_groups(method, training.encoder_lr)
        fused = True if device.type == "cuda" else None  # one kernel for all parameters; None leaves it to torch
        self.optimizer = kind(groups, lr=training.lr, weight_decay=training.weight_decay, fused=fused)

    def run_epoch(self) -> EpochCost:
        """Train an epoch to its end."""
        for _ in self.epoch_parts(math.inf):
            pass
        return self.cost

    def epoch_parts(self, pace: float) -> Iterator[EpochPart]:
        """Train an epoch; says what is trained of it about every `pace` seconds, and once more after its last step.

        Whoever is told may draw random numbers: those of the epoch go on as if nobody had been told.
        """
        rng = np.random.default_rng([self.seed, self.epoch])
        torch.manual_seed(int(rng.integers(2**62)))
        self.method.train()
        for encoder in self.frozen:
            encoder.eval()  # without dropout
        watch, losses, pairs = Stopwatch(), Losses(self.epoch), 0
        batches = ReadAhead(self.batches.epoch(rng))
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # else recurrent layers take it by themselves
            for step, batch in enumerate(batches):
                if watch.since_pause() >= pace:
                    yield from self._pause(watch, EpochPart(step / len(self.batches), watch.seconds(), pairs))
                losses.add(self.step(batch, self.epoch * len(self.batches) + step), len(batch.positives))
                pairs += len(batch.positives)
        total, seconds, lr = losses.total(), watch.seconds(), self.optimizer.param_groups[0]["lr"]
        self.epoch += 1
        self.cost = EpochCost(total / pairs, lr, seconds, pairs, batches.waited, losses.lowest, losses.highest)
        if seconds >= pace:
            yield from self._pause(watch, EpochPart(1.0, seconds, pairs))

    def _pause(self, watch: Stopwatch, part: EpochPart) -> Iterator[EpochPart]:
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), watch.paused():
            yield part

    def step(self, batch: Batch, step: int) -> Tensor:
        """Train on a batch, the step of this number over all epochs; its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.training, step, len(self.batches)) * group.get("share", 1.0)
        batch = batch._replace(hardest=self.epoch >= self.training.all_negatives_epochs)
        self.optimizer.zero_grad(set_to_none=True)
        with half_precision(self.device, self.training.precision == "bf16"):
            loss = self.method.loss(batch)
        loss.backward()
        if self.training.clip:
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.training.clip)
        self.optimizer.step()
        return loss.detach()

    @property
    def steps(self) -> int:
        """Of the epochs that have ended."""
        return self.epoch * len(self.batches)

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "method": self.method.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a state; ValueError or what torch raises where it is not one of this trainer."""
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, entry in self.optimizer.state.items():
            shapes = {value.shape for value in entry.values() if isinstance(value, torch.Tensor) and value.ndim}
            if shapes - {parameter.shape}:
                raise ValueError(f"the optimizer's state of a parameter of {parameter.shape} is of {shapes}")
        self.epoch = int(state["epoch"])


def encoders(method: nn.Module) -> list[TextEncoder]:
    return [part for part in method.modules() if isinstance(part, TextEncoder)]


def parameter_groups(method: nn.Module, share: float) -> Iterable[Any]:
    """The parameters to train, those of text encoders at a share of the learning rate; a share of 0 omits them."""
    theirs = [part for encoder in encoders(method) for part in encoder.parameters()]
    if not theirs:
        return method.parameters()
    others = [part for part in method.parameters() if all(part is not other for other in theirs)]
    groups = [{"params": others, "share": 1.0}, {"params": theirs, "share": share}]
    return groups if share else groups[:1]


def learning_rate(training: Training, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0 over all epochs."""
    warmup = min(1.0, (step + 1) / training.warmup_steps) if training.warmup_steps else 1.0
    if training.schedule == "step":
        drops = sum(step >= epoch * steps_per_epoch for epoch in training.drop_after)
        return training.lr * warmup * training.drop_factor**drops
    if training.schedule == "cosine":
        return training.lr * warmup * (1 + math.cos(math.pi * step / (training.epochs * steps_per_epoch))) / 2
    return training.lr * warmup
