"""The speed table: the torch path, the kernel, the textbook and the bare products of each fragment method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from attention import Case
from textbook.formula import formula, scores
from torch import Tensor

from harness.blocks.losses import hinge
from harness.method import Batch
from on_gpu.clock import measured, products_in
from on_gpu.results import Results
from on_gpu.steps import WholeStep

METHODS = ("scan_t2i", "scan_i2t", "bssan", "caan")


def run(results: Results, device: str, rehearse: bool) -> None:
    """From the cheapest rows to the dearest, so that a limit cuts off the fewest."""
    sizes, batches, dim = ((8, 24), (8,), 32) if rehearse else ((256, 1280), (128, 512), 1024)
    for method in METHODS:
        score_rows(results, Case(method, "score", *sizes, dim, device=device))
    for batch in batches:
        for method in METHODS:
            step_rows(results, Case(method, "step", batch, batch, dim, device=device))
            whole_step_rows(results, method, batch, dim, device)


def score_rows(results: Results, case: Case) -> None:
    calls = case.calls()
    for precision in ("fp32", "tf32"):
        for path, call in (("torch", calls["ours"]), ("textbook", calls["textbook"]), ("floor", calls["floor"])):
            add(results, case, case.task, precision, path, partial(called, call, precision, case.device))
    kernel_rows(results, case)


def step_rows(results: Results, case: Case) -> None:
    calls = case.calls()
    for precision in ("fp32", "bf16"):
        for path, name in (("torch", "ours"), ("textbook", "textbook"), ("floor", "floor")):
            call = partial(called, calls[name], precision, case.device)
            add(results, case, "step", precision, path, call, **repeated(case.images, path))


def repeated(batch: int, path: str) -> dict[str, int]:
    """Of a large batch the textbook's step, seconds, is timed once."""
    return {"repeats": 1, "warm": 1} if path == "textbook" and batch > 128 else {}


def whole_step_rows(results: Results, method: str, batch: int, dim: int, device: str) -> None:
    case = Case(method, "step", batch, batch, dim, device=device)
    for precision in ("fp32", "bf16"):
        whole = WholeStep(method, batch, dim, device, precision)
        add(results, case, "whole step", precision, "torch", whole)
        of_paper = formula(method, whole.model)
        textbook = WholeStep(method, batch, dim, device, precision, partial(textbook_loss, of_paper, whole.model))
        textbook.model, textbook.optimizer = whole.model, whole.optimizer
        add(results, case, "whole step", precision, "textbook", textbook, **repeated(batch, "textbook"))


def kernel_rows(results: Results, case: Case) -> None:
    """The fused kernel in every precision, with its largest difference from the torch path, if it has the method."""
    for precision, call in kernels(case):
        row = measured(call, case.device)
        if row["seconds"] is not None and case.images <= 256:
            row["difference"] = float((call() - case.calls()["ours"]()).abs().max())
        results.add("speed", {**identity(case, "score", precision, "kernel"), **row})


def kernels(case: Case) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    try:
        from on_gpu.kernels import calls
    except ImportError:
        return
    yield from calls(case)


def add(
    results: Results, case: Case, task: str, precision: str, path: str, call: Callable[[], Any], **options: int
) -> None:
    results.add("speed", {**identity(case, task, precision, path), **measured(call, case.device, **options)})


def identity(case: Case, task: str, precision: str, path: str) -> dict[str, str]:
    return {"method": case.method, "task": task, "shape": case.shape, "precision": precision, "path": path}


def called(call: Callable[[], Any], precision: str, device: str) -> Any:
    with products_in(precision, device):
        return call()


def textbook_loss(of_paper: Any, model: Any, batch: Batch) -> Tensor:
    images = model.encode_images(batch.regions, batch.region_mask)
    captions = model.encode_captions(batch.tokens, batch.token_mask)
    return hinge(scores(of_paper, images, captions), batch, model.settings.margin)
