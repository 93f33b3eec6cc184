"""Scores and ranks of many encoded sets, as evaluation makes them: up to COCO's 5,000 images and 25,000 captions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, get_args
from unittest import mock

import numpy as np
import torch
from attention import REGIONS, Case
from textbook.formula import formula, scores
from torch import Tensor

from harness.blocks.tiles import Tile
from harness.evaluation import scoring
from harness.evaluation.outcome import rank_scores
from harness.evaluation.protocols import Fold
from harness.evaluation.scoring import rank_there, score_encoded
from harness.method import Encoded, ScorePrecision
from on_gpu.clock import measured
from on_gpu.results import Results
from on_gpu.speed import METHODS, add, called, identity

BLOCK = 2**14  # rows and columns of a block of bare products, whose whole would not fit
SHARE = 100  # the textbook scores one of so many captions
FUSED = ("scan_t2i", "scan_i2t", "bssan", "bfan_equal")


def run(results: Results, device: str, rehearse: bool) -> None:
    """First what is asked of most, all of COCO's test; then every method on a twenty-fifth of it."""
    whole, part, dim = ((4, 12), (3, 9), 32) if rehearse else ((5000, 25_000), (1000, 5000), 1024)
    fused = FUSED[-1:] if rehearse else FUSED
    for method in fused:
        case = Case(method, "score", *whole, dim, device=device)
        evaluation_rows(results, case)
        if method == fused[0]:
            floor_rows(results, case)
            rank_rows(results, case)
    for method in fused if rehearse else dict.fromkeys((*METHODS, *FUSED)):
        case = Case(method, "score", *part, dim, device=device)
        floor_rows(results, case)
        path = "kernel" if method in FUSED else "torch"
        for precision in precisions(case):
            add(results, case, "score", precision, path, partial(scored, case, precision), repeats=3, warm=1)
        if path == "kernel":
            add(results, case, "score", "fp32", "torch", case.calls()["ours"], repeats=1, warm=1)
        textbook_row(results, case)


def evaluation_rows(results: Results, case: Case) -> None:
    """From encoded sets to ranks, in every precision that a trial may ask for."""
    fold = fold_of(case)
    for precision in precisions(case):
        for task, call in (("score", scored), ("to ranks", partial(ranked, fold))):
            add(results, case, task, precision, "kernel", partial(call, case, precision), repeats=3, warm=1)


def precisions(case: Case) -> Sequence[ScorePrecision]:
    """All that a trial may ask for; Triton's interpreter has no bfloat16."""
    return get_args(ScorePrecision) if case.device != "cpu" else ("fp32", "tf32")


def scored(case: Case, precision: ScorePrecision) -> Tensor:
    """All scores as evaluation makes them of so many pairs that a kernel pays."""
    images, captions = ([Tile(np.arange(len(of.mask)), of)] for of in case.sets)
    with mock.patch.object(scoring, "FUSED_PAIRS", 0):
        return score_encoded(case.model, images, captions, torch.device(case.device), precision=precision)


def ranked(fold: Fold, case: Case, precision: ScorePrecision) -> None:
    rank_there(scored(case, precision), [fold], [])


def fold_of(case: Case) -> Fold:
    captions = np.arange(case.captions)
    pairs = np.stack([captions * case.images // case.captions, captions], 1)
    return Fold(np.arange(case.images), captions, captions, pairs)


def floor_rows(results: Results, case: Case) -> None:
    """All products of regions with words, as often as the method needs them; of caan its smaller ones, too."""
    for precision, dtype in (("fp32", None), ("tf32", None), ("bf16", torch.bfloat16)):
        products = partial(blocked_products, case, dtype, 4 if case.method == "bssan" else 1)
        call = partial(called, case.calls()["floor"] if case.method == "caan" else products, precision, case.device)
        add(results, case, "score", precision, "floor", call, repeats=2, warm=1)


def textbook_row(results: Results, case: Case) -> None:
    few = max(1, case.captions // SHARE)
    captions = Encoded(*(of[:few] for of in case.sets[1]))
    call = torch.no_grad()(lambda: scores(formula(case.method, case.model), case.sets[0], captions))
    row = measured(call, case.device, repeats=1, warm=1)
    if row["seconds"] is not None:
        row = {**row, "seconds": row["seconds"] * case.captions / few, "scaled": few}
    results.add("speed", {**identity(case, "score", "fp32", "textbook"), **row})


def rank_rows(results: Results, case: Case) -> None:
    """Ranks and the heads of all rankings where the scores lie; beside it those of the host, with the copy there."""
    matrix, fold = torch.rand(case.images, case.captions, device=case.device), fold_of(case)
    ways: dict[str, Any] = {
        "torch": lambda: rank_there(matrix, [fold], []),
        "textbook": lambda: rank_scores(matrix.cpu().numpy(), [fold]),
    }
    for path, call in ways.items():
        row = {**identity(case, "ranks", "fp32", path), "method": "any"}
        results.add("speed", {**row, **measured(call, case.device, repeats=1 if path == "textbook" else 3, warm=1)})


@torch.no_grad()
def blocked_products(case: Case, dtype: torch.dtype | None, times: int) -> None:
    """All regions with all words, a block at a time."""
    images, captions = case.sets
    regions, words = images.vectors[..., : case.dim].flatten(0, 1), captions.vectors[captions.mask]
    if dtype is not None:
        regions, words = regions.to(dtype), words.to(dtype)
    for rows in regions.split(BLOCK // REGIONS * REGIONS):
        for columns in words.split(BLOCK):
            for _ in range(times):
                rows @ columns.T
