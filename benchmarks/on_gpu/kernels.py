"""The fused kernel in the speed table, in every precision that its network takes, and its speed in several shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, get_args
from unittest import mock

import torch
from attention import REGIONS, Case
from torch import Tensor

from harness.blocks import fused
from harness.blocks.fused import LONGEST, AttentionKernel, Network, Shape, fastest_shape
from harness.blocks.packing import Precision
from on_gpu.clock import measured
from on_gpu.results import Results

INTERPRETED = Shape(64, 64, 32)  # small: the interpreter takes a second for what a GPU does in a microsecond
UNIT_ONLY = ("fp16+fp8", "fp16")  # which hold no vectors of any length
STEPS = {"fp16+fp8": ((64, 4), (64, 3)), "bf16x3": ((64, 2), (32, 4), (32, 3)), "tf32x3": ((32, 2), (16, 4))}
STEPS |= {"fp16": ((64, 4), (64, 3)), "bf16": ((64, 4), (64, 3), (128, 2)), "tf32": ((32, 4), (32, 3))}


def calls(case: Case) -> Iterator[tuple[Precision, Callable[[], Tensor]]]:
    """The scores of a case in every precision, where a kernel has the method."""
    if case.model.fused(REGIONS, LONGEST, "fp32", torch.device(case.device)) is not None:
        for precision in get_args(Precision) if case.device != "cpu" else ("tf32x3",):
            if case.method != "bssan" or precision not in UNIT_ONLY:
                yield precision, partial(scored, case, precision, None if case.device != "cpu" else INTERPRETED)


@torch.no_grad()
def scored(case: Case, precision: Precision, shape: Shape | None = None) -> Tensor:
    """All scores by kernels of a precision that methods do not choose themselves, and of a shape."""
    images, captions = case.sets
    with chosen(precision, shape):
        scorer = case.model.fused(images.mask.shape[1], captions.mask.shape[1], "fp32", torch.device(case.device))
        return scorer.score_sides(scorer.image_side(images), scorer.caption_side(captions))


@contextmanager
def chosen(precision: Precision, shape: Shape | None) -> Iterator[None]:
    """Have `attention_kernel` make kernels of this precision and shape."""

    def kernel(network: Network, *_: object) -> AttentionKernel:
        return AttentionKernel(network, precision, shape or fastest_shape(precision))

    with mock.patch.object(fused, "attention_kernel", kernel):
        yield


def run(results: Results, device: str, rehearse: bool) -> None:
    """Seconds of scan_t2i's kernel in every precision, with steps of several depths and numbers in memory."""
    if rehearse:
        return  # the interpreter has no speed; tests/blocks/test_kernels.py runs the kernel in it
    case = Case("scan_t2i", "score", 1000, 5000, 1024, device=device)
    for precision in get_args(Precision):
        for depth, stages in STEPS[precision]:
            results.add("tuning", row(case, precision, Shape(depth=depth, stages=stages)))


def row(case: Case, precision: Precision, shape: Shape) -> dict[str, Any]:
    cut = f"{shape.contexts} x {shape.queries} x {shape.depth}, {shape.warps} warps, {shape.stages} stages"
    done = measured(partial(scored, case, precision, shape), case.device, repeats=5)
    return {"method": case.method, "precision": precision, "cut": cut, **done}
