"""The fused kernel in the speed table, and its speed in several shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args

import torch
from attention import Case
from torch import Tensor

from harness.blocks.kernels import Precision, Shape, Stacked, attended_scores, block_grams, packed, terms
from harness.method import Encoded
from on_gpu.clock import measured
from on_gpu.results import Results

DEPTHS = {"bf16": 64, "bf16x3": 64, "tf32": 32, "tf32x3": 32}


def candidates(method: str, precision: Precision) -> list[Shape]:
    """Shapes worth a try: 36 regions fill 128 rows or columns well, captions 64 as well."""
    sides = [(128, 64), (128, 128)] if method == "scan_t2i" else [(64, 128), (128, 128)]
    cuts = [(*sides[1], 8), (*sides[0], 8), (*sides[0], 4)]
    return [Shape(rows, columns, DEPTHS[precision], warps, 3) for rows, columns, warps in cuts]


def calls(case: Case) -> Iterator[tuple[Precision, Callable[[], Tensor]]]:
    """The scores of a case in every precision."""
    if case.method in ("scan_t2i", "scan_i2t"):
        for precision in get_args(Precision):
            yield precision, partial(scored, case, precision)


def scored(case: Case, precision: Precision, shape: Shape | None = None) -> Tensor:
    context, queries = sides(case)
    scores = attended_scores(context, queries, stacked(case), precision, shape)
    return scores if case.method == "scan_t2i" else scores.T


def sides(case: Case) -> tuple[Encoded, Encoded]:
    """Contexts and queries."""
    images, captions = case.sets
    return (images, captions) if case.method == "scan_t2i" else (captions, images)


def stacked(case: Case) -> Stacked:
    settings = case.model.settings
    return Stacked(settings.temperature, settings.slope, settings.pooling, settings.pooling_temperature)


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
        context, queries = sides(case)
        of, by = packed(context, 128), packed(queries, 128)
        terms(of.vectors, precision, "left"), terms(by.vectors, precision, "right"), block_grams(of)

    about = {"method": case.method, "precision": precision, "cut": "before the kernel"}
    return {**about, **measured(prepare, case.device, repeats=5)}


def cut(shape: Shape) -> str:
    return f"{shape.rows} x {shape.columns} x {shape.depth}, {shape.warps} warps, {shape.stages} stages"
