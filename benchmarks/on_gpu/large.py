"""Scores of COCO's whole 5K test, 5,000 images against 25,000 captions, from encoded sets; and their ranks."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from attention import REGIONS, Case
from textbook.formula import formula, scores

from harness.evaluation.ranks import rank
from harness.method import Encoded
from on_gpu.clock import measured
from on_gpu.results import Results
from on_gpu.speed import METHODS, add, called, identity, kernel_rows

BLOCK = 2**14  # rows and columns of a block of bare products, whose whole would not fit
SHARE = 100  # the textbook scores one of so many captions


def run(results: Results, device: str, rehearse: bool) -> None:
    """From the row that most is asked of to the dearest."""
    (images, captions), dim = ((4, 12), 32) if rehearse else ((5000, 25_000), 1024)
    cases = [Case(method, "score", images, captions, dim, device=device) for method in METHODS]
    for case in cases:
        _ = case.sets
        kernel_rows(results, case)
        if case.method == "scan_t2i":
            floor_rows(results, case)
        add(results, case, "score", "fp32", "torch", case.calls()["ours"], repeats=1, warm=1)
        textbook_row(results, case)
        for name in ("sets", "model"):
            vars(case).pop(name, None)  # the next one needs the memory
    rank_row(results, cases[0])


def floor_rows(results: Results, case: Case) -> None:
    """The products of all regions with all words, once; bssan needs four, caan two and smaller ones besides."""
    for precision, dtype in (("fp32", None), ("tf32", None), ("bf16", torch.bfloat16)):
        call = partial(called, partial(blocked_products, case, dtype), precision, case.device)
        add(results, case, "score", precision, "floor", call, repeats=2, warm=1)


def textbook_row(results: Results, case: Case) -> None:
    few = max(1, case.captions // SHARE)
    captions = Encoded(*(of[:few] for of in case.sets[1]))
    call = torch.no_grad()(lambda: scores(formula(case.method, case.model), case.sets[0], captions))
    row = measured(call, case.device, repeats=1, warm=1)
    if row["seconds"] is not None:
        row = {**row, "seconds": row["seconds"] * case.captions / few, "scaled": few}
    results.add("speed", {**identity(case, "score", "fp32", "textbook"), **row})


def rank_row(results: Results, case: Case) -> None:
    """The copy of all scores to the host and the ranks of all pairs there."""
    matrix = torch.rand(case.images, case.captions, device=case.device)
    captions = np.arange(case.captions)
    pairs = np.stack([captions * case.images // case.captions, captions], 1)
    call = partial(measured, lambda: rank(matrix.cpu().numpy(), pairs), case.device, repeats=1, warm=1)
    results.add("speed", {**identity(case, "ranks", "fp32", "torch"), "method": "any", **call()})


@torch.no_grad()
def blocked_products(case: Case, dtype: torch.dtype | None) -> None:
    """All regions with all words, a block at a time."""
    images, captions = case.sets
    regions, words = images.vectors[..., : case.dim].flatten(0, 1), captions.vectors[captions.mask]
    if dtype is not None:
        regions, words = regions.to(dtype), words.to(dtype)
    for rows in regions.split(BLOCK // REGIONS * REGIONS):
        for columns in words.split(BLOCK):
            rows @ columns.T
