"""The fused kernel in the speed table, and its speed in several shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, get_args
from unittest import mock

import torch
from attention import REGIONS, Case
from torch import Tensor

from harness.blocks import kernels
from harness.blocks.kernels import LONGEST, AttentionKernel, Network, Precision, Shape, fastest_shape
from on_gpu.clock import measured
from on_gpu.results import Results

INTERPRETED = Shape(64, 64, 32)  # small: the interpreter takes a second for what a GPU does in a microsecond
DEPTHS = {"bf16": 64, "bf16x3": 64, "tf32": 32, "tf32x3": 32}


def candidates(method: str, precision: Precision) -> list[Shape]:
    """Shapes worth a try: 36 regions fill 128 rows or columns well, captions 64 as well."""
    sides = [(128, 64), (128, 128)] if method == "scan_t2i" else [(64, 128), (128, 128)]
    cuts = [(*sides[1], 8), (*sides[0], 8), (*sides[0], 4)]
    return [Shape(rows, columns, DEPTHS[precision], warps, 3) for rows, columns, warps in cuts]


def calls(case: Case) -> Iterator[tuple[Precision, Callable[[], Tensor]]]:
    """The scores of a case in every precision, where a kernel has the method."""
    if case.model.fused(REGIONS, LONGEST, "fp32", torch.device(case.device)) is not None:
        for precision in get_args(Precision) if case.device != "cpu" else ("tf32x3",):
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

    def kernel(network: Network, contexts: int, queries: int, *_: object) -> AttentionKernel:
        return AttentionKernel(network, precision, shape or fastest_shape(contexts, queries, precision))

    with mock.patch.object(kernels, "attention_kernel", kernel):
        yield


def run(results: Results, device: str, rehearse: bool) -> None:
    """Seconds of every candidate, both directions; then scores of both sizes with the fastest."""
    if rehearse:
        return  # the interpreter has no speed; tests/blocks/test_kernels.py runs the kernel in it
    cases = {
        (method, images): Case(method, "score", images, captions, 1024, device=device)
        for method in ("scan_t2i", "scan_i2t")
        for images, captions in ((256, 1280), (1000, 5000), (5000, 25_000))
    }
    for precision in ("bf16x3", "bf16", "tf32x3", "tf32"):
        for method in ("scan_t2i", "scan_i2t"):
            rows = [(row(cases[method, 1000], precision, shape), shape) for shape in candidates(method, precision)]
            for one, _ in rows:
                results.add("tuning", one)
            done = [(one["seconds"], shape) for one, shape in rows if one["seconds"]]
            for images in (256, 5000) if done else ():
                results.add("speed", fastest(cases[method, images], precision, min(done)[1]))
    results.add("tuning", preparation(cases["scan_t2i", 5000], "bf16x3"))


def fastest(case: Case, precision: Precision, shape: Shape) -> dict[str, Any]:
    about = {"method": case.method, "task": "score", "shape": case.shape, "precision": precision, "path": "kernel"}
    done = measured(partial(scored, case, precision, shape), case.device, repeats=7)
    if done["seconds"] and case.images <= 256:
        with torch.no_grad():
            done["difference"] = float((scored(case, precision, shape) - case.calls()["ours"]()).abs().max())
    return {**about, **done, "cut": cut(shape)}


def row(case: Case, precision: Precision, shape: Shape) -> dict[str, Any]:
    about = {"method": case.method, "precision": precision, "cut": cut(shape)}
    return {**about, **measured(partial(scored, case, precision, shape), case.device, repeats=5)}


def preparation(case: Case, precision: Precision) -> dict[str, Any]:
    """Seconds of all that comes before the kernel."""

    def prepare() -> None:
        kernel = AttentionKernel(Network(9.0, 0.1), precision, Shape())
        kernel.contexts(case.sets[0]), kernel.queries(case.sets[1])

    about = {"method": case.method, "precision": precision, "cut": "before the kernel"}
    return {**about, **measured(prepare, case.device, repeats=5)}


def cut(shape: Shape) -> str:
    return f"{shape.rows} x {shape.columns} x {shape.depth}, {shape.warps} warps, {shape.stages} stages"
