"""Epochs: batches, schedule, step, and a state that resumes to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from harness.captions import UNKNOWN
from harness.config import Training
from harness.data import Split
from harness.errors import NonFiniteError
from harness.method import Batch, Method


class EpochCost(NamedTuple):
    """What one epoch of training gave and took."""

    loss: float  # a pair
    lr: float  # of the last step
    seconds: float
    pairs: int
    waited: float  # seconds that steps waited for their batch


class Trainer:
    """Trains one method on one split; everything random follows from (seed, epoch), so an epoch can be replayed."""

    def __init__(self, method: Method, split: Split, training: Training, seed: int, device: torch.device) -> None:
        self.method = method
        self.split = split
        self.training = training
        self.seed = seed
        self.device = device
        self.epoch = 0
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[training.optimizer]
        self.optimizer = kind(method.parameters(), lr=training.lr, weight_decay=training.weight_decay)
        self.steps = batches_per_epoch(len(split.pairs), training.batch_size)

    def run_epoch(self) -> EpochCost:
        """One pass over all pairs in a fresh order."""
        rng = np.random.default_rng([self.seed, self.epoch])
        torch.manual_seed(int(rng.integers(2**62)))
        self.method.train()
        start, total, pairs = time.perf_counter(), 0.0, 0
        batches = Ahead(make_batch(self.split, rows, self.training, rng) for rows in self._rows(rng))
        for step, batch in enumerate(batches):
            total += self._step(batch, self.epoch * self.steps + step)
            pairs += len(batch.positives)
        self.epoch += 1
        lr, seconds = self.optimizer.param_groups[0]["lr"], time.perf_counter() - start
        return EpochCost(total / pairs, lr, seconds, pairs, batches.waited)

    def _rows(self, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        return shuffled(len(self.split.pairs), self.training.batch_size, rng)

    def _step(self, batch: Batch, step: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.training, step, self.steps)
        batch = to_device(batch, self.device)._replace(hardest=self.epoch >= self.training.all_negatives_epochs)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half_precision(self.training, self.device)):
            loss = self.method.loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteError(
                f"the loss is {value} in epoch {self.epoch + 1}; lower training.lr or raise warmup_steps"
            )
        loss.backward()
        if self.training.clip:
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.training.clip)
        self.optimizer.step()
        return value

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on, as tensors and plain values."""
        return {"epoch": self.epoch, "method": self.method.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.epoch = state["epoch"]
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])


class Ahead:
    """Items of an iterator, each made in a thread while the one before is in use, always in the same order."""

    def __init__(self, items: Iterator[Batch]) -> None:
        self.waited = 0.0  # seconds
        self._items = items

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            coming = pool.submit(next, self._items, None)
            while True:
                start = time.perf_counter()
                item = coming.result()
                self.waited += time.perf_counter() - start
                if item is None:
                    return
                coming = pool.submit(next, self._items, None)
                yield item


def batches_per_epoch(pairs: int, batch_size: int) -> int:
    """How many batches `shuffled` gives."""
    return pairs // batch_size + (pairs % batch_size >= 2)


def shuffled(pairs: int, batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Row numbers of the pairs in batches; a last batch of one pair has no negative and is left out."""
    order = rng.permutation(pairs)
    for start in range(0, pairs, batch_size):
        if start + 1 < pairs:
            yield order[start : start + batch_size]


def make_batch(split: Split, rows: NDArray[np.int64], training: Training, rng: np.random.Generator) -> Batch:
    """The batch of some pairs, with regions and words hidden at random where the recipe asks for it."""
    pairs = split.pairs[rows]
    regions, region_mask = split.images.gather(pairs[:, 0])
    tokens, token_mask = split.tokens.gather(pairs[:, 1])
    if training.drop_regions:
        regions, region_mask = hide_regions(regions, region_mask, training.drop_regions, rng)
    if training.drop_words:
        tokens = np.where((rng.random(tokens.shape) < training.drop_words) & (tokens > UNKNOWN), UNKNOWN, tokens)
    parts = (regions, region_mask, tokens, token_mask, matches(split, pairs))
    return Batch._make([*map(torch.from_numpy, parts), True])


def matches(split: Split, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(B, B): whether the image of row i matches the caption of row j, in the split and not in the batch alone."""
    width = len(split.captions)
    known = np.sort(split.pairs[:, 0] * width + split.pairs[:, 1])
    asked = pairs[:, :1] * width + pairs[None, :, 1]
    place = np.searchsorted(known, asked).clip(max=len(known) - 1)
    found: NDArray[np.bool_] = known[place] == asked
    return found


def hide_regions(
    regions: NDArray[np.float32], mask: NDArray[np.bool_], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A random subset of each image's regions, moved to the front; at least one stays."""
    draw = np.where(mask, rng.random(mask.shape), 2.0)
    kept = mask & ((draw >= share) | (draw == draw.min(1, keepdims=True)))
    order = np.argsort(~kept, axis=1, kind="stable")[:, : kept.sum(1).max()]
    return np.take_along_axis(regions, order[..., None], 1), np.take_along_axis(kept, order, 1)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch's tensors on a device; to a GPU they are copied beside its work."""
    if device.type == "cpu":
        return batch
    return Batch._make(
        part.pin_memory().to(device, non_blocking=True) if isinstance(part, torch.Tensor) else part for part in batch
    )


def half_precision(training: Training, device: torch.device) -> bool:
    """Whether training runs under bf16 autocast."""
    if training.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return training.precision == "bf16"


def learning_rate(training: Training, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0 over all epochs."""
    warmup = min(1.0, (step + 1) / training.warmup_steps) if training.warmup_steps else 1.0
    if training.schedule == "step":
        drops = sum(step >= epoch * steps_per_epoch for epoch in training.drop_after)
        return training.lr * warmup * training.drop_factor**drops
    if training.schedule == "cosine":
        return training.lr * warmup * (1 + math.cos(math.pi * step / (training.epochs * steps_per_epoch))) / 2
    return training.lr * warmup
