"""The fused kernel against the torch path: on CUDA where there is one, else in Triton's interpreter."""

from __future__ import annotations

import os
from typing import Any, get_args

import pytest
import torch
from torch.nn.functional import normalize

from harness.blocks.attention import as_context, as_queries, pool, products, relevance, stacked_weights
from harness.method import Encoded

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="triton comes with torch's builds for CUDA")

from harness.blocks.kernels import Precision, Shape, Stacked, attended_scores, without_low_bits  # noqa: E402

SMALL = Shape(rows=32, columns=32, depth=16, warps=4, stages=2)
BOUND = {"tf32x3": 1e-5, "bf16x3": 2e-5, "tf32": 3e-3, "bf16": 2e-2}


def drawn(generator: torch.Generator, sets: int, longest: int, dim: int, scattered: bool) -> Encoded:
    """Unit vectors in sets of 1 to `longest`, with noise where there is padding; `scattered` among the real ones."""
    lengths = torch.randint(1, longest + 1, (sets,), generator=generator)
    mask = torch.arange(longest) < lengths[:, None]
    if scattered:
        mask = mask[:, torch.randperm(longest, generator=generator)]
    vectors = normalize(torch.randn(sets, longest, dim, generator=generator), dim=-1)
    return Encoded((vectors + 3.0 * ~mask.unsqueeze(2)).to(DEVICE), mask.to(DEVICE))


def expected(context: Encoded, queries: Encoded, how: Stacked) -> torch.Tensor:
    of, by = (Encoded(sets.vectors.double(), sets.mask) for sets in (context, queries))
    left, right = as_context(of), as_queries(by)
    product = products(left.vectors, right.vectors)

    def weights(logits: torch.Tensor, part: Any) -> torch.Tensor:
        return stacked_weights(logits, part, how.temperature, how.slope)

    return pool(relevance(weights, product, product, left), right, how.pooling, how.pooling_temperature).float()


@pytest.mark.parametrize("seed", range(40))
def test_the_kernel_scores_as_torch_does(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    dim, scattered = (5, 40, 70)[seed % 3], seed % 5 == 0  # each dim is compiled
    context = drawn(generator, number(1, 9), number(1, 32), dim, scattered)
    queries = drawn(generator, number(1, 9), number(1, 32), dim, scattered)
    temperature = (4.0, 9.0, 20.0, 40.0)[seed % 4]
    how = Stacked(temperature, (0.0, 0.1)[seed % 2], ("avg", "lse")[seed // 2 % 2], 6.0)
    scores = attended_scores(context, queries, how, shape=SMALL)
    torch.testing.assert_close(scores, expected(context, queries, how), rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_each_precision_keeps_its_bound(precision: Precision) -> None:
    if DEVICE == "cpu" and precision.startswith("bf16"):
        pytest.skip("the interpreter multiplies the bits of bfloat16 as whole numbers")
    generator = torch.Generator().manual_seed(0)
    images, captions = drawn(generator, 8, 36, 256, False), drawn(generator, 12, 30, 256, False)
    for context, queries in ((images, captions), (captions, images)):
        scores = attended_scores(context, queries, Stacked(9.0, 0.1), precision)
        difference = (scores - expected(context, queries, Stacked(9.0, 0.1))).abs().max()
        assert difference < BOUND[precision]


def test_what_the_kernel_cannot_do_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    sets = drawn(generator, 3, 33, 8, False)
    longest = Encoded(sets.vectors, torch.ones_like(sets.mask))
    with pytest.raises(ValueError, match="1 to 32 vectors, not of 33"):
        attended_scores(longest, longest, Stacked(9.0, 0.1), shape=SMALL)
    with pytest.raises(ValueError, match="up to 40"):
        attended_scores(longest, longest, Stacked(41.0, 0.1))


def test_high_parts_are_exact_in_tf32() -> None:
    numbers = torch.randn(100)
    high = without_low_bits(numbers)
    assert not (high.view(torch.int32) & 0x1FFF).any()
    assert ((numbers - high).abs() <= numbers.abs() * 2.0**-10).all()
