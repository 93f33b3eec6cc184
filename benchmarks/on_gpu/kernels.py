"""The fused kernel in the speed table, and its speed in several shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args

from attention import Case
from torch import Tensor

from harness.blocks.kernels import SHAPES, Precision, Shape, Stacked, attended_scores, block_grams, packed, terms
from harness.method import Encoded
from on_gpu.clock import measured
from on_gpu.results import Results

CANDIDATES: dict[Precision, tuple[Shape, ...]] = {
    "bf16": (
        Shape(128, 128, 64, 8, 3),
        Shape(128, 128, 64, 8, 4),
        Shape(128, 128, 64, 4, 3),
        Shape(128, 128, 128, 8, 2),
        Shape(128, 64, 64, 4, 4),
        Shape(128, 256, 64, 8, 3),
        Shape(128, 256, 64, 16, 3),
    ),
    "tf32": (
        Shape(128, 128, 32, 8, 3),
        Shape(128, 128, 32, 8, 4),
        Shape(128, 128, 32, 4, 3),
        Shape(128, 64, 32, 4, 4),
        Shape(128, 128, 64, 8, 2),
    ),
    "bf16x3": (Shape(128, 128, 64, 8, 3), Shape(128, 64, 64, 4, 4), Shape(128, 128, 64, 8, 2)),
    "tf32x3": (Shape(128, 128, 32, 8, 3), Shape(128, 64, 32, 4, 4), Shape(128, 128, 32, 8, 2)),
}


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
    """Seconds of every candidate shape; first of the default ones, in both directions."""
    sizes = (1000, 5000)
    if rehearse:
        return  # the interpreter has no speed; tests/blocks/test_kernels.py runs the kernel in it
    cases = {method: Case(method, "score", *sizes, 1024, device=device) for method in ("scan_t2i", "scan_i2t")}
    for precision in ("bf16", "tf32x3", "tf32", "bf16x3"):
        results.add("tuning", row(cases["scan_t2i"], precision, None))
        results.add("tuning", preparation(cases["scan_t2i"], precision))
    for precision, shapes in CANDIDATES.items():
        for shape in shapes:
            for case in cases.values():
                results.add("tuning", row(case, precision, shape))


def row(case: Case, precision: Precision, shape: Shape | None) -> dict[str, Any]:
    about = {"method": case.method, "precision": precision, "cut": cut(shape or SHAPES[precision])}
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
