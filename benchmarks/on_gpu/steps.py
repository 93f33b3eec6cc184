"""Whole training steps at full size, and what each of them reads back from the device."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attention import REGIONS, WORDS
from torch import Tensor

import methods
from harness.blocks.host import with_lengths
from harness.config.cards import MethodCard, read_card
from harness.config.registry import load_class
from harness.method import Batch, Inputs
from on_gpu.clock import products_in, wait
from on_gpu.results import Results

FEATURES, VOCABULARY = 2048, 10_000
CLIP, RATE = 2.0, 5e-4
ROOT = Path(__file__).parents[2]


class WholeStep:
    """Encoders, loss, gradients, clipping and Adam on one batch that is on the device already."""

    def __init__(
        self,
        method: str,
        batch: int,
        dim: int,
        device: str,
        precision: str = "fp32",
        loss: Callable[[Batch], Tensor] | None = None,
    ) -> None:
        self.device, self.precision = device, precision
        if loss is None:
            self.model = built(method, dim, device)
            fused = True if device != "cpu" else None
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE, fused=fused)
        self.loss = loss or self.model.loss
        self.batch = batch_of(batch, device)

    def __call__(self) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with products_in(self.precision, self.device):
            loss = self.loss(self.batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        return loss.detach()


def built(name: str, dim: int, device: str) -> Any:
    """A method with its card's defaults at D = dim; with few dimensions, with narrow inner layers too."""
    card = read_card(MethodCard, Path(methods.__path__[0]) / f"{name}.toml")
    kind = load_class(card)
    settings = {**card.defaults, **({"dim": dim} if "dim" in card.defaults else {})}
    torch.manual_seed(0)
    return kind(kind.Settings(**settings), Inputs(FEATURES, VOCABULARY)).to(device)


def batch_of(size: int, device: str) -> Batch:
    generator = torch.Generator().manual_seed(1)
    mean, deviation, least, most = WORDS
    lengths = (mean + deviation * torch.randn(size, generator=generator)).round().clamp(least, most).int()
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    parts = (
        torch.randn(size, REGIONS, FEATURES, generator=generator),
        torch.ones(size, REGIONS, dtype=torch.bool),
        torch.randint(4, VOCABULARY, mask.shape, generator=generator),
        mask,
        torch.eye(size, dtype=torch.bool),
    )
    batch = Batch._make([*(part.to(device) for part in parts), True])
    with_lengths(batch.region_mask, np.full(size, REGIONS))
    with_lengths(batch.token_mask, lengths.numpy())
    return batch


def run(results: Results, device: str, rehearse: bool) -> None:
    """Reads from the device per step of every trained method, with the lines of ours that make them."""
    batch, dim = (8, 32) if rehearse else (128, 1024)
    for name in ("scan_t2i", "scan_i2t", "bssan", "caan", "vsepp"):
        for precision in ("fp32", "bf16"):
            step = WholeStep(name, batch, dim, device, precision)
            step()
            wait(device)
            places = reads(step) if device != "cpu" else None  # a CPU waits for nothing: tests/test_contract.py counts
            about = "; ".join(f"{place} x {count}" for place, count in (places or {}).items())
            count = None if places is None else sum(places.values())
            row = {"method": name, "precision": precision, "reads_per_step": count}
            results.add("reads", {**row, "places": about})


def reads(call: Callable[[], Any]) -> dict[str, int]:
    """Where a call waits for the device, by CUDA's own sync debug mode, and how often."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    heard = [one for one in heard if "synchroniz" in str(one.message)]
    return dict(collections.Counter(place(one.filename, one.lineno) for one in heard).most_common())


def place(file: str, line: int) -> str:
    path = Path(file)
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}:{line}"
