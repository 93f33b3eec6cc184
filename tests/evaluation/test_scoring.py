"""Which way a split is scored, and in which precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from padded_split import split
from sums import CPU
from torch import device

from harness.config.cards import ProtocolCard
from harness.config.project import Config
from harness.config.registry import discover, load_class, settings_for
from harness.evaluation import scoring
from harness.evaluation.protocols import Fold, folds
from harness.evaluation.scoring import rank_split, score_split
from harness.method import Inputs, Method, ScorePrecision, Scorer

SMALL = Config(settings={"*": {"dim": 16, "word_dim": 12, "width": 8}})
FOUND = discover(Config())


def built(name: str) -> Method:
    card = FOUND.methods[name]
    kind = load_class(card)
    torch.manual_seed(0)
    method: Method = kind(kind.Settings(**settings_for(card, SMALL)), Inputs(3, 50))
    return method


@pytest.mark.parametrize("name", ["scan_t2i", "scan_i2t", "bssan", "caan", "vsepp"])
def test_scores_in_bf16_are_close_and_others_are_those_of_float32_on_a_cpu(name: str) -> None:
    method, of = built(name), split()
    before = torch.backends.cuda.matmul.allow_tf32
    exact, tf32, half = (score_split(method, of, CPU, precision).scores for precision in ("fp32", "tf32", "bf16"))
    assert np.array_equal(exact, tf32) and not np.array_equal(exact, half)
    assert half.dtype == np.float32 and np.abs(half - exact).max() < 0.03
    assert torch.backends.cuda.matmul.allow_tf32 == before and not torch.is_autocast_enabled("cpu")


def test_tf32_is_allowed_while_scores_are_made_that_ask_for_it() -> None:
    allowed = {}
    for precision in ("fp32", "tf32", "bf16"):
        with scoring.products_in(precision, CPU):  # type: ignore[arg-type]
            allowed[precision] = torch.backends.cuda.matmul.allow_tf32
    assert allowed == {"fp32": False, "tf32": True, "bf16": False}


class WithKernel:
    """A method, and its own scores as if a kernel had made them."""

    def __init__(self, method: Any) -> None:
        self.method, self.asked = method, []  # type: ignore[var-annotated]
        method.fused = self.fused

    def fused(self, images: int, captions: int, precision: ScorePrecision, device: device) -> Scorer:
        self.asked.append((images, captions, precision))
        return Scorer(self.method.image_side, self.method.caption_side, self.method.score_sides)


def whole() -> list[Fold]:
    return folds(ProtocolCard(name="whole", images=9, captions=27), 9, split().pairs)


@pytest.mark.parametrize("matrix_bytes", [0, 2**20])
def test_a_kernel_scores_where_it_runs_and_there_is_enough_to_score(
    matrix_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rank_split(built("scan_t2i"), split(), CPU, whole()).ranks.folds[0]
    for pairs, runs, count in ((9 * 27, True, 1), (9 * 27 + 1, True, 0), (0, False, 0)):
        monkeypatch.setattr(scoring, "FUSED_PAIRS", pairs)
        monkeypatch.setattr(scoring, "runs_kernels", lambda _, runs=runs: runs)
        of = WithKernel(built("scan_t2i"))
        ranks = rank_split(of.method, split(), CPU, whole(), matrix_bytes=matrix_bytes).ranks.folds[0]
        assert of.asked == [(4, int(split().tokens.lengths.max()), "fp32")] * count
        assert np.array_equal(ranks.i2t, expected.i2t) and np.array_equal(ranks.t2i, expected.t2i)


def test_a_method_without_a_kernel_scores_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "FUSED_PAIRS", 0)
    monkeypatch.setattr(scoring, "runs_kernels", lambda _: True)
    scores = {name: score_split(built(name), split(), CPU).scores for name in ("caan", "vsepp")}
    monkeypatch.undo()
    for name, values in scores.items():
        assert np.array_equal(values, score_split(built(name), split(), CPU).scores)
